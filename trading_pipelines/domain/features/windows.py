"""Moving windows over arrays: sums, extremes, deviations, medians, and joins of one series to another.

Belongs here: functions whose value depends on the numbers in its window and on nothing before, to the last bit. A
running sum that adds what comes and subtracts what goes would remember, in its rounding, everything that has ever
passed; so each window is added up anew, in the same order, for many windows at once. All results are NaN until the
first window is full and where it holds a NaN.

Time runs along the last axis. An array of two axes holds symbols side by side, each a row, and so has the result.
"""

from typing import Any, cast

import bottleneck  # pyright: ignore[reportMissingTypeStubs]  # it has none
import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
_BOTTLENECK = cast(Any, bottleneck)


def lag(values: Floats, bars: int) -> Floats:
    """The values `bars` bars earlier."""
    shifted = np.full(values.shape, np.nan)
    if bars < values.shape[-1]:
        shifted[..., bars:] = values[..., : values.shape[-1] - bars]
    return shifted


def divide(numerator: Floats, denominator: Floats, empty: float) -> Floats:
    """Quotient, `empty` where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, empty, numerator / denominator)


def rolling_sum(values: Floats, period: int) -> Floats:
    """Sum over a window."""
    return _sum(_rows(values), period).reshape(values.shape)


def rolling_mean(values: Floats, period: int) -> Floats:
    """Mean over a window."""
    return rolling_sum(values, period) / period


def rolling_min(values: Floats, period: int) -> Floats:
    """Minimum over a window."""
    return -rolling_max(-values, period)


def rolling_max(values: Floats, period: int) -> Floats:
    """Maximum over a window."""
    return _max(_rows(values), period).reshape(values.shape)


def rolling_std(values: Floats, period: int) -> Floats:
    """Population standard deviation over a window, as Bollinger bands use it."""
    return np.sqrt(np.maximum(rolling_covariance(values, values, period), 0.0))


def rolling_covariance(a: Floats, b: Floats, period: int) -> Floats:
    """Population covariance over a window.

    The deviations are taken from the newest value in the window: from zero, prices that hardly move would lose all
    their digits, and those that stand still would not give zero.
    """
    return _covariance(_rows(a), _rows(b), period).reshape(a.shape)


def rolling_median(values: Floats, period: int) -> Floats:
    """Median over a window."""
    if values.shape[-1] < period:
        return np.full(values.shape, np.nan)
    return _BOTTLENECK.move_median(values, period)


def newest(values: Floats, most: int) -> Floats:
    """The newest value that is not NaN, not older than `most` bars."""
    return _newest(_rows(values), most).reshape(values.shape)


def sum_since_midnight(values: Floats, ts: Times) -> Floats:
    """Sum since 00:00 UTC; NaN on the first day where that began before the array.

    `ts` has the shape of `values`.
    """
    days = _rows(ts.astype("datetime64[us]").view(np.int64)) // 86_400_000_000
    begins = _rows(ts.astype("datetime64[us]").view(np.int64)) % 86_400_000_000 == 0
    return _sum_of_group(_rows(values), days, begins).reshape(values.shape)


def as_of(moments: Times, known_at: Times, values: Floats, max_age_minutes: int) -> Floats:
    """For each moment the newest value known by then, NaN where there is none or it is too old.

    Moments and times of becoming known ascend. One series may serve many rows of moments.
    """
    rows = _rows(moments.astype("datetime64[us]").view(np.int64))
    known = _rows(known_at.astype("datetime64[us]").view(np.int64))
    return _as_of(rows, known, _rows(values), max_age_minutes * 60_000_000).reshape(moments.shape)


def _rows(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as rows of time."""
    return np.ascontiguousarray(np.atleast_2d(values))


def _compiled(function: Any) -> Any:
    return cast(Any, numba).njit(function, cache=True)  # numba is untyped


_AT_ONCE = 512
"""Windows that are added up together; they stay in the fastest cache."""
_place = cast(Any, np.searchsorted)  # its overloads do not know a scalar of an array


@_compiled
def _sum(values: Floats, period: int) -> Floats:
    """Add the oldest value of many windows, then the next one, and so on."""
    result = np.full(values.shape, np.nan)
    rows, bars = values.shape
    for row in range(rows):
        for first in range(period - 1, bars, _AT_ONCE):
            windows = min(_AT_ONCE, bars - first)
            total = np.zeros(windows)
            for k in range(first - period + 1, first + 1):
                part = values[row, k : k + windows]
                for j in range(windows):
                    total[j] += part[j]
            result[row, first : first + windows] = total
    return result


@_compiled
def _max(values: Floats, period: int) -> Floats:
    """Cut the array in blocks as long as the window: each window is the end of one and the beginning of the next.

    So the time does not depend on the window (van Herk 1992; Gil and Werman 1993).
    """
    result = np.full(values.shape, np.nan)
    rows, bars = values.shape
    suffix = np.empty(period + 1)
    for row in range(rows):
        for start in range(0, bars, period):
            prefix = -np.inf
            for i in range(start, min(start + period, bars)):
                value = values[row, i]
                if value > prefix or np.isnan(value):  # a NaN stays: nothing is above it
                    prefix = value
                if i == start + period - 1:
                    result[row, i] = prefix
                elif start > 0:
                    before = suffix[i - start + 1]
                    result[row, i] = before if before > prefix or np.isnan(before) else prefix
            suffix[period] = -np.inf
            if start + period <= bars:
                for k in range(period - 1, -1, -1):
                    value = values[row, start + k]
                    suffix[k] = value if value > suffix[k + 1] or np.isnan(value) else suffix[k + 1]
    return result


@_compiled
def _covariance(a: Floats, b: Floats, period: int) -> Floats:
    result = np.full(a.shape, np.nan)
    rows, bars = a.shape
    for row in range(rows):
        for first in range(period - 1, bars, _AT_ONCE):
            windows = min(_AT_ONCE, bars - first)
            sum_a, sum_b, product = np.zeros(windows), np.zeros(windows), np.zeros(windows)
            pivot_a, pivot_b = a[row, first : first + windows], b[row, first : first + windows]
            for k in range(first - period + 1, first + 1):
                part_a, part_b = a[row, k : k + windows], b[row, k : k + windows]
                for j in range(windows):
                    x, y = part_a[j] - pivot_a[j], part_b[j] - pivot_b[j]
                    sum_a[j] += x
                    sum_b[j] += y
                    product[j] += x * y
            for j in range(windows):
                result[row, first + j] = product[j] / period - sum_a[j] / period * (sum_b[j] / period)
    return result


@_compiled
def _newest(values: Floats, most: int) -> Floats:
    result = np.full(values.shape, np.nan)
    rows, bars = values.shape
    for row in range(rows):
        found = -most - 1
        for i in range(bars):
            if not np.isnan(values[row, i]):
                found = i
            if i - found <= most:
                result[row, i] = values[row, found]
    return result


@_compiled
def _sum_of_group(values: Floats, group: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_]) -> Floats:
    """Sum since the group began; NaN in the first group unless it `begins` with the array."""
    result = np.empty(values.shape)
    rows, bars = values.shape
    for row in range(rows):
        total = 0.0
        for i in range(bars):
            if i == 0:
                total = values[row, 0] if begins[row, 0] else np.nan
            elif group[row, i] != group[row, i - 1]:
                total = values[row, i]
            else:
                total += values[row, i]
            result[row, i] = total
    return result


@_compiled
def _as_of(moments: npt.NDArray[np.int64], known_at: npt.NDArray[np.int64], values: Floats, max_age: int) -> Floats:
    result = np.full(moments.shape, np.nan)
    rows, bars = moments.shape
    shared, length = len(known_at) == 1, known_at.shape[1]
    for row in range(rows):
        series = 0 if shared else row
        n = _place(known_at[series], moments[row, 0], side="right") if bars > 0 else 0
        for i in range(bars):
            while n < length and known_at[series, n] <= moments[row, i]:
                n += 1
            if n > 0 and moments[row, i] - known_at[series, n - 1] <= max_age:
                result[row, i] = values[series, n - 1]
    return result
