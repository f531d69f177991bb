"""What is found out about the whole market: technical signals, anomalies, the daily ranking.

Belongs here: the tables that analysis fills, a partition per UTC day. Does not belong here: how a chart is read
(`domain.technical`), what an anomaly is (`domain.anomaly`), and signals that are traded (`defs.signals`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

OWNER = "team:research"
TECHNICAL = table_spec(
    "technical_signals",
    group="analysis",
    owner=OWNER,
    description="What the charts of each symbol say at every 15-minute close, with levels, size and reasons.",
    deps=["ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d"],
    fresh_within=timedelta(minutes=45),
)
ANOMALIES = table_spec(
    "anomalies",
    group="analysis",
    owner=OWNER,
    description="Abnormal volatility, price and volume spikes, pumps, dumps and wash-trading looks.",
    deps=[f"ohlcv_{settings().signal_timeframe}"],
)
SCREENER = table_spec(
    "screener_rankings",
    group="analysis",
    owner=OWNER,
    description="The universe in order, at the end of each UTC day, by trend, volume, volatility and RSI set-up.",
    deps=["ohlcv_4h", "ohlcv_1d", "universe"],
    fresh_within=timedelta(hours=50),
)


@dg.multi_asset(
    name="analyse",
    specs=[TECHNICAL, ANOMALIES],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def analysis(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Read the charts and look for anomalies of the run's days."""
    from trading_pipelines.application.analysis.market import find_anomalies, read_technical_signals
    from trading_pipelines.domain.market.timeframe import Timeframe

    exchange, now = settings().exchange, clock.now()
    window = run_window(context, now)
    with user_errors(), database.connect() as connection:
        symbols = traded_symbols(connection)
        told = read_technical_signals(
            connection,
            exchange,
            symbols,
            window.start,
            window.end,
            capital=settings().session.capital,
            execution=settings().execution,
            limits=settings().risk,
        )
        rows = partition_rows(connection, "technical_signals", window, exchange)
        yield dg.MaterializeResult(asset_key=TECHNICAL.key, metadata={"new": told.new, **rows})
        timeframe = Timeframe(settings().signal_timeframe)
        found = find_anomalies(connection, exchange, symbols, timeframe, window.start, window.end, now)
        rows = partition_rows(connection, "anomalies", window, exchange)
        yield dg.MaterializeResult(asset_key=ANOMALIES.key, metadata={"new": found.new, **rows})


@dg.multi_asset(name="screen", specs=[SCREENER], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def screening(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Rank the universe at the end of the run's days; a day that has not ended has no ranking."""
    from trading_pipelines.application.analysis.market import rank_universe

    exchange, window = settings().exchange, run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = rank_universe(connection, exchange, traded_symbols(connection), window.start, window.end)
        rows = partition_rows(connection, "screener_rankings", window, exchange)
        return dg.MaterializeResult(asset_key=SCREENER.key, metadata={"new": report.new, **rows})
