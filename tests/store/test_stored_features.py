"""Stored features: the live path writes what a rebuild of the whole span writes, breadth included."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import talib

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.audit import leakcheck
from trading_pipelines.application.audit.leakcheck import check_features
from trading_pipelines.application.features.building import build_features, current_feature_set, update_breadth
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix, compute_features
from trading_pipelines.domain.features.registry import NAMES
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import breadth, instruments, observations
from trading_pipelines.store.repositories import features as feature_store

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT")
BAR = timedelta(minutes=15)
LONG = timedelta(days=4)


@pytest.fixture
def market(connection: Connection) -> Connection:
    """Forty days of six majors."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=40), NOW)
    return connection


def _rows(connection: Connection, symbol: str, start: datetime, end: datetime = NOW) -> FeatureMatrix:
    stored, set_id = instruments.by_symbol(connection, "simulated"), current_feature_set(connection)
    instrument_id = stored[symbol].instrument_id
    return feature_store.read_features(connection, instrument_id, set_id, "15m", len(NAMES), start, end)


def test_newest_bar_of_all_symbols_equals_that_of_a_long_rebuild_of_one(market: Connection) -> None:
    build_features(market, "simulated", SYMBOLS, "15m", NOW - BAR, NOW)
    live = {symbol: _rows(market, symbol, NOW - BAR) for symbol in SYMBOLS}

    for symbol in SYMBOLS:
        build_features(market, "simulated", [symbol], "15m", NOW - LONG, NOW)

    for symbol in SYMBOLS:
        rebuilt = _rows(market, symbol, NOW - BAR)
        assert len(rebuilt.ts) == 1
        np.testing.assert_array_equal(rebuilt.ts, live[symbol].ts)
        np.testing.assert_allclose(rebuilt.values, live[symbol].values, rtol=1e-9, atol=1e-9)


def test_hole_in_the_history_makes_no_difference_between_the_newest_bar_and_a_rebuild(market: Connection) -> None:
    """An exchange that was down for more than a day: as many candles as an indicator needs lie further back."""
    for table in ("ohlcv_15m", "ohlcv_1h", "ohlcv_4h"):
        market.execute(
            f"delete from {table} where ts >= %s and ts < %s", (NOW - timedelta(days=9), NOW - timedelta(days=7.5))
        )
    build_features(market, "simulated", SYMBOLS, "15m", NOW - BAR, NOW)
    live = {symbol: _rows(market, symbol, NOW - BAR).values for symbol in SYMBOLS}
    assert not np.isnan(live["SOLUSDT"][-1, NAMES.index("ema_200_distance")])

    build_features(market, "simulated", SYMBOLS, "15m", NOW - LONG, NOW)

    for symbol in SYMBOLS:
        np.testing.assert_allclose(_rows(market, symbol, NOW - BAR).values, live[symbol], rtol=1e-9, atol=1e-9)


def test_check_finds_a_feature_that_needs_more_history_than_it_says(
    market: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = next(spec for spec in registry.REGISTRY if spec.name == "ema_9_distance")
    hasty = replace(spec, compute=lambda x: x.bars.close / talib.EMA(x.bars.close, 200) - 1)
    features = tuple(hasty if each is spec else each for each in registry.REGISTRY)
    build_features(market, "simulated", ["ETHUSDT"], "15m", NOW - BAR, NOW)
    monkeypatch.setattr(registry, "WARMUP_BARS", registry.WARMUP_BARS | {"signal": 300})
    monkeypatch.setattr(leakcheck, "compute_features", lambda inputs: compute_features(inputs, features))

    report = check_features(market, "simulated", ["ETHUSDT"], "15m", 1, 1)

    assert "ema_9_distance" in {leak.column for leak in report.unsteady["ETHUSDT"]}


def test_breadth_does_not_depend_on_the_symbols_that_are_asked_for(market: Connection) -> None:
    build_features(market, "simulated", ["ETHUSDT"], "15m", NOW - BAR, NOW)

    series = breadth.read(market, "simulated", Timeframe.M15, NOW - BAR, NOW)
    row = _rows(market, "ETHUSDT", NOW - BAR).values[-1]

    assert row[NAMES.index("breadth_above_ema_50")] == series.above_ema[-1]
    assert row[NAMES.index("breadth_rising_16")] == series.rising[-1]
    assert round(series.rising[-1] * len(SYMBOLS), 9).is_integer()


def test_breadth_is_missing_with_fewer_than_five_members(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS[:4]), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=10), NOW)

    build_features(connection, "simulated", ["BTCUSDT"], "15m", NOW - BAR, NOW)

    assert len(breadth.read(connection, "simulated", Timeframe.M15, NOW - LONG, NOW).above_ema) == 0
    assert np.isnan(_rows(connection, "BTCUSDT", NOW - BAR).values[-1, NAMES.index("breadth_rising_16")])


def test_breadth_follows_a_corrected_candle_and_stays_untouched_otherwise(market: Connection) -> None:
    span = (market, "simulated", Timeframe.M15, NOW - LONG, NOW)
    assert update_breadth(*span) == LONG // BAR
    assert update_breadth(*span) == 0

    ids = instruments.by_symbol(market, "simulated")
    market.execute(
        "update ohlcv_15m set high = high * 2, close = close * 2 where instrument_id = %s and ts = %s",
        (ids["XRPUSDT"].instrument_id, NOW - 8 * BAR),
    )

    assert update_breadth(*span) >= 1


def test_stored_rows_pass_the_leak_check(market: Connection) -> None:
    build_features(market, "simulated", SYMBOLS, "15m", NOW - timedelta(hours=6), NOW)

    report = check_features(market, "simulated", SYMBOLS, "15m", 2, 7, NOW - timedelta(hours=6), NOW)

    assert report.checked == 2 * len(SYMBOLS)
    assert report.leaks == {}
    assert report.unsteady == {}


def test_hash_of_the_inputs_changes_with_a_candle_and_only_then(market: Connection) -> None:
    def build() -> str:
        return build_features(market, "simulated", SYMBOLS, "15m", NOW - BAR, NOW).inputs_hash

    first = build()
    assert build() == first

    market.execute("update ohlcv_15m set volume = volume + 1 where ts = %s", (NOW - 3 * BAR,))

    assert build() != first


def _observed(known_before: timedelta, value: float, *, name: str = "sentiment", coin: str = "ETH") -> Observation:
    """A value of three hours ago that became known so long before now."""
    return Observation(name, coin, SIMULATED, NOW - timedelta(hours=3), NOW - known_before, value)


def _value(connection: Connection, symbol: str, name: str, opened: datetime = NOW - BAR) -> float:
    return float(_rows(connection, symbol, opened, opened + BAR).values[-1, NAMES.index(name)])


def test_outside_series_is_joined_by_coin_in_the_version_known_at_the_close(market: Connection) -> None:
    hour = timedelta(hours=1)
    rows = [_observed(2 * hour, 0.25), _observed(hour, 0.75), _observed(2 * hour, 31.0, name="fear_greed", coin=MARKET)]
    observations.add(market, rows)

    build_features(market, "simulated", SYMBOLS, "15m", NOW - LONG, NOW)

    assert _value(market, "ETHUSDT", "sentiment") == 0.75
    assert _value(market, "ETHUSDT", "sentiment", NOW - 2 * hour) == 0.25
    assert np.isnan(_value(market, "ETHUSDT", "sentiment", NOW - 4 * hour))
    assert np.isnan(_value(market, "BTCUSDT", "sentiment"))
    assert {_value(market, symbol, "fear_greed") for symbol in SYMBOLS} == {31.0}


def test_newest_bar_with_outside_series_equals_that_of_a_long_rebuild(market: Connection) -> None:
    draw = np.random.default_rng(1)
    hours = [NOW - timedelta(hours=h) for h in range(24 * 40)]
    for series, coins in (("exchange_netflow_usd", ["ETH", "SOL", MARKET]), ("open_interest_usd", ["ETH", "BTC"])):
        for coin in coins:
            values = 1000 + draw.normal(0, 100, len(hours))
            later = draw.uniform(1, 2, len(hours))
            rows = zip(hours, later, values, strict=True)
            observations.add(
                market, [Observation(series, coin, SIMULATED, ts, ts + timedelta(hours=h), v) for ts, h, v in rows]
            )
    build_features(market, "simulated", SYMBOLS, "15m", NOW - BAR, NOW)
    live = {symbol: _rows(market, symbol, NOW - BAR).values for symbol in SYMBOLS}
    assert not np.isnan(live["SOLUSDT"][-1, NAMES.index("netflow_unusual")])

    build_features(market, "simulated", SYMBOLS, "15m", NOW - LONG, NOW)

    for symbol in SYMBOLS:
        np.testing.assert_allclose(_rows(market, symbol, NOW - BAR).values, live[symbol], rtol=1e-9, atol=1e-9)
    assert check_features(market, "simulated", SYMBOLS, "15m", 5, 1).leaks == {}


def test_check_finds_a_revision_that_is_said_to_have_been_known_before_it_was(market: Connection) -> None:
    observations.add(market, [_observed(timedelta(hours=2), 0.25)])
    build_features(market, "simulated", ["ETHUSDT"], "15m", NOW - BAR, NOW)
    market.execute("update features_15m set values[%s] = 0.75", (NAMES.index("sentiment") + 1,))

    (leak,) = check_features(market, "simulated", ["ETHUSDT"], "15m", 1, 1).leaks["ETHUSDT"]

    assert (leak.column, leak.stored, leak.recomputed) == ("sentiment", 0.75, 0.25)
