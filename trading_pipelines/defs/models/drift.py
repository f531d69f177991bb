"""The daily look at whether the market still resembles what the versions in production have learnt.

Belongs here: the job and its time. Does not belong here: the reaction (`sensors.py`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.op
def look_for_drift(context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource) -> None:
    """Compare the last days with the training of each version in production; store it and tell of what has begun."""
    from trading_pipelines.application.models.drift import measure_drift

    with user_errors(), database.connect() as connection:
        report = measure_drift(
            connection,
            settings().exchange,
            traded_symbols(connection),
            settings().signal_timeframe,
            clock.now(),
            settings().drift,
        )
    context.add_output_metadata({"versions": len(report.days), "drifting": report.drifting})


@dg.job(
    name="drift",
    description="Distance of the last days from what each version in production has learnt, and how its hits decay.",
    tags={"dagster/max_runtime": "600"},
)
def drift_job() -> None:
    look_for_drift()


@dg.schedule(
    job=drift_job,
    description="Once a day, before the nightly training.",
    cron_schedule="12 1 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def drift_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look for drift, unless the last look has not ended."""
    if is_under_way(context.instance, drift_job.name):
        return dg.SkipReason("the last run of drift has not ended")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
