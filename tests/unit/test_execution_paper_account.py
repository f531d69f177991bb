"""The books of the paper exchange: refusals, money, and equality with the position life cycle."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_orders import (
    ANY,
    BAR,
    BTC,
    PARAMS,
    SIGNAL,
    START,
    T0,
    account_at,
    bar,
    equity,
    expected_equity,
    kinds,
    long_bracket,
    opened,
    request,
)

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    LifecycleEvent,
    PositionState,
    open_position,
    step_bar,
    step_close,
    step_inside,
)
from trading_pipelines.domain.execution.amounts import exact
from trading_pipelines.domain.execution.orders import (
    BracketRequest,
    FillKind,
    Leg,
    OrderSide,
    PositionSide,
    client_order_id,
)
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import FundingEvent, MarketEvent, PaperOrder
from trading_pipelines.domain.execution.refusals import OrderRefused

# Life of a bracket


def test_bracket_fills_at_the_open_of_the_next_event_and_its_exits_begin_to_work() -> None:
    account = opened(account_at(100))

    assert kinds(account) == [FillKind.ENTRY]
    assert account.changes.fills[0].price == exact(100 * (1 + PARAMS.slippage_rate))
    assert account.positions[1].quantity == 1
    assert {o.leg for o in account.orders.values()} == {Leg.STOP, Leg.TP1, Leg.TP2, Leg.TP3}


def test_targets_close_their_parts_and_shrink_the_stop_and_the_last_one_cancels_it() -> None:
    account = opened(account_at(100))

    account.advance(bar(1, 100, 105, 100, 104))
    stop = next(o for o in account.orders.values() if o.leg is Leg.STOP)
    assert stop.quantity == Decimal("0.7")
    account.advance(bar(2, 104, 120, 104, 118))

    assert kinds(account) == [FillKind.ENTRY, FillKind.TP1, FillKind.TP2, FillKind.TP3]
    assert not account.positions
    assert not account.orders
    assert equity(account) == expected_equity(account) == account.cash


def test_stop_closes_everything_and_cancels_the_targets() -> None:
    account = opened(account_at(100))

    account.advance(bar(1, 100, 105, 97, 98))

    assert kinds(account) == [FillKind.ENTRY, FillKind.STOP]
    assert not account.orders
    assert equity(account) == expected_equity(account) < START


def test_event_given_twice_changes_nothing() -> None:
    account = opened(account_at(100))
    before = (account.cash, account.sequence, kinds(account))

    assert not account.advance(bar(0, 90, 91, 80, 90))

    assert (account.cash, account.sequence, kinds(account)) == before


def test_entry_is_never_filled_by_a_price_from_before_it_was_placed() -> None:
    account = account_at(100)
    late = replace(long_bracket(), entry=replace(request(Leg.ENTRY, "1"), requested_at=T0 + timedelta(minutes=5)))
    account.place_bracket(late, BTC)

    account.advance(bar(0, 90, 101, 80, 100.5))

    [fill] = account.changes.fills
    assert fill.reference_price == exact(100.5)
    assert fill.ts == T0 + BAR


def test_entry_placed_after_a_missed_bar_waits_for_the_next_event() -> None:
    account = account_at(100)
    later = replace(long_bracket(), entry=replace(request(Leg.ENTRY, "1"), requested_at=T0 + 2 * BAR))
    account.place_bracket(later, BTC)

    account.advance(bar(0, 100, 101, 99, 100))

    assert account.changes.fills == []
    assert equity(account) == START


def test_market_exit_closes_the_position_at_the_next_open_and_lets_a_new_entry_follow() -> None:
    account = opened(account_at(100))
    account.place(replace(request(Leg.EXIT, "1"), requested_at=T0 + BAR), BTC)
    again = UUID(int=8 << 64)
    account.place_bracket(
        BracketRequest(
            entry=replace(
                request(Leg.ENTRY, "1"), client_order_id=client_order_id(again, Leg.ENTRY), requested_at=T0 + BAR
            ),
            stop=replace(request(Leg.STOP, "1", "98"), client_order_id=client_order_id(again, Leg.STOP)),
            targets=(),
        ),
        BTC,
    )

    account.advance(bar(1, 101, 102, 100, 101))

    assert kinds(account) == [FillKind.ENTRY, FillKind.EXIT, FillKind.ENTRY]
    assert account.positions[1].bracket_id == client_order_id(again, Leg.ENTRY)
    assert equity(account) == expected_equity(account)


def test_replaced_stop_takes_over_without_a_moment_between() -> None:
    account = opened(account_at(100))
    old = client_order_id(SIGNAL, Leg.STOP)

    account.replace(old, request(Leg.STOP, "1", "99", revision=1), BTC)

    [stop] = [o for o in account.orders.values() if o.leg is Leg.STOP]
    assert stop.trigger_price == 99
    assert account.changes.orders[old].reason == f"replaced by {stop.client_order_id}"
    account.advance(bar(1, 100, 100, 98.9, 99))
    assert account.changes.fills[-1].reference_price == 99


def test_stop_moved_through_the_market_triggers_at_the_next_open() -> None:
    account = opened(account_at(100))

    account.replace(client_order_id(SIGNAL, Leg.STOP), request(Leg.STOP, "1", "100.5", revision=1), BTC)
    account.advance(bar(1, 100.2, 103, 100, 102))

    assert account.changes.fills[-1].kind is FillKind.STOP
    assert account.changes.fills[-1].reference_price == exact(100.2)


def test_refused_replacement_leaves_the_old_stop_in_force() -> None:
    account = opened(account_at(100))

    with pytest.raises(OrderRefused, match="bad_price_step"):
        account.replace(client_order_id(SIGNAL, Leg.STOP), request(Leg.STOP, "1", "99.05", revision=1), BTC)

    assert client_order_id(SIGNAL, Leg.STOP) in account.orders


def test_cancelled_entry_takes_its_held_exits_along() -> None:
    account = account_at(100)
    account.place_bracket(long_bracket(), BTC)

    account.cancel(client_order_id(SIGNAL, Leg.ENTRY), "no longer wanted")
    account.advance(bar(0, 100, 120, 90, 100))

    assert not account.orders
    assert account.changes.fills == []


def test_position_without_a_stop_is_liquidated_and_loses_its_margin() -> None:
    account = opened(account_at(100))
    account.cancel(client_order_id(SIGNAL, Leg.STOP), "test")
    margin = account.margin

    account.advance(bar(1, 100, 100, 70, 72))

    fill = account.changes.fills[-1]
    assert (fill.kind, fill.client_order_id, fill.realised_pnl) == (FillKind.LIQUIDATION, None, -margin)
    assert equity(account) == expected_equity(account) == account.cash


def test_funding_is_paid_once_by_a_position_held_over_its_due_time() -> None:
    account = opened(account_at(100))
    due = (FundingEvent(T0, 0.01, 100.0), FundingEvent(T0 + BAR, 0.0001, 101.0))

    account.advance(bar(1, 100, 101, 99, 100, funding=due))
    account.advance(bar(2, 100, 101, 99, 100, funding=due))

    [payment] = account.changes.funding
    assert (payment.ts, payment.amount) == (T0 + BAR, Decimal("0.0101"))
    assert equity(account) == expected_equity(account)


# Refusals


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"quantity": Decimal("1.0005")}, "bad_quantity_step"),
        ({"quantity": Decimal(0)}, "bad_quantity_step"),
        ({"quantity": Decimal("0.01")}, "below_min_notional"),
        ({"quantity": Decimal(600)}, "insufficient_margin"),
        ({"leverage": Decimal(201)}, "invalid_leverage"),
        ({"reduce_only": True}, "invalid_request"),
    ],
)
def test_entry_is_refused(changes: dict[str, object], code: str) -> None:
    account = account_at(100)

    with pytest.raises(OrderRefused) as refusal:
        account.place(replace(request(Leg.ENTRY, "1"), **changes), BTC)  # type: ignore[arg-type]

    assert refusal.value.code == code
    assert not account.orders


def test_margin_claimed_by_a_waiting_entry_is_not_available_to_another() -> None:
    account = account_at(100)
    account.place(request(Leg.ENTRY, "300"), BTC)
    account.markets[2] = account.markets[1]
    second = replace(
        request(Leg.ENTRY, "300"), client_order_id=client_order_id(UUID(int=9 << 64), Leg.ENTRY), instrument_id=2
    )

    with pytest.raises(OrderRefused, match="insufficient_margin"):
        account.place(second, BTC)


@pytest.mark.parametrize(
    ("leg", "trigger"), [(Leg.STOP, "100"), (Leg.STOP, "101"), (Leg.TP1, "100"), (Leg.TP1, "99.5")]
)
def test_bracket_whose_exit_would_trigger_immediately_is_refused(leg: Leg, trigger: str) -> None:
    account, bracket = account_at(100), long_bracket()
    wrong = (
        replace(bracket, stop=request(Leg.STOP, "1", trigger))
        if leg is Leg.STOP
        else replace(bracket, targets=(request(Leg.TP1, "0.3", trigger),))
    )

    with pytest.raises(OrderRefused, match="would_trigger_immediately"):
        account.place_bracket(wrong, BTC)

    assert not account.orders


def test_second_entry_in_a_symbol_is_refused_while_a_position_or_entry_is_there() -> None:
    account = account_at(100)
    account.place_bracket(long_bracket(), BTC)
    with pytest.raises(OrderRefused, match="waits for its fill"):
        account.place(request(Leg.ENTRY, "1", revision=1), BTC)

    account.advance(bar(0, 100, 101, 99, 100))

    with pytest.raises(OrderRefused, match="open position"):
        account.place(request(Leg.ENTRY, "1", revision=1), BTC)


@pytest.mark.parametrize("leg", [Leg.STOP, Leg.TP1, Leg.EXIT])
def test_reduce_only_order_without_a_position_is_refused(leg: Leg) -> None:
    trigger = {Leg.STOP: "98", Leg.TP1: "104"}.get(leg)

    with pytest.raises(OrderRefused, match="reduce_only_rejected"):
        account_at(100).place(request(leg, "1", trigger), BTC)


def test_reduce_only_order_is_clipped_to_what_is_open() -> None:
    account = opened(account_at(100))

    order = account.place(request(Leg.EXIT, "5"), BTC)

    assert order.quantity == 1


# Equality with the life cycle, and money


@st.composite
def tapes(draw: st.DrawFn) -> list[tuple[MarketEvent, float]]:
    """Bars of a walk with gaps and funding, each with the ATR at its close."""
    tape, price = [], 100.0
    for index in range(draw(st.integers(2, 25))):
        open_ = price * (1 + draw(st.floats(-0.03, 0.03)))
        close = open_ * (1 + draw(st.floats(-0.05, 0.05)))
        high = max(open_, close) * (1 + draw(st.floats(0, 0.06)))
        low = min(open_, close) * (1 - draw(st.floats(0, 0.06)))
        start = T0 + index * BAR
        funding = (
            (FundingEvent(start, draw(st.floats(-0.003, 0.003)), draw(st.none() | st.floats(90, 110))),)
            if draw(st.booleans())
            else ()
        )
        tape.append((bar(index, open_, high, low, close, funding=funding), draw(st.floats(0.3, 3))))
        price = close
    return tape


@st.composite
def brackets(draw: st.DrawFn) -> BracketRequest:
    """Long or short, with and without distance between stop and liquidation."""
    long = draw(st.booleans())
    sign = 1 if long else -1
    atr = draw(st.floats(0.5, 8))
    quantity = draw(st.integers(10, 5000)) / 1000
    level = [str(exact(100.0 + sign * atr * k)) for k in (-1.0, 2.0, 3.5, 6.0)]
    parts = [exact(round(quantity * 0.3, 3)), exact(round(quantity * 0.4, 3))]
    parts.append(exact(quantity) - sum(parts))
    leverage = Decimal(draw(st.sampled_from([1, 5, 20, 50])))
    return BracketRequest(
        entry=replace(request(Leg.ENTRY, str(exact(quantity)), long=long), leverage=leverage),
        stop=request(Leg.STOP, str(exact(quantity)), level[0], long=long),
        targets=tuple(
            request(leg, str(part), price, long=long)
            for leg, part, price in zip((Leg.TP1, Leg.TP2, Leg.TP3), parts, level[1:], strict=True)
        ),
    )


def life_cycle(bracket: BracketRequest, tape: list[tuple[MarketEvent, float]]) -> list[LifecycleEvent]:
    """The same trade through the pure functions alone."""
    side = PositionSide.LONG if bracket.entry.side is OrderSide.BUY else PositionSide.SHORT
    prices = [float(t.trigger_price or 0) for t in bracket.targets]
    parts = [float(t.quantity) for t in bracket.targets]
    state: PositionState | None = None
    happened: list[LifecycleEvent] = []
    for event, atr in tape:
        if state is None:
            state, events = open_position(
                side,
                float(bracket.entry.quantity),
                event.open,
                float(bracket.stop.trigger_price or 0),
                (prices[0], prices[1], prices[2]),
                (parts[0], parts[1], parts[2]),
                PARAMS,
                float(bracket.entry.leverage or 1),
            )
            happened += events
            if state.is_open:
                state, events = step_inside(state, event.open, event.high, event.low, PARAMS)
                happened += events
        else:
            due = sum(f.rate * (event.open if f.mark is None else f.mark) for f in event.funding)
            state, events = step_bar(state, event.open, event.high, event.low, due, PARAMS)
            happened += events
        if not state.is_open:
            break
        state = step_close(state, event.close, atr, PARAMS)
    return happened


def traded(account: PaperAccount, bracket: BracketRequest, tape: list[tuple[MarketEvent, float]]) -> None:
    """The same trade on the exchange, with the stop moved by the rule of the close."""
    account.place_bracket(bracket, ANY)
    for revision, (event, atr) in enumerate(tape, start=1):
        account.advance(event)
        assert equity(account) == expected_equity(account)
        position = account.positions.get(1)
        if position is None:
            break
        stop = stop_of(account)
        moved = step_close(account.state_of(position, event.ts_close), event.close, atr, PARAMS).stop_price
        if exact(moved) != stop.trigger_price:
            replacement = replace(
                bracket.stop,
                client_order_id=client_order_id(SIGNAL, Leg.STOP, revision),
                quantity=position.quantity,
                trigger_price=exact(moved),
                requested_at=event.ts_close,
            )
            account.replace(stop.client_order_id, replacement, ANY)


def stop_of(account: PaperAccount) -> PaperOrder:
    [stop] = [o for o in account.orders.values() if o.leg is Leg.STOP]
    return stop


@given(brackets(), tapes())
@settings(max_examples=300, deadline=None)
def test_exchange_and_life_cycle_give_the_same_fills(
    bracket: BracketRequest, tape: list[tuple[MarketEvent, float]]
) -> None:
    account = account_at(100)
    traded(account, bracket, tape)

    events = life_cycle(bracket, tape)
    fills = [e for e in events if e.kind is not EventKind.FUNDING]
    assert [(f.kind.value, f.price, f.reference_price) for f in account.changes.fills] == [
        (e.kind.name, exact(e.price), exact(e.reference_price)) for e in fills
    ]
    for fill, event in zip(account.changes.fills, fills, strict=True):
        assert float(fill.quantity) == pytest.approx(event.quantity, rel=1e-12)
        assert float(fill.realised_pnl) == pytest.approx(event.pnl, rel=1e-9, abs=1e-9)
    paid = -sum(e.pnl for e in events if e.kind is EventKind.FUNDING)
    assert float(sum(f.amount for f in account.changes.funding)) == pytest.approx(paid, abs=1e-9)
