"""The life of one position, rule by rule."""

import math
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    PositionState,
    add_to_position,
    gap_at_open,
    ladder_quantities,
    open_position,
    rounded_price,
    spread_addition,
    step_bar,
    step_close,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.amounts import on_grid
from trading_pipelines.domain.execution.orders import FillKind, PositionSide

PARAMS = ExecutionParams()
FEE, SLIP = PARAMS.taker_fee_rate, PARAMS.slippage_rate


def _long(quantity: float = 10.0, price: float = 100.0) -> PositionState:
    state, _ = open_position(PositionSide.LONG, quantity, price, 99.0, (102.0, 103.5, 106.0), (3.0, 4.0, 3.0), PARAMS)
    return state


def _short(price: float = 100.0) -> PositionState:
    state, _ = open_position(PositionSide.SHORT, 10.0, price, 101.0, (98.0, 96.5, 94.0), (3.0, 4.0, 3.0), PARAMS)
    return state


def test_entry_pays_slippage_and_fee_and_binds_margin() -> None:
    state, (event,) = open_position(
        PositionSide.LONG, 10.0, 100.0, 99.0, (102.0, 103.5, 106.0), (3.0, 4.0, 3.0), PARAMS
    )
    assert event.kind is EventKind.ENTRY
    assert state.entry_price == event.price == 100.0 * (1 + SLIP)
    assert event.fee == FEE * 10.0 * state.entry_price
    assert state.entry_margin == 10.0 * state.entry_price / 5
    assert state.liquidation_price == state.entry_price * (1 - (1 / 5 - 0.005))


def test_entry_that_opens_beyond_its_stop_is_closed_at_that_open() -> None:
    state, events = open_position(PositionSide.LONG, 10.0, 98.0, 99.0, (102.0, 103.5, 106.0), (3.0, 4.0, 3.0), PARAMS)
    assert [e.kind for e in events] == [EventKind.ENTRY, EventKind.STOP]
    assert not state.is_open
    assert events[1].price == 98.0 * (1 - SLIP)


@pytest.mark.parametrize(("state", "high", "low"), [(_long(), 107.0, 98.5), (_short(), 101.5, 93.0)])
def test_stop_wins_over_targets_in_one_bar(state: PositionState, high: float, low: float) -> None:
    after, (event,) = step_bar(state, 100.0, high, low, 0.0, PARAMS)
    assert event.kind is EventKind.STOP
    assert event.reference_price == state.stop_price
    assert event.quantity == 10.0
    assert not after.is_open


def test_targets_fill_in_order_and_the_last_closes() -> None:
    after, events = step_bar(_long(), 100.5, 106.5, 100.2, 0.0, PARAMS)
    assert [(e.kind, e.quantity, e.reference_price) for e in events] == [
        (EventKind.TP1, 3.0, 102.0),
        (EventKind.TP2, 4.0, 103.5),
        (EventKind.TP3, 3.0, 106.0),
    ]
    assert not after.is_open


def test_target_that_the_open_has_passed_fills_at_the_open() -> None:
    after, events = step_bar(_long(), 103.0, 103.2, 102.5, 0.0, PARAMS)
    assert [(e.kind, e.reference_price) for e in events] == [(EventKind.TP1, 103.0)]
    assert after.quantity == 7.0
    assert after.tp1_filled


def test_open_beyond_the_stop_fills_at_the_open() -> None:
    _, (event,) = step_bar(_long(), 97.0, 105.0, 96.0, 0.0, PARAMS)
    assert (event.kind, event.reference_price) == (EventKind.STOP, 97.0)


def test_open_beyond_liquidation_loses_the_margin_and_no_more() -> None:
    state = _long()
    _, (event,) = step_bar(state, 70.0, 71.0, 69.0, 0.0, PARAMS)
    assert event.kind is EventKind.LIQUIDATION
    assert (event.pnl, event.fee) == (-state.entry_margin, 0.0)


def test_liquidation_inside_the_bar_comes_first_where_it_lies_before_the_stop() -> None:
    params = ExecutionParams(leverage=100)
    state, _ = open_position(PositionSide.LONG, 10.0, 100.0, 99.0, (102.0, 103.5, 106.0), (3.0, 4.0, 3.0), params)
    assert state.liquidation_price > state.stop_price
    _, (event,) = step_inside(state, 100.0, 110.0, 98.0, params)
    assert event.kind is EventKind.LIQUIDATION


def test_funding_is_paid_on_what_was_open_before_the_bar() -> None:
    _, events = step_bar(_long(), 100.0, 100.5, 99.5, 0.0001 * 100.0, PARAMS)
    assert [(e.kind, e.pnl) for e in events] == [(EventKind.FUNDING, -10.0 * 0.0001 * 100.0)]
    _, (received,) = step_bar(_short(), 100.0, 100.5, 99.5, 0.0001 * 100.0, PARAMS)
    assert received.pnl == 10.0 * 0.0001 * 100.0


def test_stop_stays_until_the_first_target_and_then_never_goes_back() -> None:
    state = _long()
    assert step_close(state, 101.9, 0.5, PARAMS).stop_price == 99.0
    after, _ = step_bar(state, 100.5, 102.5, 100.2, 0.0, PARAMS)
    trailed = step_close(after, 102.4, 0.5, PARAMS)
    assert trailed.stop_price == 102.4 - 1.5 * 0.5
    assert step_close(trailed, 101.0, 0.5, PARAMS).stop_price == trailed.stop_price
    flat = step_close(after, 100.3, 1.0, PARAMS)
    assert flat.stop_price == state.entry_price * (1 + 2 * (FEE + SLIP))


prices = st.floats(50, 150)


@given(
    st.sampled_from(list(PositionSide)),
    st.lists(st.tuples(prices, prices, prices), min_size=1, max_size=12),
    st.floats(1, 50),
)
def test_quantity_is_conserved_and_pnl_is_that_of_the_fills(
    side: PositionSide, bars: list[tuple[float, float, float]], leverage: float
) -> None:
    params = ExecutionParams(leverage=leverage)
    s = side.sign
    state, events = open_position(
        side, 10.0, 100.0, 100.0 - s, (100.0 + 2 * s, 100.0 + 3.5 * s, 100.0 + 6 * s), (3.0, 4.0, 3.0), params
    )
    log = list(events)
    for a, b, c in bars:
        if state.is_open:
            state, events = step_bar(state, a, max(a, b, c), min(a, b, c), 0.0, params)
            log += events
            state = step_close(state, c, 1.0, params)
    closing = [e for e in log if e.kind not in (EventKind.ENTRY, EventKind.FUNDING)]
    assert math.isclose(sum(e.quantity for e in closing) + state.quantity, 10.0)
    for event in closing:
        if event.kind is EventKind.LIQUIDATION:
            assert event.pnl <= 0
        else:
            assert math.isclose(event.pnl, s * event.quantity * (event.price - state.entry_price), abs_tol=1e-9)


def test_decided_exit_is_filled_at_the_open_even_beyond_the_stop() -> None:
    state, (event,) = step_bar(replace(_long(), exit_pending=True), 98.0, 99.0, 97.0, 0.0, PARAMS)
    assert (event.kind, event.reference_price) == (EventKind.EXIT, 98.0)
    assert not state.is_open
    assert not state.exit_pending


def test_stop_moves_to_break_even_while_atr_is_not_known() -> None:
    after, _ = step_bar(_long(), 100.5, 102.5, 100.2, 0.0, PARAMS)
    assert step_close(after, 102.4, math.nan, PARAMS).stop_price == after.entry_price * (1 + 2 * (FEE + SLIP))


def test_trailing_starts_with_the_first_target_that_has_a_quantity() -> None:
    parts = ladder_quantities(3.0, PARAMS.target_weights, 1.0)
    assert parts == (0.0, 1.0, 2.0)
    state, _ = open_position(PositionSide.LONG, 3.0, 100.0, 99.0, (102.0, 103.5, 106.0), parts, PARAMS)
    past_tp1, events = step_bar(state, 100.5, 103.0, 100.2, 0.0, PARAMS)
    assert events == ()
    assert step_close(past_tp1, 103.0, 0.5, PARAMS).stop_price == 99.0
    past_tp2, (event,) = step_bar(past_tp1, 103.0, 103.6, 102.8, 0.0, PARAMS)
    assert event.kind is EventKind.TP2
    assert step_close(past_tp2, 103.5, 0.5, PARAMS).stop_price == 103.5 - 1.5 * 0.5


def test_leverage_of_the_order_replaces_that_of_the_parameters() -> None:
    targets, parts = (102.0, 103.5, 106.0), (3.0, 4.0, 3.0)
    state, _ = open_position(PositionSide.LONG, 10.0, 100.0, 99.0, targets, parts, PARAMS, leverage=20.0)
    assert state.entry_margin == 10.0 * state.entry_price / 20
    assert state.liquidation_price == state.entry_price * (1 - (1 / 20 - 0.005))
    assert _long().entry_margin == 10.0 * state.entry_price / 5


def test_position_without_a_stop_is_liquidated_only() -> None:
    state = replace(_long(), stop_price=0.0, target_quantities=(0.0, 0.0, 0.0))
    after, events = step_bar(state, 100.0, 200.0, state.liquidation_price + 0.01, 0.0, PARAMS)
    assert (after.quantity, events) == (10.0, ())
    _, (event,) = step_bar(state, 100.0, 200.0, state.liquidation_price, 0.0, PARAMS)
    assert event.kind is EventKind.LIQUIDATION


def test_closed_position_has_no_next_bar() -> None:
    closed, _ = step_bar(_long(), 97.0, 105.0, 96.0, 0.0, PARAMS)
    with pytest.raises(ValueError, match="nothing is open"):
        step_bar(closed, 100.0, 100.0, 100.0, 0.0, PARAMS)


@example(6582434, "0.00001")
@given(st.integers(1, 10**7), st.sampled_from(["0.00001", "0.001", "0.03", "0.1", "1", "5"]))
def test_ladder_spends_the_whole_quantity_in_whole_steps(steps: int, step: str) -> None:
    quantity = steps * Decimal(step)
    parts = [Decimal(repr(q)) for q in ladder_quantities(float(quantity), PARAMS.target_weights, float(step))]
    assert sum(parts) == quantity
    assert all(part >= 0 and part % Decimal(step) == 0 for part in parts)
    assert parts[0] == (quantity * 3 / 10 / Decimal(step)).to_integral_value(ROUND_FLOOR) * Decimal(step)


@given(st.floats(1e-6, 1e9))
def test_ladder_without_a_step_spends_the_whole_quantity(quantity: float) -> None:
    parts = ladder_quantities(quantity, PARAMS.target_weights, 0.0)
    assert parts[0] == 0.3 * quantity
    assert quantity - parts[0] - parts[1] - parts[2] == 0.0


def test_kinds_of_events_are_those_of_fills() -> None:
    assert {kind.name for kind in EventKind} - {"FUNDING"} == {kind.value for kind in FillKind}


STEPS = ("0.00001", "0.001", "0.01", "0.03", "0.05", "0.5", "1", "5")


@example(99.995, "0.01")
@example(100.005, "0.01")
@example(100.00500000000001, "0.01")
@example(0.5, "1")
@example(-1.5, "1")
@given(st.floats(-1e6, 1e6), st.sampled_from(STEPS))
def test_price_is_rounded_as_at_the_order_border(price: float, step: str) -> None:
    assert rounded_price(price, float(step)) == float(on_grid(price, Decimal(step)))


@given(st.integers(-(10**6), 10**6), st.sampled_from(STEPS), st.integers(-2, 2))
def test_price_between_two_steps_goes_to_the_even_one(count: int, step: str, ulps: int) -> None:
    """Right at the middle, and as near to it as floats come."""
    price = float((2 * count + 1) * Decimal(step) / 2)
    for _ in range(abs(ulps)):
        price = math.nextafter(price, math.copysign(math.inf, ulps))
    assert rounded_price(price, float(step)) == float(on_grid(price, Decimal(step)))


def test_step_of_zero_rounds_no_price() -> None:
    assert rounded_price(1 / 3, 0.0) == 1 / 3


def test_trailed_stop_is_on_the_venue_s_step_and_never_goes_back() -> None:
    after, _ = step_bar(_long(), 100.5, 102.5, 100.2, 0.0, PARAMS)
    trailed = step_close(after, 102.4, 0.33, PARAMS, 0.1)
    assert trailed.stop_price == 101.9  # 102.4 - 1.5 * 0.33 = 101.905
    assert step_close(trailed, 102.4, 0.36, PARAMS, 0.1).stop_price == 101.9
    assert step_close(trailed, 102.44, 0.33, PARAMS, 0.1).stop_price == 101.9
    assert step_close(trailed, 102.5, 0.33, PARAMS, 0.1).stop_price == 102.0


def test_addition_averages_the_entry_and_spreads_over_the_targets_that_work() -> None:
    state, _ = step_bar(_long(), 100.5, 102.5, 100.2, 0.0, PARAMS)
    after, (event,) = add_to_position(state, 7.0, 103.0, 101.0, PARAMS, 1.0)
    price = 103.0 * (1 + SLIP)
    assert (event.kind, event.quantity, event.price, event.fee) == (EventKind.ENTRY, 7.0, price, FEE * (7.0 * price))
    assert (after.quantity, after.quantity_initial) == (14.0, 14.0)
    assert after.entry_price == (7.0 * state.entry_price + 7.0 * price) / 14.0
    assert after.entry_margin == pytest.approx(14.0 * after.entry_price / 5)
    assert after.liquidation_price == after.entry_price * (1 - (1 / 5 - 0.005))
    assert after.stop_price == 101.0
    # TP1 is filled: 40 to 30 of 7, TP2 rounded down, TP3 the rest.
    assert after.target_quantities == (0.0, 4.0 + 4.0, 3.0 + 3.0)
    assert after.targets == state.targets


def test_addition_keeps_the_better_stop() -> None:
    after, _ = add_to_position(_short(), 5.0, 97.0, 103.0, PARAMS)
    assert after.stop_price == 101.0
    assert after.quantity == 15.0


def test_addition_that_opens_beyond_its_stop_closes_everything() -> None:
    after, events = add_to_position(_long(), 5.0, 103.0, 103.5, PARAMS)
    assert [(e.kind, e.quantity) for e in events] == [(EventKind.ENTRY, 5.0), (EventKind.STOP, 15.0)]
    assert not after.is_open


def test_open_that_stops_a_position_leaves_nothing_to_add_to() -> None:
    state, events = gap_at_open(_long(), 98.0, 0.5, PARAMS)
    assert [e.kind for e in events] == [EventKind.FUNDING, EventKind.STOP]
    with pytest.raises(ValueError, match="nothing is open"):
        add_to_position(state, 5.0, 98.0, 97.0, PARAMS)


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.sampled_from(["0", "0.00001", "0.001", "0.03", "1"]),
    st.integers(0, 2),
)
def test_addition_is_spent_on_working_targets_in_whole_steps(held: int, added: int, step: str, filled: int) -> None:
    size = Decimal(step) or Decimal("0.7")
    parts = ladder_quantities(float(held * size), PARAMS.target_weights, float(step))
    left = (0.0 if filled > 0 else parts[0], 0.0 if filled > 1 else parts[1], parts[2])
    quantity = float(added * size)
    spread = spread_addition(left, quantity, PARAMS.target_weights, float(step))
    assert math.isclose(sum(spread), sum(left) + quantity, rel_tol=1e-14)
    assert all((after > 0) == (before > 0) or before > 0 for before, after in zip(left, spread, strict=True))
    if Decimal(step):
        assert all(Decimal(repr(part)) % Decimal(step) == 0 for part in spread)
        assert sum(Decimal(repr(part)) for part in spread) == sum(Decimal(repr(part)) for part in left) + added * size
