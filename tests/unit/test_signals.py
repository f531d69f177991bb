"""Gates and the life of a signal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.signals.gates import Candidate, evaluate_gates, first_refusal
from trading_pipelines.domain.signals.lifecycle import IllegalTransitionError, SignalStatus, check_transition
from trading_pipelines.domain.signals.policy import Profile, SignalPolicy
from trading_pipelines.domain.signals.setup import build_setup
from trading_pipelines.store.connection import Connection

NOW = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)
POLICY = SignalPolicy()
GOOD = Candidate(
    bar_closed_at=NOW,
    newest_candle_closed_at=NOW,
    model_as_of=NOW - timedelta(days=3),
    atr_ratio=1.1,
    setup=build_setup(PositionSide.LONG, 100.0, 1.0, 0.6, 0.6, ExecutionParams()),
    last_signal_at=None,
)


def _refusal(**changes: object) -> str | None:
    return first_refusal(evaluate_gates(replace(GOOD, **changes), POLICY, NOW))


def test_sound_candidate_passes_every_gate() -> None:
    assert _refusal() is None


def _setup(probability: float = 0.6, atr: float = 1.0):
    return build_setup(PositionSide.LONG, 100.0, atr, probability, probability, ExecutionParams())


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"model_as_of": None, "setup": None}, "model"),
        ({"setup": None}, "setup"),
        ({"model_as_of": NOW - timedelta(days=121)}, "model_age_days"),
        ({"bar_closed_at": NOW - timedelta(minutes=241)}, "bar_age_minutes"),
        ({"newest_candle_closed_at": NOW - timedelta(minutes=21)}, "data_lag_minutes"),
        ({"atr_ratio": 3.01}, "atr_ratio"),
        ({"atr_ratio": float("nan")}, "atr_ratio"),
        ({"setup": _setup(0.51)}, "confidence"),
        ({"setup": _setup(atr=0.5)}, "net_profit"),
        ({"last_signal_at": NOW - timedelta(minutes=239)}, "cooldown_minutes"),
    ],
)
def test_failing_gate_is_the_reason(changes: dict[str, object], gate: str) -> None:
    assert _refusal(**changes) == gate


def test_all_gates_are_kept_whatever_the_verdict() -> None:
    passed = evaluate_gates(GOOD, POLICY, NOW)
    refused = evaluate_gates(replace(GOOD, setup=None, model_as_of=None), POLICY, NOW)
    assert [g.name for g in passed] == [g.name for g in refused]
    assert all(g.threshold is not None for g in passed if g.name not in ("model", "setup"))


def test_cooldown_ends_when_its_time_is_over() -> None:
    assert _refusal(last_signal_at=NOW - timedelta(minutes=240)) is None


def test_active_profile_trades_smaller_moves_only() -> None:
    standard, active = SignalPolicy.for_profile(Profile.STANDARD), SignalPolicy.for_profile(Profile.ACTIVE)
    assert active.min_net_profit < standard.min_net_profit == 0.02
    assert active.model_dump(exclude={"min_net_profit"}) == standard.model_dump(exclude={"min_net_profit"})


def test_signal_cannot_come_back_to_life() -> None:
    check_transition(SignalStatus.ACTIVE, SignalStatus.EXECUTED)
    for dead in (SignalStatus.EXPIRED, SignalStatus.HIT_SL, SignalStatus.REJECTED):
        with pytest.raises(IllegalTransitionError, match=dead):
            check_transition(dead, SignalStatus.ACTIVE)


def test_database_allows_the_transitions_that_the_code_allows(connection: Connection) -> None:
    from trading_pipelines.domain.signals.lifecycle import TRANSITIONS

    rows = connection.execute("select from_status, to_status from signal_transitions").fetchall()
    assert {(SignalStatus(a), SignalStatus(b)) for a, b in rows} == TRANSITIONS
