"""Forgetting old candles on plain PostgreSQL."""

from datetime import UTC, datetime, timedelta

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.ingestion import ingest
from trading_pipelines.application.retention import apply_retention
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection

END = datetime(2025, 6, 1, 9, tzinfo=UTC)
START = END - timedelta(days=20)


def test_old_candles_go_and_what_was_derived_from_them_stays(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), clock=lambda: END)
    ingest(connection, source, (), Timeframe.M5, START, END)
    hours = connection.execute("select count(*) from ohlcv_1h").fetchone()
    connection.commit()
    removed = apply_retention(connection, {Timeframe.M5: 7}, END)
    cutoff = datetime(2025, 5, 25, tzinfo=UTC)
    assert removed == {Timeframe.M5: int((cutoff - START) / Timeframe.M5.delta)}
    assert connection.execute("select min(ts) from ohlcv_5m").fetchone() == (cutoff,)
    assert connection.execute("select count(*) from ohlcv_1h").fetchone() == hours


def test_what_is_forgotten_is_no_gap_and_can_be_fetched_again(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), clock=lambda: END)
    whole = ingest(connection, source, (), Timeframe.M5, START, END).inserted
    removed = apply_retention(connection, {Timeframe.M5: 7}, END)[Timeframe.M5]
    newest = ingest(connection, source, (), Timeframe.M5, END - timedelta(days=5), END)
    assert (newest.inserted, newest.symbols[0].missing_bars) == (0, 0)
    again = ingest(connection, source, (), Timeframe.M5, START, END)
    assert again.inserted == removed < whole
    assert connection.execute("select count(*) from ohlcv_gaps").fetchone() == (0,)
