"""When prediction markets are looked at.

Belongs here: the rhythm. Does not belong here: what is done (`jobs.py`).
"""

import dagster as dg

from trading_pipelines.defs.prediction_markets.jobs import prediction_markets_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=prediction_markets_job,
    description="Odds of every hour.",
    cron_schedule="2 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def prediction_markets_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look at the day that goes on."""
    if is_under_way(context.instance, prediction_markets_job.name):
        return dg.SkipReason(f"the last run of {prediction_markets_job.name} has not ended")
    return dg.RunRequest(partition_key=context.scheduled_execution_time.date().isoformat())
