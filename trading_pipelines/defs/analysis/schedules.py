"""When the whole market is looked at.

Belongs here: ticks behind the bar closes. Does not belong here: what is looked at (`jobs.py`).
"""

from datetime import datetime, timedelta

import dagster as dg

from trading_pipelines.defs.analysis.jobs import analysis_job, screener_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=analysis_job,
    description="Technical signals and anomalies of the newest 15-minute close.",
    cron_schedule="1-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def analysis_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look at the day of the newest closed bar, a minute after its close; at midnight that is still the day before."""
    if is_under_way(context.instance, analysis_job.name):
        return dg.SkipReason(f"the last run of {analysis_job.name} has not ended")
    return dg.RunRequest(partition_key=_day(context.scheduled_execution_time - timedelta(minutes=15)))


@dg.schedule(
    job=screener_job,
    description="The ranking of the universe at the end of the day that has ended.",
    cron_schedule="24,39,54 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def screener_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Rank the day that has ended, once: at 00:24, when its last candles have come, or soon after a later start."""
    day = _day(context.scheduled_execution_time - timedelta(days=1))
    return dg.RunRequest(run_key=day, partition_key=day)


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
