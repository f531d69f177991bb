"""Forgetting old candles: row by row on plain PostgreSQL, in chunks of a week on TimescaleDB."""

from datetime import UTC, datetime, timedelta

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.market_data.retention import apply_retention
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import gaps

END = datetime(2025, 6, 1, 9, tzinfo=UTC)
START = END - timedelta(days=20)
CUTOFF = datetime(2025, 5, 25, tzinfo=UTC)


def is_chunked(connection: Connection) -> bool:
    found = connection.execute("select to_regclass('timescaledb_information.hypertables') is not null").fetchone()
    return found == (True,)


def candles(connection: Connection) -> tuple[int, datetime]:
    """How many 5m candles there are, and the oldest."""
    found = connection.execute("select count(*), min(ts) from ohlcv_5m").fetchone()
    assert found is not None
    connection.commit()
    return found


def test_old_candles_go_and_what_was_derived_from_them_stays(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), clock=lambda: END)
    ingest(connection, source, (), Timeframe.M5, START, END)
    hours = connection.execute("select count(*) from ohlcv_1h").fetchone()
    connection.commit()
    removed = apply_retention(connection, {Timeframe.M5: 7}, END)
    _, oldest = candles(connection)
    if is_chunked(connection):
        assert removed[Timeframe.M5] >= 1
        assert CUTOFF - timedelta(days=7) < oldest <= CUTOFF
    else:
        assert removed == {Timeframe.M5: int((CUTOFF - START) / Timeframe.M5.delta)}
        assert oldest == CUTOFF
    assert connection.execute("select count(*) from ohlcv_1h").fetchone() == hours


def test_mark_of_another_exchange_goes_with_its_candle(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), clock=lambda: END)
    ingest(connection, source, (), Timeframe.M5, START, END)
    for days in (1, 9):
        gaps.mark_substituted(connection, 1, Timeframe.M5, [END - timedelta(days=days)], "other")
    connection.commit()
    apply_retention(connection, {Timeframe.M5: 7}, END)
    assert gaps.substituted_times(connection, 1, Timeframe.M5, START, END) == [END - timedelta(days=1)]


def test_what_is_forgotten_is_no_gap_and_can_be_fetched_again(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), clock=lambda: END)
    whole = ingest(connection, source, (), Timeframe.M5, START, END).inserted
    apply_retention(connection, {Timeframe.M5: 7}, END)
    kept, _ = candles(connection)
    newest = ingest(connection, source, (), Timeframe.M5, END - timedelta(days=5), END)
    assert (newest.inserted, newest.symbols[0].missing_bars) == (0, 0)
    again = ingest(connection, source, (), Timeframe.M5, START, END)
    assert 0 < again.inserted == whole - kept
    assert connection.execute("select count(*) from ohlcv_gaps").fetchone() == (0,)
