"""What makes the live sessions send orders soon after a signal was made.

Belongs here: when execution is asked for within seconds. Does not belong here: protective exits, which the
fast service sends without Dagster.
"""

import dagster as dg

from trading_pipelines.defs.execution.jobs import signal_execution_job
from trading_pipelines.defs.execution.pending import waiting_signals
from trading_pipelines.defs.signals.jobs import signal_emission_job
from trading_pipelines.defs.work import is_under_way, request_at_edge
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.sensor(
    job=signal_execution_job,
    description="Executes new signals within seconds, and tries again a few times when that fails.",
    minimum_interval_seconds=settings().orchestration.sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def signal_execution_sensor(
    context: dg.SensorEvaluationContext, clock: ClockResource, database: DatabaseResource
) -> dg.SensorResult:
    """Ask for the execution of active signals, all signals of one emission in one run."""
    if is_under_way(context.instance, signal_emission_job.name):
        return dg.SensorResult(skip_reason="signals are being made")
    now = clock.now()
    with database.connect() as connection:
        sessions, made_at = waiting_signals(connection, now)
    return request_at_edge(context, signal_execution_job.name, sessions, made_at, now)
