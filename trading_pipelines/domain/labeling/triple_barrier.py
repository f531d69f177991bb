"""Triple-barrier labels: which of two price barriers is reached first, within a time limit.

Method: López de Prado, *Advances in Financial Machine Learning* (2018), chapters 3 (barriers) and 4 (uniqueness).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """One label per bar.

    Attributes
    ----------
    value : array of int8
        1 upper barrier first, 0 lower barrier first, -1 unknown yet (no ATR, or the future is not there).
    end : array of int64
        Index of the bar at whose close the label is known; -1 where it is not.
    """

    value: npt.NDArray[np.int8]
    end: npt.NDArray[np.int64]


def label_bars(
    open_: Floats, high: Floats, low: Floats, close: Floats, atr: Floats, barrier_atr: float, horizon: int
) -> Labels:
    """Label every bar by what follows it.

    Both barriers lie `barrier_atr` x ATR from the close. The path starts at the next bar. When both are touched in one
    bar, the one nearer to its open counts as first. After `horizon` bars without a touch the return's sign decides.
    """
    value, end = _label(open_, high, low, close, atr, barrier_atr, horizon)
    return Labels(value, end)


@njit(cache=True)
def _label(
    open_: Floats, high: Floats, low: Floats, close: Floats, atr: Floats, barrier_atr: float, horizon: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    n = len(close)
    value = np.full(n, -1, dtype=np.int8)
    end = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        if not atr[i] > 0.0:
            continue
        upper, lower = close[i] + barrier_atr * atr[i], close[i] - barrier_atr * atr[i]
        for j in range(i + 1, min(i + horizon, n - 1) + 1):
            up, down = high[j] >= upper, low[j] <= lower
            if up or down:
                if up and down:
                    up = upper - open_[j] <= open_[j] - lower
                value[i], end[i] = (1 if up else 0), j
                break
            if j == i + horizon:
                value[i], end[i] = (1 if close[j] > close[i] else 0), j
    return value, end


@njit(cache=True)
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
