"""How unusual a bar is, in several ways, each as a multiple of the size from which it counts as an anomaly.

Belongs here: heuristics over the candles of one symbol. Does not belong here: what follows from an anomaly
(`domain.signals.gates`) and cleaning: an extreme that has really been traded stays in the data.

A measure of 1 or more is an anomaly. The norm is always a median over 672 bars, a week of 15-minute bars, so that the
anomaly itself hardly moves it. A symbol that normally does not trade or move at all has no norm: its measures are 0.

Sources: volume and price far above their moving average as the mark of a pump are from Kamps and Kleinberg, *To the
moon: defining and detecting cryptocurrency pump-and-dumps*, Crime Science 7 (2018). High volume that does not move the
price as the look of wash trading follows the reasoning, not the formulas, of Cong, Li, Tang and Yang, *Crypto Wash
Trading*, Management Science 69 (2023); candles can only hint at it, a proof needs the trades. The sizes are our own,
set so that each kind is found on fewer than one 15-minute bar of a major in a hundred.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np

from trading_pipelines.domain.features.context import Bars
from trading_pipelines.domain.features.windows import (
    Floats,
    divide,
    lag,
    rolling_max,
    rolling_mean,
    rolling_median,
)

NORM_BARS = 672
PEAK_BARS = 16
BASE_BARS = 48
VOLATILITY_RATIO = 3.0
PRICE_DEVIATIONS = 10.0
VOLUME_RATIO = 20.0
PUMP_RISE = 0.10
PUMP_VOLUME_RATIO = 4.0
DUMP_RETRACE = 0.5
WASH_RATIO = 15.0
WASH_VOLUME_RATIO = 5.0
SURGE_BARS = 4
RECENT_BARS = NORM_BARS + (SURGE_BARS - 1) + 2 * (PEAK_BARS - 1)
"""Bars that `recent` depends on."""
_SIGMA = 1.4826
"""From the median absolute value to the standard deviation, for a normal distribution."""


class Kind(StrEnum):
    """What is unusual."""

    VOLATILITY = "VOLATILITY"
    PRICE_SPIKE = "PRICE_SPIKE"
    VOLUME_SPIKE = "VOLUME_SPIKE"
    PUMP = "PUMP"
    PUMP_AND_DUMP = "PUMP_AND_DUMP"
    WASH_TRADING = "WASH_TRADING"


def volatility(bars: Bars) -> Floats:
    """ATR(14) over close against its own norm; an anomaly above 3 times."""
    return bars.atr_ratio(NORM_BARS) / VOLATILITY_RATIO


def price_spike(bars: Bars) -> Floats:
    """The bar's return against the deviation that is normal; an anomaly from 10 deviations."""
    move = np.abs(bars.log_return(1))
    return divide(move, PRICE_DEVIATIONS * _SIGMA * rolling_median(move, NORM_BARS), empty=0.0)


def volume_spike(bars: Bars) -> Floats:
    """The bar's volume against the normal one; an anomaly from 20 times."""
    return volume_norm(bars) / VOLUME_RATIO


def pump(bars: Bars) -> Floats:
    """The close 10 % above its mean of 48 bars while the volume of 4 bars is 4 times the normal one."""
    rise = bars.close / rolling_mean(bars.close, BASE_BARS) - 1
    return np.minimum(rise / PUMP_RISE, rolling_mean(volume_norm(bars), SURGE_BARS) / PUMP_VOLUME_RATIO)


def pump_and_dump(bars: Bars) -> Floats:
    """A pump within 16 bars of which half or more is lost again.

    The rise goes from the mean close of the 48 bars before to the highest high of the 16 bars; half of it must be
    gone at the close, and 4 bars in between must have traded 4 times the normal volume.
    """
    peak = rolling_max(bars.high, PEAK_BARS)
    base = lag(rolling_mean(bars.close, BASE_BARS), PEAK_BARS)
    surge = rolling_max(rolling_mean(volume_norm(bars), SURGE_BARS), PEAK_BARS)
    retraced = divide(peak - bars.close, np.maximum(peak - base, 0.0), empty=0.0)
    sizes = ((peak / base - 1) / PUMP_RISE, retraced / DUMP_RETRACE, surge / PUMP_VOLUME_RATIO)
    return np.minimum(np.minimum(sizes[0], sizes[1]), sizes[2])


def wash_trading(bars: Bars) -> Floats:
    """Volume per range against the normal one: 15 times on at least 5 times the normal volume is an anomaly."""
    share = (bars.high - bars.low) / bars.close
    calm = divide(share, rolling_median(share, NORM_BARS), empty=1.0)
    volume = volume_norm(bars)
    # A range of zero moves nothing at all; a twentieth of the normal one is as calm as can be told.
    per_range = volume / np.maximum(calm, 0.05)
    return np.minimum(per_range / WASH_RATIO, volume / WASH_VOLUME_RATIO)


def volume_norm(bars: Bars) -> Floats:
    """Volume against its own median; 0 where nothing is normally traded."""
    return bars.once(
        "volume_norm",
        NORM_BARS,
        lambda: divide(bars.volume, rolling_median(bars.volume, NORM_BARS), empty=0.0),
    )


MEASURES: Mapping[Kind, Callable[[Bars], Floats]] = {
    Kind.VOLATILITY: volatility,
    Kind.PRICE_SPIKE: price_spike,
    Kind.VOLUME_SPIKE: volume_spike,
    Kind.PUMP: pump,
    Kind.PUMP_AND_DUMP: pump_and_dump,
    Kind.WASH_TRADING: wash_trading,
}


def recent(bars: Bars) -> Floats:
    """The largest measure of the last 16 bars; abnormal volatility is left out, which has a gate of its own."""
    kinds = [measure for kind, measure in MEASURES.items() if kind is not Kind.VOLATILITY]
    largest = kinds[0](bars)
    for measure in kinds[1:]:
        largest = np.maximum(largest, measure(bars))
    return rolling_max(largest, PEAK_BARS)
