"""Dated numbers from outside (`domain.alternative`) as features: which ones, and how they are joined as known.

Belongs here: the list of features made of such series, and the join that honours revisions. Does not belong here: what
a series means and how long it counts (`domain.alternative.series`), and who delivers it.

A value is joined by the time at which it became known, never by the day it speaks of. At any moment the newest time
that is known of counts, in the version known then; a value revised later has its former value until the revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.domain.features.windows import Floats, Times

MARGIN = timedelta(minutes=5)
"""A value counts from so long after it became known: whoever fetched it may still be writing it down."""
FEWEST_DAYS = 10
"""Days with a value before that a deviation is measured from."""
_DAY = 86_400_000_000
_MICROSECOND = timedelta(microseconds=1)
_EMPTY = np.empty(0)


class Measure(IntEnum):
    """What is made of a series."""

    LEVEL = 0
    """The newest value."""
    CHANGE = 1
    """Newest value minus the one a window earlier, or up to half a window before that."""
    LOG_CHANGE = 2
    """The same of logarithms."""
    UNUSUAL = 3
    """Sum of the last day in standard deviations from the daily sums of the window before it."""


@dataclass(frozen=True)
class Observed:
    """One series of one coin or of the market, each version a row, ascending in the time it became known.

    Attributes
    ----------
    available_at : array of datetime64[us]
        When the value became known, UTC.
    ts : array of datetime64[us]
        What the value speaks of.
    """

    available_at: Times
    ts: Times
    value: Floats

    @classmethod
    def none(cls) -> "Observed":
        """A series that nothing is known of."""
        return cls(_EMPTY.astype("datetime64[us]"), _EMPTY.astype("datetime64[us]"), _EMPTY)

    def known_at(self, moment: np.datetime64) -> "Observed":
        """The versions that were known at `moment`."""
        n = int(np.searchsorted(self.available_at, moment, side="right"))
        return Observed(self.available_at[:n], self.ts[:n], self.value[:n])


@dataclass(frozen=True)
class ObservedFeature:
    """A feature made of one series.

    Attributes
    ----------
    market : bool
        Whether the series is the market's rather than that of the symbol's own coin.
    days : int
        Length of the window; 0 for the newest value alone.
    """

    name: str
    series: str
    market: bool
    measure: Measure
    days: int
    unit: str
    text: str

    @property
    def window(self) -> timedelta:
        """How far before the newest time of the series it looks."""
        return timedelta(days=self.days) * (1.5 if self.measure in (Measure.CHANGE, Measure.LOG_CHANGE) else 1)

    @property
    def max_delay(self) -> timedelta:
        """From the time a value speaks of until it is known; a value that took longer is no news."""
        series = SERIES[self.series]
        return series.period + series.publication_lag + series.max_age

    @property
    def history(self) -> timedelta:
        """Before a bar's close: whatever is older, in either of its times, changes nothing."""
        return MARGIN + SERIES[self.series].max_age + self.max_delay + self.window

    @property
    def definition(self) -> tuple[Any, ...]:
        """Everything that its value depends on, besides the series."""
        ages = (self.max_delay, SERIES[self.series].max_age, MARGIN)
        return (self.series, self.market, self.measure.value, self.days, *(age // _MICROSECOND for age in ages))

    def compute(self, closes_at: Times, series: Mapping[str, Observed]) -> Floats:
        """The value at each close, from what was known of the series by then; NaN where it is missing or too old."""
        found = series.get(self.series)
        if found is None or found.value.size == 0:
            return np.full(closes_at.shape, np.nan)
        values = _evaluate(
            _rows(_integers(closes_at)) - MARGIN // _MICROSECOND,
            _rows(_integers(found.available_at)),
            _rows(_integers(found.ts)),
            _rows(found.value),
            self.measure.value,
            self.days * _DAY,
            self.max_delay // _MICROSECOND,
            SERIES[self.series].max_age // _MICROSECOND,
        )
        return values.reshape(closes_at.shape)


def _flow(name: str, series: str, text: str, *, market: bool = False) -> ObservedFeature:
    return ObservedFeature(name, series, market, Measure.UNUSUAL, 30, "deviations", f"{text} of the last day")


OBSERVED: tuple[ObservedFeature, ...] = (
    ObservedFeature("fear_greed", "fear_greed", True, Measure.LEVEL, 0, "0-100", "Fear & Greed index"),
    ObservedFeature(
        "fear_greed_change_7d", "fear_greed", True, Measure.CHANGE, 7, "points", "Change of Fear & Greed over a week"
    ),
    ObservedFeature(
        "btc_dominance_change_7d",
        "btc_dominance",
        True,
        Measure.CHANGE,
        7,
        "percent points",
        "Change of BTC's share of the market over a week",
    ),
    ObservedFeature(
        "stablecoin_supply_change_7d",
        "stablecoin_supply_usd",
        True,
        Measure.LOG_CHANGE,
        7,
        "log",
        "Growth of the stablecoins over a week",
    ),
    _flow("stablecoin_inflow_unusual", "stablecoin_inflow_usd", "Stablecoins that went to exchanges", market=True),
    _flow("market_netflow_unusual", "exchange_netflow_usd", "Net flow of all coins to exchanges", market=True),
    _flow("netflow_unusual", "exchange_netflow_usd", "Net flow of the coin to exchanges"),
    _flow("etf_netflow_unusual", "etf_netflow_usd", "Flow into spot funds of the coin"),
    ObservedFeature(
        "exchange_reserve_change_7d",
        "exchange_reserve",
        False,
        Measure.LOG_CHANGE,
        7,
        "log",
        "Change of what exchanges hold over a week",
    ),
    ObservedFeature("whale_score", "whale_score", False, Measure.LEVEL, 0, "-1 to 1", "What large holders do"),
    ObservedFeature(
        "open_interest_change_1d",
        "open_interest_usd",
        False,
        Measure.LOG_CHANGE,
        1,
        "log",
        "Change of open interest over a day",
    ),
    ObservedFeature(
        "open_interest_change_7d",
        "open_interest_usd",
        False,
        Measure.LOG_CHANGE,
        7,
        "log",
        "Change of open interest over a week",
    ),
    ObservedFeature(
        "taker_imbalance", "taker_imbalance", False, Measure.LEVEL, 0, "-1 to 1", "Bought at market minus sold"
    ),
    ObservedFeature("sentiment", "sentiment", False, Measure.LEVEL, 0, "-1 to 1", "What texts say about the coin"),
    ObservedFeature(
        "sentiment_change_1d", "sentiment", False, Measure.CHANGE, 1, "points", "Change of that over a day"
    ),
    ObservedFeature(
        "prediction_bias",
        "prediction_bias",
        False,
        Measure.LEVEL,
        0,
        "-1 to 1",
        "How far prediction markets expect a higher price",
    ),
)


def history_of(*, market: bool) -> dict[str, timedelta]:
    """By series of the market or of a coin: how long before a bar's close its rows may still matter."""
    found: dict[str, timedelta] = {}
    for feature in OBSERVED:
        if feature.market == market:
            found[feature.series] = max(feature.history, found.get(feature.series, timedelta(0)))
    return found


def _integers(times: Times) -> npt.NDArray[np.int64]:
    return times.astype("datetime64[us]").view(np.int64)


def _rows(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.atleast_2d(values))


def _compiled(function: Any) -> Any:
    return cast(Any, numba).njit(function, cache=True)  # numba is untyped


_LEVEL, _CHANGE, _UNUSUAL = Measure.LEVEL.value, Measure.CHANGE.value, Measure.UNUSUAL.value
_place = cast(Any, np.searchsorted)  # its overloads do not know a scalar of an array


@_compiled
def _evaluate(
    moments: npt.NDArray[np.int64],
    known_at: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    values: Floats,
    measure: int,
    window: int,
    max_delay: int,
    max_age: int,
) -> Floats:
    """Row by row; one series may serve many rows."""
    result = np.full(moments.shape, np.nan)
    shared = len(known_at) == 1
    for row in range(len(moments)):
        if shared and row > 0 and np.array_equal(moments[row], moments[row - 1]):
            result[row] = result[row - 1]
            continue
        series = 0 if shared else row
        known, speaks, told = known_at[series], ts[series], values[series]
        first = _first_in_order(known, speaks, told)
        if first >= 0:
            known, speaks, told = known[first:], speaks[first:], told[first:]
            _in_order(moments[row], known, speaks, told, measure, window, max_delay, max_age, result[row])
        else:
            _out_of_order(moments[row], known, speaks, told, measure, window, max_delay, max_age, result[row])
    return result


@_compiled
def _first_in_order(known_at: npt.NDArray[np.int64], ts: npt.NDArray[np.int64], values: Floats) -> int:
    """First value of a series without revisions and late values, as most are; -1 for any other."""
    first = 0
    while first < len(values) and np.isnan(values[first]):
        first += 1
    for k in range(first, len(values)):
        if np.isnan(values[k]) or known_at[k] < ts[k] or (k > first and ts[k] <= ts[k - 1]):
            return -1
    return first


@_compiled
def _in_order(
    moments: npt.NDArray[np.int64],
    known_at: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    values: Floats,
    measure: int,
    window: int,
    max_delay: int,
    max_age: int,
    result: Floats,
) -> None:
    """What is known at any moment is the series up to there."""
    n, before, value = 0, 0, np.nan
    for i in range(len(moments)):
        if i == 0:
            n = _place(known_at, moments[0], side="right")
        while n < len(values) and known_at[n] <= moments[i]:
            n += 1
        if n == 0 or moments[i] - known_at[n - 1] > max_age or known_at[n - 1] - ts[n - 1] > max_delay:
            continue
        if n != before:
            value, before = _measured(ts[:n], values[:n], measure, window), n
        result[i] = value


@_compiled
def _out_of_order(
    moments: npt.NDArray[np.int64],
    known_at: npt.NDArray[np.int64],
    ts: npt.NDArray[np.int64],
    values: Floats,
    measure: int,
    window: int,
    max_delay: int,
    max_age: int,
    result: Floats,
) -> None:
    """Walk along the moments and put each version in its place as it becomes known."""
    length = len(values)
    times, born, latest = np.empty(length, np.int64), np.empty(length, np.int64), np.empty(length)
    n, size, value = 0, 0, np.nan
    for i in range(len(moments)):
        news = False
        while n < length and known_at[n] <= moments[i]:
            if not np.isnan(values[n]) and known_at[n] >= ts[n]:
                size = _learn(times, born, latest, size, ts[n], known_at[n], values[n])
                news = True
            n += 1
        if size == 0:
            continue
        if news:
            value = _measured(times[:size], latest[:size], measure, window)
        newest_known = born[size - 1]
        if moments[i] - newest_known <= max_age and newest_known - times[size - 1] <= max_delay:
            result[i] = value


@_compiled
def _learn(
    times: npt.NDArray[np.int64],
    born: npt.NDArray[np.int64],
    latest: Floats,
    size: int,
    ts: int,
    known_at: int,
    value: float,
) -> int:
    """Put a version in its place by the time it speaks of, over the former version if there is one."""
    place = size if size == 0 or ts > times[size - 1] else _place(times[:size], ts)
    if place == size or times[place] != ts:
        for k in range(size, place, -1):
            times[k], born[k], latest[k] = times[k - 1], born[k - 1], latest[k - 1]
        size += 1
    times[place], born[place], latest[place] = ts, known_at, value
    return size


@_compiled
def _measured(times: npt.NDArray[np.int64], values: Floats, measure: int, window: int) -> float:
    newest = len(times) - 1
    if measure == _LEVEL:
        return values[newest]
    if measure == _UNUSUAL:
        return _unusual(times, values, window)
    then = _place(times, times[newest] - window, side="right") - 1
    if then < 0 or times[newest] - times[then] > window + window // 2:
        return np.nan
    if measure == _CHANGE:
        return values[newest] - values[then]
    if values[newest] <= 0 or values[then] <= 0:
        return np.nan
    return np.log(values[newest] / values[then])


@_compiled
def _unusual(times: npt.NDArray[np.int64], values: Floats, window: int) -> float:
    """Daily sums are counted back from the newest time, so that hourly and daily series read alike."""
    days = window // _DAY
    total, filled = np.zeros(days), np.zeros(days, np.bool_)
    k = len(times) - 1
    end = times[k]
    for day in range(days):
        end -= _DAY
        after, day_sum = k, 0.0
        while k >= 0 and times[k] > end:
            day_sum += values[k]
            k -= 1
        total[day], filled[day] = day_sum, k < after
    count, mean, square = 0, 0.0, 0.0
    for day in range(1, days):
        if filled[day]:
            count += 1
            mean += total[day]
    if count < FEWEST_DAYS:
        return np.nan
    mean /= count
    for day in range(1, days):
        if filled[day]:
            square += (total[day] - mean) ** 2
    deviation = np.sqrt(square / count)
    # What is nothing but rounding is no deviation.
    return (total[0] - mean) / deviation if deviation > 1e-9 * (abs(mean) + abs(total[0])) else np.nan
