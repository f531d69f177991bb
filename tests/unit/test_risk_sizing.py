"""Sizes and caps by the numbers of the execution model."""

import math
from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.risk.limits import RiskLimits
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


STEPS = ("0.00001", "0.001", "0.01", "0.03", "0.1", "0.25", "0.5", "1", "5", "10", "1000")


@example(Decimal("999999999.999999"), "0.001")
@given(st.decimals(0, 10**9, places=6), st.sampled_from(STEPS))
def test_rounding_down_agrees_with_decimal_quantising(quantity: Decimal, step: str) -> None:
    """Every number of up to 15 digits: what a person reads as a multiple of the step is one."""
    steps = (quantity / Decimal(step)).to_integral_value(rounding=ROUND_FLOOR)
    assert Decimal(repr(round_down_to_step(float(quantity), float(step)))) == steps * Decimal(step)


@given(st.floats(0, 1e9), st.sampled_from(STEPS))
def test_rounding_down_never_goes_up_and_leaves_less_than_a_step(quantity: float, step: str) -> None:
    rounded = round_down_to_step(quantity, float(step))
    assert rounded <= quantity * (1 + 2e-15)
    assert quantity - rounded < float(step) * (1 + 1e-9) + quantity * 1e-15
    assert round_down_to_step(rounded, float(step)) == rounded


@pytest.mark.parametrize(
    ("quantity", "step", "rounded"),
    [
        (0.3, 0.1, 0.3),
        (0.7, 0.1, 0.7),
        (1.1, 0.1, 1.1),
        (0.29999, 0.1, 0.2),
        (1234.5678, 0.0, 1234.5678),
        (0.09, 0.1, 0),
    ],
)
def test_rounding_down_forgives_binary_fractions_only(quantity: float, step: float, rounded: float) -> None:
    assert round_down_to_step(quantity, step) == rounded


@given(st.floats(10, 1e6), st.floats(0.3, 1), st.floats(0, 5000), st.floats(0, 8000), st.sampled_from(STEPS))
def test_no_size_exceeds_a_cap(
    equity: float, confidence: float, symbol_margin: float, direction_margin: float, step: str
) -> None:
    decision = _size(
        equity=equity,
        confidence=confidence,
        symbol_margin=symbol_margin,
        direction_margin=direction_margin,
        stop_price=99.9,
        quantity_step=float(step),
    )
    slack = 1 + 1e-12
    assert decision.margin <= LIMITS.max_margin_per_trade * equity * slack
    assert decision.margin <= max(0.0, LIMITS.max_margin_per_symbol * equity - symbol_margin) * slack
    assert decision.margin <= max(0.0, LIMITS.max_margin_per_direction * equity - direction_margin) * slack
    loss = decision.quantity * 100.0 * (0.001 + EXECUTION.round_trip_cost)
    assert loss <= LIMITS.risk_per_trade * equity * slack
