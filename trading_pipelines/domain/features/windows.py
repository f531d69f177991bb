"""Moving windows over arrays: sums, extremes, deviations, medians.

Belongs here: functions whose value depends on the numbers in its window and on nothing before. A running sum that adds
what comes and subtracts what goes would remember, in its rounding, everything that has ever passed; the value would
then depend on how much history was loaded. All results are NaN until the first window is full and where it holds a NaN.

Sums and extremes take time proportional to the array, whatever the window: the array is cut in blocks as long as the
window, so that each window is the end of one block and the beginning of the next (van Herk 1992; Gil and Werman 1993).
"""

from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]


def lag(values: Floats, bars: int) -> Floats:
    """The values `bars` bars earlier."""
    shifted = np.full(len(values), np.nan)
    if bars < len(values):
        shifted[bars:] = values[: len(values) - bars]
    return shifted


def divide(numerator: Floats, denominator: Floats, empty: float) -> Floats:
    """Quotient, `empty` where the denominator is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, empty, numerator / denominator)


def rolling_sum(values: Floats, period: int) -> Floats:
    """Sum over a window."""
    return _combined(values, period, np.add)


def rolling_mean(values: Floats, period: int) -> Floats:
    """Mean over a window."""
    return rolling_sum(values, period) / period


def rolling_min(values: Floats, period: int) -> Floats:
    """Minimum over a window."""
    return _combined(values, period, np.minimum)


def rolling_max(values: Floats, period: int) -> Floats:
    """Maximum over a window."""
    return _combined(values, period, np.maximum)


def rolling_std(values: Floats, period: int) -> Floats:
    """Population standard deviation over a window, as Bollinger bands use it."""
    return np.sqrt(rolling_covariance(values, values, period))


def rolling_covariance(a: Floats, b: Floats, period: int) -> Floats:
    """Population covariance over a window.

    The deviations are taken from a value inside the window, the first one of the younger block: from zero, prices
    that hardly move would lose all their digits.
    """
    if len(a) < period:
        return np.full(len(a), np.nan)
    pivots = [_blocks(x, period)[:, :1] for x in (a, b)]
    own = [_blocks(x, period) - pivot for x, pivot in zip((a, b), pivots, strict=True)]
    next_ = [_blocks(x, period) - np.roll(pivot, -1, axis=0) for x, pivot in zip((a, b), pivots, strict=True)]

    def total(x: Floats, y: Floats) -> Floats:
        return _joined(_suffixes(y, np.add), np.add.accumulate(x, axis=1), len(a), period, np.add)

    mean_a, mean_b = (total(x, y) / period for x, y in zip(own, next_, strict=True))
    product = total(own[0] * own[1], next_[0] * next_[1]) / period
    covariance = product - mean_a * mean_b
    return np.maximum(covariance, 0.0) if a is b else covariance


def rolling_median(values: Floats, period: int) -> Floats:
    """Median over a window."""
    return _median(np.ascontiguousarray(values), period)


def newest(values: Floats, most: int) -> Floats:
    """The newest value that is not NaN, not older than `most` bars."""
    row = np.arange(len(values))
    found = np.maximum.accumulate(np.where(np.isnan(values), -most - 1, row)) if len(values) else row
    return np.where(row - found <= most, values[np.maximum(found, 0)], np.nan)


def sum_since_midnight(values: Floats, ts: Times) -> Floats:
    """Sum since 00:00 UTC; NaN on the first day where that began before the array."""
    day = ts.astype("datetime64[D]")
    total = _restarting_sum(np.ascontiguousarray(values), day.astype(np.int64))
    if len(ts) and ts[0] != day[0]:
        total[day == day[0]] = np.nan
    return total


def _combined(values: Floats, period: int, combine: np.ufunc) -> Floats:
    if len(values) < period:
        return np.full(len(values), np.nan)
    blocks = _blocks(values, period)
    return _joined(_suffixes(blocks, combine), combine.accumulate(blocks, axis=1), len(values), period, combine)


def _blocks(values: Floats, period: int) -> Floats:
    """The array as rows of `period` values, the last one filled up with NaN."""
    padded = np.full(-(-len(values) // period) * period, np.nan)
    padded[: len(values)] = values
    return padded.reshape(-1, period)


def _suffixes(blocks: Floats, combine: np.ufunc) -> Floats:
    return combine.accumulate(blocks[:, ::-1], axis=1)[:, ::-1]


def _joined(suffixes: Floats, prefixes: Floats, rows: int, period: int, combine: np.ufunc) -> Floats:
    """Per window the end of one block and the beginning of the next; a window that is one block is its prefix."""
    before, after = suffixes.ravel(), prefixes.ravel()
    result = np.full(rows, np.nan)
    result[period:] = combine(before[1 : rows - period + 1], after[period:rows])
    result[period - 1 :: period] = after[period - 1 : rows : period]
    return result


_place = cast(Any, np.searchsorted)  # its overloads do not know a scalar of an array


def _compiled(function: Any) -> Any:
    return cast(Any, numba).njit(function, cache=True)  # numba is untyped


@_compiled
def _median(values: Floats, period: int) -> Floats:
    """Keep the window sorted: one number goes, one comes, and those between their places move by one."""
    result = np.full(len(values), np.nan)
    window = np.empty(period)
    full, hole = 0, 0
    for i in range(len(values)):
        value = values[i]
        if np.isnan(value):
            full = 0
            continue
        if full < period:
            hole, full = full, full + 1
        else:
            hole = _place(window, values[i - period])
        while hole > 0 and window[hole - 1] > value:
            window[hole] = window[hole - 1]
            hole -= 1
        while hole < full - 1 and window[hole + 1] < value:
            window[hole] = window[hole + 1]
            hole += 1
        window[hole] = value
        if full == period:
            result[i] = (window[(period - 1) // 2] + window[period // 2]) / 2
    return result


@_compiled
def _restarting_sum(values: Floats, group: npt.NDArray[np.int64]) -> Floats:
    result = np.empty(len(values))
    total = 0.0
    for i in range(len(values)):
        total = values[i] if i == 0 or group[i] != group[i - 1] else total + values[i]
        result[i] = total
    return result
