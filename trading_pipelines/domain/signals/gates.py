"""The gates between a prediction and a signal.

Every gate is evaluated for every bar, passed or not, and kept with its numbers: a set-up that was
refused can be explained and counted like one that was emitted. Portfolio limits are not gates; they
belong to `domain.risk` and are asked in the order path.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from trading_pipelines.domain.signals.policy import SignalPolicy
from trading_pipelines.domain.signals.setup import TradeSetup


@dataclass(frozen=True)
class Gate:
    """One condition with what it saw: `value` is None where there was nothing to measure."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool


@dataclass(frozen=True)
class Candidate:
    """What is known about one symbol at the close of one bar.

    Attributes
    ----------
    bar_closed_at : datetime
        Close of the bar, UTC; the reference price is the close.
    newest_candle_closed_at : datetime
        Close of the newest stored candle of the symbol, UTC.
    model_as_of : datetime or None
        As-of time of the version in production, None without one.
    atr_ratio : float
        ATR over its own one-week median; NaN while it warms up.
    setup : TradeSetup or None
        None where no set-up can be built (no prediction, or ATR still warming up).
    last_signal_at : datetime or None
        When the session last gave a signal for this symbol.
    """

    bar_closed_at: datetime
    newest_candle_closed_at: datetime
    model_as_of: datetime | None
    atr_ratio: float
    setup: TradeSetup | None
    last_signal_at: datetime | None


def evaluate_gates(candidate: Candidate, policy: SignalPolicy, as_of: datetime) -> tuple[Gate, ...]:
    """Evaluate all gates for one candidate at the moment of decision.

    The order is that of explanation: the first gate that is not passed names the reason of a rejection.
    """
    setup = candidate.setup
    return (
        Gate("model", None, None, candidate.model_as_of is not None),
        Gate("setup", None, None, setup is not None),
        _at_most("model_age_days", _days(candidate.model_as_of, as_of), policy.max_model_age_days),
        _at_most("bar_age_minutes", _minutes(candidate.bar_closed_at, as_of), policy.validity_minutes),
        _at_most(
            "data_lag_minutes",
            _minutes(candidate.newest_candle_closed_at, as_of),
            policy.max_data_lag_minutes,
        ),
        _at_most("atr_ratio", candidate.atr_ratio, policy.max_atr_ratio),
        _at_least("confidence", _of(setup, lambda s: s.confidence), policy.min_confidence),
        _at_least("risk_reward", _of(setup, lambda s: s.risk_reward), policy.min_risk_reward),
        _at_least("net_profit", _of(setup, lambda s: s.net_profit), policy.min_net_profit),
        _at_least("expected_value", _of(setup, lambda s: s.expected_value), policy.min_expected_value),
        _cooldown(candidate.last_signal_at, policy.cooldown_minutes, as_of),
    )


def first_refusal(gates: tuple[Gate, ...]) -> str | None:
    """Name of the first gate that was not passed, None when all were."""
    return next((gate.name for gate in gates if not gate.passed), None)


def _at_least(name: str, value: float | None, threshold: float) -> Gate:
    return Gate(name, value, threshold, value is not None and value >= threshold)


def _at_most(name: str, value: float | None, threshold: float) -> Gate:
    known = None if value is None or math.isnan(value) else value
    return Gate(name, known, threshold, known is not None and known <= threshold)


def _cooldown(last_signal_at: datetime | None, minutes: int, as_of: datetime) -> Gate:
    since = None if last_signal_at is None else _minutes(last_signal_at, as_of)
    return Gate("cooldown_minutes", since, minutes, since is None or since >= minutes)


def _minutes(earlier: datetime, later: datetime) -> float:
    return (later - earlier) / timedelta(minutes=1)


def _days(earlier: datetime | None, later: datetime) -> float | None:
    return None if earlier is None else (later - earlier) / timedelta(days=1)


def _of(setup: TradeSetup | None, read: Callable[[TradeSetup], float]) -> float | None:
    return None if setup is None else read(setup)
