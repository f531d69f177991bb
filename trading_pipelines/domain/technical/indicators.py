"""The classic indicators of one symbol on any timeframe, in the units in which they are drawn.

Belongs here: what a chart shows. Does not belong here: features, which are the same indicators without a scale
(`domain.features`).

The value of a bar uses that bar and earlier ones only. A recursive indicator (EMA, MACD, RSI, ATR) is NaN until the
weight of whatever came before is below 1e-12, so it does not depend on how much history was loaded; `WARM_UP` says how
many bars that takes. On-balance volume has no natural beginning: it is counted from 00:00 UTC, as the session VWAP is,
and so is NaN on a first day that is not whole. Differences of it within a day are those of any other on-balance volume.
A swing becomes support or resistance when the five bars on its right have closed.
"""

from dataclasses import dataclass

import numpy as np

from trading_pipelines.domain.features.context import MACD_BARS, Bars, ema_bars, wilder_bars
from trading_pipelines.domain.features.windows import (
    Floats,
    divide,
    rolling_mean,
    rolling_std,
    rolling_sum,
    sum_since_midnight,
)

EMA_PERIODS = (9, 21, 50, 200)
VWAP_BARS = 96
WARM_UP = {
    "ema_9": ema_bars(9),
    "ema_21": ema_bars(21),
    "ema_50": ema_bars(50),
    "ema_200": ema_bars(200),
    "macd": MACD_BARS,
    "rsi_14": wilder_bars(14),
    "stochastic_rsi": wilder_bars(14) + 15,
    "atr_14": wilder_bars(14),
}
"""Bars that a recursive indicator needs before its first value."""


@dataclass(frozen=True)
class Indicators:
    """Indicator values, one per bar; prices and ATR in quote currency, volumes in base currency.

    Attributes
    ----------
    stochastic_rsi, stochastic_rsi_signal : array of float
        RSI(14) within its range of 14 bars, and the mean of three of these; 0 to 100.
    vwap_session, vwap_rolling : array of float
        Since 00:00 UTC, and of 96 bars; where nothing was traded in the span, the close.
    support, resistance : array of float
        Newest confirmed swing low and swing high.
    """

    ema: dict[int, Floats]
    macd: Floats
    macd_signal: Floats
    macd_histogram: Floats
    rsi: Floats
    stochastic_rsi: Floats
    stochastic_rsi_signal: Floats
    bollinger_upper: Floats
    bollinger_middle: Floats
    bollinger_lower: Floats
    atr: Floats
    obv_session: Floats
    volume_sma: Floats
    vwap_session: Floats
    vwap_rolling: Floats
    support: Floats
    resistance: Floats


def indicators(bars: Bars) -> Indicators:
    """Compute all indicators of all bars."""
    line, histogram = bars.macd
    middle, deviation = rolling_mean(bars.close, 20), rolling_std(bars.close, 20)
    stochastic = 100 * bars.stochastic_rsi
    value = (bars.high + bars.low + bars.close) / 3 * bars.volume
    with np.errstate(invalid="ignore"):
        signed = np.sign(np.diff(bars.close, prepend=bars.close[:1])) * bars.volume
    return Indicators(
        ema={period: bars.ema(period) for period in EMA_PERIODS},
        macd=line,
        macd_signal=line - histogram,
        macd_histogram=histogram,
        rsi=bars.rsi(14),
        stochastic_rsi=stochastic,
        stochastic_rsi_signal=rolling_mean(stochastic, 3),
        bollinger_upper=middle + 2 * deviation,
        bollinger_middle=middle,
        bollinger_lower=middle - 2 * deviation,
        atr=bars.atr(14),
        obv_session=sum_since_midnight(signed, bars.ts),
        volume_sma=rolling_mean(bars.volume, 20),
        vwap_session=_vwap(sum_since_midnight(value, bars.ts), sum_since_midnight(bars.volume, bars.ts), bars.close),
        vwap_rolling=_vwap(rolling_sum(value, VWAP_BARS), rolling_sum(bars.volume, VWAP_BARS), bars.close),
        support=bars.swing(high=False),
        resistance=bars.swing(high=True),
    )


def _vwap(value: Floats, volume: Floats, close: Floats) -> Floats:
    price = divide(value, volume, empty=0.0)
    return np.where(volume == 0, close, price)
