"""The job that looks for knowledge of the future in everything stored.

Belongs here: what one run does, and when. Does not belong here: what is looked at (`checks.py`).
"""

import dagster as dg

from trading_pipelines.defs.leaks.checks import CHECKS
from trading_pipelines.defs.models.jobs import HEAVY
from trading_pipelines.defs.work import is_under_way

leak_check_job = dg.define_asset_job(
    "leak_check",
    selection=CHECKS,
    description="Compute sampled rows of every table again from what was known at their time.",
    tags={"dagster/max_runtime": "3600", **HEAVY},
)


@dg.schedule(
    job=leak_check_job,
    description="Point-in-time checks of everything stored, once a day.",
    cron_schedule="5 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def leak_check_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look once a night, after the trainings; never twice at once."""
    if is_under_way(context.instance, leak_check_job.name):
        return dg.SkipReason("the last one has not ended")
    return dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
