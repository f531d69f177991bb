"""Features: agreement with TA-Lib, and independence of how much history was loaded."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import talib
from feature_inputs import BARS, D1, H1, H4, M15, first_hours, make_inputs, tail

from trading_pipelines.domain.features.compute import compute_features, compute_newest
from trading_pipelines.domain.features.context import Bars, FeatureInputs, Settlements
from trading_pipelines.domain.features.registry import (
    NAMES,
    REGISTRY,
    VERSION,
    WARMUP_BARS,
    FeatureSpec,
    Source,
    definition_hash,
    documentation,
)
from trading_pipelines.domain.features.windows import Floats, as_of

INPUTS = make_inputs(seed=1)
MATRIX = compute_features(INPUTS)
TIMEFRAMES = {Source.OWN: M15, Source.LEADER: M15, Source.H1: H1, Source.H4: H4, Source.D1: D1}


def _with_history(spec: FeatureSpec, bars: int) -> FeatureInputs:
    """The inputs with the newest `bars` bars of the feature's source only."""
    if spec.source in (Source.OWN, Source.LEADER):
        leader = None if INPUTS.leader is None else tail(INPUTS.leader, bars)
        return replace(INPUTS, bars=tail(INPUTS.bars, bars), leader=leader)
    timeframe = TIMEFRAMES[spec.source]
    return replace(INPUTS, higher={timeframe: tail(INPUTS.higher[timeframe], bars)})


@pytest.mark.parametrize("spec", [s for s in REGISTRY if s.source in TIMEFRAMES], ids=lambda s: s.name)
def test_value_is_that_of_the_batch_with_the_history_it_names_and_missing_with_less(spec: FeatureSpec) -> None:
    whole = MATRIX.values[-1, NAMES.index(spec.name)]
    enough = compute_features(_with_history(spec, spec.look_back), [spec]).values[-1, 0]
    assert enough == pytest.approx(whole, rel=1e-9, abs=1e-9)
    if spec.look_back > 1 and spec.name != "vwap_session_distance":
        assert np.isnan(compute_features(_with_history(spec, spec.look_back - 1), [spec]).values[-1, 0])


def test_row_computed_from_the_warm_up_alone_is_that_of_the_batch() -> None:
    signal = WARMUP_BARS["signal"]
    alone = replace(
        INPUTS,
        bars=tail(INPUTS.bars, signal),
        higher={timeframe: tail(bars, WARMUP_BARS[timeframe]) for timeframe, bars in INPUTS.higher.items()},
        leader=None if INPUTS.leader is None else tail(INPUTS.leader, signal),
    )
    np.testing.assert_allclose(compute_features(alone).values[-1], MATRIX.values[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 7, 96])
def test_newest_bars_of_many_symbols_in_one_pass_are_those_of_the_batch(rows: int) -> None:
    """Also of the leader itself, of a symbol that has just been listed, and of one without longer bars or funding."""
    listed = replace(make_inputs(seed=2), leader=INPUTS.leader, breadth=INPUTS.breadth, market=INPUTS.market)
    listed = replace(listed, bars=tail(listed.bars, 700), higher={t: tail(b, 30) for t, b in listed.higher.items()})
    new = replace(listed, bars=tail(listed.bars, 3))
    bare = replace(listed, funding=Settlements(INPUTS.funding.ts[:0], INPUTS.funding.rate[:0]))
    few = {name: series for name, series in bare.observed.items() if name != "sentiment"}
    bare = replace(bare, higher={t: tail(b, 0) for t, b in bare.higher.items()}, observed=few)
    leader = replace(INPUTS, leader=None)
    symbols = [INPUTS, leader, listed, new, bare]
    for inputs, matrix in zip(symbols, compute_newest(symbols, rows), strict=True):
        batch = compute_features(inputs)
        np.testing.assert_array_equal(matrix.ts, batch.ts[-rows:])
        np.testing.assert_array_equal(matrix.available_at, batch.available_at[-rows:])
        np.testing.assert_array_equal(matrix.values, batch.values[-rows:])


def test_session_vwap_is_missing_on_a_day_that_began_before_the_history() -> None:
    values = tail(INPUTS.bars, 150).session_vwap_distance
    assert np.isnan(values[: 150 - 48]).sum() == (150 - 48) % 96
    assert not np.isnan(values[-48:]).any()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda b: b.ema(9), lambda b: talib.EMA(b.close, 9)),
        (lambda b: b.ema(200), lambda b: talib.EMA(b.close, 200)),
        (lambda b: b.rsi(14), lambda b: talib.RSI(b.close, 14)),
        (lambda b: b.atr(14), lambda b: talib.ATR(b.high, b.low, b.close, 14)),
        (lambda b: b.adx(14), lambda b: talib.ADX(b.high, b.low, b.close, 14)),
        (lambda b: b.macd[0], lambda b: talib.MACD(b.close)[0]),
        (lambda b: b.macd[1], lambda b: talib.MACD(b.close)[2]),
        (lambda b: b.bollinger[1], lambda b: (lambda u, m, lo: (u - lo) / m)(*talib.BBANDS(b.close, 20, 2, 2))),
        (lambda b: b.volume_ratio(20), lambda b: b.volume / talib.SMA(b.volume, 20)),
        (lambda b: 100 * b.stochastic_rsi, lambda b: talib.STOCHRSI(b.close, 14, 14, 1)[0]),
        (
            lambda b: b.obv_slope(16) * b.volume_sum(16),
            lambda b: talib.OBV(b.close, b.volume) - np.roll(talib.OBV(b.close, b.volume), 16),
        ),
    ],
    ids=["ema", "long_ema", "rsi", "atr", "adx", "macd", "histogram", "bollinger", "volume", "stochastic_rsi", "obv"],
)
def test_indicator_agrees_with_talib(ours: Callable[[Bars], Floats], theirs: Callable[[Bars], Floats]) -> None:
    found = ours(INPUTS.bars)
    known = ~np.isnan(found)
    assert known.sum() > 3_000
    np.testing.assert_allclose(found[known], theirs(INPUTS.bars)[known], rtol=1e-6, atol=1e-7)


def test_swing_distance_is_that_of_the_newest_extreme_of_five_bars_on_each_side() -> None:
    bars = INPUTS.bars
    distance = bars.swing_distance(high=True)
    for row in (2_000, 3_333, BARS - 1):
        centres = range(row - 5, row - 400, -1)
        swing = next(i for i in centres if bars.high[i] == bars.high[i - 5 : i + 6].max())
        assert distance[row] == pytest.approx((bars.close[row] - bars.high[swing]) / bars.atr()[row])


def test_vwap_is_the_price_per_unit_traded() -> None:
    bars, rows = INPUTS.bars, slice(1_000 - 32, 1_000)
    typical = (bars.high + bars.low + bars.close)[rows] / 3
    vwap = (typical * bars.volume[rows]).sum() / bars.volume[rows].sum()
    assert bars.vwap_distance(32)[999] == pytest.approx(bars.close[999] / vwap - 1)


def test_bars_without_volume_or_movement_give_numbers() -> None:
    """Exchanges halt: the price stands still for bars on end and nothing is traded."""
    flat = np.full(BARS, 100.0)
    still = replace(INPUTS.bars, open=flat, high=flat, low=flat, close=flat, volume=np.zeros(BARS), _known={})
    values = compute_features(replace(INPUTS, bars=still)).values[-1]
    undefined = {"range_atr", "ema_9_21", "ema_50_200", "ema_21_slope", "macd", "macd_histogram", "atr_ratio"}
    missing = {name for name, value in zip(NAMES, values, strict=True) if np.isnan(value)}
    assert missing <= undefined | {"swing_high_distance", "swing_low_distance"}


def test_higher_timeframe_value_changes_only_when_its_bar_has_closed() -> None:
    values = INPUTS.at(H1, lambda b: b.close)
    minutes = INPUTS.bars.closes_at.astype("datetime64[m]").astype(int) % 60
    changed = np.flatnonzero(np.diff(values[100:]) != 0) + 101
    assert set(minutes[changed]) == {0}


def test_funding_settled_at_the_close_belongs_to_the_next_bar() -> None:
    settled = INPUTS.funding.ts[30]
    row = int(np.flatnonzero(INPUTS.bars.closes_at == settled)[0])
    assert INPUTS.funding_rate[row] == INPUTS.funding.rate[29]
    assert INPUTS.funding_rate[row + 1] == INPUTS.funding.rate[30]


def test_stale_value_of_another_series_is_missing() -> None:
    known = np.array(["2025-01-01T00:00"], dtype="datetime64[us]")
    moments = np.array(
        ["2024-12-31T23:59", "2025-01-01T00:00", "2025-01-01T02:00", "2025-01-01T02:01"], "datetime64[us]"
    )
    np.testing.assert_array_equal(as_of(moments, known, np.array([7.0]), 120), [np.nan, 7.0, 7.0, np.nan])


def test_symbol_without_other_series_has_its_own_features_only() -> None:
    alone = first_hours(INPUTS, BARS)
    alone = replace(alone, higher={}, leader=None, breadth=None, observed={}, market={})
    values = compute_features(alone).values[-1]
    known = {spec.source for spec, value in zip(REGISTRY, values, strict=True) if not np.isnan(value)}
    assert known == {Source.OWN, Source.FUNDING}


def test_no_candles_give_no_rows() -> None:
    assert compute_features(first_hours(INPUTS, 0)).values.shape == (0, len(NAMES))


def test_registry_names_each_feature_once_and_is_large_enough() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert definition_hash() != definition_hash(REGISTRY[1:])


def test_values_change_only_with_the_version() -> None:
    """Stored rows, models and predictions rely on it: whoever changes a value raises `VERSION` and this record."""
    rows = MATRIX.values[[3_500, 4_500, BARS - 1]]
    recorded = json.loads(Path(__file__).with_name("feature_values.json").read_text())
    assert recorded["version"] == VERSION
    assert list(recorded["values"]) == list(NAMES)
    np.testing.assert_allclose(rows.T, list(recorded["values"].values()), rtol=1e-8, atol=1e-10)


def test_documentation_page_is_that_of_the_registry() -> None:
    page = Path(__file__).parents[2] / "docs" / "features.md"
    assert page.read_text() == documentation(), "write it anew: python -m trading_pipelines.domain.features"
