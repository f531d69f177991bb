"""What the paper exchange does beyond whole fills at once: parts, additions, delays, drawn slippage, refusals."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from paper_orders import (
    BAR,
    BTC,
    PARAMS,
    SIGNAL,
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
from pydantic import ValidationError

from trading_pipelines.domain.engine.lifecycle import add_to_position, gap_at_open, open_position, step_inside
from trading_pipelines.domain.execution.orders import (
    BracketRequest,
    FillKind,
    Leg,
    OrderRequest,
    OrderSide,
    OrderStatus,
    PositionSide,
    client_order_id,
)
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import MarketEvent, PaperOrder
from trading_pipelines.domain.execution.refusals import VENUES, OrderRefused, Refusal, reason_of
from trading_pipelines.domain.execution.venue import VenueParams

ADDED = UUID(int=11 << 64)


def working(account: PaperAccount, leg: Leg) -> PaperOrder:
    [order] = [o for o in account.orders.values() if o.leg is leg]
    return order


def sizes(account: PaperAccount) -> dict[str, Decimal]:
    """What each working exit still closes."""
    return {o.leg.value: o.remaining for o in account.orders.values() if not o.leg.opens}


def quantities(account: PaperAccount, kind: FillKind) -> list[Decimal]:
    return [fill.quantity for fill in account.changes.fills if fill.kind is kind]


def thin(index: int, open_: float, high: float, low: float, close: float, volume: float) -> MarketEvent:
    return bar(index, open_, high, low, close, volume=volume)


# Fills in parts


def test_entry_larger_than_the_market_fills_in_parts_and_its_exits_always_have_the_size_of_what_is_open() -> None:
    account = account_at(100, liquidity_share=0.1)
    account.place_bracket(long_bracket(), BTC)

    account.advance(thin(0, 100, 101, 99, 100, volume=4))
    after_one = (account.positions[1].quantity, sizes(account), working(account, Leg.ENTRY).report().status)
    account.advance(thin(1, 101, 102, 100, 101, volume=100))

    part = Decimal("0.4")
    assert after_one == (
        part,
        {"STOP": part, "TP1": Decimal("0.12"), "TP2": Decimal("0.16"), "TP3": Decimal("0.12")},
        OrderStatus.PARTIALLY_FILLED,
    )
    assert quantities(account, FillKind.ENTRY) == [part, Decimal("0.6")]
    assert sizes(account) == {"STOP": 1, "TP1": Decimal("0.3"), "TP2": Decimal("0.4"), "TP3": Decimal("0.3")}
    # 0.4 at 100 and 0.6 at 101, both with 5 bps against us.
    assert float(account.positions[1].entry_price) == pytest.approx(1.0005 * (0.4 * 100 + 0.6 * 101), rel=1e-12)
    assert account.changes.orders[client_order_id(SIGNAL, Leg.ENTRY)].report().status is OrderStatus.FILLED
    assert equity(account) == expected_equity(account)


def test_stop_that_fills_in_part_is_at_the_market_with_the_rest() -> None:
    account = opened(account_at(100, liquidity_share=0.5))

    account.advance(thin(1, 100, 100, 97, 97.5, volume=1))
    stop = working(account, Leg.STOP)
    after_one = (stop.report().status, stop.remaining, account.positions[1].quantity)
    account.advance(thin(2, 99, 110, 99, 108, volume=100))

    half = Decimal("0.5")
    assert after_one == (OrderStatus.PARTIALLY_FILLED, half, half)
    assert kinds(account) == [FillKind.ENTRY, FillKind.STOP, FillKind.STOP]
    # The rest goes at the next open although that is back above the stop.
    assert [float(f.reference_price) for f in account.changes.fills[1:]] == [98.0, 99.0]
    assert not account.positions
    assert not account.orders
    assert equity(account) == expected_equity(account)


def test_target_that_fills_in_part_fills_on_at_the_next_open_and_the_stop_shrinks_each_time() -> None:
    account = opened(account_at(100, liquidity_share=0.5))

    account.advance(thin(1, 100, 105, 99, 104, volume=0.2))
    after_one = (sizes(account)["STOP"], sizes(account)["TP1"])
    account.advance(thin(2, 103, 103.5, 103, 103, volume=100))

    assert after_one == (Decimal("0.9"), Decimal("0.2"))
    assert [(f.kind, f.quantity, float(f.reference_price)) for f in account.changes.fills[1:]] == [
        (FillKind.TP1, Decimal("0.1"), 104.0),
        (FillKind.TP1, Decimal("0.2"), 103.0),
    ]
    assert sizes(account) == {"STOP": Decimal("0.7"), "TP2": Decimal("0.4"), "TP3": Decimal("0.3")}
    assert equity(account) == expected_equity(account)


def test_volume_of_one_event_is_shared_by_all_that_fills_in_it() -> None:
    account = opened(account_at(100, liquidity_share=1.0))

    account.advance(thin(1, 100, 108, 99, 107, volume=0.5))

    assert [(f.kind, f.quantity) for f in account.changes.fills[1:]] == [
        (FillKind.TP1, Decimal("0.3")),
        (FillKind.TP2, Decimal("0.2")),
    ]
    assert sizes(account) == {"STOP": Decimal("0.5"), "TP2": Decimal("0.2"), "TP3": Decimal("0.3")}


def test_event_without_volume_fills_nothing_and_one_of_unknown_volume_everything() -> None:
    account = account_at(100, liquidity_share=0.1)
    account.place_bracket(long_bracket(), BTC)

    account.advance(thin(0, 100, 101, 99, 100, volume=0))
    nothing = kinds(account)
    account.advance(bar(1, 100, 101, 99, 100))

    assert nothing == []
    assert quantities(account, FillKind.ENTRY) == [1]


def test_cancelled_rest_of_an_entry_leaves_what_has_filled_with_its_exits() -> None:
    account = account_at(100, liquidity_share=0.1)
    account.place_bracket(long_bracket(), BTC)
    account.advance(thin(0, 100, 101, 99, 100, volume=4))

    account.cancel(client_order_id(SIGNAL, Leg.ENTRY), "no longer wanted")

    report = account.changes.orders[client_order_id(SIGNAL, Leg.ENTRY)].report()
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELLED, Decimal("0.4"))
    assert sizes(account)["STOP"] == account.positions[1].quantity == Decimal("0.4")
    account.advance(bar(1, 100, 100, 97, 97))
    assert not account.orders


def test_targets_for_which_a_small_part_leaves_nothing_wait_for_the_rest_of_the_entry() -> None:
    account = account_at(100, liquidity_share=1.0)
    account.place_bracket(long_bracket(), BTC)

    account.advance(thin(0, 100, 101, 99, 100, volume=0.001))
    small = sizes(account)
    account.advance(bar(1, 100, 101, 99, 100))

    assert small == {"STOP": Decimal("0.001"), "TP1": 0, "TP2": 0, "TP3": Decimal("0.001")}
    assert sizes(account) == {"STOP": 1, "TP1": Decimal("0.3"), "TP2": Decimal("0.4"), "TP3": Decimal("0.3")}


def test_position_stopped_while_its_entry_still_fills_ends_the_entry() -> None:
    account = account_at(100, liquidity_share=0.1)
    account.place_bracket(long_bracket(), BTC)
    account.advance(thin(0, 100, 101, 99, 100, volume=4))

    account.advance(thin(1, 97, 98, 96, 97, volume=100))

    assert kinds(account) == [FillKind.ENTRY, FillKind.STOP]
    assert not account.orders
    assert not account.positions
    assert account.changes.orders[client_order_id(SIGNAL, Leg.ENTRY)].reason == "position closed"


def test_rest_that_is_leaving_is_still_liquidated() -> None:
    account = opened(account_at(100, liquidity_share=0.5))
    account.place(request(Leg.EXIT, "1", at=T0 + BAR), BTC)
    account.advance(thin(1, 100, 100, 99, 99.5, volume=1))

    account.advance(thin(2, 99, 99, 70, 71, volume=0))

    assert kinds(account)[1:] == [FillKind.EXIT, FillKind.LIQUIDATION]
    assert equity(account) == expected_equity(account) == account.cash


# Closing a part


def test_market_exit_for_a_part_shrinks_stop_and_targets_with_what_is_left() -> None:
    account = opened(account_at(100))

    account.place(request(Leg.EXIT, "0.5", at=T0 + BAR), BTC)
    account.advance(bar(1, 101, 102, 100, 101))

    assert kinds(account) == [FillKind.ENTRY, FillKind.EXIT]
    half = Decimal("0.5")
    assert account.positions[1].quantity == half
    assert sizes(account) == {"STOP": half, "TP1": Decimal("0.15"), "TP2": Decimal("0.2"), "TP3": Decimal("0.15")}
    assert equity(account) == expected_equity(account)


def test_exits_at_the_market_never_close_more_than_is_open() -> None:
    account = opened(account_at(100))
    account.place(request(Leg.EXIT, "0.7", at=T0 + BAR), BTC)

    second = account.place(request(Leg.EXIT, "0.7", revision=1, at=T0 + BAR), BTC)
    with pytest.raises(OrderRefused, match="close all of it"):
        account.place(request(Leg.EXIT, "0.1", revision=2, at=T0 + BAR), BTC)
    account.advance(bar(1, 101, 102, 100, 101))

    assert second.quantity == Decimal("0.3")
    assert quantities(account, FillKind.EXIT) == [Decimal("0.7"), Decimal("0.3")]
    assert not account.positions


def test_target_placed_again_by_hand_closes_its_part() -> None:
    account = opened(account_at(100))
    old = working(account, Leg.TP1)

    account.replace(old.client_order_id, request(Leg.TP1, "0.3", "102", revision=1), BTC)
    account.advance(bar(1, 100, 102.5, 100, 102))

    assert [(f.kind, float(f.reference_price)) for f in account.changes.fills[1:]] == [(FillKind.TP1, 102.0)]


# Additions


def addition(quantity: str = "0.5", stop: str = "103") -> BracketRequest:
    """An addition with the exits for all of it: the position of `opened` and `quantity`."""
    at, total = T0 + BAR, 1 + Decimal(quantity)
    parts = [Decimal("0.3") * total, Decimal("0.4") * total, Decimal("0.3") * total]

    def order(leg: Leg, amount: Decimal, trigger: str | None = None) -> OrderRequest:
        return request(leg, str(amount), trigger, trade=ADDED, at=at)

    return BracketRequest(
        entry=order(Leg.ADD, Decimal(quantity)),
        stop=order(Leg.STOP, total, stop),
        targets=(
            order(Leg.TP1, parts[0], "108"),
            order(Leg.TP2, parts[1], "111"),
            order(Leg.TP3, parts[2], "116"),
        ),
    )


def raised(account: PaperAccount) -> PaperAccount:
    """A position of 1 with distant targets, and a price that has moved in its favour."""
    far = {Leg.TP1: "108", Leg.TP2: "111", Leg.TP3: "116"}
    targets = tuple(replace(t, trigger_price=Decimal(far[t.leg])) for t in long_bracket().targets)
    account.place_bracket(replace(long_bracket(), targets=targets), BTC)
    account.advance(bar(0, 100, 105, 99, 105))
    return account


def test_addition_averages_the_entry_and_takes_all_exits_along_in_the_same_moment() -> None:
    account = raised(account_at(100))
    account.place_bracket(addition(), BTC)
    before = {o.leg: o.client_order_id for o in account.orders.values() if o.counts(T0 + BAR) and not o.leg.opens}

    account.advance(bar(1, 106, 107, 105, 106))

    position = account.positions[1]
    assert position.quantity == Decimal("1.5")
    average = (100 * 1.0005 + 0.5 * 106 * 1.0005) / 1.5
    assert float(position.entry_price) == pytest.approx(average, rel=1e-12)
    assert float(position.margin) == pytest.approx(1.5 * average / 5, rel=1e-9)
    assert float(position.liquidation_price) == pytest.approx(average * (1 - (1 / 5 - 0.005)), rel=1e-9)
    assert sizes(account) == {
        "STOP": Decimal("1.5"),
        "TP1": Decimal("0.45"),
        "TP2": Decimal("0.6"),
        "TP3": Decimal("0.45"),
    }
    assert working(account, Leg.STOP).trigger_price == 103
    assert {account.changes.orders[name].status.value for name in before.values()} == {"CANCELLED"}
    assert equity(account) == expected_equity(account)


@pytest.mark.parametrize(
    ("open_", "high", "low"), [(106, 107, 105), (106, 120, 105), (104, 105, 97), (102.5, 108, 102), (97, 99, 95)]
)
def test_addition_fills_as_the_life_cycle_says(open_: float, high: float, low: float) -> None:
    account = raised(account_at(100))
    account.place_bracket(addition(), BTC)
    account.advance(bar(1, open_, high, low, open_))

    state, happened = open_position(PositionSide.LONG, 1.0, 100.0, 98.0, (108, 111, 116), (0.3, 0.4, 0.3), PARAMS)
    state, events = step_inside(state, 100, 105, 99, PARAMS)
    happened += events
    state, events = gap_at_open(state, open_, 0.0, PARAMS)
    happened += events
    if state.is_open:
        state, events = add_to_position(state, 0.5, open_, 103.0, PARAMS, 0.001)
        happened += events
    if state.is_open:
        state, events = step_inside(state, open_, high, low, PARAMS)
        happened += events

    assert [(f.kind.value, float(f.price), float(f.reference_price)) for f in account.changes.fills] == [
        (e.kind.name, e.price, e.reference_price) for e in happened
    ]
    for fill, event in zip(account.changes.fills, happened, strict=True):
        assert float(fill.quantity) == pytest.approx(event.quantity, rel=1e-12)
        assert float(fill.realised_pnl) == pytest.approx(event.pnl, rel=1e-9, abs=1e-9)
    if state.is_open:
        assert float(account.positions[1].entry_price) == state.entry_price
        assert float(account.positions[1].liquidation_price) == state.liquidation_price


def test_position_keeps_its_own_stop_while_an_addition_waits() -> None:
    account = raised(account_at(100))
    account.place_bracket(replace(addition(), entry=request(Leg.ADD, "0.5", trade=ADDED, at=T0 + 5 * BAR)), BTC)

    account.advance(bar(1, 104, 104, 97, 97))

    assert [(f.kind, float(f.reference_price)) for f in account.changes.fills[1:]] == [(FillKind.STOP, 98.0)]
    assert not account.orders
    assert account.changes.orders[client_order_id(ADDED, Leg.ADD)].reason == "position closed"


def test_addition_does_not_move_a_stop_back() -> None:
    account = raised(account_at(100))
    account.place_bracket(addition(stop="99"), BTC)
    old = next(o for o in account.orders.values() if o.leg is Leg.STOP and o.counts(T0 + BAR) and o.trigger_price == 98)
    account.replace(old.client_order_id, request(Leg.STOP, "1", "104", revision=1, at=T0 + BAR), BTC)

    account.advance(bar(1, 106, 107, 105, 106))

    assert working(account, Leg.STOP).trigger_price == 104


def test_addition_that_fills_in_parts_is_protected_part_by_part() -> None:
    account = raised(account_at(100, liquidity_share=0.1))
    account.place_bracket(addition(), BTC)

    account.advance(thin(1, 106, 107, 105, 106, volume=2))
    after_one = (account.positions[1].quantity, sizes(account))
    account.advance(thin(2, 106, 107, 105, 106, volume=100))

    assert after_one == (
        Decimal("1.2"),
        {"STOP": Decimal("1.2"), "TP1": Decimal("0.36"), "TP2": Decimal("0.48"), "TP3": Decimal("0.36")},
    )
    assert sizes(account)["STOP"] == account.positions[1].quantity == Decimal("1.5")
    assert equity(account) == expected_equity(account)


def test_plain_addition_grows_the_exits_that_are_there() -> None:
    account = raised(account_at(100))

    account.place(request(Leg.ADD, "1", trade=ADDED, at=T0 + BAR), BTC)
    account.advance(bar(1, 106, 107, 105, 106))

    assert sizes(account) == {"STOP": 2, "TP1": Decimal("0.6"), "TP2": Decimal("0.8"), "TP3": Decimal("0.6")}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: replace(r, leverage=Decimal(10)), Refusal.LEVERAGE),
        (lambda r: replace(r, side=OrderSide.SELL), Refusal.INVALID_REQUEST),
        (lambda r: replace(r, instrument_id=2), Refusal.NO_POSITION),
    ],
)
def test_addition_that_does_not_fit_its_position_is_refused(
    change: Callable[[OrderRequest], OrderRequest], code: Refusal
) -> None:
    account = raised(account_at(100))
    account.markets[2] = account.markets[1]

    with pytest.raises(OrderRefused) as refusal:
        account.place(change(request(Leg.ADD, "0.5", trade=ADDED, at=T0 + BAR)), BTC)

    assert refusal.value.code is code


# Delays


def test_order_on_its_way_is_not_filled_by_prices_from_before_it_arrives() -> None:
    account = account_at(100, latency_ms=(1000, 1000))
    account.place_bracket(long_bracket(), BTC)

    account.advance(MarketEvent.tick(1, T0 + timedelta(milliseconds=500), 100.1))
    early = kinds(account)
    account.advance(MarketEvent.tick(1, T0 + timedelta(milliseconds=1500), 100.4))

    assert early == []
    [fill] = account.changes.fills
    assert float(fill.reference_price) == 100.4


def test_order_that_arrives_within_a_bar_fills_at_its_close_while_the_stop_sees_all_of_the_bar() -> None:
    account = opened(account_at(100))
    account.venue = VenueParams(latency_ms=(1000, 1000))
    account.place(request(Leg.EXIT, "1", at=T0 + BAR), BTC)

    account.advance(bar(1, 100, 101, 97, 100.5))

    assert [(f.kind, float(f.reference_price)) for f in account.changes.fills[1:]] == [(FillKind.STOP, 98.0)]


def test_stop_stays_in_force_until_its_replacement_arrives() -> None:
    account = opened(account_at(100))
    account.venue = VenueParams(latency_ms=(1000, 1000))
    old = working(account, Leg.STOP)

    account.replace(old.client_order_id, request(Leg.STOP, "1", "99", revision=1, at=T0 + BAR), BTC)
    account.advance(MarketEvent.tick(1, T0 + BAR + timedelta(milliseconds=500), 98.5))
    before = kinds(account)
    account.advance(MarketEvent.tick(1, T0 + BAR + timedelta(seconds=2), 98.4))

    assert before == [FillKind.ENTRY]
    assert [(f.kind, float(f.reference_price)) for f in account.changes.fills[1:]] == [(FillKind.STOP, 98.4)]
    assert account.changes.orders[old.client_order_id].status.value == "CANCELLED"


def test_delay_and_slippage_follow_from_the_order_id_and_stay_in_their_ranges() -> None:
    venue = VenueParams(latency_ms=(50, 300), slippage_bps=(1, 10))
    names = [client_order_id(UUID(int=i << 64), Leg.ENTRY) for i in range(1, 300)]

    delays = [venue.latency(name) / timedelta(milliseconds=1) for name in names]
    slips = [10_000 * venue.costs(name, PARAMS).slippage_rate for name in names]

    assert delays == [venue.latency(name) / timedelta(milliseconds=1) for name in names]
    assert 50 <= min(delays) < 60
    assert 290 < max(delays) <= 300
    assert 1 <= min(slips) < 1.5
    assert 9.5 < max(slips) <= 10


def test_each_order_slips_by_its_own_draw() -> None:
    account = opened(account_at(100, slippage_bps=(1, 10)))

    account.advance(bar(1, 100, 120, 100, 118))

    for fill in account.changes.fills:
        name = fill.client_order_id or ""
        rate = account.venue.costs(name, PARAMS).slippage_rate
        against = 1 if fill.side is OrderSide.BUY else -1
        assert float(fill.price) == pytest.approx(float(fill.reference_price) * (1 + against * rate), rel=1e-12)
        assert float(fill.fee) == pytest.approx(float(fill.quantity * fill.price) * PARAMS.taker_fee_rate, rel=1e-9)
    assert len({float(f.price / f.reference_price) for f in account.changes.fills}) == 4
    assert equity(account) == expected_equity(account)


@pytest.mark.parametrize(
    "wrong",
    [{"latency_ms": (300, 50)}, {"slippage_bps": (10, 1)}, {"liquidity_share": 0}, {"max_leverage": 201}, {"other": 1}],
)
def test_settings_of_the_venue_are_validated(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        VenueParams.model_validate(wrong)


# Leverage, short positions and refusals


@pytest.mark.parametrize("leverage", [1, 25, 125, 200])
@pytest.mark.parametrize("long", [True, False])
def test_margin_and_liquidation_follow_the_leverage_of_each_order(leverage: int, long: bool) -> None:
    account = account_at(100)
    entry = replace(request(Leg.ENTRY, "1", long=long), leverage=Decimal(leverage))
    account.place(entry, BTC)

    account.advance(bar(0, 100, 100, 100, 100))

    sign = 1 if long else -1
    fill = 100 * (1 + sign * PARAMS.slippage_rate)
    position = account.position_reports()[0] if account.positions else None
    if leverage == 200:
        # Margin of 0.5 % is all maintenance: liquidated where it was opened.
        assert [fill.kind for fill in account.changes.fills] == [FillKind.ENTRY, FillKind.LIQUIDATION]
        return
    assert position is not None
    assert float(position.margin) == pytest.approx(fill / leverage, rel=1e-9)
    assert float(position.liquidation_price) == pytest.approx(fill * (1 - sign * (1 / leverage - 0.005)), rel=1e-9)


def test_leverage_above_that_of_the_market_is_refused_although_the_exchange_would_allow_it() -> None:
    market = replace(BTC, max_leverage=Decimal(50))

    with pytest.raises(OrderRefused, match="not between 1 and 50"):
        account_at(100).place(replace(request(Leg.ENTRY, "1"), leverage=Decimal(51)), market)


@pytest.mark.parametrize(
    ("venue", "code", "reason"),
    [
        ("bybit", "110007", Refusal.INSUFFICIENT_MARGIN),
        ("bybit", "110094", Refusal.BELOW_MIN_NOTIONAL),
        ("bybit", "110017", Refusal.REDUCE_ONLY),
        ("bybit", "110072", Refusal.DUPLICATE_ID),
        ("binanceusdm", "-2019", Refusal.INSUFFICIENT_MARGIN),
        ("binanceusdm", "-4164", Refusal.BELOW_MIN_NOTIONAL),
        ("binanceusdm", "-2021", Refusal.WOULD_TRIGGER),
        ("binanceusdm", "-2022", Refusal.REDUCE_ONLY),
        ("binanceusdm", "-4028", Refusal.LEVERAGE),
        ("binanceusdm", "-9999", Refusal.OTHER),
        ("nowhere", "1", Refusal.OTHER),
    ],
)
def test_codes_of_venues_become_reasons_of_ours(venue: str, code: str, reason: Refusal) -> None:
    assert reason_of(venue, code) is reason


def test_paper_exchange_answers_with_codes_that_map_back_to_the_same_reason() -> None:
    for reason in Refusal:
        venue_code = OrderRefused(reason, "").venue_code
        mapped = VENUES["bybit"][venue_code]
        assert mapped in (reason, Refusal.INVALID_REQUEST)
