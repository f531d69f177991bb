"""Open interest and mark prices of perpetuals.

Belongs here: both tables, their checks, and when they are brought up to date. Does not belong here: funding, which
comes with the candles (`assets.py`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.market_data.assets import OWNER, POOL, IngestConfig
from trading_pipelines.defs.scope import DAYS, run_window
from trading_pipelines.defs.tables import partition_rows, rows_check, table_spec
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.settings import settings

OPEN_INTEREST = table_spec(
    "open_interest",
    group="market_data",
    owner=OWNER,
    description="Open contracts of each perpetual at the full hours, in base currency and dollars.",
    kinds={settings().source},
    fresh_within=timedelta(hours=3),
)
MARK_PRICES = table_spec(
    "mark_prices",
    group="market_data",
    owner=OWNER,
    description="Hourly candles of the price by which the exchange values positions.",
    kinds={settings().source},
    fresh_within=timedelta(hours=3),
)


@dg.multi_asset(
    name="ingest_derivatives",
    specs=[OPEN_INTEREST, MARK_PRICES],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=TRANSIENT,
    pool=POOL,
)
def derivatives(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    clock: ClockResource,
    database: DatabaseResource,
    source: SourceResource,
) -> Iterator[dg.MaterializeResult]:
    """Fetch the run's days."""
    from trading_pipelines.application.market_data.derivatives import ingest_derivatives

    market = source.open()
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = ingest_derivatives(
            connection, market, settings().symbols, window.start, window.end, refetch=config.refetch
        )
        for error in report.errors:
            context.log.warning(error)
        counts = {OPEN_INTEREST.key: report.open_interest, MARK_PRICES.key: report.mark_prices}
        for key, count in counts.items():
            rows = partition_rows(connection, key.to_user_string(), window, market.exchange)
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={**rows, "inserted": count.inserted, "corrected": count.updated, "errors": report.errors},
            )


_BROKEN_INTEREST = """
select i.symbol, o.ts, o.quantity, o.value_usd, o.available_at
from open_interest o join instruments i using (instrument_id)
where i.exchange = %(exchange)s and o.ts >= %(start)s and o.ts < %(end)s
  and (o.ts <> date_trunc('hour', o.ts) or o.available_at < o.ts
       or not (o.quantity < 'Infinity' and o.value_usd < 'Infinity'))
"""
_FAR_FROM_TRADES = """
select i.symbol, m.ts, m.close as mark, c.close as last
from mark_prices m join instruments i using (instrument_id)
left join ohlcv_1h c on c.instrument_id = m.instrument_id and c.ts = m.ts
where i.exchange = %(exchange)s and m.ts >= %(start)s and m.ts < %(end)s
  and (m.ts <> date_trunc('hour', m.ts) or m.available_at <> m.ts + interval '1 hour'
       or abs(m.close / c.close - 1) > 0.05)
"""


open_interest_valid = rows_check(
    OPEN_INTEREST.key,
    "valid",
    _BROKEN_INTEREST,
    "Values at full hours, finite, none known before its time.",
    blocking=True,
)


mark_prices_near_trades = rows_check(
    MARK_PRICES.key,
    "near_trades",
    _FAR_FROM_TRADES,
    "Hours on the grid, known at their close, within 5 % of the last trade.",
    severity=dg.AssetCheckSeverity.WARN,
)


derivatives_job = dg.define_asset_job(
    "derivatives",
    selection=dg.AssetSelection.assets(OPEN_INTEREST.key, MARK_PRICES.key),
    description="Fetch open interest and mark prices of the chosen days where they are missing.",
    config=dg.RunConfig(ops={"ingest_derivatives": IngestConfig(refetch=False)}),
    tags={"dagster/max_runtime": "600"},
)


@dg.schedule(
    job=derivatives_job,
    description="Open interest and mark prices of the hour that has ended.",
    cron_schedule="6 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def derivatives_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Update the day of the hour that has ended; after midnight that is still the day before."""
    if is_under_way(context.instance, derivatives_job.name):
        return dg.SkipReason(f"the last run of {derivatives_job.name} has not ended")
    day = (context.scheduled_execution_time - timedelta(hours=1)).date()
    return dg.RunRequest(partition_key=day.isoformat())
