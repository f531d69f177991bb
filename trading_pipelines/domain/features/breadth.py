"""How many of the market's majors rise: one series for all symbols of an exchange.

Belongs here: the basket and how its bars become shares. Does not belong here: how the series is joined to a symbol
(`context`).

The basket is named, as an index names its constituents. A breadth over whatever symbols happen to be loaded or traded
would change with them, and a stored feature could not be computed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.features.context import Bars, Breadth, ema_bars
from trading_pipelines.domain.features.windows import Floats, Times
from trading_pipelines.domain.market.timeframe import Timeframe

BASKET = (
    "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT", "AVAXUSDT", "LINKUSDT", "DOTUSDT",
    "TRXUSDT", "LTCUSDT", "BCHUSDT", "XLMUSDT", "ATOMUSDT", "ETCUSDT", "FILUSDT", "NEARUSDT", "AAVEUSDT", "UNIUSDT",
)  # fmt: skip
FEWEST_MEMBERS = 5
EMA_PERIOD = 50
RETURN_BARS = 16
MEMBER_BARS = ema_bars(EMA_PERIOD)
"""Bars of a member before it counts."""


@dataclass(frozen=True)
class BreadthRows:
    """The breadth at the close of each bar at which enough members are known.

    Attributes
    ----------
    ts : array of datetime64[us]
        Open time of the members' bars, UTC.
    members : array of int
        How many of the basket have a bar there and the history before it.
    """

    ts: Times
    members: npt.NDArray[np.int64]
    series: Breadth


def market_breadth(
    members: Sequence[Bars], timeframe: Timeframe, start: np.datetime64, end: np.datetime64
) -> BreadthRows:
    """The breadth of the bars that open in [start, end), from the members' bars in the order of the basket.

    A member without a bar at that time, or with less history than `MEMBER_BARS`, does not count; with fewer than five
    members there is no breadth.
    """
    told = [_answers(bars, start, end) for bars in members]
    ts: Times = np.unique(np.concatenate([np.empty(0, "datetime64[us]"), *(times for times, _ in told)]))
    count, total = np.zeros(len(ts), np.int64), np.zeros((3, len(ts)))
    for times, answers in told:
        at = np.searchsorted(ts, times)
        count[at] += 1
        total[:, at] += answers
    enough = count >= FEWEST_MEMBERS
    above, rising, mean_return = total[:, enough] / count[enough]
    known = ts[enough]
    closes_at: Times = known + np.timedelta64(timeframe.minutes, "m")
    return BreadthRows(known, count[enough], Breadth(closes_at, above, rising, mean_return))


def _answers(bars: Bars, start: np.datetime64, end: np.datetime64) -> tuple[Times, Floats]:
    """Above its EMA (1 or 0), risen (1 or 0) and the return, at the bars where all of them are known."""
    average, change = bars.ema(EMA_PERIOD), bars.log_return(RETURN_BARS)
    known = (bars.ts >= start) & (bars.ts < end) & ~np.isnan(average)
    return bars.ts[known], np.array([bars.close > average, change > 0, change], np.float64)[:, known]
