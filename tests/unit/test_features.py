"""Features: agreement with TA-Lib, point in time, independence of the history loaded."""

import numpy as np
import pandas as pd
import pytest
import talib

from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.features.context import Bars, FeatureInputs, as_of, rolling_mean
from trading_pipelines.domain.features.registry import (
    NAMES,
    REGISTRY,
    WARMUP_BARS,
    FeatureSpec,
    definition_hash,
    documentation,
)
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.validation.leakage import find_leaks

H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
BARS = 6_000


def _candles(bars: int, timeframe: Timeframe, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.003, bars)))
    open_ = np.concatenate(([100.0], close[:-1]))
    return pd.DataFrame(
        {
            "ts": pd.date_range("2025-01-01", periods=bars, freq=f"{timeframe.minutes}min", tz="UTC"),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + draw.exponential(0.001, bars)),
            "low": np.minimum(open_, close) * (1 - draw.exponential(0.001, bars)),
            "close": close,
            "volume": draw.exponential(100, bars),
        }
    )


def _resampled(frame: pd.DataFrame, timeframe: Timeframe) -> Bars:
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    whole = frame.set_index("ts").resample(f"{timeframe.minutes}min").agg(how).reset_index()
    return Bars(whole[whole["ts"] + timeframe.delta <= frame["ts"].iloc[-1] + pd.Timedelta(minutes=15)], timeframe)


def _inputs(seed: int = 1, bars: int = BARS) -> FeatureInputs:
    frame = _candles(bars, Timeframe.M15, seed)
    settlements = pd.date_range(frame["ts"].iloc[0], frame["ts"].iloc[-1], freq="8h")
    funding = pd.DataFrame({"ts": settlements, "rate": np.random.default_rng(seed).normal(0, 1e-4, len(settlements))})
    return FeatureInputs(
        bars=Bars(frame, Timeframe.M15),
        higher={timeframe: _resampled(frame, timeframe) for timeframe in (H1, H4, D1)},
        leader=Bars(_candles(bars, Timeframe.M15, seed + 100), Timeframe.M15),
        funding=funding,
    )


INPUTS = _inputs()
ROWS = [2_999, 3_000, 3_001, 4_444, 5_123, BARS - 1]


def test_no_feature_uses_what_was_not_known() -> None:
    assert find_leaks(INPUTS, ROWS, REGISTRY) == []


def _leak(name: str, compute) -> FeatureSpec:
    return FeatureSpec(name, "planted", "", "", "", compute)


def _by_open_time(x: FeatureInputs) -> np.ndarray:
    hour = x.higher[H1]
    return as_of(x.bars.closes_at, hour.ts, hour.log_return(1), 1440)


def _own_day(x: FeatureInputs) -> np.ndarray:
    rates = x.funding.groupby(x.funding["ts"].dt.date)["rate"].mean()
    days = pd.Series(x.bars.ts).dt.date
    return days.map(rates).to_numpy(dtype=float)


PLANTED = [
    _leak("shifted_return", lambda x: np.append(x.bars.log_return(1)[1:], 0.0)),
    _leak("centred_mean", lambda x: np.append(rolling_mean(x.bars.close, 5)[2:], [0.0, 0.0])),
    _leak("full_sample_z", lambda x: (x.bars.close - x.bars.close.mean()) / x.bars.close.std()),
    _leak("rank_in_sample", lambda x: pd.Series(x.bars.close).rank(pct=True).to_numpy()),
    _leak("hour_by_open_time", _by_open_time),
    _leak("funding_of_the_day", _own_day),
    _leak("backfilled", lambda x: pd.Series(np.where(x.bars.volume > 150, x.bars.close, np.nan)).bfill().to_numpy()),
    _leak("max_of_day", lambda x: pd.Series(x.bars.high).groupby(x.bars.ts.astype("datetime64[D]")).transform("max")),
]


@pytest.mark.parametrize("spec", PLANTED, ids=lambda spec: spec.name)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_planted_leak_is_found(spec: FeatureSpec, seed: int) -> None:
    inputs = _inputs(seed, bars=1_200)
    rows = list(range(600, 1_190, 37))
    (leak,) = find_leaks(inputs, rows, [REGISTRY[0], spec])
    assert leak.column == spec.name
    assert leak.first in inputs.bars.closes_at[rows]


def test_value_does_not_depend_on_how_much_history_was_loaded() -> None:
    """The warm-up of the registry is long enough for every recursive indicator."""
    row = BARS - 1
    whole = compute_features(INPUTS).values[row]
    frame = _candles(BARS, Timeframe.M15, 1)

    def tail(bars: Bars, count: int) -> Bars:
        columns = {n: getattr(bars, n)[-count:] for n in ("open", "high", "low", "close", "volume")}
        return Bars(
            pd.DataFrame({"ts": pd.DatetimeIndex(bars.ts[-count:]).tz_localize("UTC"), **columns}), bars.timeframe
        )

    signal = WARMUP_BARS["signal"] + 1
    short = FeatureInputs(
        bars=Bars(frame.iloc[-signal:].reset_index(drop=True), Timeframe.M15),
        higher={t: tail(bars, WARMUP_BARS[t] + 1) for t, bars in INPUTS.higher.items()},
        leader=None if INPUTS.leader is None else tail(INPUTS.leader, signal),
        funding=INPUTS.funding,
    )
    np.testing.assert_allclose(compute_features(short).values[-1], whole, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda b: b.ema(200), lambda b: talib.EMA(b.close, 200)),
        (lambda b: b.rsi(14), lambda b: talib.RSI(b.close, 14)),
        (lambda b: b.atr(14), lambda b: talib.ATR(b.high, b.low, b.close, 14)),
        (lambda b: b.bollinger[1], lambda b: (lambda u, m, lo: (u - lo) / m)(*talib.BBANDS(b.close, 20, 2, 2))),
        (lambda b: b.volume_ratio(20), lambda b: b.volume / talib.SMA(b.volume, 20)),
        (lambda b: 100 * b.stochastic_rsi, lambda b: talib.STOCHRSI(b.close, 14, 14, 1)[0]),
        (lambda b: b.macd[1], lambda b: talib.MACD(b.close)[2]),
    ],
    ids=["ema", "rsi", "atr", "bollinger", "volume_sma", "stochastic_rsi", "macd"],
)
def test_indicator_agrees_with_talib(ours, theirs) -> None:
    np.testing.assert_allclose(ours(INPUTS.bars)[300:], theirs(INPUTS.bars)[300:], rtol=1e-6, atol=1e-9)


def test_higher_timeframe_value_changes_only_when_its_bar_has_closed() -> None:
    values = INPUTS.at(H1, lambda b: b.close)
    minutes = INPUTS.bars.closes_at.astype("datetime64[m]").astype(int) % 60
    changed = np.flatnonzero(np.diff(values[100:]) != 0) + 101
    assert set(minutes[changed]) == {0}


def test_stale_value_of_another_series_is_missing() -> None:
    known = np.array(["2025-01-01T00:00"], dtype="datetime64[us]")
    moments = np.array(
        ["2024-12-31T23:59", "2025-01-01T00:00", "2025-01-01T02:00", "2025-01-01T02:01"], "datetime64[us]"
    )
    np.testing.assert_array_equal(as_of(moments, known, np.array([7.0]), 120), [np.nan, 7.0, 7.0, np.nan])


def test_registry_names_each_feature_once_and_is_large_enough() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 60
    assert definition_hash() != definition_hash(REGISTRY[1:])


def test_documentation_page_is_that_of_the_registry() -> None:
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "features.md"
    assert page.read_text() == documentation(), "write it anew: python -m trading_pipelines.domain.features"
