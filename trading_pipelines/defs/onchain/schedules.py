"""When chains are looked at.

Belongs here: the rhythm. Does not belong here: what is done (`jobs.py`).
"""

from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.onchain.jobs import flows_job, whale_alerts_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=whale_alerts_job,
    description="Large transactions every four minutes, so that their alerts come within five.",
    cron_schedule="*/4 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def whale_alerts_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look at the day that goes on, with the last hours of the one before."""
    if is_under_way(context.instance, whale_alerts_job.name):
        return dg.SkipReason(f"the last run of {whale_alerts_job.name} has not ended")
    return dg.RunRequest(partition_key=context.scheduled_execution_time.date().isoformat())


@dg.schedule(
    job=flows_job,
    description="Flows of the hour that has ended, once sources have published it.",
    cron_schedule="13 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def flows_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look at the day of the hour that has ended; just after midnight that is the day before."""
    if is_under_way(context.instance, flows_job.name):
        return dg.SkipReason(f"the last run of {flows_job.name} has not ended")
    ended = context.scheduled_execution_time - timedelta(hours=1)
    return dg.RunRequest(partition_key=ended.date().isoformat())
