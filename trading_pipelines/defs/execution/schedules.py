"""Regular looks at signals that still wait for execution.

Belongs here: the tick that asks again while the exchange was down or the kill switch engaged. Does not belong
here: the quick reaction to a new signal (`sensors.py`).
"""

import dagster as dg

from trading_pipelines.defs.execution.jobs import signal_execution_job
from trading_pipelines.defs.execution.pending import waiting_signals
from trading_pipelines.defs.work import request_while_pending
from trading_pipelines.resources.platform import ClockResource, DatabaseResource


@dg.schedule(
    job=signal_execution_job,
    description="Signals that are still active, for example after an outage of the exchange.",
    cron_schedule="3-59/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def signal_execution_schedule(
    context: dg.ScheduleEvaluationContext, clock: ClockResource, database: DatabaseResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask again for signals that are still active."""
    with database.connect() as connection:
        sessions, made_at = waiting_signals(connection, clock.now())
    return request_while_pending(context, signal_execution_job.name, sessions, made_at)
