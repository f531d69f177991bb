"""What the charts of one symbol say: the trend on 4h and 1d, the entry on 15m and 1h, and how well they agree.

Belongs here: the reading itself, an array per quantity, so that one live bar and years of history are read alike. Does
not belong here: levels and size (`domain.signals.setup`, `domain.risk.sizing`) and trading on it
(`domain.strategies.technical`).

The longer trends use averages with a finite memory. A common EMA(21) of days would need most of a year before it no
longer depends on where the history begins, and a decision must not change with the history that happens to be stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.anomaly.measures import recent
from trading_pipelines.domain.features.context import MACD_BARS, Bars, ema_bars, wilder_bars
from trading_pipelines.domain.features.windows import Floats
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.strategies.base import Bars as Candles
from trading_pipelines.domain.strategies.base import StrategyInput

TREND_PERIODS = {Timeframe.H4: (9, 21, 50), Timeframe.D1: (9, 21)}
MEMORY = 5
"""Lengths of an average that its memory spans: what is older would have weighed 5e-5."""
NORM_BARS = 672
SETUP_BARS = max(ema_bars(21), MACD_BARS, wilder_bars(14))
WARM_UP = wilder_bars(14) + NORM_BARS
HIGHER_WARM_UP = {
    Timeframe.H1: SETUP_BARS,
    Timeframe.H4: MEMORY * max(TREND_PERIODS[Timeframe.H4]) + 1,
    Timeframe.D1: MEMORY * max(TREND_PERIODS[Timeframe.D1]) + 1,
}


@dataclass(frozen=True)
class Weights:
    """How the reading is put together; all from 0 to 1.

    Attributes
    ----------
    trend_4h, trend_1d, setup_15m, setup_1h : float
        Shares in the confidence; they sum to 1.
    min_trend : float
        Strength from which the 4h chart has a direction.
    min_setup : float
        Strength from which 15m and 1h together are an entry.
    conflict : float
        What a contradiction leaves of the confidence.
    """

    trend_4h: float = 0.35
    trend_1d: float = 0.25
    setup_15m: float = 0.2
    setup_1h: float = 0.2
    min_trend: float = 0.3
    min_setup: float = 0.3
    conflict: float = 0.75


@dataclass(frozen=True)
class Reading:
    """The charts at the close of each bar of the signal timeframe; arrays as long as the bars.

    Attributes
    ----------
    trend_4h, trend_1d, setup_15m, setup_1h : array of float
        From -1 (down) to 1 (up), NaN while not known.
    side : array of int8
        +1 long, -1 short, 0 neutral.
    direction : array of int8
        Of the trend, whether there is an entry or not.
    conflict : array of bool
        4h against 1d, or 15m against 1h.
    confidence : array of float
        0 to 1; 0 where the reading is neutral.
    atr, atr_ratio, anomaly : array of float
        As the gates want them.
    """

    trend_4h: Floats
    trend_1d: Floats
    setup_15m: Floats
    setup_1h: Floats
    side: npt.NDArray[np.int8]
    direction: npt.NDArray[np.int8]
    conflict: npt.NDArray[np.bool_]
    confidence: Floats
    atr: Floats
    atr_ratio: Floats
    anomaly: Floats


def read_charts(data: StrategyInput, weights: Weights) -> Reading:
    """Read the charts at each close.

    The 4h chart gives the direction, when it has one; the entry is taken in that direction only, when 15m and 1h
    together support it. A day chart that is not known counts as flat.
    """
    own = with_indicators(data.bars, data.timeframe)
    with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still: not known
        trend_4h, trend_1d = (
            _as_known(data, timeframe, lambda bars, p=periods: trend(bars.close, p))
            for timeframe, periods in TREND_PERIODS.items()
        )
        setup_15m, setup_1h = entry_setup(own), _as_known(data, Timeframe.H1, entry_setup)
        direction = np.where(np.abs(trend_4h) >= weights.min_trend, np.sign(trend_4h), 0.0)
        day = np.nan_to_num(trend_1d)
        entry = (setup_15m + setup_1h) / 2
        side = np.where(direction * entry >= weights.min_setup, direction, 0.0)
        agreement = direction * (
            weights.trend_4h * trend_4h
            + weights.trend_1d * day
            + weights.setup_15m * setup_15m
            + weights.setup_1h * setup_1h
        )
        conflict = (trend_4h * day < 0) | (setup_15m * setup_1h < 0)
        confidence = np.clip(0.5 + agreement / 2, 0.0, 1.0) * np.where(conflict, weights.conflict, 1.0)
        return Reading(
            trend_4h=trend_4h,
            trend_1d=trend_1d,
            setup_15m=setup_15m,
            setup_1h=setup_1h,
            side=side.astype(np.int8),
            direction=direction.astype(np.int8),
            conflict=conflict,
            confidence=np.where(side == 0, 0.0, confidence),
            atr=own.atr(),
            atr_ratio=own.atr_ratio(NORM_BARS),
            anomaly=recent(own),
        )


def trend(close: Floats, periods: Sequence[int]) -> Floats:
    """How far the averages stand in order, -1 (falling) to 1 (rising).

    The mean of the signs of close against the slowest average, and of each average against the next slower one.
    """
    averages = [finite_ema(close, period) for period in periods]
    faster = [close, *averages[:-1]]
    slower = [averages[-1], *averages[1:]]
    return sum((np.sign(f - s) for f, s in zip(faster, slower, strict=True)), np.zeros(len(close))) / len(periods)


def finite_ema(values: Floats, period: int) -> Floats:
    """Exponential average whose memory ends after five periods; NaN before that.

    Its weights are those of the EMA, scaled to sum to 1.
    """
    bars = MEMORY * period
    result = np.full(len(values), np.nan)
    if len(values) >= bars:
        weights = (1 - 2 / (period + 1)) ** np.arange(bars)
        result[bars - 1 :] = np.convolve(values, weights / weights.sum(), "valid")
    return result


def entry_setup(bars: Bars) -> Floats:
    """Whether this is a moment to follow the trend, -1 (down) to 1 (up).

    The mean of four opinions: the order of EMA(9) and EMA(21), the sign of the MACD histogram, RSI(14) as distance from
    50 (full at 20, none beyond 25: the move is then overdone), and the side of the VWAP of 96 bars.
    """
    histogram, stretch = bars.macd[1], bars.rsi(14) - 50
    momentum = np.where(np.abs(stretch) > 25, 0.0, np.clip(stretch / 20, -1.0, 1.0))
    momentum = np.where(np.isnan(stretch), np.nan, momentum)
    crossing, value = np.sign(bars.ema(9) - bars.ema(21)), np.sign(bars.vwap_distance(96))
    return (crossing + np.sign(histogram) + momentum + value) / 4


def with_indicators(bars: Candles, timeframe: Timeframe) -> Bars:
    """The candles that a strategy sees, with the indicators over them."""
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    return Bars(timeframe, bars.ts.astype("datetime64[us]"), *columns)


def _as_known(data: StrategyInput, timeframe: Timeframe, compute: Callable[[Bars], Floats]) -> Floats:
    """A value of a longer timeframe as it was known at each close, not older than two of its bars."""
    series = data.higher[timeframe]
    if len(series) == 0:
        return np.full(len(data.bars), np.nan)
    values = compute(with_indicators(series, timeframe))
    at = data.latest(timeframe)
    age = data.closed_at - (series.ts[np.maximum(at, 0)] + timeframe.microseconds)
    return np.where((at >= 0) & (age <= 2 * timeframe.microseconds), values[np.maximum(at, 0)], np.nan)
