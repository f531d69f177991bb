"""What features are computed from: candles with the indicators over them, and other series joined as they were known.

Belongs here: indicators that several features share; recursive ones come from TA-Lib. Does not belong here: which
features there are (`registry`), and arithmetic over windows (`windows`).

Everything is a float64 array as long as the candles. The value of a bar uses that bar and earlier ones only, and it is
NaN until it no longer depends on where the history begins.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import talib

from trading_pipelines.domain.features.windows import (
    Floats,
    Times,
    divide,
    lag,
    newest,
    rolling_covariance,
    rolling_max,
    rolling_mean,
    rolling_median,
    rolling_min,
    rolling_std,
    rolling_sum,
    sum_since_midnight,
)
from trading_pipelines.domain.market.timeframe import Timeframe

FORGOTTEN = 1e-12
"""Weight of the first values at which a recursive indicator counts as independent of them."""
SWING_BARS = 5
SWING_MAX_AGE = 500
_TALIB = cast(Any, talib)  # its stubs know no parameters


def ema_bars(period: int) -> int:
    """Bars that an EMA depends on; it starts from the mean of the first `period` closes."""
    return period + math.ceil(math.log(FORGOTTEN) / math.log(1 - 2 / (period + 1)))


def wilder_bars(period: int) -> int:
    """Bars that Wilder's smoothing of changes depends on."""
    return 1 + period + math.ceil(math.log(FORGOTTEN) / math.log(1 - 1 / period))


def adx_bars(period: int) -> int:
    """Bars that an ADX depends on, which smooths twice."""
    return 2 * wilder_bars(period)


MACD_BARS = ema_bars(26) + ema_bars(9)


@dataclass(frozen=True)
class Bars:
    """Candles of one symbol and timeframe, ascending, with the indicators over them.

    Attributes
    ----------
    ts : array of datetime64[us]
        Open time, UTC.
    """

    timeframe: Timeframe
    ts: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    _known: dict[tuple[str, int], Floats] = field(default_factory=dict[tuple[str, int], Floats], repr=False)

    def __len__(self) -> int:
        return len(self.ts)

    def known_at(self, moment: np.datetime64) -> "Bars":
        """The bars that had closed by `moment`, without anything computed from later ones."""
        n = int(np.searchsorted(self.closes_at, moment, side="right"))
        prices = (self.open, self.high, self.low, self.close)
        open_, high, low, close = (values[:n] for values in prices)
        return Bars(self.timeframe, self.ts[:n], open_, high, low, close, self.volume[:n])

    @cached_property
    def closes_at(self) -> Times:
        """Close of each bar; from then on it is known."""
        return self.ts + np.timedelta64(self.timeframe.minutes, "m")

    @cached_property
    def log_close(self) -> Floats:
        """Natural logarithm of the close."""
        return np.log(self.close)

    @cached_property
    def _typical(self) -> Floats:
        return (self.high + self.low + self.close) / 3

    def log_return(self, bars: int) -> Floats:
        """Log return over the last `bars` bars."""
        return self._once("log_return", bars, lambda: self.log_close - lag(self.log_close, bars))

    def ema(self, period: int) -> Floats:
        """Exponential moving average of the close."""
        return self._once("ema", period, lambda: self._talib("EMA", ema_bars(period), "close", timeperiod=period))

    def ema_distance(self, period: int) -> Floats:
        """Close over its EMA, minus one."""
        return self.close / self.ema(period) - 1

    def sma_distance(self, period: int) -> Floats:
        """Close over its simple moving average, minus one."""
        return self.close / self._once("sma", period, lambda: rolling_mean(self.close, period)) - 1

    def atr(self, period: int = 14) -> Floats:
        """Average true range, Wilder's smoothing, in quote currency."""
        warmup = wilder_bars(period)
        return self._once("atr", period, lambda: self._talib("ATR", warmup, "high", "low", "close", timeperiod=period))

    def atr_share(self, period: int = 14) -> Floats:
        """ATR over close."""
        return self._once("atr_share", period, lambda: self.atr(period) / self.close)

    def atr_ratio(self, period: int) -> Floats:
        """ATR over close against its own median of `period` bars."""
        return self._once("atr_ratio", period, lambda: self.atr_share() / rolling_median(self.atr_share(), period))

    def rsi(self, period: int = 14) -> Floats:
        """Relative strength index, 0 to 100."""
        return self._once("rsi", period, lambda: self._talib("RSI", wilder_bars(period), "close", timeperiod=period))

    def adx(self, period: int = 14) -> Floats:
        """Average directional index, 0 to 100: Wilder's smoothing twice."""
        warmup = adx_bars(period)
        return self._once("adx", period, lambda: self._talib("ADX", warmup, "high", "low", "close", timeperiod=period))

    @cached_property
    def macd(self) -> tuple[Floats, Floats]:
        """MACD(12, 26, 9): line and histogram, in quote currency."""
        if len(self) == 0:
            return self.close, self.close
        line, _, histogram = _TALIB.MACD(self.close, fastperiod=12, slowperiod=26, signalperiod=9)
        return _masked(line, MACD_BARS - 1), _masked(histogram, MACD_BARS - 1)

    @cached_property
    def stochastic_rsi(self) -> Floats:
        """Where RSI(14) stands within its own range of 14 bars, 0 to 1."""
        rsi = self.rsi(14)
        low, high = rolling_min(rsi, 14), rolling_max(rsi, 14)
        return divide(rsi - low, high - low, empty=0.5)

    @cached_property
    def bollinger(self) -> tuple[Floats, Floats]:
        """Bollinger(20, 2): position within the bands (0 lower, 1 upper) and their width over the middle."""
        middle, deviation = rolling_mean(self.close, 20), rolling_std(self.close, 20)
        return divide(self.close - middle, 4 * deviation, empty=0.0) + 0.5, 4 * deviation / middle

    def volatility(self, period: int) -> Floats:
        """Standard deviation of one-bar log returns."""
        return self._once("volatility", period, lambda: rolling_std(self.log_return(1), period))

    def obv_slope(self, period: int) -> Floats:
        """Change of on-balance volume over `period` bars as a share of the volume traded in them, -1 to 1."""
        signed = np.sign(self.log_return(1)) * self.volume
        return divide(rolling_sum(signed, period), self.volume_sum(period), empty=0.0)

    def volume_sum(self, period: int) -> Floats:
        """Volume traded in `period` bars."""
        return self._once("volume_sum", period, lambda: rolling_sum(self.volume, period))

    def volume_ratio(self, period: int) -> Floats:
        """Volume over its simple moving average."""
        return divide(self.volume * period, self.volume_sum(period), empty=1.0)

    def vwap_distance(self, period: int) -> Floats:
        """Close over the volume-weighted average price of `period` bars, minus one; 0 without any volume."""
        return self._over_vwap(rolling_sum(self._typical * self.volume, period), self.volume_sum(period))

    @cached_property
    def session_vwap_distance(self) -> Floats:
        """Close over the volume-weighted average price since 00:00 UTC, minus one; NaN on an incomplete first day."""
        value = sum_since_midnight(self._typical * self.volume, self.ts)
        return self._over_vwap(value, sum_since_midnight(self.volume, self.ts))

    def range_position(self, period: int) -> Floats:
        """Where the close stands between lowest low (0) and highest high (1) of `period` bars."""
        low, high = rolling_min(self.low, period), rolling_max(self.high, period)
        return divide(self.close - low, high - low, empty=0.5)

    def swing_distance(self, *, high: bool) -> Floats:
        """Distance of the close to the newest confirmed swing, in ATR.

        A swing is the extreme of five bars on each side, so it is known five bars later and used from then on; it is
        forgotten after 500 bars.
        """
        prices, window = (self.high, rolling_max) if high else (self.low, rolling_min)
        centre = lag(prices, SWING_BARS)
        swing = np.where(centre == window(prices, 2 * SWING_BARS + 1), centre, np.nan)
        distance = (self.close - newest(swing, SWING_MAX_AGE)) / self.atr()
        return _masked(distance, SWING_MAX_AGE + 2 * SWING_BARS)

    def _over_vwap(self, value: Floats, volume: Floats) -> Floats:
        distance = divide(self.close * volume, value, empty=1.0) - 1
        return np.where(np.isnan(value), np.nan, distance)

    def _once(self, name: str, period: int, compute: Callable[[], Floats]) -> Floats:
        key = (name, period)
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _talib(self, function: str, warmup: int, *columns: str, **parameters: int) -> Floats:
        """Call TA-Lib, which refuses empty input, and hide what still depends on the beginning."""
        if len(self) == 0:
            return np.empty(0)
        return _masked(getattr(_TALIB, function)(*(getattr(self, name) for name in columns), **parameters), warmup - 1)


@dataclass(frozen=True)
class Settlements:
    """Funding rates with the time of their settlement, ascending; empty for spot."""

    ts: Times
    rate: Floats

    def known_at(self, moment: np.datetime64) -> "Settlements":
        """The rates that were settled before `moment`."""
        n = int(np.searchsorted(self.ts, moment))
        return Settlements(self.ts[:n], self.rate[:n])


@dataclass(frozen=True)
class FeatureInputs:
    """Everything that the features of one symbol are computed from.

    Attributes
    ----------
    bars : Bars
        The signal timeframe.
    higher : mapping
        Longer timeframes of the same symbol.
    leader : Bars or None
        The market's leading symbol on the signal timeframe; None for itself and where it is not stored.
    """

    bars: Bars
    higher: Mapping[Timeframe, Bars]
    leader: Bars | None
    funding: Settlements

    def known_at(self, moment: np.datetime64) -> "FeatureInputs":
        """What of all this was known at `moment`."""
        return FeatureInputs(
            bars=self.bars.known_at(moment),
            higher={timeframe: bars.known_at(moment) for timeframe, bars in self.higher.items()},
            leader=None if self.leader is None else self.leader.known_at(moment),
            funding=self.funding.known_at(moment),
        )

    def at(self, timeframe: Timeframe, compute: Callable[[Bars], Floats]) -> Floats:
        """A value of a longer timeframe as it was known at the close of each bar."""
        return self._joined(self.higher.get(timeframe), compute)

    def lead(self, compute: Callable[[Bars], Floats]) -> Floats:
        """A value of the market leader as it was known at the close of each bar."""
        return self._joined(self.leader, compute)

    @cached_property
    def own_returns_and_leaders(self) -> tuple[Floats, Floats]:
        """One-bar log returns of this symbol and of the leader, side by side."""
        return self.bars.log_return(1), self.lead(lambda b: b.log_return(1))

    def leader_correlation(self, period: int) -> Floats:
        """Correlation of one-bar log returns with the leader's."""
        own, leader = self.own_returns_and_leaders
        product = rolling_std(own, period) * rolling_std(leader, period)
        return divide(rolling_covariance(own, leader, period), product, empty=0.0)

    def leader_beta(self, period: int) -> Floats:
        """Slope of this symbol's one-bar log returns on the leader's."""
        own, leader = self.own_returns_and_leaders
        return divide(rolling_covariance(own, leader, period), rolling_std(leader, period) ** 2, empty=0.0)

    @cached_property
    def funding_rate(self) -> Floats:
        """The newest funding rate that was settled before the close of each bar.

        A rate settled at the very close is left to the next bar: an exchange publishes it seconds later, when the
        features of the closing bar may have been computed already.
        """
        before_close = self.bars.closes_at - np.timedelta64(1, "us")
        return as_of(before_close, self.funding.ts, self.funding.rate, max_age_minutes=2 * 1440)

    def _joined(self, series: Bars | None, compute: Callable[[Bars], Floats]) -> Floats:
        if series is None:
            return np.full(len(self.bars), np.nan)
        return as_of(self.bars.closes_at, series.closes_at, compute(series), 2 * series.timeframe.minutes)


def as_of(moments: Times, known_at: Times, values: Floats, max_age_minutes: int) -> Floats:
    """For each moment the newest value known by then, NaN where there is none or it is too old."""
    if len(known_at) == 0:
        return np.full(len(moments), np.nan)
    index = np.searchsorted(known_at, moments, side="right") - 1
    found = np.maximum(index, 0)
    fresh = moments - known_at[found] <= np.timedelta64(max_age_minutes, "m")
    return np.where((index >= 0) & fresh, values[found], np.nan)


@lru_cache(maxsize=1)
def talib_version() -> str:
    """Version of the indicator library, part of the features' definition."""
    return str(_TALIB.__version__)


def _masked(values: Floats, rows: int) -> Floats:
    """NaN in the first `rows` rows."""
    values[:rows] = np.nan
    return values
