"""The risk rules one by one: who refuses, who reduces, and with which numbers."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.protections import Lock, LockReason
from trading_pipelines.domain.risk.rules import (
    RULES,
    Exposure,
    PortfolioView,
    Proposal,
    RiskAssessment,
    judge,
    may_add,
    must_close_all,
)
from trading_pipelines.domain.risk.sizing import Outcome

NOW = datetime(2025, 3, 4, 12, tzinfo=UTC)
LIMITS = RiskLimits()
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT
BTC = Instrument("test", "BTCUSDT", "BTC", "USDT", MarketKind.PERPETUAL)
PROPOSAL = Proposal(1, BTC, LONG, 100.0, 99.0, (102.0, 103.5, 106.0), 0.8)
SIZING = (
    "no_equity",
    "liquidation_too_close",
    "margin_per_trade",
    "margin_per_symbol",
    "margin_per_direction",
    "margin_available",
)


def view(equity: float = 10_000.0, *exposures: Exposure, **changes: object) -> PortfolioView:
    return replace(PortfolioView(equity, 10_000.0, 10_000.0, exposures), **changes)


def ask(
    portfolio: PortfolioView,
    limits: RiskLimits = LIMITS,
    proposal: Proposal = PROPOSAL,
    locks: tuple[Lock, ...] = (),
    correlations: dict[int, float] | None = None,
) -> RiskAssessment:
    return judge(
        portfolio, proposal, ExecutionParams(), limits, as_of=NOW, locks=locks, correlations=correlations or {}
    )


def others(n: int, side: PositionSide = LONG) -> list[Exposure]:
    return [Exposure(i, side, 10.0, 100.0) for i in range(2, 2 + n)]


def lock(reason: LockReason, hours: float, instrument: int | None = None, side: PositionSide | None = None) -> Lock:
    return Lock(reason, NOW - timedelta(hours=1), NOW + timedelta(hours=hours), instrument, side)


def test_every_rule_answers_whether_it_objects_or_not() -> None:
    verdict = ask(view())
    assert [r.rule for r in verdict.results] == [*RULES.values(), *SIZING, "below_minimum"]
    assert {r.outcome for r in verdict.results} == {Outcome.ALLOW}
    assert verdict.outcome is Outcome.ALLOW
    assert verdict.quantity > 0
    assert verdict.reason == "no rule objects"


@pytest.mark.parametrize(
    ("portfolio", "reason"),
    [
        (view(6_900.0), "drawdown: 0.31 against a limit of 0.3"),
        (view(9_400.0), "daily_loss: 0.06 against a limit of 0.05"),
        (view(10_000.0, Exposure(1, LONG, 10.0, 100.0)), "position_of_symbol: 1 against a limit of 1"),
        (view(leaving=frozenset({1})), "position_of_symbol: 1 against a limit of 1"),
        (view(10_000.0, *others(5)), "open_positions: 5 against a limit of 5"),
        (view(10_000.0, Exposure(2, LONG, 6_000.0, 100.0)), "margin_per_direction: 964.187 against a limit of 0"),
        (view(free_cash=0.0), "margin_available: 964.187 against a limit of 0"),
        (view(0.0, peak_equity=0.0, day_open_equity=0.0), "no_equity: 0 against a limit of 0"),
    ],
)
def test_account_refuses_at_its_limits(portfolio: PortfolioView, reason: str) -> None:
    verdict = ask(portfolio)
    assert (verdict.outcome, verdict.quantity) == (Outcome.REFUSE, 0.0)
    assert verdict.reason == reason


def test_free_cash_pays_margin_and_entry_fee() -> None:
    verdict = ask(view(free_cash=500.0))
    assert verdict.outcome is Outcome.REDUCE
    assert verdict.reason.startswith("margin_available: 964.187 reduced to 498.6")
    assert math.isclose(verdict.margin + verdict.quantity * 100.0 * 0.00055, 500.0)
    assert ask(view(free_cash=500.0), RiskLimits(require_free_margin=False)).outcome is Outcome.ALLOW


def test_poor_reward_is_refused() -> None:
    verdict = ask(view(), proposal=replace(PROPOSAL, targets=(100.5, 101.0, 101.5)))
    assert verdict.refusal is not None
    assert verdict.refusal.rule == "risk_reward"
    assert verdict.refusal.value == pytest.approx(0.3 * 0.5 + 0.4 * 1.0 + 0.3 * 1.5)


def test_close_liquidation_is_refused() -> None:
    assert ask(view(), proposal=replace(PROPOSAL, stop_price=86.0, targets=(140.0, 150.0, 160.0))).reason == (
        "liquidation_too_close: 1.39286 against a limit of 1.5"
    )


@pytest.mark.parametrize(
    ("exposures", "correlations", "refused"),
    [
        (others(1), {2: 0.9}, True),
        (others(1), {2: 0.89}, False),
        (others(2), {2: -1.0, 3: 0.95}, True),
        (others(1, SHORT), {2: 0.99}, False),
        (others(1), {}, False),
        ([], {2: 0.99}, False),
    ],
)
def test_companion_in_the_same_direction_is_refused(
    exposures: list[Exposure], correlations: dict[int, float], refused: bool
) -> None:
    verdict = ask(view(10_000.0, *exposures), correlations=correlations)
    assert (verdict.refusal is not None and verdict.refusal.rule == "correlation") is refused


def test_unknown_correlation_is_kept_as_such() -> None:
    [result] = [r for r in ask(view(10_000.0, *others(1))).results if r.rule == "correlation"]
    assert (result.outcome, result.value, result.limit) == (Outcome.ALLOW, None, 0.9)


@pytest.mark.parametrize(
    ("held", "rule"),
    [
        (lock(LockReason.STOP, 2, 1, LONG), "stop_lock"),
        (lock(LockReason.STOP, 2, 1, SHORT), None),
        (lock(LockReason.STOP, 2, 2, LONG), None),
        (lock(LockReason.COOLDOWN, 2, 1), "cooldown"),
        (lock(LockReason.STOP_GUARD, 2), "stop_guard"),
        (lock(LockReason.DAILY_LOSS, 2), "daily_loss_lock"),
        (lock(LockReason.DRAWDOWN, 2), "drawdown_lock"),
        (lock(LockReason.DRAWDOWN, 0), None),
        (lock(LockReason.DRAWDOWN, -0.5), None),
    ],
)
def test_lock_refuses_what_it_covers_while_it_holds(held: Lock, rule: str | None) -> None:
    verdict = ask(view(), locks=(held,))
    assert (verdict.refusal.rule if verdict.refusal else None) == rule
    if rule:
        assert verdict.reason == f"{rule}: 2 against a limit of 0"


def test_reentry_takes_half_of_the_size_that_would_have_been() -> None:
    again = RiskLimits(reentry=True)
    stopped = lock(LockReason.STOP, 2, 1, LONG)
    whole, half = ask(view(), again), ask(view(), again, locks=(stopped,))
    assert half.outcome is Outcome.REDUCE
    assert half.quantity == 0.5 * whole.quantity
    capped = again.model_copy(update={"max_margin_per_trade": 0.05})
    assert ask(view(), capped, locks=(stopped,)).margin == pytest.approx(0.5 * 0.05 * 10_000)
    assert ask(view(), again, locks=(stopped, lock(LockReason.STOP_GUARD, 1))).outcome is Outcome.REFUSE


@pytest.mark.parametrize(
    ("exposures", "adds"),
    [
        ([Exposure(1, LONG, 10.0, 97.0)], True),
        ([Exposure(1, LONG, 10.0, 97.1)], False),
        ([Exposure(1, SHORT, 10.0, 104.0)], False),
        ([Exposure(1, LONG, 10.0, 97.0, additions=1)], False),
        ([Exposure(1, LONG, 10.0)], False),
        ([Exposure(1, LONG, 10.0, 97.0), Exposure(1, LONG, 10.0)], False),
    ],
)
def test_position_in_profit_is_added_to_once(exposures: list[Exposure], adds: bool) -> None:
    portfolio = view(10_000.0, *exposures, *others(4))
    assert may_add(portfolio, PROPOSAL, RiskLimits(pyramiding=True)) is adds
    assert (ask(portfolio, RiskLimits(pyramiding=True)).quantity > 0) is adds
    assert ask(portfolio).refusal is not None


def test_gates_are_off_where_the_limits_say_so_but_caps_stay() -> None:
    loose = LIMITS.without_gates()
    locks = tuple(lock(reason, 2) for reason in (LockReason.COOLDOWN, LockReason.STOP))
    assert ask(view(5_000.0, *others(1)), loose, correlations={2: 1.0}).outcome is Outcome.ALLOW
    assert ask(view(10_000.0, *others(5)), loose).outcome is Outcome.REFUSE
    assert ask(view(), loose, locks=locks).outcome is Outcome.REFUSE


def test_everything_is_closed_at_the_deeper_drawdown() -> None:
    assert not must_close_all(view(6_600.0), LIMITS)
    assert must_close_all(view(6_500.0), LIMITS)


@settings(deadline=None)
@given(
    st.floats(0, 20_000),
    st.floats(-100, 20_000),
    st.floats(0.3, 1),
    st.lists(st.tuples(st.integers(1, 7), st.sampled_from([LONG, SHORT]), st.floats(0, 4_000)), max_size=6),
    st.sampled_from(["0", "0.001", "1", "25"]),
    st.floats(90, 99.9),
    st.booleans(),
)
def test_the_list_of_rules_and_the_compiled_size_agree(
    equity: float,
    free: float,
    confidence: float,
    held: list[tuple[int, PositionSide, float]],
    step: str,
    stop: float,
    reentry: bool,
) -> None:
    venue = replace(BTC, quantity_step=Decimal(step), min_notional=Decimal(50))
    proposal = replace(PROPOSAL, instrument=venue, confidence=confidence, stop_price=stop)
    portfolio = view(equity, *(Exposure(i, side, margin, 100.0) for i, side, margin in held), free_cash=free)
    locks = (lock(LockReason.STOP, 1, 1, LONG),) if reentry else ()
    verdict = ask(portfolio, RiskLimits(reentry=reentry), proposal, locks)
    sizing = verdict.results[len(RULES) :]
    refused = next((r.rule for r in sizing if r.outcome is Outcome.REFUSE), None)
    reduced = [r.rule for r in sizing if r.outcome is Outcome.REDUCE and r.rule != "reentry"]
    if verdict.size.quantity == 0:
        assert refused == verdict.size.rule
    else:
        assert refused is None
        assert verdict.size.rule == (reduced[-1] if reduced else "reentry" if reentry else "none")
        smallest = min([r.limit for r in sizing if r.rule in reduced and r.limit is not None], default=math.inf)
        assert verdict.size.margin <= smallest * (1 + 1e-12)
    assert (verdict.quantity > 0) == (verdict.refusal is None)
