"""A corrected candle leaves its former version behind and names what it made stale."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.audit.corrections import rebuild_stale, trace_changes
from trading_pipelines.application.audit.reach import of_candles
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import instruments, revisions

END = datetime(2025, 6, 1, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
M15 = Timeframe.M15


@pytest.fixture
def market(connection: Connection) -> Connection:
    """Sixty days of candles with the features of the last day."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    ingest(connection, source, SYMBOLS, M15, END - timedelta(days=60), END)
    build_features(connection, "simulated", SYMBOLS, "15m", END - timedelta(days=1), END)
    return connection


def correct(connection: Connection, symbol: str, ts: datetime, factor: float) -> float:
    """Change the close of one candle, as a late correction does; the close before."""
    row = connection.execute(
        "select c.close from ohlcv_15m c join instruments using (instrument_id) where symbol = %s and ts = %s",
        (symbol, ts),
    ).fetchone()
    assert row is not None
    connection.execute(
        "update ohlcv_15m c set close = close * %(f)s, high = high * greatest(%(f)s, 1), low = low * least(%(f)s, 1) "
        "from instruments i where i.instrument_id = c.instrument_id and symbol = %(s)s and ts = %(ts)s",
        {"f": factor, "s": symbol, "ts": ts},
    )
    connection.commit()
    return float(row[0])


def test_former_versions_are_read_as_of_the_time_they_were_known(market: Connection) -> None:
    ts = END - timedelta(hours=3)
    instrument_id = instruments.by_symbol(market, "simulated")["ETHUSDT"].instrument_id
    first = correct(market, "ETHUSDT", ts, 1.01)
    between = market.execute("select clock_timestamp()").fetchone()
    market.commit()
    correct(market, "ETHUSDT", ts, 1.01)
    assert between is not None

    def close(as_of: datetime) -> float:
        frame = revisions.as_known(market, instrument_id, M15, ts, ts + M15.delta, as_of)
        return float(frame["close"].iloc[0])

    assert close(ts + M15.delta) == first
    assert close(between[0]) == pytest.approx(first * 1.01)
    assert close(datetime(2100, 1, 1, tzinfo=UTC)) == pytest.approx(first * 1.01**2)
    assert revisions.as_known(market, instrument_id, M15, ts, ts + M15.delta, ts).empty


def test_correction_names_the_rows_it_reaches_and_rebuilding_changes_some_of_them(market: Connection) -> None:
    ts = END - timedelta(hours=6)
    correct(market, "ETHUSDT", ts, 1.02)
    named = trace_changes(market, "simulated", M15)
    spans = {span.symbol: span for span in revisions.to_rebuild(market, "simulated")}
    # A member of the basket reaches into every symbol's market breadth.
    assert set(spans) == set(SYMBOLS)
    span = spans["ETHUSDT"]
    assert (span.dataset, span.from_ts, span.rows) == ("features_15m", ts, 24)
    assert named == 48
    changed = rebuild_stale(market, "simulated", load_settings())
    assert 0 < changed["ETHUSDT"] <= 24
    assert changed["BTCUSDT"] == 0  # two symbols make no breadth
    assert revisions.to_rebuild(market, "simulated") == []
    assert trace_changes(market, "simulated", M15) == 0


def test_corrections_far_apart_do_not_make_stale_what_lies_between(market: Connection) -> None:
    build_features(market, "simulated", SYMBOLS, "15m", END - timedelta(days=45), END)
    for days in (44, 2):
        correct(market, "ETHUSDT", END - timedelta(days=days), 1.01)
    trace_changes(market, "simulated", M15)
    spans = [span for span in revisions.to_rebuild(market, "simulated") if span.symbol == "ETHUSDT"]
    assert [span.from_ts for span in spans] == [END - timedelta(days=44), END - timedelta(days=2)]
    assert spans[0].until_ts < spans[1].from_ts


def test_correction_of_the_leader_reaches_every_symbol(market: Connection) -> None:
    correct(market, "BTCUSDT", END - timedelta(hours=2), 0.99)
    trace_changes(market, "simulated", M15)
    assert {span.symbol for span in revisions.to_rebuild(market, "simulated")} == set(SYMBOLS)


def test_rows_outside_the_reach_of_a_correction_do_not_change(market: Connection) -> None:
    before = stored_features(market)
    ts = END - timedelta(hours=6)
    correct(market, "ETHUSDT", ts, 1.02)
    build_features(market, "simulated", SYMBOLS, "15m", END - timedelta(days=1), END)
    after = stored_features(market)
    different = [key for key in before if not np.allclose(before[key], after[key], 1e-9, 1e-9, equal_nan=True)]
    span = of_candles(M15, ts, ts, M15)["features_15m"]
    assert different
    assert all(span[0] <= moment < span[1] and symbol == "ETHUSDT" for symbol, moment in different)


def test_unchanged_candle_leaves_no_version_behind(market: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    ingest(market, source, SYMBOLS, M15, END - timedelta(days=2), END, refetch=True)
    assert market.execute("select count(*) from ohlcv_revisions").fetchone() == (0,)


def test_candle_reaches_as_far_as_the_longest_look_back() -> None:
    ts = datetime(2025, 1, 1, 12, tzinfo=UTC)
    own = of_candles(M15, ts, ts, M15)
    hour = of_candles(Timeframe.H1, ts, ts, M15)
    assert own["features_15m"][0] == ts
    assert own["features_15m"][1] >= ts + registry.WARMUP_BARS["signal"] * M15.delta
    assert hour["features_15m"][0] == hour["technical_signals"][0] == ts + timedelta(minutes=45)
    assert "features_1h" not in own
    assert set(of_candles(Timeframe.M5, ts, ts, M15)) == {"features_5m"}


def stored_features(connection: Connection) -> dict[tuple[str, datetime], list[float]]:
    rows = connection.execute(
        "select i.symbol, f.ts, f.values from features_15m f join instruments i using (instrument_id)"
    ).fetchall()
    return {(symbol, ts): values for symbol, ts, values in rows}
