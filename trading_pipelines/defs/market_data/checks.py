"""What must be true of market data before anything is built on it.

Belongs here: checks of stored candles and funding. Does not belong here: the validation of single rows on
their way in (`application.market_data.ingestion`), which these checks do not trust.
"""

from collections.abc import Iterator

import dagster as dg

from trading_pipelines.defs.market_data.assets import BASE, BASE_TABLE, DERIVED_TABLES
from trading_pipelines.defs.scope import run_window, traded_symbols
from trading_pipelines.defs.tables import day_rows
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.settings import settings

CANDLE_TABLES = (BASE_TABLE, *DERIVED_TABLES)


@dg.multi_asset_check(
    name="candles_valid",
    specs=[
        dg.AssetCheckSpec(
            "valid",
            asset=table,
            blocking=True,
            description="Prices in order, bars on the grid, none twice, none before its close.",
        )
        for table in CANDLE_TABLES
    ],
)
def candles_valid(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.AssetCheckResult]:
    """Look at every candle of the run's days."""
    from trading_pipelines.defs.schemas import candle_schema, violations

    window = run_window(context, clock.now())
    with database.connect() as connection:
        for table in CANDLE_TABLES:
            frame = day_rows(connection, table, window, settings().exchange)
            broken = violations(candle_schema(Timeframe(table.removeprefix("ohlcv_"))), frame)
            yield dg.AssetCheckResult(
                asset_key=table,
                check_name="valid",
                passed=not broken,
                metadata={"rows": len(frame), "broken": broken},
            )


@dg.asset_check(
    asset=BASE_TABLE,
    name="fresh",
    blocking=True,
    description="The newest candle is not older than a signal may be based on, by the source's clock.",
)
def candles_fresh(
    context: dg.AssetCheckExecutionContext,
    clock: ClockResource,
    database: DatabaseResource,
    source: SourceResource,
) -> dg.AssetCheckResult:
    """Stop a run on today's candles when no symbol is fresh; some stale ones are a warning.

    Each signal's own gate refuses a stale symbol, so one of them need not stop the others. Days in the past
    have no freshness.
    """
    now = clock.now()
    if run_window(context, now).end < now:
        return dg.AssetCheckResult(passed=True, description="a day in the past")
    from trading_pipelines.store.read_models.status import newest_candles

    market = source.open()
    with database.connect() as connection:
        newest = newest_candles(connection)
        traded = traded_symbols(connection)
    newest = newest[(newest["exchange"] == market.exchange) & (newest["timeframe"] == BASE)]
    ages = (market.now() - newest.set_index("symbol")["closed_at"]).dt.total_seconds() / 60
    lags = {symbol: ages.get(symbol) for symbol in traded}
    limit = settings().signals.max_data_lag_minutes
    stale = [symbol for symbol, lag in lags.items() if lag is None or lag > limit]
    return dg.AssetCheckResult(
        passed=not stale,
        severity=dg.AssetCheckSeverity.ERROR if len(stale) == len(lags) else dg.AssetCheckSeverity.WARN,
        metadata={"limit_minutes": limit, "lag_minutes": lags, "stale": stale},
    )


@dg.asset_check(
    asset=BASE_TABLE,
    name="complete",
    description="No hole is left inside the span that was asked for.",
)
def candles_complete(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Name the holes of the run's days that the source has not confirmed."""
    window = run_window(context, clock.now())
    with database.connect() as connection:
        holes = connection.execute(
            "select i.symbol, g.gap_start, g.bars from ohlcv_gaps g join instruments i using (instrument_id) "
            "where i.exchange = %s and g.timeframe = %s and g.verdict = 'open' "
            "and g.gap_start < %s and g.gap_end > %s order by g.gap_start",
            (settings().exchange, BASE, window.end, window.start),
        ).fetchall()
    return dg.AssetCheckResult(
        passed=not holes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"holes": [f"{symbol}: {bars} bars from {start:%Y-%m-%d %H:%M}" for symbol, start, bars in holes]},
    )


@dg.asset_check(
    asset=BASE_TABLE,
    name="plausible",
    description="No outlier, and no price that stands still; what is named stays stored, for it may be real.",
)
def candles_plausible(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Name candles of the run's days that are worth a second look."""
    from trading_pipelines.domain.market.doubts import doubtful
    from trading_pipelines.store.repositories import instruments

    window = run_window(context, clock.now())
    with database.connect() as connection:
        frame = day_rows(connection, BASE_TABLE, window, settings().exchange)
        stored = instruments.by_symbol(connection, settings().exchange, everything=True)
    present = set(frame["instrument_id"])
    symbols = {one.instrument_id: symbol for symbol, one in stored.items() if one.instrument_id in present}
    doubts: list[str] = []
    for instrument_id in sorted(symbols):
        candles = frame[frame["instrument_id"] == instrument_id].sort_values("ts", ignore_index=True)
        found = doubtful(candles, settings().doubts)
        doubts += [
            f"{symbols[instrument_id]} {ts:%Y-%m-%d %H:%M}: {doubt}"
            for ts, doubt in zip(found["ts"], found["doubt"], strict=True)
        ]
    return dg.AssetCheckResult(
        passed=not doubts,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows": len(frame), "doubtful": len(doubts), "examples": doubts[:20]},
    )


@dg.multi_asset_check(
    name="candles_agree",
    specs=[
        dg.AssetCheckSpec(
            "agrees_with_aggregate",
            asset=table,
            description="On TimescaleDB: the continuous aggregate of the 5m candles says the same.",
        )
        for table in DERIVED_TABLES
        if BASE is Timeframe.M5
    ],
)
def candles_agree(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.AssetCheckResult]:
    """Compare two derivations of the run's days; one that only the database has made knows incomplete buckets too."""
    from trading_pipelines.store.repositories.aggregates import differing_buckets

    window = run_window(context, clock.now())
    with database.connect() as connection:
        for table in DERIVED_TABLES:
            differing = differing_buckets(connection, table, settings().exchange, window.start, window.end)
            yield dg.AssetCheckResult(
                asset_key=table,
                check_name="agrees_with_aggregate",
                passed=not differing,
                severity=dg.AssetCheckSeverity.WARN,
                description="plain PostgreSQL: nothing to compare with" if differing is None else None,
                metadata={} if differing is None else {"differing": differing[:20]},
            )


@dg.asset_check(
    asset="funding_rates",
    name="valid",
    blocking=True,
    description="Rates are fractions of the notional, and none is known before it was settled.",
)
def funding_valid(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Look at every rate of the run's days."""
    from trading_pipelines.defs.schemas import FUNDING, violations

    with database.connect() as connection:
        frame = day_rows(connection, "funding_rates", run_window(context, clock.now()), settings().exchange)
    broken = violations(FUNDING, frame)
    return dg.AssetCheckResult(passed=not broken, metadata={"rows": len(frame), "broken": broken})
