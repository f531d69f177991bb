"""How closely symbols move together: correlation of hourly returns, as of a midnight.

Belongs here: the one definition that backtests and live sessions share. Does not belong here: what a high correlation
forbids (`domain.risk.rules`, `domain.engine.kernel`) and where candles come from.

Definition
----------
The close of an hour is the close of the newest candle that opened in it. A return is the logarithm of the ratio of two
closes of consecutive hours; without both there is none. As of 00:00 UTC of a day, the returns of the `days` days before
it count, of hours that have closed by then. The correlation of two symbols is Pearson's over the hours in which both
have a return, rounded to six digits so that another order of summation gives the same number. With fewer than
`min_hours` such hours, or where a price did not move at all, it is not known (NaN).

Times are microseconds since 1970, UTC.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HOUR = 3_600_000_000
DAY = 24 * HOUR
_DIGITS = 6


def hourly_returns(ts: Integers, close: Floats, first_hour: int, hours: int) -> Floats:
    """Log returns of `hours` consecutive hours from `first_hour` (hours since 1970) on, NaN where there is none.

    Parameters
    ----------
    ts : array of int64
        Open times of candles that are not longer than an hour, ascending.
    close : array of float
        Their closes; NaN is no candle.
    """
    known = np.isfinite(close)
    hour = ts[known] // HOUR - (first_hour - 1)
    inside = (hour >= 0) & (hour <= hours)
    closes = np.full(hours + 1, np.nan)
    # Of several candles of one hour the last assignment stays: the newest.
    closes[hour[inside]] = close[known][inside]
    return np.diff(np.log(closes))


def correlations(returns: Floats, min_hours: int) -> Floats:
    """Correlation of each pair of columns over the rows that both have, NaN where it is not known."""
    there = np.isfinite(returns).astype(np.float64)
    values = np.where(there > 0, returns, 0.0)
    n = there.T @ there
    sums = values.T @ there
    squares = (values**2).T @ there
    with np.errstate(divide="ignore", invalid="ignore"):
        covariance = values.T @ values - sums * sums.T / n
        variance = squares - sums**2 / n
        found = covariance / np.sqrt(variance * variance.T)
    enough = (n >= min_hours) & (variance > 0) & (variance.T > 0)
    return np.where(enough, np.round(np.clip(found, -1.0, 1.0), _DIGITS), np.nan)


def correlations_of_day(candles: Sequence[tuple[Integers, Floats]], day: int, days: int, min_hours: int) -> Floats:
    """Correlations as of 00:00 UTC of `day` (days since 1970) of symbols whose open times and closes are given."""
    first = (day - days) * 24
    columns = [hourly_returns(ts, close, first, days * 24) for ts, close in candles]
    return correlations(np.column_stack(columns), min_hours)


def correlations_by_day(
    candles: Sequence[tuple[Integers, Floats]], first_day: int, n_days: int, days: int, min_hours: int
) -> Floats:
    """Correlations as of 00:00 UTC of `n_days` days in a row from `first_day` on: array [n_days, symbols, symbols]."""
    first, hours = (first_day - days) * 24, (n_days - 1 + days) * 24
    returns = np.column_stack([hourly_returns(ts, close, first, hours) for ts, close in candles])
    windows = (returns[24 * k : 24 * (k + days)] for k in range(n_days))
    return np.stack([correlations(window, min_hours) for window in windows])
