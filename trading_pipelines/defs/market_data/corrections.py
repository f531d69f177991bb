"""Following corrected candles to what was computed from them.

Belongs here: when and that it is done. Does not belong here: which rows a candle reaches
(`application.corrections`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.settings import settings


@dg.op
def follow_corrections(context: dg.OpExecutionContext, database: DatabaseResource) -> None:
    """Name what corrected candles made stale and compute the features of it again."""
    from trading_pipelines.application.corrections import rebuild_stale, trace_corrections

    timeframe, exchange = Timeframe(settings().signal_timeframe), settings().exchange
    with user_errors(), database.connect() as connection:
        named = trace_corrections(connection, exchange, timeframe)
        connection.commit()
        changed = rebuild_stale(connection, exchange)
    if named:
        context.log_event(
            dg.AssetMaterialization(f"features_{timeframe}", metadata={"stale_rows": named, "changed": changed})
        )


@dg.job(
    name="corrections",
    description="Rebuild the features that were computed from candles which the exchange has corrected since.",
    tags={"dagster/max_runtime": "1800"},
)
def corrections_job() -> None:
    follow_corrections()


@dg.schedule(
    job=corrections_job,
    description="After late candles were fetched, where any replaced another.",
    cron_schedule="11-59/15 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def corrections_schedule(
    context: dg.ScheduleEvaluationContext, database: DatabaseResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for it when a correction has not been followed yet."""
    from trading_pipelines.store.repositories.revisions import anything_to_follow

    with database.connect() as connection:
        if not anything_to_follow(connection, settings().exchange):
            return dg.SkipReason("no candle has been corrected")
    if is_under_way(context.instance, corrections_job.name):
        return dg.SkipReason("the last run has not ended")
    return dg.RunRequest()
