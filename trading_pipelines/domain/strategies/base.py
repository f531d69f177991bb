"""What a strategy is: a function from the closed bars of one symbol to entries, exits and their confidence.

Belongs here: the interface that backtest, replay and live sessions call alike. Does not belong here: sizes, stops and
targets, which are the same for all strategies (`domain.risk`, `domain.engine`), the gates between a proposal and a
signal (`domain.signals`), and any particular strategy.

A strategy in four steps: write a frozen dataclass with its parameters that inherits `Strategy`, give it a `name`, say
what it `needs`, and write a method `signals` that fills the arrays of `Signals`. Row *i* depends on what was known at
the close of bar *i*, and on nothing before the warm-up.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.gates import UNKNOWN_TIME
from trading_pipelines.domain.signals.policy import SignalPolicy

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CLOSE_LONG = kernel.EXIT_LONG
CLOSE_SHORT = kernel.EXIT_SHORT

NO_MODEL = UNKNOWN_TIME
"""In place of a version's as-of time where there is no prediction."""


@dataclass(frozen=True)
class Bars:
    """The closed bars of one symbol and timeframe, ascending; bars that the market does not have are simply missing.

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
class Predictions:
    """What the model version in production at each bar's close had predicted; arrays as long as the bars.

    Attributes
    ----------
    probability : array of float
        Calibrated probability that the upper barrier is reached first, NaN without a prediction.
    model : array of int64
        Position of the version in `model_ids`, -1 without a prediction.
    as_of : array of int64
        As-of time of the version in microseconds since 1970, `NO_MODEL` without a prediction.
    novelty : array of float or None
        Share of the features beyond what the version has learnt from, NaN where it does not say.
    """

    probability: Floats
    model: Integers
    as_of: Integers
    model_ids: tuple[str, ...] = ()
    novelty: Floats | None = None

    def take(self, rows: slice) -> "Predictions":
        """Those of some bars."""
        return Predictions(
            self.probability[rows],
            self.model[rows],
            self.as_of[rows],
            self.model_ids,
            None if self.novelty is None else self.novelty[rows],
        )


@dataclass(frozen=True)
class CompositeScores:
    """The composite scores at the bars' closes; arrays as long as the bars.

    Attributes
    ----------
    score, confidence : array of float
        0 to 100, and how far it can be trusted (0.5 to 1, not calibrated); NaN without a score.
    known, bullish, bearish : arrays of int64
        How many factors are known, speak for a rise and for a fall; 0 without a score.
    values : array of float
        (bars, factors) in the order of `domain.scoring.spec.FACTORS`; NaN where a factor is missing or stale.
    """

    score: Floats
    confidence: Floats
    known: Integers
    bullish: Integers
    bearish: Integers
    values: Floats

    def take(self, rows: slice) -> "CompositeScores":
        """Those of some bars."""
        return CompositeScores(*(getattr(self, name)[rows] for name in CompositeScores.__dataclass_fields__))


@dataclass(frozen=True)
class Needs:
    """What a strategy wants to be given.

    Attributes
    ----------
    warm_up : int
        Bars before the first wanted one, so many that answers no longer depend on where the history starts.
    higher : mapping
        Longer timeframes, each with the number of its bars that have to lie before the first wanted bar.
    features : tuple of str
        Names of stored features.
    predictions : bool
        Whether it reads the models' predictions.
    scores : bool
        Whether it reads the composite scores.
    """

    warm_up: int = 0
    higher: Mapping[Timeframe, int] = field(default_factory=dict[Timeframe, int])
    features: tuple[str, ...] = ()
    predictions: bool = False
    scores: bool = False


@dataclass(frozen=True)
class StrategyInput:
    """What a strategy sees of one symbol.

    Attributes
    ----------
    bars : Bars
        Of the signal timeframe; the first `warm_up` of them are history whose answers nobody reads.
    higher : mapping of Bars
        The longer timeframes asked for; read them through `latest`, which knows which of them had closed.
    features : mapping of arrays
        The stored features asked for, a value per bar, NaN where there is none.
    predictions : Predictions or None
        None unless asked for.
    scores : CompositeScores or None
        What the gates ask as well; None where nothing is stored, unless asked for.
    """

    bars: Bars
    timeframe: Timeframe
    warm_up: int = 0
    higher: Mapping[Timeframe, Bars] = field(default_factory=dict[Timeframe, Bars])
    features: Mapping[str, Floats] = field(default_factory=dict[str, Floats])
    predictions: Predictions | None = None
    scores: CompositeScores | None = None

    @property
    def closed_at(self) -> Integers:
        """When each bar closes, in microseconds since 1970."""
        return self.bars.ts + self.timeframe.microseconds

    def latest(self, timeframe: Timeframe) -> Integers:
        """Position of the newest bar of a longer timeframe that is closed when each own bar closes, -1 without one."""
        closes = self.higher[timeframe].ts + timeframe.microseconds
        return np.searchsorted(closes, self.closed_at, side="right") - 1

    def before(self, n: int) -> "StrategyInput":
        """What was known at the close of bar n - 1: the first `n` bars, and of everything else what had closed."""
        closed = self.closed_at[n - 1] if n > 0 else NO_MODEL
        return replace(
            self,
            bars=_cut(self.bars, n),
            higher={
                t: _cut(b, int(np.searchsorted(b.ts + t.microseconds, closed, side="right")))
                for t, b in self.higher.items()
            },
            features={name: values[:n] for name, values in self.features.items()},
            predictions=None if self.predictions is None else self.predictions.take(slice(n)),
            scores=None if self.scores is None else self.scores.take(slice(n)),
        )


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
    probability : array of float or None
        Probability that the entry's side wins, for the expected value; without one the confidence stands in.
    atr_ratio : array of float or None
        ATR over its own norm; without it no entry is blocked for abnormal volatility.
    anomaly : array of float or None
        How unusual the last bars were (`domain.anomaly`), an anomaly from 1 on; without it no entry is blocked for one.
    factors : mapping of arrays
        What the decision rests on, by name; kept with each signal to explain it.
    """

    entry: npt.NDArray[np.int8]
    confidence: Floats
    exit: npt.NDArray[np.uint8]
    atr: Floats
    probability: Floats | None = None
    atr_ratio: Floats | None = None
    anomaly: Floats | None = None
    factors: Mapping[str, Floats] = field(default_factory=dict[str, Floats])


class Strategy(ABC):
    """A rule for when to enter and when to leave in an emergency."""

    name: ClassVar[str]
    """Name under which decisions and results are stored."""

    exit_reason: ClassVar[str] = "OPPOSITE_SIGNAL"
    """Why it leaves a position, as the position's close reason."""

    @property
    def needs(self) -> Needs:
        """What `signals` has to be given; only the bars unless a strategy says more."""
        return Needs()

    @abstractmethod
    def signals(self, data: StrategyInput) -> Signals:
        """Decide at the close of each bar."""

    def policy(self, policy: SignalPolicy) -> SignalPolicy:
        """The gates that its entries pass, given the configured ones."""
        return policy

    def limits(self, limits: RiskLimits) -> RiskLimits:
        """The portfolio limits under which it trades alone, given the configured ones."""
        return limits


def _cut(bars: Bars, n: int) -> Bars:
    return Bars(bars.symbol, bars.ts[:n], bars.open[:n], bars.high[:n], bars.low[:n], bars.close[:n], bars.volume[:n])
