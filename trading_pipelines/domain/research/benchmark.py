"""What doing nothing would have earned: an asset bought once and held.

Belongs here: the curve to which a backtest is compared. Does not belong here: its figures, which are those of any
curve (`domain.portfolio.performance`).
"""

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.strategies.base import Bars

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def held(bars: Bars, bar_length: int, times: Integers, capital: float, execution: ExecutionParams) -> Floats:
    """Mark the capital that bought at the first bar's open and sold nothing, without leverage.

    The purchase pays fee and slippage as every fill does. Nothing is paid for holding, for it is the asset itself and
    no perpetual.

    Parameters
    ----------
    bar_length : int
        In microseconds; a bar's close is known that much after its open.
    times : array of int64
        When to mark, ascending, microseconds since 1970, UTC; before the first close it is the capital itself.
    """
    paid = float(bars.open[0]) * (1 + execution.slippage_rate) * (1 + execution.taker_fee_rate)
    newest = np.searchsorted(bars.ts + bar_length, times, side="right") - 1
    return np.where(newest < 0, capital, capital / paid * bars.close[newest])
