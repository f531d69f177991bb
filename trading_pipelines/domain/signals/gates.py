"""The gates between what a strategy proposes and a signal.

Every gate is evaluated for every proposal, passed or not, and kept with its numbers: one that was refused can be
explained and counted like one that was emitted. One live bar and a backtest of years go through the same arrays.
Portfolio limits are not gates; they belong to `domain.risk` and are asked in the order path.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy
from trading_pipelines.domain.signals.setup import Setups, build_setups

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

UNKNOWN_TIME = np.iinfo(np.int64).min
"""In place of a time that is not known or does not exist."""

_MINUTE = 60_000_000
_DAY = 1440 * _MINUTE
COOLDOWN = "cooldown_minutes"


@dataclass(frozen=True)
class Gate:
    """One condition with what it saw: `value` is None where what it asks for was not known.

    Conditions without a number have 1 and 0 for yes and no, or the proposed side (1, -1, 0).
    """

    name: str
    value: float | None
    threshold: float | None
    passed: bool


@dataclass(frozen=True)
class Proposals:
    """What strategies propose at closes of bars, with what is known about the moment; one row each.

    Times are microseconds since 1970, UTC, `UNKNOWN_TIME` where there is none.

    Attributes
    ----------
    closed_at : array of int64
        Close of the bar.
    side : array of int8
        +1 long, -1 short, 0 where the strategy wants nothing.
    reference_price, atr, atr_ratio, probability, confidence : array of float
        Close of the bar and what the strategy says; NaN where it is not known.
    asks_model : array of bool
        Whether the strategy rests on a model's prediction.
    model_as_of : array of int64
        As-of time of the version that predicted.
    measures_volatility : array of bool
        Whether the strategy gives an `atr_ratio` at all.
    anomaly, measures_anomaly : arrays of float and bool
        The largest measure of `domain.anomaly` lately, an anomaly from 1 on, and whether the strategy gives one.
    novelty, measures_novelty : arrays of float and bool
        Share of the features beyond what the model has learnt from, and whether its version says so.
    consensus, known : arrays of float and int64
        Factors of the composite score that agree with the side, NaN without a score, and how many are known.
    asks_score : array of bool
        Whether the strategy rests on the composite score.
    conflict : array of float
        How strongly charts and texts contradict each other, 0 to 1; NaN where one of them is not known.
    """

    closed_at: Integers
    side: npt.NDArray[np.int8]
    reference_price: Floats
    atr: Floats
    atr_ratio: Floats
    probability: Floats
    confidence: Floats
    asks_model: npt.NDArray[np.bool_]
    model_as_of: Integers
    measures_volatility: npt.NDArray[np.bool_]
    anomaly: Floats
    measures_anomaly: npt.NDArray[np.bool_]
    novelty: Floats
    measures_novelty: npt.NDArray[np.bool_]
    consensus: Floats
    known: Integers
    asks_score: npt.NDArray[np.bool_]
    conflict: Floats

    def __len__(self) -> int:
        return len(self.closed_at)

    def take(self, rows: Integers | slice) -> "Proposals":
        """Some of the rows."""
        return Proposals(*(getattr(self, name)[rows] for name in Proposals.__dataclass_fields__))

    @classmethod
    def concatenate(cls, parts: Sequence["Proposals"]) -> "Proposals":
        """Rows of several proposals, one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Column:
    """One gate over all rows; a value that is not known is NaN and does not pass unless the gate is off."""

    name: str
    values: Floats
    threshold: float | None
    passed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """Set-ups with every gate's verdict; the order of the gates is that of explanation."""

    setups: Setups
    gates: tuple[Column, ...]

    @cached_property
    def passed(self) -> npt.NDArray[np.bool_]:
        """Where all gates were passed."""
        return np.logical_and.reduce([gate.passed for gate in self.gates])

    @cached_property
    def _first_refusal(self) -> Integers:
        refused = np.array([~gate.passed for gate in self.gates])
        return np.where(refused.any(axis=0), refused.argmax(axis=0), -1)

    def refusal(self, i: int) -> str | None:
        """Name of the first gate that a row did not pass, None when it passed all."""
        position = int(self._first_refusal[i])
        return None if position < 0 else self.gates[position].name

    def refusals(self) -> dict[str, int]:
        """How many rows each gate was the first to refuse; gates that refused none are left out."""
        counts = np.bincount(self._first_refusal[self._first_refusal >= 0], minlength=len(self.gates))
        return {gate.name: int(n) for gate, n in zip(self.gates, counts, strict=True) if n}

    def row(self, i: int) -> tuple[Gate, ...]:
        """Every gate of one row with what it saw."""
        return tuple(
            Gate(g.name, None if np.isnan(g.values[i]) else float(g.values[i]), g.threshold, bool(g.passed[i]))
            for g in self.gates
        )


def judge(
    proposals: Proposals,
    policy: SignalPolicy,
    execution: ExecutionParams,
    direction: Direction,
    as_of: Integers,
    newest_candle_closed_at: Integers,
    last_signal_at: Integers,
) -> Verdicts:
    """Evaluate all gates for proposals whose last signals are known.

    Parameters
    ----------
    as_of : array of int64
        Moment of the decision.
    newest_candle_closed_at : array of int64
        Close of the newest stored candle of the symbol.
    last_signal_at : array of int64
        When the symbol last had a signal in this session, `UNKNOWN_TIME` for never.
    """
    verdicts = _judge_alone(proposals, policy, execution, direction, as_of, newest_candle_closed_at)
    return Verdicts(verdicts.setups, (*verdicts.gates, _cooldown(last_signal_at, as_of, policy.cooldown_minutes)))


def judge_history(
    proposals: Proposals, policy: SignalPolicy, execution: ExecutionParams, direction: Direction
) -> Verdicts:
    """Evaluate all gates at each close of one symbol's history, ascending, as a session that decides in time does.

    A signal given on the way starts the cooldown of the next.
    """
    closed_at = proposals.closed_at
    verdicts = _judge_alone(proposals, policy, execution, direction, closed_at, closed_at)
    last_signal_at = np.full(len(proposals), UNKNOWN_TIME)
    cooldown, last, since = policy.cooldown_minutes * _MINUTE, UNKNOWN_TIME, 0
    for i in np.flatnonzero(verdicts.passed).tolist():
        now = int(closed_at[i])
        if last == UNKNOWN_TIME or now - last >= cooldown:
            last_signal_at[since : i + 1], since, last = last, i + 1, now
    last_signal_at[since:] = last
    return Verdicts(verdicts.setups, (*verdicts.gates, _cooldown(last_signal_at, closed_at, policy.cooldown_minutes)))


def _judge_alone(
    proposals: Proposals,
    policy: SignalPolicy,
    execution: ExecutionParams,
    direction: Direction,
    as_of: Integers,
    newest_candle_closed_at: Integers,
) -> Verdicts:
    """All gates but the cooldown, which depends on the signals before."""
    p = proposals
    setups = build_setups(p.side, p.reference_price, p.atr, p.probability, p.confidence, execution)
    side = p.side.astype(np.float64)
    allowed = {Direction.LONG: p.side >= 0, Direction.SHORT: p.side <= 0}.get(direction, np.ones(len(p), np.bool_))
    has_model = ~p.asks_model | (p.model_as_of != UNKNOWN_TIME)
    complete = setups.complete
    return Verdicts(
        setups,
        (
            Column("model", has_model.astype(np.float64), None, has_model),
            Column("proposal", side, None, p.side != 0),
            Column("setup", complete.astype(np.float64), None, complete),
            Column("direction", side, None, allowed),
            _at_most("model_age_days", _since(p.model_as_of, as_of, _DAY), policy.max_model_age_days, p.asks_model),
            _at_most("bar_age_minutes", _since(p.closed_at, as_of, _MINUTE), policy.validity_minutes),
            _at_most("data_lag_minutes", _since(newest_candle_closed_at, as_of, _MINUTE), policy.max_data_lag_minutes),
            _at_most("atr_ratio", p.atr_ratio, policy.max_atr_ratio, p.measures_volatility),
            _at_most("anomaly", p.anomaly, policy.max_anomaly, p.measures_anomaly),
            _at_most("novelty", p.novelty, policy.max_novelty, p.measures_novelty),
            _consensus(p, policy),
            _at_most("conflict", p.conflict, policy.max_conflict, ~np.isnan(p.conflict)),
            _at_least("confidence", np.where(complete, setups.confidence, np.nan), policy.min_confidence),
            _at_least("risk_reward", setups.risk_reward, policy.min_risk_reward),
            _at_least("net_profit", setups.net_profit, policy.min_net_profit),
            _at_least("expected_value", setups.expected_value, policy.min_expected_value),
        ),
    )


def _consensus(p: Proposals, policy: SignalPolicy) -> Column:
    """Enough agreeing factors; a strategy that does not rest on the score is asked only where enough are known."""
    column = _at_least("consensus", p.consensus, policy.min_consensus)
    unasked = ~p.asks_score & (p.known < (policy.min_consensus or 0))
    return Column(column.name, column.values, column.threshold, column.passed | unasked)


def _at_least(name: str, values: Floats, threshold: float | None) -> Column:
    passed = np.ones(len(values), np.bool_) if threshold is None else values >= threshold
    return Column(name, values, threshold, passed)


def _at_most(name: str, values: Floats, threshold: float | None, asked: npt.NDArray[np.bool_] | None = None) -> Column:
    """Not above; where the question is not `asked`, or there is no threshold, everything passes."""
    passed = np.ones(len(values), np.bool_) if threshold is None else values <= threshold
    return Column(name, values, threshold, passed if asked is None else passed | ~asked)


def _cooldown(last_signal_at: Integers, as_of: Integers, minutes: int) -> Column:
    since = _since(last_signal_at, as_of, _MINUTE)
    return Column(COOLDOWN, since, minutes, np.isnan(since) | (since >= minutes))


def _since(earlier: Integers, later: Integers, unit: int) -> Floats:
    """Time between two moments in `unit`, NaN where the earlier is not known."""
    known = earlier != UNKNOWN_TIME
    return np.where(known, (later - np.where(known, earlier, later)) / unit, np.nan)
