"""When texts are read.

Belongs here: the rhythm. Does not belong here: what is done (`jobs.py`).
"""

import dagster as dg

from trading_pipelines.defs.sentiment.jobs import sentiment_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=sentiment_job,
    description="New texts and sentiment every 15 minutes, soon after texts were collected and before the next close.",
    cron_schedule="12-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def sentiment_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Continue from the newest stored instant; after midnight that includes the end of the day before."""
    if is_under_way(context.instance, sentiment_job.name):
        return dg.SkipReason(f"the last run of {sentiment_job.name} has not ended")
    return dg.RunRequest(partition_key=context.scheduled_execution_time.date().isoformat())
