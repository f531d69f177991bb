"""Indicators against TA-Lib on every timeframe, the reading of the charts, and the strategy that trades it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
from feature_inputs import D1, H1, H4, M15, longer, make_bars, tail

from trading_pipelines.domain.features.context import Bars as Charted
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.strategies.base import Bars, StrategyInput
from trading_pipelines.domain.strategies.proposals import propose
from trading_pipelines.domain.strategies.registry import STRATEGIES
from trading_pipelines.domain.strategies.technical import Technical
from trading_pipelines.domain.technical.indicators import EMA_PERIODS, WARM_UP, indicators
from trading_pipelines.domain.technical.signal import (
    HIGHER_WARM_UP,
    Weights,
    finite_ema,
    read_charts,
    trend,
    with_indicators,
)
from trading_pipelines.domain.validation.strategy_check import check_strategy
from trading_pipelines.errors import UserError

BARS = 14_400
WHOLE = make_bars(np.random.default_rng(5).normal(0, 0.003, BARS), 5)


def _candles(bars: Charted) -> Bars:
    ts = bars.ts.astype("datetime64[us]").astype(np.int64)
    return Bars("AUSDT", ts, bars.open, bars.high, bars.low, bars.close, bars.volume)


def _market(bars: Charted = WHOLE, warm_up: int = 11_000) -> StrategyInput:
    higher = {timeframe: _candles(longer(bars, timeframe)) for timeframe in (H1, H4, D1)}
    return StrategyInput(_candles(bars), M15, warm_up=warm_up, higher=higher)


def _agree_with_talib(bars: Charted) -> int:
    """Compare every indicator where ours says something; returns how many said something at the newest bar."""
    ours = indicators(bars)
    line, signal, histogram = talib.MACD(bars.close)
    upper, middle, lower = talib.BBANDS(bars.close, 20, 2, 2)
    pairs = [
        *((ours.ema[period], talib.EMA(bars.close, period)) for period in EMA_PERIODS),
        (ours.macd, line),
        (ours.macd_signal, signal),
        (ours.macd_histogram, histogram),
        (ours.rsi, talib.RSI(bars.close, 14)),
        (ours.stochastic_rsi, talib.STOCHRSI(bars.close, 14, 14, 1)[0]),
        (ours.stochastic_rsi_signal, talib.STOCHRSI(bars.close, 14, 14, 3)[1]),
        (ours.bollinger_upper, upper),
        (ours.bollinger_middle, middle),
        (ours.bollinger_lower, lower),
        (ours.atr, talib.ATR(bars.high, bars.low, bars.close, 14)),
        (ours.volume_sma, talib.SMA(bars.volume, 20)),
    ]
    for i, (own, other) in enumerate(pairs):
        known = ~np.isnan(own)
        scale = 1e-7 * float(np.nanmedian(np.abs(other)))  # a difference of averages may pass through zero
        np.testing.assert_allclose(own[known], other[known], rtol=1e-6, atol=scale, err_msg=str(i))
    days = bars.ts.astype("datetime64[D]")
    same_day = (days[1:] == days[:-1]) & ~np.isnan(ours.obv_session[:-1])
    steps, theirs = np.diff(ours.obv_session), np.diff(talib.OBV(bars.close, bars.volume))
    np.testing.assert_allclose(steps[same_day], theirs[same_day], rtol=1e-6, atol=1e-6 * float(bars.volume.max()))
    return sum(not np.isnan(own[-1]) for own, _ in pairs)


@pytest.mark.parametrize("timeframe", [Timeframe.M5, M15, H1, H4, D1])
def test_indicators_agree_with_talib_on_every_timeframe(timeframe: Timeframe) -> None:
    bars = replace(
        WHOLE, timeframe=timeframe, ts=WHOLE.ts[0] + np.arange(BARS) * np.timedelta64(timeframe.minutes, "m")
    )
    assert _agree_with_talib(bars) == 15


@pytest.mark.real_data
@pytest.mark.parametrize(
    "file",
    [
        "binance/DOGEUSDT/1h",
        "bybit/BTCUSDT/5m",
        "bybit/BTCUSDT/15m",
        "bybit/ETHUSDT/1h",
        "bybit/SOLUSDT/4h",
        "bybit/BNBUSDT/1d",
    ],
)
def test_indicators_agree_with_talib_on_recorded_candles(real_data_dir: Path, file: str) -> None:
    frame = pd.read_parquet(real_data_dir / "ohlcv" / f"{file}.parquet").reset_index()
    ts = pd.DatetimeIndex(frame["ts"]).tz_convert("UTC").tz_localize(None).as_unit("us").to_numpy()
    columns = (frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume"))
    assert _agree_with_talib(Charted(Timeframe(file.rpartition("/")[2]), ts, *columns)) >= 11


def test_newest_value_is_that_of_the_whole_history_with_the_warm_up_that_is_stated() -> None:
    whole = indicators(WHOLE)
    for name, bars in WARM_UP.items():
        enough, less = indicators(tail(WHOLE, bars)), indicators(tail(WHOLE, bars - 1))

        def newest(x: object, name: str = name) -> float:
            if name.startswith("ema"):
                return float(x.ema[int(name[4:])][-1])  # type: ignore[attr-defined]  # any Indicators
            field = {"rsi_14": "rsi", "atr_14": "atr", "macd": "macd_histogram", "stochastic_rsi": name + "_signal"}
            return float(getattr(x, field[name])[-1])

        assert newest(enough) == pytest.approx(newest(whole), rel=1e-9, abs=1e-9)
        assert np.isnan(newest(less))


def test_support_and_resistance_are_used_five_bars_after_the_extreme() -> None:
    flat = np.full(BARS, 100.0)
    high, low = flat + 1, flat - 1
    high, low = high + np.linspace(0, 0.1, BARS), low - np.linspace(0, 0.1, BARS)  # no other swing
    high[10_000], low[10_100] = 120.0, 80.0
    levels = indicators(replace(WHOLE, high=high, low=low, close=flat, open=flat, _known={}))
    assert np.isnan(levels.resistance[10_004])
    assert levels.resistance[10_005] == 120.0
    assert np.isnan(levels.support[10_104])
    assert levels.support[10_105] == 80.0


def test_halt_without_volume_gives_prices_and_no_error() -> None:
    still = replace(WHOLE, volume=np.zeros(BARS), _known={})
    levels = indicators(still)
    np.testing.assert_array_equal(levels.vwap_rolling[100:], still.close[100:])
    np.testing.assert_array_equal(levels.vwap_session[100:], still.close[100:])
    assert not np.isnan(read_charts(_market(still), Weights()).setup_15m[-1])


def test_finite_average_follows_the_common_one_and_forgets() -> None:
    ours, theirs = finite_ema(WHOLE.close, 21), talib.EMA(WHOLE.close, 21)
    np.testing.assert_allclose(ours[500:], theirs[500:], rtol=1e-4)
    np.testing.assert_allclose(finite_ema(WHOLE.close[-105:], 21)[-1], ours[-1], rtol=1e-12)
    assert np.isnan(finite_ema(WHOLE.close[-104:], 21)).all()


@pytest.mark.parametrize(("drift", "sign"), [(0.01, 1), (-0.01, -1)])
def test_steady_rise_or_fall_has_all_averages_in_order(drift: float, sign: int) -> None:
    assert trend(np.exp(drift * np.arange(400)), (9, 21, 50))[-1] == sign


def test_entry_follows_the_four_hour_trend_and_never_goes_against_it() -> None:
    reading = read_charts(_market(), Weights())
    entered = reading.side != 0
    assert entered.sum() > 200
    assert set(reading.side[entered].tolist()) == {1, -1}
    np.testing.assert_array_equal(reading.side[entered], np.sign(reading.trend_4h[entered]))
    assert ((reading.side * (reading.setup_15m + reading.setup_1h))[entered] >= 0.6).all()
    assert (reading.confidence[~entered] == 0).all()
    assert ((reading.confidence > 0) & (reading.confidence <= 1))[entered].all()


def test_conflict_of_the_charts_lowers_the_confidence() -> None:
    told, lenient = (read_charts(_market(), Weights(conflict=share)) for share in (0.75, 1.0))
    contradicted = told.conflict & (told.side != 0)
    assert contradicted.sum() > 20
    np.testing.assert_allclose(told.confidence[contradicted], 0.75 * lenient.confidence[contradicted])
    agreed = ~told.conflict & (told.side != 0)
    assert told.confidence[agreed].mean() > told.confidence[contradicted].mean()


def test_strategy_decides_from_what_was_known_and_from_no_more_history_than_it_asks_for() -> None:
    checked = check_strategy(Technical(), [_market()], samples=16)
    assert checked.findings == ()
    assert checked.decisions > 5


def test_strategy_proposes_with_every_measure_that_the_gates_ask_for() -> None:
    told, proposals = propose(Technical(), _market())
    assert STRATEGIES["technical"] is Technical
    assert proposals.measures_volatility.all()
    assert proposals.measures_anomaly.all()
    assert not np.isnan(proposals.anomaly).any()
    assert set(told.factors) == {"trend_4h", "trend_1d", "setup_15m", "setup_1h"}


def test_young_symbol_without_day_chart_is_read_by_its_four_hour_chart() -> None:
    young = _market(tail(WHOLE, 96 * 60), warm_up=0)
    reading = read_charts(young, Weights())
    assert np.isnan(reading.trend_1d).all()
    assert (reading.side != 0).any()
    assert HIGHER_WARM_UP[D1] > 60


def test_symbol_without_longer_candles_is_neutral() -> None:
    bare = _market(tail(WHOLE, 2_000), warm_up=0)
    none = {timeframe: replace_all(bars) for timeframe, bars in bare.higher.items()}
    assert (read_charts(replace(bare, higher=none), Weights()).side == 0).all()


def replace_all(bars: Bars) -> Bars:
    """The series without its bars."""
    return Bars(bars.symbol, *(getattr(bars, name)[:0] for name in ("ts", "open", "high", "low", "close", "volume")))


def test_wrong_parameter_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="min_trend from 0 to 1"):
        Technical(min_trend=2.0)


def test_candles_keep_their_times() -> None:
    np.testing.assert_array_equal(with_indicators(_candles(WHOLE), M15).ts, WHOLE.ts)
