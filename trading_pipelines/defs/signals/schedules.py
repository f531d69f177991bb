"""Regular looks at what the signal sensor may have left, and expiry.

Belongs here: ticks every five minutes. Does not belong here: the quick reaction to a closed bar
(`sensors.py`).
"""

import dagster as dg

from trading_pipelines.defs.signals.jobs import signal_emission_job, signal_expiry_job
from trading_pipelines.defs.signals.pending import undecided_bars
from trading_pipelines.defs.work import is_under_way, request_while_pending
from trading_pipelines.resources.platform import ClockResource, DatabaseResource


@dg.schedule(
    job=signal_emission_job,
    description="Bars that are still undecided, between two updates of the market data.",
    cron_schedule="2-59/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def signal_emission_schedule(
    context: dg.ScheduleEvaluationContext, clock: ClockResource, database: DatabaseResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask again for bars that are still undecided, between two updates of the market data."""
    with database.connect() as connection:
        sessions, bars = undecided_bars(connection, clock.now())
    return request_while_pending(context, signal_emission_job.name, sessions, bars)


@dg.schedule(
    job=signal_expiry_job,
    description="Signals whose validity has ended.",
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def signal_expiry_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Expire signals every five minutes."""
    if is_under_way(context.instance, signal_expiry_job.name):
        return dg.SkipReason("the last expiry has not ended")
    return dg.RunRequest()
