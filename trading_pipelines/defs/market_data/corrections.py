"""Following corrected and late inputs to what was computed without them.

Belongs here: when and that it is done. Does not belong here: which rows an input reaches
(`application.audit.corrections`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.settings import settings


@dg.op
def follow_corrections(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
    """Name what corrected and late inputs made stale and compute it again."""
    from trading_pipelines.application.audit.corrections import rebuild_stale, trace_changes
    from trading_pipelines.store.read_models.stale import stale_data

    timeframe, exchange = Timeframe(settings().signal_timeframe), settings().exchange
    with user_errors(), database.connect() as connection:
        trace_changes(connection, exchange, timeframe)
        waiting = [stale for stale in stale_data(connection) if stale.exchange == exchange]
        changed = rebuild_stale(connection, exchange, settings())
    for stale in waiting:
        context.log_event(
            dg.AssetMaterialization(
                stale.dataset,
                description=f"computed again from {stale.first:%Y-%m-%d} to {stale.last:%Y-%m-%d}",
                metadata={"days": stale.days, "causes": stale.causes, "changed_rows": changed},
            )
        )


@dg.job(
    name="corrections",
    description="Rebuild features, charts and scores whose inputs were corrected, or arrived, afterwards.",
    tags={"dagster/max_runtime": "1800"},
)
def corrections_job() -> None:
    follow_corrections()


@dg.schedule(
    job=corrections_job,
    description="After late candles were fetched, where any input of what is stored has changed.",
    cron_schedule="11-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def corrections_schedule(
    context: dg.ScheduleEvaluationContext, database: DatabaseResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for it when a changed input has not been followed yet."""
    from trading_pipelines.store.repositories.revisions import anything_to_follow

    with database.connect() as connection:
        if not anything_to_follow(connection, settings().exchange):
            return dg.SkipReason("no input has changed")
    if is_under_way(context.instance, corrections_job.name):
        return dg.SkipReason("the last run has not ended")
    return dg.RunRequest()
