"""When market data is brought up to date.

Belongs here: the update at each bar close and the repairs behind it. Does not belong here: what is refreshed
(`jobs.py`).
"""

from datetime import datetime, timedelta

import dagster as dg

from trading_pipelines.defs.market_data.assets import BASE, IngestConfig
from trading_pipelines.defs.market_data.jobs import candles_job, market_data_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=market_data_job,
    description="Candles, features and predictions of the newest closed bars.",
    cron_schedule="*/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def market_data_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Update the day of the newest closed bar; at midnight that is still the day that has just ended."""
    return _request(context, market_data_job.name, BASE.last_closed(context.scheduled_execution_time))


@dg.schedule(
    job=candles_job,
    description="Candles of the day before that came late.",
    cron_schedule="7-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def candles_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Fetch candles of the day before that came late; off the beat of the bar closes."""
    return _request(context, candles_job.name, context.scheduled_execution_time - timedelta(days=1))


@dg.schedule(
    job=market_data_job,
    description="The whole day that has ended, in case its last update was missed.",
    cron_schedule="18 0 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def day_close_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Complete the day that has ended, in case its last update was missed."""
    return dg.RunRequest(partition_key=_day(context.scheduled_execution_time - timedelta(days=1)))


@dg.schedule(
    job=candles_job,
    description="The day before, asked for again: an exchange may have corrected its candles.",
    cron_schedule="52 1 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def recheck_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Fetch the day before once more; what has changed overwrites, and gaps that remain are the exchange's own."""
    day = _day(context.scheduled_execution_time - timedelta(days=1))
    again = dg.RunConfig(ops={"ingest": IngestConfig(refetch=True)})
    return dg.RunRequest(partition_key=day, run_config=again)


def _request(context: dg.ScheduleEvaluationContext, job_name: str, moment: datetime) -> dg.RunRequest | dg.SkipReason:
    if is_under_way(context.instance, job_name):
        return dg.SkipReason(f"the last run of {job_name} has not ended")
    return dg.RunRequest(partition_key=_day(moment))


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
