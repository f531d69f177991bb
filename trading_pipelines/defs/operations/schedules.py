"""When upkeep is due.

Belongs here: ticks that nobody waits for. Does not belong here: anything that trading waits for.
"""

import dagster as dg

from trading_pipelines.defs.operations.jobs import kill_drill_job, maintenance_job
from trading_pipelines.defs.work import is_under_way


@dg.schedule(
    job=maintenance_job,
    description="Were the predictions right?",
    cron_schedule="50 0 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def maintenance_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Do the upkeep every night, before training looks at it."""
    if is_under_way(context.instance, maintenance_job.name):
        return dg.SkipReason("the last maintenance has not ended")
    return dg.RunRequest()


@dg.schedule(
    job=kill_drill_job,
    description="Try the kill switch out on a throw-away session.",
    cron_schedule="20 6 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def kill_drill_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Drill every day, unless a drill is under way."""
    if is_under_way(context.instance, kill_drill_job.name):
        return dg.SkipReason("the last drill has not ended")
    return dg.RunRequest()
