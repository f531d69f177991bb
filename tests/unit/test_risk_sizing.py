"""Sizes and caps by the numbers of the execution model."""

import math
from decimal import ROUND_DOWN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.rules import Exposure, PortfolioView, evaluate_rules, first_refusal, must_close_all
from trading_pipelines.domain.risk.sizing import Outcome, SizingDecision, decide_size, round_down_to_step

EXECUTION, LIMITS = ExecutionParams(), RiskLimits()


def _size(**changes: float) -> SizingDecision:
    numbers = {
        "reference_price": 100.0,
        "stop_price": 95.0,
        "confidence": 0.65,
        "equity": 10_000.0,
        "symbol_margin": 0.0,
        "direction_margin": 0.0,
    }
    return decide_size(**(numbers | changes), execution=EXECUTION, limits=LIMITS)


def test_stopped_out_full_confidence_position_loses_the_risk_per_trade() -> None:
    decision = _size(confidence=1.0)
    assert decision.outcome is Outcome.ALLOW
    assert math.isclose(decision.quantity * (5.0 + 100.0 * EXECUTION.round_trip_cost), 100.0)


def test_size_grows_with_confidence_between_the_clips() -> None:
    low, middle, high = (_size(confidence=c).quantity for c in (0.52, 0.76, 1.0))
    assert math.isclose(middle / high, 0.5)
    assert math.isclose(low / high, 0.25)


@pytest.mark.parametrize(
    ("changes", "rule", "margin"),
    [
        ({"stop_price": 99.5, "confidence": 1.0}, "margin_per_trade", 2000.0),
        ({"stop_price": 99.0, "confidence": 1.0, "symbol_margin": 2500.0}, "margin_per_symbol", 500.0),
        ({"stop_price": 99.0, "confidence": 1.0, "direction_margin": 5900.0}, "margin_per_direction", 100.0),
    ],
)
def test_cap_reduces_the_size_and_is_named(changes: dict[str, float], rule: str, margin: float) -> None:
    decision = _size(**changes)
    assert (decision.outcome, decision.rule) == (Outcome.REDUCE, rule)
    assert math.isclose(decision.margin, margin)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"direction_margin": 6000.0}, "margin_per_direction"),
        ({"stop_price": 86.0}, "liquidation_too_close"),
        ({"min_notional": 1e6}, "below_minimum"),
        ({"quantity_step": 1000.0}, "below_minimum"),
        ({"equity": -1.0}, "no_equity"),
    ],
)
def test_trade_that_cannot_be_is_refused_by_name(changes: dict[str, float], rule: str) -> None:
    decision = _size(**changes)
    assert (decision.outcome, decision.rule, decision.quantity) == (Outcome.REFUSE, rule, 0.0)


@given(st.integers(0, 10**9), st.sampled_from(["0.001", "0.1", "1", "0.00001", "10", "0.5"]))
def test_rounding_down_agrees_with_decimal_on_exact_multiples(units: int, step: str) -> None:
    exact = Decimal(units) * Decimal(step)
    assert Decimal(repr(round_down_to_step(float(exact), float(step)))) == exact


@given(st.floats(1e-3, 1e6), st.sampled_from(["0.001", "0.1", "1"]))
def test_rounding_never_goes_up_by_more_than_the_last_bits(quantity: float, step: str) -> None:
    rounded = round_down_to_step(quantity, float(step))
    floor = (Decimal(quantity) / Decimal(step)).to_integral_value(rounding=ROUND_DOWN) * Decimal(step)
    assert float(floor) <= rounded <= quantity * (1 + 1e-9) + 1e-9 * float(step)


def _view(equity: float = 10_000.0, exposures: tuple[Exposure, ...] = ()) -> PortfolioView:
    return PortfolioView(equity, 10_000.0, 10_000.0, exposures)


@pytest.mark.parametrize(
    ("view", "rule"),
    [
        (_view(), None),
        (_view(6_900.0), "drawdown"),
        (_view(9_400.0), "daily_loss"),
        (_view(exposures=(Exposure(1, PositionSide.LONG, 10.0),)), "position_of_symbol"),
        (_view(exposures=tuple(Exposure(i, PositionSide.LONG, 10.0) for i in range(2, 7))), "open_positions"),
    ],
)
def test_portfolio_rule_refuses_at_its_limit(view: PortfolioView, rule: str | None) -> None:
    refusal = first_refusal(evaluate_rules(view, 1, LIMITS))
    assert (refusal.rule if refusal else None) == rule


def test_everything_is_closed_at_the_deeper_drawdown() -> None:
    assert not must_close_all(_view(6_600.0), LIMITS)
    assert must_close_all(_view(6_500.0), LIMITS)
