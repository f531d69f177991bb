"""Triple-barrier labels: which of two price barriers is reached first, within a time limit.

Method: López de Prado, *Advances in Financial Machine Learning* (2018), chapters 3 (barriers) and 4 (uniqueness).
"""

from dataclasses import dataclass
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]


def _compiled(function: Any) -> Any:
    return cast(Any, numba).njit(function, cache=True)  # numba is untyped


@dataclass(frozen=True)
class Labels:
    """One label per bar.

    Attributes
    ----------
    value : array of int8
        1 upper barrier first, 0 lower barrier first, -1 unknown yet (no ATR, or the future is not there).
    end : array of int64
        Index of the bar at whose close the label is known; -1 where it is not.
    move : array of float
        What the price did for a trade over the label's life, before costs: from the open of the bar after the decision
        to the barrier (to the open of the bar that jumped over it), or to the close at the time limit; a share of the
        entry price, NaN where the label is unknown.
    """

    value: npt.NDArray[np.int8]
    end: npt.NDArray[np.int64]
    move: Floats


@dataclass(frozen=True)
class RowLabels:
    """Labels of chosen bars, as rows to learn from or to judge by.

    Attributes
    ----------
    value : array of int8
        As in `Labels`.
    known_at : array of datetime64
        When the label was known; NaT where it is not.
    weight : array of float
        Uniqueness among the labels of all bars, 0 to 1.
    move : array of float
        As in `Labels`.
    """

    value: npt.NDArray[np.int8]
    known_at: Times
    weight: Floats
    move: Floats

    @classmethod
    def of(cls, labels: Labels, closes_at: Times, rows: npt.NDArray[np.int64]) -> "RowLabels":
        """Take the given bars' labels; `closes_at` is that of all bars."""
        end = labels.end[rows]
        known_at = np.where(end >= 0, closes_at[np.maximum(end, 0)], np.datetime64("NaT"))
        return cls(labels.value[rows], known_at, uniqueness_weights(labels.end)[rows], labels.move[rows])

    def take(self, row: int) -> "RowLabels":
        """One row alone."""
        one = slice(row, row + 1)
        return RowLabels(self.value[one], self.known_at[one], self.weight[one], self.move[one])

    @classmethod
    def none(cls) -> "RowLabels":
        """No rows."""
        return cls(np.empty(0, dtype=np.int8), np.empty(0, dtype="datetime64[us]"), np.empty(0), np.empty(0))


def label_bars(
    closes_at: Times,
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    atr: Floats,
    barrier_atr: float,
    horizon: np.timedelta64,
) -> Labels:
    """Label every bar by what follows it.

    Both barriers lie `barrier_atr` x ATR from the close. The path starts at the next bar. When both are touched in one
    bar, the one nearer to its open counts as first. Without a touch, the sign of the return decides at the last bar
    that closes within `horizon`. Where bars are missing there, the label is known with the next bar that exists; a bar
    that nothing follows within the horizon has none.
    """
    minutes = closes_at.astype("datetime64[m]").astype(np.int64)
    length = int(horizon / np.timedelta64(1, "m"))
    return Labels(*_label(minutes, open_, high, low, close, atr, barrier_atr, length))


def trade_return(is_long: npt.NDArray[np.bool_], move: Floats, cost_rate: float) -> Floats:
    """What a trade over the label's life earned after its costs, as a share of its notional at entry.

    Parameters
    ----------
    is_long : array of bool
        The side taken.
    move : array of float
        As in `Labels`.
    cost_rate : float
        Fee and slippage of one fill, as a share of its notional. The exit's notional has moved with the price.
    """
    return np.where(is_long, move, -move) - cost_rate * (2.0 + move)


@_compiled
def _label(
    minutes: npt.NDArray[np.int64],
    open_: Floats,
    high: Floats,
    low: Floats,
    close: Floats,
    atr: Floats,
    barrier_atr: float,
    horizon: int,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], Floats]:
    n = len(close)
    value = np.full(n, -1, dtype=np.int8)
    end = np.full(n, -1, dtype=np.int64)
    move = np.full(n, np.nan)
    for i in range(n):
        if not atr[i] > 0.0:
            continue
        upper, lower = close[i] + barrier_atr * atr[i], close[i] - barrier_atr * atr[i]
        limit = minutes[i] + horizon
        for j in range(i + 1, n):
            if minutes[j] > limit:
                if j > i + 1:
                    value[i], end[i] = (1 if close[j - 1] > close[i] else 0), j
                    move[i] = close[j - 1] / open_[i + 1] - 1.0
                break
            up, down = high[j] >= upper, low[j] <= lower
            if up and down:
                up = upper - open_[j] <= open_[j] - lower
            if up or down:
                value[i], end[i] = (1 if up else 0), j
                exit_ = max(upper, open_[j]) if up else min(lower, open_[j])
                move[i] = exit_ / open_[i + 1] - 1.0
                break
            if minutes[j] == limit:
                value[i], end[i] = (1 if close[j] > close[i] else 0), j
                move[i] = close[j] / open_[i + 1] - 1.0
                break
    return value, end, move


@_compiled
def uniqueness_weights(end: npt.NDArray[np.int64]) -> Floats:
    """Mean over a label's life of one over the number of labels alive; 0 for unknown labels.

    Labels that overlap tell partly the same story, and count the less the more of them there are.
    """
    n = len(end)
    alive = np.zeros(n + 1)
    for i in range(n):
        if end[i] >= 0:
            alive[i] += 1.0
            alive[end[i] + 1] -= 1.0
    share = np.zeros(n + 1)
    count = 0.0
    for i in range(n):
        count += alive[i]
        share[i + 1] = share[i] + (1.0 / count if count > 0.0 else 0.0)
    weights = np.zeros(n)
    for i in range(n):
        if end[i] >= 0:
            weights[i] = (share[end[i] + 1] - share[i]) / (end[i] - i + 1)
    return weights
