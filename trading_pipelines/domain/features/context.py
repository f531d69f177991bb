"""What features are computed from: candles with the indicators over them, and other series joined as they were known.

Belongs here: indicators that several features share; recursive ones come from TA-Lib. Does not belong here: which
features there are (`registry`), and arithmetic over windows (`windows`).

Everything is a float64 array as long as the candles. The value of a bar uses that bar and earlier ones only, and it is
NaN until it no longer depends on where the history begins. Several symbols may lie side by side as the rows of arrays
with two axes (`side_by_side`); the arithmetic is the same.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import talib

from trading_pipelines.domain.features.observations import Observed
from trading_pipelines.domain.features.windows import (
    Floats,
    Times,
    as_of,
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
    volume : array of float
        In base currency.
    """

    timeframe: Timeframe
    ts: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    _known: dict[tuple[str, int], Floats] = field(
        default_factory=dict[tuple[str, int], Floats], repr=False, kw_only=True
    )
    _whole: "Bars | None" = field(default=None, repr=False, kw_only=True)
    """The longer series of which these are the newest bars."""

    def __len__(self) -> int:
        return self.ts.shape[-1]

    def newest(self, bars: int) -> "Bars":
        """The newest bars alone; recursive indicators still see what was before them."""
        if bars >= len(self):
            return self
        columns = (self.open, self.high, self.low, self.close, self.volume)
        cut = (values[..., -bars:] for values in columns)
        return Bars(self.timeframe, self.ts[..., -bars:], *cut, _whole=self)

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
        return self.once("log_return", bars, lambda: self.log_close - lag(self.log_close, bars))

    def ema(self, period: int) -> Floats:
        """Exponential moving average of the close."""
        return self.once("ema", period, lambda: self._talib("EMA", ema_bars(period), "close", timeperiod=period))

    def ema_distance(self, period: int) -> Floats:
        """Close over its EMA, minus one."""
        return self.close / self.ema(period) - 1

    def sma_distance(self, period: int) -> Floats:
        """Close over its simple moving average, minus one."""
        return self.close / self.once("sma", period, lambda: rolling_mean(self.close, period)) - 1

    def atr(self, period: int = 14) -> Floats:
        """Average true range, Wilder's smoothing, in quote currency."""
        warmup = wilder_bars(period)
        return self.once("atr", period, lambda: self._talib("ATR", warmup, "high", "low", "close", timeperiod=period))

    def atr_share(self, period: int = 14) -> Floats:
        """ATR over close."""
        return self.once("atr_share", period, lambda: self.atr(period) / self.close)

    def atr_ratio(self, period: int) -> Floats:
        """ATR over close against its own median of `period` bars."""
        return self.once("atr_ratio", period, lambda: self.atr_share() / rolling_median(self.atr_share(), period))

    def rsi(self, period: int = 14) -> Floats:
        """Relative strength index, 0 to 100."""
        return self.once("rsi", period, lambda: self._talib("RSI", wilder_bars(period), "close", timeperiod=period))

    def adx(self, period: int = 14) -> Floats:
        """Average directional index, 0 to 100: Wilder's smoothing twice."""
        warmup = adx_bars(period)
        return self.once("adx", period, lambda: self._talib("ADX", warmup, "high", "low", "close", timeperiod=period))

    @cached_property
    def macd(self) -> tuple[Floats, Floats]:
        """MACD(12, 26, 9): line and histogram, in quote currency."""
        periods = {"fastperiod": 12, "slowperiod": 26, "signalperiod": 9}
        line, _, histogram = self._recursive("MACD", MACD_BARS, "close", **periods)
        return line, histogram

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
        return self.once("volatility", period, lambda: rolling_std(self.log_return(1), period))

    def obv_slope(self, period: int) -> Floats:
        """Change of on-balance volume over `period` bars as a share of the volume traded in them, -1 to 1."""
        signed = np.sign(self.log_return(1)) * self.volume
        return divide(rolling_sum(signed, period), self.volume_sum(period), empty=0.0)

    def volume_sum(self, period: int) -> Floats:
        """Volume traded in `period` bars."""
        return self.once("volume_sum", period, lambda: rolling_sum(self.volume, period))

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

    def swing(self, *, high: bool) -> Floats:
        """The newest confirmed swing high or low, in quote currency: the nearest resistance or support.

        A swing is the extreme of five bars on each side, so it is known five bars later and used from then on; it is
        forgotten after 500 bars.
        """
        prices, window = (self.high, rolling_max) if high else (self.low, rolling_min)
        centre = lag(prices, SWING_BARS)
        swing = np.where(centre == window(prices, 2 * SWING_BARS + 1), centre, np.nan)
        enough = ~np.isnan(lag(prices, SWING_MAX_AGE + 2 * SWING_BARS))
        return np.where(enough, newest(swing, SWING_MAX_AGE), np.nan)

    def swing_distance(self, *, high: bool) -> Floats:
        """Close minus the newest confirmed swing, in ATR."""
        return (self.close - self.swing(high=high)) / self.atr()

    def _over_vwap(self, value: Floats, volume: Floats) -> Floats:
        distance = divide(self.close * volume, value, empty=1.0) - 1
        return np.where(np.isnan(value), np.nan, distance)

    def once(self, name: str, period: int, compute: Callable[[], Floats]) -> Floats:
        """A value that several features share, computed at the first call."""
        key = (name, period)
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def _talib(self, function: str, warmup: int, *columns: str, **parameters: int) -> Floats:
        return self._recursive(function, warmup, *columns, **parameters)[0]

    def _recursive(self, function: str, warmup: int, *columns: str, **parameters: int) -> list[Floats]:
        """Call TA-Lib over the whole history, and hide what still depends on its beginning.

        TA-Lib takes one symbol at a time and refuses empty input; of a symbol whose row begins with NaN it leaves
        that part out.
        """
        source = self._whole or self
        if len(source) == 0:
            return [np.empty(self.ts.shape)] * 3
        inputs = [np.atleast_2d(getattr(source, name)) for name in columns]
        rows: list[list[Floats]] = []
        for row in range(len(inputs[0])):
            own = [values[row] for values in inputs]
            found = getattr(_TALIB, function)(*own, **parameters)
            missing = int(np.argmin(np.isnan(own[0])))
            outputs = cast(tuple[Floats, ...], found if isinstance(found, tuple) else (found,))
            rows.append([_masked(output, missing + warmup - 1)[-len(self) :] for output in outputs])
        return [np.array(output).reshape(self.ts.shape) for output in zip(*rows, strict=True)]


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
class Breadth:
    """What the majors of the market do, ascending; shares from 0 to 1.

    Attributes
    ----------
    available_at : array of datetime64[us]
        Close of the members' bars, UTC.
    above_ema, rising : array of float
        Share of members above their EMA(50), and with a positive return over 16 bars.
    mean_return : array of float
        Mean log return of the members over 16 bars.
    """

    available_at: Times
    above_ema: Floats
    rising: Floats
    mean_return: Floats

    def known_at(self, moment: np.datetime64) -> "Breadth":
        """What was known at `moment`."""
        n = int(np.searchsorted(self.available_at, moment, side="right"))
        return Breadth(self.available_at[:n], self.above_ema[:n], self.rising[:n], self.mean_return[:n])


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
    breadth : Breadth or None
        What the majors do; None where too few are stored.
    observed, market : mapping
        Series from outside by name, of the symbol's own coin and of the whole market.
    """

    bars: Bars
    higher: Mapping[Timeframe, Bars]
    leader: Bars | None
    funding: Settlements
    breadth: Breadth | None = None
    observed: Mapping[str, Observed] = field(default_factory=dict[str, Observed])
    market: Mapping[str, Observed] = field(default_factory=dict[str, Observed])

    def known_at(self, moment: np.datetime64) -> "FeatureInputs":
        """What of all this was known at `moment`."""
        return FeatureInputs(
            bars=self.bars.known_at(moment),
            higher={timeframe: bars.known_at(moment) for timeframe, bars in self.higher.items()},
            leader=None if self.leader is None else self.leader.known_at(moment),
            funding=self.funding.known_at(moment),
            breadth=None if self.breadth is None else self.breadth.known_at(moment),
            observed={name: series.known_at(moment) for name, series in self.observed.items()},
            market={name: series.known_at(moment) for name, series in self.market.items()},
        )

    def digest(self) -> bytes:
        """Hash of everything in it: equal inputs give equal features."""
        found = hashlib.sha256()
        for bars in (self.bars, *self.higher.values(), *([] if self.leader is None else [self.leader])):
            found.update(bars.timeframe.encode())
            for column in (bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume):
                found.update(np.ascontiguousarray(column).tobytes())
        breadth = self.breadth
        majors = (
            () if breadth is None else (breadth.available_at, breadth.above_ema, breadth.rising, breadth.mean_return)
        )
        for column in (self.funding.ts, self.funding.rate, *majors):
            found.update(np.ascontiguousarray(column).tobytes())
        for name, series in (*sorted(self.market.items()), *sorted(self.observed.items())):
            found.update(name.encode())
            for column in (series.available_at, series.ts, series.value):
                found.update(np.ascontiguousarray(column).tobytes())
        return found.digest()

    def newest(self, bars: int) -> "FeatureInputs":
        """The same for the newest bars alone; recursive indicators still see what was before them."""
        return replace(self, bars=self.bars.newest(bars))

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

    def majors(self, choose: Callable[[Breadth], Floats]) -> Floats:
        """A column of the breadth as it was known at the close of each bar."""
        if self.breadth is None:
            return np.full(self.bars.ts.shape, np.nan)
        age = 2 * self.bars.timeframe.minutes
        return as_of(self.bars.closes_at, self.breadth.available_at, choose(self.breadth), age)

    def _joined(self, series: Bars | None, compute: Callable[[Bars], Floats]) -> Floats:
        if series is None:
            return np.full(self.bars.ts.shape, np.nan)
        return as_of(self.bars.closes_at, series.closes_at, compute(series), 2 * series.timeframe.minutes)


def side_by_side(symbols: Sequence[FeatureInputs]) -> FeatureInputs:
    """Symbols as the rows of one input, aligned at their newest bars; a shorter history begins with NaN.

    They share the leader, the breadth, the market's series and which longer timeframes there are.
    """
    first = symbols[0]
    length = max(len(x.funding.ts) for x in symbols)
    long_ago = np.datetime64("1970-01-01", "us")
    return FeatureInputs(
        bars=_side_by_side([x.bars for x in symbols]),
        higher={timeframe: _side_by_side([x.higher[timeframe] for x in symbols]) for timeframe in first.higher},
        leader=first.leader,
        funding=Settlements(
            np.array([_lengthened(x.funding.ts, length, long_ago) for x in symbols]),
            np.array([_lengthened(x.funding.rate, length, np.nan) for x in symbols]),
        ),
        breadth=first.breadth,
        observed={
            name: _observed_side_by_side([x.observed.get(name, Observed.none()) for x in symbols])
            for name in sorted({name for x in symbols for name in x.observed})
        },
        market=first.market,
    )


def _observed_side_by_side(series: Sequence[Observed]) -> Observed:
    shape = len(series), max(len(x.value) for x in series)
    available_at, ts, value = (
        np.zeros(shape, "datetime64[us]"),
        np.zeros(shape, "datetime64[us]"),
        np.full(shape, np.nan),
    )
    for row, x in enumerate(series):
        first = shape[1] - len(x.value)
        available_at[row, first:], ts[row, first:], value[row, first:] = x.available_at, x.ts, x.value
    return Observed(available_at, ts, value)


def _side_by_side(series: Sequence[Bars]) -> Bars:
    length = max(map(len, series))
    ts = np.empty((len(series), length), "datetime64[us]")
    columns = np.full((5, len(series), length), np.nan)
    for row, bars in enumerate(series):
        first = length - len(bars)
        for column, values in zip(columns, (bars.open, bars.high, bars.low, bars.close, bars.volume), strict=True):
            column[row, first:] = values
        ts[row, first:] = bars.ts
        ahead = bars.ts[0] if len(bars) else np.datetime64("1970-01-01", "us")
        ts[row, :first] = ahead - np.arange(first, 0, -1) * np.timedelta64(bars.timeframe.minutes, "m")
    return Bars(series[0].timeframe, ts, *columns)


def _lengthened(values: npt.NDArray[Any], length: int, empty: object) -> npt.NDArray[Any]:
    return np.concatenate([np.full(length - len(values), empty, values.dtype), values])


@lru_cache(maxsize=1)
def talib_version() -> str:
    """Version of the indicator library, part of the features' definition."""
    return str(_TALIB.__version__)


def _masked(values: Floats, rows: int) -> Floats:
    """NaN in the first `rows` rows."""
    values[:rows] = np.nan
    return values
