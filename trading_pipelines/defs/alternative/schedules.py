"""When the outside is asked.

Belongs here: the rhythm. Does not belong here: what is asked for (`jobs.py`). Sources that are asked more often than
they say anything answer from what was kept, so these ticks cost them little.
"""

import dagster as dg

from trading_pipelines.defs.alternative.jobs import figures_job, texts_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=texts_job,
    description="News and posts every 15 minutes, before the scores of the next close.",
    cron_schedule="9-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def texts_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look for new texts."""
    if is_under_way(context.instance, texts_job.name):
        return dg.SkipReason(f"the last run of {texts_job.name} has not ended")
    return dg.RunRequest()


@dg.schedule(
    job=figures_job,
    description="Indices and crowd figures every hour.",
    cron_schedule="6 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def figures_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for the figures of the day; just after midnight those of the day before are complete as well."""
    if is_under_way(context.instance, figures_job.name):
        return dg.SkipReason(f"the last run of {figures_job.name} has not ended")
    return dg.RunRequest(partition_key=context.scheduled_execution_time.date().isoformat())
