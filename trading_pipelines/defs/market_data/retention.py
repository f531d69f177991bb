"""Forgetting candles of the short timeframes, every night.

Belongs here: when and that it is done. Does not belong here: for how long they are kept (`TRADING_RETENTION_DAYS`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.op
def forget_old_candles(context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource) -> None:
    """Remove candles that are older than their timeframe is kept."""
    from trading_pipelines.application.market_data.retention import apply_retention

    with user_errors(), database.connect() as connection:
        removed = apply_retention(connection, settings().retention_days, clock.now())
    for timeframe, count in removed.items():
        context.log_event(dg.AssetMaterialization(f"ohlcv_{timeframe}", metadata={"removed": count}))


@dg.job(
    name="retention",
    description="Forget candles of timeframes that are kept for a limited time.",
    tags={"dagster/max_runtime": "1800"},
)
def retention_job() -> None:
    forget_old_candles()


@dg.schedule(
    job=retention_job,
    description="Every night, where any timeframe is kept for a limited time.",
    cron_schedule="41 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def retention_schedule() -> dg.RunRequest | dg.SkipReason:
    """Ask for it when the settings limit anything."""
    return dg.RunRequest() if settings().retention_days else dg.SkipReason("everything is kept")
