"""Indicators over one series of candles, computed once and shared by the features that need them.

Recursive indicators come from TA-Lib. Everything is a float64 array as long as the candles, NaN while warming up, and
the value of a bar uses that bar and earlier ones only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import talib

from trading_pipelines.domain.market.timeframe import Timeframe

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
_Result = TypeVar("_Result")


class Bars:
    """Candles of one symbol and timeframe as arrays, with the indicators over them.

    Parameters
    ----------
    frame : DataFrame
        ts (open time, UTC), open, high, low, close, volume; ascending.
    """

    def __init__(self, frame: pd.DataFrame, timeframe: Timeframe) -> None:
        self.timeframe = timeframe
        self.ts: Times = frame["ts"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        self.closes_at: Times = self.ts + np.timedelta64(timeframe.minutes, "m")
        self.open, self.high, self.low, self.close, self.volume = (
            frame[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")
        )
        self._cache: dict[tuple[str, int], Floats] = {}

    def __len__(self) -> int:
        return len(self.ts)

    def known_at(self, moment: np.datetime64) -> "Bars":
        """The bars that had closed by `moment`, without anything computed from later ones."""
        keep = slice(0, int(np.searchsorted(self.closes_at, moment, side="right")))
        columns = (self.open, self.high, self.low, self.close, self.volume)
        frame = pd.DataFrame({"ts": pd.DatetimeIndex(self.ts[keep]).tz_localize("UTC")})
        for name, values in zip(("open", "high", "low", "close", "volume"), columns, strict=True):
            frame[name] = values[keep]
        return Bars(frame, self.timeframe)

    def _once(self, name: str, period: int, compute: Callable[[], Floats]) -> Floats:
        key = (name, period)
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    @cached_property
    def log_close(self) -> Floats:
        """Natural logarithm of the close."""
        return np.log(self.close)

    def log_return(self, bars: int) -> Floats:
        """Log return over the last `bars` bars."""
        return self._once("log_return", bars, lambda: self.log_close - lag(self.log_close, bars))

    def ema(self, period: int) -> Floats:
        """Exponential moving average of the close."""
        return self._once("ema", period, lambda: _talib(talib.EMA, self.close, timeperiod=period))

    def ema_distance(self, period: int) -> Floats:
        """Close over its EMA, minus one."""
        return self.close / self.ema(period) - 1

    def sma_distance(self, period: int) -> Floats:
        """Close over its simple moving average, minus one."""
        return self._once("sma", period, lambda: self.close / rolling_mean(self.close, period) - 1)

    def atr(self, period: int = 14) -> Floats:
        """Average true range, Wilder's smoothing, in quote currency."""
        return self._once("atr", period, lambda: _talib(talib.ATR, self.high, self.low, self.close, timeperiod=period))

    def rsi(self, period: int = 14) -> Floats:
        """Relative strength index, 0 to 100."""
        return self._once("rsi", period, lambda: _talib(talib.RSI, self.close, timeperiod=period))

    @cached_property
    def macd(self) -> tuple[Floats, Floats]:
        """MACD(12, 26, 9): line and histogram, in quote currency."""
        line, _, histogram = _talib(talib.MACD, self.close, fastperiod=12, slowperiod=26, signalperiod=9)
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
        middle = rolling_mean(self.close, 20)
        deviation = rolling_std(self.close, 20)
        return divide(self.close - middle, 4 * deviation, empty=0.0) + 0.5, 4 * deviation / middle

    def volatility(self, period: int) -> Floats:
        """Standard deviation of one-bar log returns."""
        return self._once("volatility", period, lambda: rolling_std(self.log_return(1), period))

    def adx(self, period: int = 14) -> Floats:
        """Average directional index, 0 to 100."""
        return self._once("adx", period, lambda: _talib(talib.ADX, self.high, self.low, self.close, timeperiod=period))

    def obv_slope(self, period: int) -> Floats:
        """Change of on-balance volume over `period` bars as a share of the volume traded in them, -1 to 1."""
        signed = np.sign(np.nan_to_num(self.log_return(1))) * self.volume
        total = rolling_sum(self.volume, period)
        return self._once("obv", period, lambda: divide(rolling_sum(signed, period), total, empty=0.0))

    def volume_ratio(self, period: int) -> Floats:
        """Volume over its simple moving average."""
        return self._once("volume_ratio", period, lambda: divide(self.volume, rolling_mean(self.volume, period), 1.0))

    def vwap_distance(self, period: int) -> Floats:
        """Close over the volume-weighted average price of `period` bars, minus one."""
        typical = (self.high + self.low + self.close) / 3
        traded = rolling_sum(self.volume, period)
        vwap = divide(rolling_sum(typical * self.volume, period), traded, empty=np.nan)
        return self._once("vwap", period, lambda: self.close / np.where(np.isnan(vwap), self.close, vwap) - 1)

    @cached_property
    def session_vwap_distance(self) -> Floats:
        """Close over the volume-weighted average price since 00:00 UTC, minus one; NaN on an incomplete first day."""
        typical = (self.high + self.low + self.close) / 3
        day = self.ts.astype("datetime64[D]")
        grouped = pd.DataFrame({"value": typical * self.volume, "volume": self.volume}).groupby(day).cumsum()
        vwap = divide(grouped["value"].to_numpy(), grouped["volume"].to_numpy(), empty=np.nan)
        distance = np.where(np.isnan(vwap), 0.0, self.close / vwap - 1)
        if len(day) and self.ts[0] != day[0]:
            distance[day == day[0]] = np.nan
        return distance

    def range_position(self, period: int) -> Floats:
        """Where the close stands between lowest low (0) and highest high (1) of `period` bars."""
        low, high = rolling_min(self.low, period), rolling_max(self.high, period)
        return divide(self.close - low, high - low, empty=0.5)

    def swing_distance(self, *, high: bool) -> Floats:
        """Distance of the close to the newest confirmed swing, in ATR.

        A swing is the extreme of five bars on each side, so it is known five bars later and used from then on.
        """
        extreme = rolling_max(self.high, 11) if high else rolling_min(self.low, 11)
        centre = lag(self.high if high else self.low, 5)
        level = pd.Series(np.where(centre == extreme, centre, np.nan)).ffill(limit=500).to_numpy()
        return (self.close - level) / self.atr()


@dataclass(frozen=True)
class FeatureInputs:
    """Everything that the features of one symbol are computed from.

    Attributes
    ----------
    bars : Bars
        The signal timeframe.
    higher : dict
        Longer timeframes of the same symbol.
    leader : Bars or None
        BTC on the signal timeframe; None for BTC itself and where it is not stored.
    funding : DataFrame
        ts, rate; empty for spot.
    """

    bars: Bars
    higher: dict[Timeframe, Bars]
    leader: Bars | None
    funding: pd.DataFrame

    def known_at(self, moment: np.datetime64) -> "FeatureInputs":
        """What of all this was known at `moment`."""
        settled = self.funding["ts"].dt.tz_convert("UTC").dt.tz_localize(None) if len(self.funding) else []
        return FeatureInputs(
            bars=self.bars.known_at(moment),
            higher={timeframe: bars.known_at(moment) for timeframe, bars in self.higher.items()},
            leader=None if self.leader is None else self.leader.known_at(moment),
            funding=self.funding[settled <= moment] if len(self.funding) else self.funding,
        )

    def at(self, timeframe: Timeframe, compute: Callable[[Bars], Floats]) -> Floats:
        """A value of a longer timeframe as it was known at the close of each bar."""
        source = self.higher.get(timeframe)
        if source is None or len(source) == 0:
            return np.full(len(self.bars), np.nan)
        return as_of(self.bars.closes_at, source.closes_at, compute(source), 2 * timeframe.minutes)

    def lead(self, compute: Callable[[Bars], Floats]) -> Floats:
        """A value of the market leader as it was known at the close of each bar."""
        if self.leader is None or len(self.leader) == 0:
            return np.full(len(self.bars), np.nan)
        return as_of(self.bars.closes_at, self.leader.closes_at, compute(self.leader), 2 * self.bars.timeframe.minutes)

    @cached_property
    def funding_rate(self) -> Floats:
        """The newest funding rate that was settled at the close of each bar."""
        if self.funding.empty:
            return np.full(len(self.bars), np.nan)
        known = self.funding["ts"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        return as_of(self.bars.closes_at, known, self.funding["rate"].to_numpy(dtype=np.float64), 2 * 1440)


def as_of(moments: Times, known_at: Times, values: Floats, max_age_minutes: int) -> Floats:
    """For each moment the newest value known by then, NaN where there is none or it is too old."""
    index = np.searchsorted(known_at, moments, side="right") - 1
    found = index >= 0
    safe = np.where(found, index, 0)
    fresh = moments - known_at[safe] <= np.timedelta64(max_age_minutes, "m")
    return np.where(found & fresh, values[safe], np.nan)


def lag(values: Floats, bars: int) -> Floats:
    """The values `bars` bars earlier."""
    shifted = np.full(len(values), np.nan)
    shifted[bars:] = values[: len(values) - bars] if bars < len(values) else []
    return shifted


def divide(numerator: Floats, denominator: Floats, empty: float) -> Floats:
    """Quotient, `empty` where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, empty, numerator / denominator)


def rolling_sum(values: Floats, period: int) -> Floats:
    """Sum over a window, computed for each window afresh: a running sum would remember what has left it."""
    return _windowed(values, period, lambda windows: windows.sum(axis=1))


def rolling_mean(values: Floats, period: int) -> Floats:
    """Mean over a window."""
    return rolling_sum(values, period) / period


def rolling_std(values: Floats, period: int) -> Floats:
    """Population standard deviation over a window, as Bollinger bands use it."""
    return _windowed(values, period, lambda windows: windows.std(axis=1))


def rolling_median(values: Floats, period: int) -> Floats:
    """Median over a window; NaN while the window holds any."""
    return pd.Series(values).rolling(period).median().to_numpy()


def rolling_min(values: Floats, period: int) -> Floats:
    """Minimum over a window."""
    return pd.Series(values).rolling(period).min().to_numpy()


def rolling_max(values: Floats, period: int) -> Floats:
    """Maximum over a window."""
    return pd.Series(values).rolling(period).max().to_numpy()


def _windowed(values: Floats, period: int, reduce: Callable[[npt.NDArray[np.float64]], Floats]) -> Floats:
    result = np.full(len(values), np.nan)
    if len(values) >= period:
        result[period - 1 :] = reduce(np.lib.stride_tricks.sliding_window_view(values, period))
    return result


def _talib(function: Callable[..., _Result], *arrays: Floats, **parameters: int) -> _Result:
    """Call TA-Lib, which refuses empty input and poisons everything after a leading NaN."""
    if len(arrays[0]) == 0:
        empty = np.empty(0)
        return (empty, empty, empty) if function is talib.MACD else empty  # type: ignore[return-value]  # as TA-Lib
    return function(*arrays, **parameters)


@lru_cache(maxsize=1)
def talib_version() -> str:
    """Version of the indicator library, part of the features' definition."""
    return str(talib.__version__)
