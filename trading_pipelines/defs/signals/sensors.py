"""What makes the live sessions decide soon after a bar has closed.

Belongs here: when emission is asked for within seconds. Does not belong here: the tick that asks again
(`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.market_data.jobs import market_data_job
from trading_pipelines.defs.signals.jobs import signal_emission_job
from trading_pipelines.defs.signals.pending import undecided_bars
from trading_pipelines.defs.work import is_under_way, request_at_edge
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.sensor(
    job=signal_emission_job,
    description="Decides a bar within seconds of its features, and tries again a few times when that fails.",
    minimum_interval_seconds=settings().orchestration.sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def signal_emission_sensor(
    context: dg.SensorEvaluationContext, clock: ClockResource, database: DatabaseResource
) -> dg.SensorResult:
    """Ask for decisions when a bar has features and no decision, but not before its predictions."""
    if is_under_way(context.instance, market_data_job.name):
        return dg.SensorResult(skip_reason="market data is being brought up to date")
    now = clock.now()
    with database.connect() as connection:
        sessions, bars = undecided_bars(connection, now)
    return request_at_edge(context, signal_emission_job.name, sessions, bars, now)
