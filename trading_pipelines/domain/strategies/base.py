"""What a strategy is: a function from the closed bars of one symbol to entries, exits and their confidence.

Belongs here: the interface that backtests call. Does not belong here: sizes, stops and targets, which are the same
for all strategies (`domain.risk`, `domain.engine`), and any particular strategy.

A strategy in four steps: write a frozen dataclass with its parameters, give it a `name` and a method `signals`
that fills the arrays of `Signals`, and let row *i* depend on bars up to *i* only.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.engine import kernel

Floats = npt.NDArray[np.float64]

CLOSE_LONG = kernel.EXIT_LONG
CLOSE_SHORT = kernel.EXIT_SHORT


@dataclass(frozen=True)
class Bars:
    """The closed bars of one symbol, ascending; bars that the market does not have are simply missing.

    Attributes
    ----------
    ts : array of int64
        Open times in microseconds since 1970, UTC.
    volume : array of float
        In base currency.
    """

    symbol: str
    ts: npt.NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.ts)


@dataclass(frozen=True)
class Signals:
    """What a strategy decides at the close of each bar; arrays as long as the bars.

    Attributes
    ----------
    entry : array of int8
        +1 to go long, -1 to go short, 0 for nothing. It is asked only while nothing is open in the symbol.
    confidence : array of float
        0 to 1; ranks the candidates of one close and scales their size. Read where `entry` is not 0.
    exit : array of uint8
        `CLOSE_LONG`, `CLOSE_SHORT`, their sum or 0: an emergency exit of an open position of that side.
    atr : array of float
        ATR(14) of these bars in quote currency, NaN while it is not known; the unit of stop, targets and trail.
    """

    entry: npt.NDArray[np.int8]
    confidence: Floats
    exit: npt.NDArray[np.uint8]
    atr: Floats


class Strategy(Protocol):
    """A rule for when to enter and when to leave in an emergency."""

    @property
    def name(self) -> str:
        """Name under which results are stored."""
        ...

    def signals(self, bars: Bars) -> Signals:
        """Decide at the close of each bar."""
        ...
