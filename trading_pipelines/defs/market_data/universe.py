"""The market around what is traded: its pairs, the universe of those worth a look, their newest quotes, new listings.

Belongs here: the tables that a look at the list of markets fills, their checks, and when it is done. Does not belong
here: who is a member (`domain.market.universe`) and the ranking of members (`defs.analysis`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.market_data.assets import OWNER, POOL
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.defs.tables import rows_check, table_rows, table_spec
from trading_pipelines.defs.work import is_under_way
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.settings import settings

UNIVERSE = table_spec(
    "universe",
    group="market_data",
    owner=OWNER,
    description="Which pairs of the exchange are members of the universe, since when, and why others are not.",
    kinds={settings().source},
    fresh_within=timedelta(minutes=30),
)
LISTINGS = table_spec(
    "listings",
    group="market_data",
    owner=OWNER,
    description="Pairs that appeared on the exchange or left it, with first price and turnover.",
    kinds={settings().source},
    fresh_within=timedelta(minutes=30),
)
TICKERS = table_spec(
    "tickers",
    group="market_data",
    owner=OWNER,
    description="The newest quote of every pair; of traded ones the fast service and the collector write newer ones.",
    kinds={settings().source},
    fresh_within=timedelta(minutes=30),
)


@dg.multi_asset(name="watch_universe", specs=[UNIVERSE, LISTINGS, TICKERS], retry_policy=TRANSIENT, pool=POOL)
def universe(database: DatabaseResource, source: SourceResource) -> Iterator[dg.MaterializeResult]:
    """Look at the list of markets and all quotes once."""
    from trading_pipelines.application.market_data.universe import watch_universe

    with user_errors(), database.connect() as connection:
        report = watch_universe(connection, source.open(), settings().universe)
        found = {
            UNIVERSE.key: {"pairs": report.pairs, "members": report.members, "changed": report.changed},
            LISTINGS.key: {"listed": list(report.listed), "delisted": list(report.delisted)},
            TICKERS.key: {"quotes": report.quotes},
        }
        for key, metadata in found.items():
            rows = table_rows(connection, key.to_user_string())
            yield dg.MaterializeResult(asset_key=key, metadata={**rows, **metadata})


_OVERLAPPING = """
select i.symbol, u.valid_from, u.valid_to, n.valid_from as next_from
from universe u join instruments i using (instrument_id)
join lateral (
    select valid_from from universe n where n.instrument_id = u.instrument_id and n.valid_from > u.valid_from
    order by 1 limit 1
) n on true
where i.exchange = %(exchange)s and u.valid_to is distinct from n.valid_from
"""
_CONTRADICTING = """
select i.symbol, l.kind, l.ts, l.listed_at from listings l join instruments i using (instrument_id)
where i.exchange = %(exchange)s and (l.listed_at > l.ts or l.first_price <= 0 or l.first_volume < 0)
"""
_CROSSED = """
select i.symbol, t.ts, t.price, t.bid, t.ask from tickers t join instruments i using (instrument_id)
where i.exchange = %(exchange)s and (t.bid > t.ask or t.bid < 0 or t.quote_volume_24h < 0)
"""


universe_gapless = rows_check(
    UNIVERSE.key, "gapless", _OVERLAPPING, "At any time one row per pair says what it was.", blocking=True
)
listings_in_order = rows_check(
    LISTINGS.key,
    "in_order",
    _CONTRADICTING,
    "No pair was seen before it was listed, none began below zero.",
    severity=dg.AssetCheckSeverity.WARN,
)
"""An exchange may announce a pair before it trades."""
tickers_not_crossed = rows_check(
    TICKERS.key, "not_crossed", _CROSSED, "No bid lies above its ask.", severity=dg.AssetCheckSeverity.WARN
)


universe_job = dg.define_asset_job(
    "universe",
    selection=dg.AssetSelection.assets(UNIVERSE.key, LISTINGS.key, TICKERS.key),
    description="Look at the exchange's list of markets and quotes: members, new listings, delistings.",
    tags={"dagster/max_runtime": "300"},
)


@dg.schedule(
    job=universe_job,
    description="New pairs, pairs that left, and who is a member of the universe.",
    cron_schedule="4-59/5 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def universe_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Look every five minutes, off the beat of the bar closes."""
    if is_under_way(context.instance, universe_job.name):
        return dg.SkipReason(f"the last run of {universe_job.name} has not ended")
    return dg.RunRequest()


@dg.op(pool=POOL)
def fetch_members(
    context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource, source: SourceResource
) -> None:
    """Fetch 4h candles of the members of the universe that are not traded."""
    from trading_pipelines.application.market_data.universe import fetch_universe_candles

    with user_errors(), database.connect() as connection:
        traded = traded_symbols(connection)
        report = fetch_universe_candles(connection, source.open(), traded, settings().universe)
    if report is None:
        context.log.info("every member of the universe is traded, or nobody has looked for them yet")
        return
    for error in report.errors:
        context.log.warning(error)
    metadata = {"symbols": len(report.symbols), "inserted": report.inserted, "errors": list(report.errors)}
    context.log_event(dg.AssetMaterialization("ohlcv_4h", metadata=metadata))


@dg.job(
    name="universe_candles",
    description="4h candles, and days made of them, of the universe's members that are not traded.",
    tags={"dagster/max_runtime": "3600"},
)
def universe_candles_job() -> None:
    fetch_members()


@dg.schedule(
    job=universe_candles_job,
    description="Before the day that has ended is ranked.",
    cron_schedule="9,34 0 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def universe_candles_schedule() -> dg.RunRequest:
    """Ask for it when the day's last 4h candle has closed, and once more for what came late."""
    return dg.RunRequest()
