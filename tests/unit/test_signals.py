"""Gates and the life of a signal."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.signals.gates import UNKNOWN_TIME, Proposals, Verdicts, judge, judge_history
from trading_pipelines.domain.signals.lifecycle import IllegalTransitionError, SignalStatus, check_transition
from trading_pipelines.domain.signals.policy import Direction, Profile, SignalPolicy
from trading_pipelines.store.connection import Connection

NOW = 1_751_371_200_000_000  # 2025-07-01 12:00 UTC in microseconds
MINUTE = 60_000_000
DAY = 1440 * MINUTE
POLICY = SignalPolicy()
GOOD = Proposals(
    closed_at=np.array([NOW]),
    side=np.array([1], np.int8),
    reference_price=np.array([100.0]),
    atr=np.array([1.0]),
    atr_ratio=np.array([1.1]),
    probability=np.array([0.6]),
    confidence=np.array([0.6]),
    asks_model=np.array([True]),
    model_as_of=np.array([NOW - 3 * DAY]),
    measures_volatility=np.array([True]),
    anomaly=np.array([0.3]),
    measures_anomaly=np.array([True]),
    novelty=np.array([0.05]),
    measures_novelty=np.array([True]),
    consensus=np.array([4.0]),
    known=np.array([5]),
    asks_score=np.array([False]),
    conflict=np.array([0.0]),
)


def verdict(
    proposals: Proposals = GOOD,
    policy: SignalPolicy = POLICY,
    direction: Direction = Direction.BOTH,
    newest: int = NOW,
    last_signal: int = UNKNOWN_TIME,
) -> Verdicts:
    n = len(proposals)
    return judge(
        proposals, policy, ExecutionParams(), direction, np.full(n, NOW), np.full(n, newest), np.full(n, last_signal)
    )


def changed(**values: Any) -> Proposals:
    kinds = {name: getattr(GOOD, name).dtype for name in values}
    return replace(GOOD, **{name: np.array([value], kinds[name]) for name, value in values.items()})


def test_sound_proposal_passes_every_gate() -> None:
    assert verdict().refusal(0) is None
    assert verdict().passed.tolist() == [True]


@pytest.mark.parametrize(
    ("proposals", "gate"),
    [
        (changed(model_as_of=UNKNOWN_TIME, side=0), "model"),
        (changed(side=0), "proposal"),
        (changed(atr=math.nan), "setup"),
        (changed(model_as_of=NOW - 121 * DAY), "model_age_days"),
        (changed(closed_at=NOW - 241 * MINUTE), "bar_age_minutes"),
        (changed(atr_ratio=3.01), "atr_ratio"),
        (changed(atr_ratio=math.nan), "atr_ratio"),
        (changed(anomaly=1.01), "anomaly"),
        (changed(anomaly=math.nan), "anomaly"),
        (changed(novelty=0.21), "novelty"),
        (changed(confidence=0.51), "confidence"),
        (changed(atr=0.5), "net_profit"),
        (changed(probability=0.01), "expected_value"),
    ],
)
def test_failing_gate_is_the_reason(proposals: Proposals, gate: str) -> None:
    assert verdict(proposals).refusal(0) == gate
    assert verdict(proposals).refusals() == {gate: 1}


def test_old_data_side_and_cooldown_refuse() -> None:
    assert verdict(newest=NOW - 21 * MINUTE).refusal(0) == "data_lag_minutes"
    assert verdict(direction=Direction.SHORT).refusal(0) == "direction"
    assert verdict(direction=Direction.LONG).refusal(0) is None
    assert verdict(last_signal=NOW - 239 * MINUTE).refusal(0) == "cooldown_minutes"
    assert verdict(last_signal=NOW - 240 * MINUTE).refusal(0) is None


def test_all_gates_are_kept_whatever_the_verdict() -> None:
    passed, refused = verdict().row(0), verdict(changed(side=0, model_as_of=UNKNOWN_TIME)).row(0)
    assert [g.name for g in passed] == [g.name for g in refused]
    unmeasured = ("model", "proposal", "setup", "direction")
    assert all(g.threshold is not None for g in passed if g.name not in unmeasured)
    assert next(g for g in passed if g.name == "confidence").value == 0.6


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({}, {"model": 1.0, "proposal": 1.0, "setup": 1.0, "direction": 1.0}),
        ({"side": -1}, {"model": 1.0, "proposal": -1.0, "setup": 1.0, "direction": -1.0}),
        ({"side": 0, "model_as_of": UNKNOWN_TIME}, {"model": 0.0, "proposal": 0.0, "setup": 0.0, "direction": 0.0}),
    ],
)
def test_conditions_without_a_number_keep_what_they_saw(changes: dict[str, Any], values: dict[str, float]) -> None:
    found = {g.name: g.value for g in verdict(changed(**changes)).row(0)}
    assert {name: found[name] for name in values} == values


def test_gate_that_is_turned_off_still_keeps_its_value() -> None:
    judged = verdict(changed(atr=0.5, atr_ratio=9.0, model_as_of=NOW - 400 * DAY), POLICY.without_gates())
    assert judged.refusal(0) is None
    assert {g.name: g.threshold for g in judged.row(0)}["net_profit"] is None
    assert {g.name: g.value for g in judged.row(0)}["atr_ratio"] == 9.0


def test_strategy_without_model_or_measures_is_not_asked_for_them() -> None:
    unasked = {"asks_model": False, "measures_volatility": False, "measures_anomaly": False}
    judged = verdict(changed(**unasked, model_as_of=UNKNOWN_TIME, atr_ratio=math.nan, anomaly=math.nan))
    assert judged.refusal(0) is None


@given(
    sides=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60),
    cooldown=st.sampled_from([0, 15, 20, 45, 240]),
)
def test_history_is_judged_as_its_bars_one_after_the_other(sides: list[int], cooldown: int) -> None:
    n = len(sides)
    closed_at = NOW + 15 * MINUTE * np.arange(n)
    rows = Proposals(
        **{name: np.repeat(getattr(GOOD, name), n) for name in Proposals.__dataclass_fields__}
        | {"closed_at": closed_at, "side": np.array(sides, np.int8)}
    )
    policy = POLICY.model_copy(update={"cooldown_minutes": cooldown})
    history = judge_history(rows, policy, ExecutionParams(), Direction.BOTH)
    last = UNKNOWN_TIME
    for i in range(n):
        now = closed_at[i : i + 1]
        one = judge(rows.take(slice(i, i + 1)), policy, ExecutionParams(), Direction.BOTH, now, now, np.array([last]))
        assert one.row(0) == history.row(i)
        if one.refusal(0) is None:
            last = int(closed_at[i])


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
