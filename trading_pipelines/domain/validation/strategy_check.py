"""Whether a strategy decides from what was known, and whether it is given enough history to decide.

Belongs here: questions put to a strategy from outside, with no insight into it: the same bars with everything later
taken away, the same bars with a shorter history, the same bars twice. Does not belong here: the same questions about
stored features (`domain.validation.leakage`), and whether a strategy earns anything.

A rule that looks ahead betrays itself only at bars where the future matters to it, so half of the sampled bars are
such at which it decides something.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.strategies.base import Bars, Signals, Strategy, StrategyInput

Integers = npt.NDArray[np.int64]
Column = npt.NDArray[np.generic]

LOOKAHEAD_TOLERANCE = 1e-9
"""Relative; the same numbers in the same order, so only the order of summation may differ."""
WARM_UP_TOLERANCE = 1e-6
"""Relative; how far a start value may still show after the warm-up that the strategy asks for."""
_MOST_FINDINGS = 20


class Fault(StrEnum):
    """What is wrong with a strategy."""

    LOOKAHEAD = "lookahead"
    """An answer changes when what comes later is taken away."""
    WARM_UP = "warm_up"
    """An answer changes when the history is no longer than the strategy says that it needs."""
    UNSTABLE = "unstable"
    """The same question gets two answers: there is a state or a random number in it."""
    ERROR = "error"
    """It fails on less data than all of it."""


@dataclass(frozen=True)
class Finding:
    """One answer that is not what it should be.

    Attributes
    ----------
    ts : datetime64
        Open time of the bar, UTC.
    what : str
        The array of `Signals`, or the message of an error.
    full, alone : float
        The answer with all of the data, and with what the question allows.
    """

    fault: Fault
    symbol: str
    ts: np.datetime64
    what: str
    full: float
    alone: float

    def __str__(self) -> str:
        when = f"{self.symbol} at {np.datetime_as_string(self.ts, unit='m')}"
        if self.fault is Fault.ERROR:
            return f"{self.fault}: {when}: {self.what}"
        return f"{self.fault}: {self.what} of {when} is {self.full:.8g}, but {self.alone:.8g} on its own"


@dataclass(frozen=True)
class StrategyCheck:
    """What the questions have brought to light.

    Attributes
    ----------
    lookahead_samples, warm_up_samples : int
        Bars at which each question was asked.
    decisions : int
        How many of them were bars at which the strategy decides something.
    findings : tuple of Finding
        The first of each fault, array and symbol, at most twenty.
    """

    lookahead_samples: int
    warm_up_samples: int
    decisions: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The kinds of what was found."""
        return tuple(fault for fault in Fault if any(finding.fault is fault for finding in self.findings))


def check_strategy(
    strategy: Strategy, inputs: Sequence[StrategyInput], samples: int = 24, seed: int = 0
) -> StrategyCheck:
    """Ask a strategy the same at sampled bars with less data, and compare the answers.

    Parameters
    ----------
    inputs : sequence of StrategyInput
        What it would see in a backtest, per symbol.
    samples : int
        Bars per symbol at which each question is asked.

    Notes
    -----
    With the later bars taken away all answers up to the sampled bar are compared, so a value that depends on the
    whole sample (a mean, a ranking) shows at any of them, and one that looks *k* bars ahead at those samples within
    *k* bars of a decision. A strategy passes by not being caught; no finite number of samples proves it honest.
    """
    dice = np.random.default_rng(seed)
    asked = [_Asked.of(strategy, data, samples, dice) for data in inputs if len(data.bars) > data.warm_up]
    first: dict[tuple[Fault, str, str], Finding] = {}
    for one in asked:
        for finding in one.findings(strategy):
            first.setdefault((finding.fault, finding.symbol, finding.what), finding)
    return StrategyCheck(
        lookahead_samples=sum(len(one.cuts) for one in asked),
        warm_up_samples=sum(len(one.starts) for one in asked),
        decisions=sum(int(one.decides[np.union1d(one.cuts, one.starts)].sum()) for one in asked),
        findings=tuple(first.values())[:_MOST_FINDINGS],
    )


def with_history(data: StrategyInput, bar: int, strategy: Strategy) -> StrategyInput:
    """What `load_input` would give for that bar alone: no more history than the strategy needs, nothing later."""
    needs = strategy.needs
    start = max(bar - needs.warm_up, 0)
    cut = data.before(bar + 1)
    opened = int(data.bars.ts[bar])
    return replace(
        cut,
        bars=_from(cut.bars, start),
        warm_up=bar - start,
        higher={
            timeframe: _from(
                bars,
                int(
                    np.searchsorted(
                        bars.ts,
                        opened - opened % timeframe.microseconds - needs.higher[timeframe] * timeframe.microseconds,
                    )
                ),
            )
            for timeframe, bars in cut.higher.items()
        },
        features={name: values[start:] for name, values in cut.features.items()},
        predictions=None if cut.predictions is None else cut.predictions.take(slice(start, None)),
        scores=None if cut.scores is None else cut.scores.take(slice(start, None)),
    )


@dataclass(frozen=True)
class _Asked:
    """One symbol: the answers to all of its data, and the bars at which to ask again."""

    data: StrategyInput
    full: Mapping[str, Column]
    decides: npt.NDArray[np.bool_]
    cuts: Integers
    starts: Integers

    @classmethod
    def of(cls, strategy: Strategy, data: StrategyInput, samples: int, dice: np.random.Generator) -> "_Asked":
        told = strategy.signals(data)
        decides = (np.asarray(told.entry) != 0) | (np.asarray(told.exit) != 0)
        # A history that begins where the data does is no shorter one.
        shortened = max(data.warm_up, strategy.needs.warm_up + 1)
        return cls(
            data,
            _columns(told),
            decides,
            _sample(decides, data.warm_up, samples, dice),
            _sample(decides, shortened, samples, dice),
        )

    def findings(self, strategy: Strategy) -> Iterator[Finding]:
        try:
            repeated = _columns(strategy.signals(self.data))
            yield from self._compare(Fault.UNSTABLE, repeated, slice(self.data.warm_up, None), 0.0)
        except Exception as error:  # a strategy is somebody's code: whatever it raises is the finding
            yield self._error(error, self.data.warm_up)
        for bar in self.cuts.tolist():
            try:
                alone = _columns(strategy.signals(self.data.before(bar + 1)))
            except Exception as error:  # as above
                yield self._error(error, bar)
                continue
            yield from self._compare(Fault.LOOKAHEAD, alone, slice(self.data.warm_up, bar + 1), LOOKAHEAD_TOLERANCE)
        for bar in self.starts.tolist():
            try:
                alone = _columns(strategy.signals(with_history(self.data, bar, strategy)))
            except Exception as error:  # as above
                yield self._error(error, bar)
                continue
            last = {name: values[-1:] for name, values in alone.items()}
            yield from self._compare(Fault.WARM_UP, last, slice(bar, bar + 1), WARM_UP_TOLERANCE)

    def _compare(self, fault: Fault, alone: Mapping[str, Column], rows: slice, tolerance: float) -> Iterator[Finding]:
        """Compare the rows, which `alone` has at the same places or, of a shorter history, as its only ones."""
        reads = self.full["entry"][rows] != 0
        for name, everything in self.full.items():
            # A confidence is asked for at entries only; what else is in it nobody reads.
            read = reads if name in ("confidence", "probability") else np.ones(len(reads), np.bool_)
            given = alone.get(name)
            full = everything[rows].astype(np.float64)
            if given is None or len(given) not in (len(full), rows.start + len(full)):
                yield self._finding(
                    fault, rows.start, f"length of {name}", len(full), 0 if given is None else len(given)
                )
                continue
            other = given[-len(full) :].astype(np.float64)
            scale = np.nanmedian(np.abs(full)) if np.isfinite(full).any() else 0.0
            same = np.isclose(full, other, rtol=tolerance, atol=tolerance * float(scale), equal_nan=True)
            for at in np.flatnonzero(~same & read)[:1]:
                yield self._finding(fault, rows.start + int(at), name, float(full[at]), float(other[at]))

    def _finding(self, fault: Fault, bar: int, what: str, full: float, alone: float) -> Finding:
        return Finding(fault, self.data.bars.symbol, self.data.bars.ts[bar].astype("datetime64[us]"), what, full, alone)

    def _error(self, error: Exception, bar: int) -> Finding:
        return self._finding(Fault.ERROR, bar, f"{type(error).__name__}: {error}", float("nan"), float("nan"))


def _columns(told: Signals) -> dict[str, Column]:
    named: dict[str, Column | None] = {
        "entry": told.entry,
        "exit": told.exit,
        "confidence": told.confidence,
        "atr": told.atr,
        "probability": told.probability,
        "atr_ratio": told.atr_ratio,
        "anomaly": told.anomaly,
        **{f"factor {name}": values for name, values in told.factors.items()},
    }
    return {name: np.asarray(values) for name, values in named.items() if values is not None}


def _sample(decides: npt.NDArray[np.bool_], first: int, samples: int, dice: np.random.Generator) -> Integers:
    """Bars from `first` on: half of them where something is decided, if so many are."""
    bars = np.arange(first, len(decides))
    deciding = bars[decides[first:]]
    some = dice.choice(deciding, min(len(deciding), samples // 2), replace=False)
    rest = np.setdiff1d(bars, some)
    return np.sort(np.concatenate((some, dice.choice(rest, min(len(rest), samples - len(some)), replace=False))))


def _from(bars: Bars, start: int) -> Bars:
    prices = (getattr(bars, name)[start:] for name in ("open", "high", "low", "close", "volume"))
    return Bars(bars.symbol, bars.ts[start:], *prices)
