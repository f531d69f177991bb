"""Random orders over random markets: money neither appears nor vanishes, and nothing open is without its protection."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from paper_orders import BTC, PARAMS, START, T0, request

from trading_pipelines.domain.execution.orders import TARGETS, BracketRequest, FillKind, Leg, OrderRequest, OrderSide
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import (
    FundingEvent,
    MarketEvent,
    PaperFill,
    PaperFunding,
    PaperOrder,
    PaperOrderStatus,
    PaperPosition,
)
from trading_pipelines.domain.execution.refusals import OrderRefused
from trading_pipelines.domain.execution.venue import VenueParams

BAR = timedelta(minutes=5)
MARKETS = (1, 2)
STEP = BTC.quantity_step

markets = st.sampled_from(MARKETS)
moves = st.floats(-0.04, 0.04)
quantities = st.integers(1, 8000).map(lambda n: n * STEP)


class PaperExchangeMachine(RuleBasedStateMachine):
    """Two markets that move in bars and ticks while orders of every kind come in, of which many are refused."""

    @initialize(
        share=st.none() | st.floats(0.01, 1),
        latency=st.sampled_from([(0.0, 0.0), (200.0, 900.0)]),
        slippage=st.none() | st.just((1.0, 10.0)),
    )
    def open_account(
        self, share: float | None, latency: tuple[float, float], slippage: tuple[float, float] | None
    ) -> None:
        venue = VenueParams(liquidity_share=share, latency_ms=latency, slippage_bps=slippage)
        self.account = PaperAccount(cash=START, sequence=0, params=PARAMS, venue=venue)
        self.now, self.trades = T0, 0
        self.stopless: set[int] = set()
        for market in MARKETS:
            self.account.advance(MarketEvent(market, T0 - BAR, T0, 100, 100, 100, 100))

    # Markets

    @rule(market=markets, move=moves, up=st.floats(0, 0.05), down=st.floats(0, 0.05), volume=st.floats(0, 40))
    def pass_bar(self, market: int, move: float, up: float, down: float, volume: float) -> None:
        open_ = self.price(market) * (1 + move / 4)
        close = open_ * (1 + move)
        high, low = max(open_, close) * (1 + up), min(open_, close) * (1 - down)
        start, self.now = self.now, self.now + BAR
        due = (FundingEvent(start, move / 50, None),) if volume > 20 else ()
        self.account.advance(MarketEvent(market, start, self.now, open_, high, low, close, due, volume))

    @rule(market=markets, move=moves, volume=st.none() | st.floats(0, 5))
    def pass_tick(self, market: int, move: float, volume: float | None) -> None:
        self.now += timedelta(seconds=2)
        self.account.advance(MarketEvent.tick(market, self.now, self.price(market) * (1 + move), (), volume))

    # Orders

    @rule(
        market=markets,
        long=st.booleans(),
        quantity=quantities,
        distance=st.floats(0.002, 0.2),
        with_exits=st.booleans(),
    )
    def enter(self, market: int, long: bool, quantity: Decimal, distance: float, with_exits: bool) -> None:
        leverage = Decimal((1, 5, 50, 200)[self.trades % 4])
        bracket = self.bracket(Leg.ENTRY, market, long, quantity, distance)
        bracket = replace(bracket, entry=replace(bracket.entry, leverage=leverage))
        with_exits = with_exits or market not in self.stopless
        if not with_exits:
            self.attempt(lambda: self.account.place(bracket.entry, BTC))
        else:
            self.attempt(lambda: self.account.place_bracket(bracket, BTC))

    @rule(market=markets, quantity=quantities, distance=st.floats(0.002, 0.1), with_exits=st.booleans())
    def add(self, market: int, quantity: Decimal, distance: float, with_exits: bool) -> None:
        position = self.account.positions.get(market)
        long = position is None or position.side.sign > 0
        bracket = self.bracket(Leg.ADD, market, long, quantity, distance)
        entry = replace(bracket.entry, leverage=None)
        if position is None or not with_exits:
            self.attempt(lambda: self.account.place(entry, BTC))
        else:
            total = position.quantity + quantity
            targets = [o for o in self.exits(market) if o.leg in TARGETS]
            same = tuple(
                replace(t, quantity=max(STEP, (total / 3) // STEP * STEP))
                for t in bracket.targets
                if t.leg in {o.leg for o in targets}
            )
            stop = replace(bracket.stop, quantity=total)
            self.attempt(lambda: self.account.place_bracket(BracketRequest(entry, stop, same), BTC))

    @rule(market=markets, share=st.floats(0.01, 1.2))
    def close(self, market: int, share: float) -> None:
        position = self.account.positions.get(market)
        if position is not None:
            part = max(STEP, Decimal(repr(share)) * position.quantity // STEP * STEP)
            order = self.single(Leg.EXIT, market, part, None, position)
            self.attempt(lambda: self.account.place(order, BTC))

    @rule(market=markets, leg=st.sampled_from([Leg.STOP, *TARGETS]), distance=st.floats(-0.03, 0.1))
    def move_exit(self, market: int, leg: Leg, distance: float) -> None:
        position = self.account.positions.get(market)
        old = next((o for o in self.exits(market) if o.leg is leg and o.status is PaperOrderStatus.OPEN), None)
        if position is not None and old is not None:
            away = -distance if leg is Leg.STOP else distance
            price = self.grid(self.price(market) * (1 + position.side.sign * away))
            order = self.single(leg, market, max(position.quantity, STEP), price, position)
            self.attempt(lambda: self.account.replace(old.client_order_id, order, BTC))

    @precondition(lambda self: bool(self.account.orders))
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        order = sorted(self.account.orders.values(), key=lambda o: o.exchange_order_id)[
            which % len(self.account.orders)
        ]
        if order.leg is Leg.STOP:
            self.stopless.add(order.instrument_id)
        self.account.cancel(order.client_order_id, "test")

    # What must hold

    @invariant()
    def money_is_conserved(self) -> None:
        fills, funding = self.account.changes.fills, self.account.changes.funding
        booked = (
            START
            + sum((f.realised_pnl - f.fee for f in fills), Decimal(0))
            - sum((f.amount for f in funding), Decimal(0))
        )
        assert self.account.cash + self.account.margin == booked
        balance = self.account.cash + self.account.margin + self.account.unrealised
        assert balance == booked + self.account.unrealised

    @invariant()
    def result_of_every_trip_is_what_was_sold_less_what_was_bought(self) -> None:
        for market, fills in self.by_market().items():
            position = self.account.positions.get(market)
            if any(fill.kind is FillKind.LIQUIDATION for fill in fills):
                continue
            sold = sum((self.signed(f) * f.quantity * f.price for f in fills), Decimal(0))
            held = Decimal(0) if position is None else position.side.sign * position.quantity * position.entry_price
            realised = sum((f.realised_pnl for f in fills), Decimal(0))
            assert abs(sold + held - realised) < Decimal("1e-6"), "the cent, and far below it"

    @invariant()
    def open_quantity_is_the_sum_of_fills(self) -> None:
        for market, fills in self.by_market().items():
            position = self.account.positions.get(market)
            net = sum((-self.signed(f) * f.quantity for f in fills), Decimal(0))
            assert net == (Decimal(0) if position is None else position.side.sign * position.quantity)

    @invariant()
    def orders_are_the_sum_of_their_fills(self) -> None:
        filled: dict[str, Decimal] = defaultdict(Decimal)
        fees: dict[str, Decimal] = defaultdict(Decimal)
        for fill in self.account.changes.fills:
            if fill.client_order_id is not None:
                filled[fill.client_order_id] += fill.quantity
                fees[fill.client_order_id] += fill.fee
        for name, order in self.account.changes.orders.items():
            assert order.filled_quantity == filled[name]
            assert order.fee == fees[name]
            assert order.remaining >= 0
            assert order.quantity % STEP == 0
            assert (order.status is PaperOrderStatus.FILLED) <= (order.remaining == 0)

    @invariant()
    def exits_have_the_size_of_what_is_open(self) -> None:
        for market, position in self.account.positions.items():
            stops = [o for o in self.exits(market) if o.leg is Leg.STOP and o.status is PaperOrderStatus.OPEN]
            assert len(stops) <= 1
            for stop in stops:
                assert stop.remaining == position.quantity
            targets = [
                o.remaining for o in self.exits(market) if o.leg in TARGETS and o.status is PaperOrderStatus.OPEN
            ]
            assert sum(targets, Decimal(0)) <= position.quantity
            leaving = [o.remaining for o in self.exits(market) if o.leg is Leg.EXIT]
            assert sum(leaving, Decimal(0)) <= position.quantity
            assert position.margin >= 0

    @invariant()
    def position_is_never_without_a_stop_that_nobody_took_away(self) -> None:
        for market in self.account.positions.keys() - self.stopless:
            assert any(o.leg is Leg.STOP and o.status is PaperOrderStatus.OPEN for o in self.exits(market))

    @invariant()
    def nothing_works_for_what_is_gone(self) -> None:
        for order in self.account.orders.values():
            if order.instrument_id not in self.account.positions:
                entry = [o for o in self.account.orders.values() if o.leg.opens and o.bracket_id == order.bracket_id]
                assert order.leg is Leg.ENTRY or (entry and order.status is PaperOrderStatus.HELD)

    @invariant()
    def events_are_numbered_once(self) -> None:
        happened: list[PaperFill | PaperFunding] = [*self.account.changes.fills, *self.account.changes.funding]
        numbers = [what.sequence for what in happened]
        assert len(numbers) == len(set(numbers))

    # Helpers

    def price(self, market: int) -> float:
        return self.account.markets[market].last_price

    def grid(self, price: float) -> Decimal:
        return BTC.round_price(Decimal(repr(price)))

    def exits(self, market: int) -> list[PaperOrder]:
        return [
            o
            for o in self.account.orders.values()
            if o.instrument_id == market and not o.leg.opens and not self.is_held(o)
        ]

    def is_held(self, order: PaperOrder) -> bool:
        """Whether an exit waits with an entry or addition that has not filled."""
        position = self.account.positions.get(order.instrument_id)
        return position is None or order.bracket_id != position.bracket_id

    def by_market(self) -> dict[int, list[PaperFill]]:
        found: dict[int, list[PaperFill]] = defaultdict(list)
        for fill in self.account.changes.fills:
            found[fill.instrument_id].append(fill)
        return found

    def signed(self, fill: PaperFill) -> int:
        """+1 for what brings money, -1 for what takes it."""
        return 1 if fill.side is OrderSide.SELL else -1

    def single(
        self, leg: Leg, market: int, quantity: Decimal, price: Decimal | None, position: PaperPosition
    ) -> OrderRequest:
        self.trades += 1
        made = request(
            leg,
            str(quantity),
            None if price is None else str(price),
            long=position.side.sign > 0,
            trade=UUID(int=self.trades << 64),
            at=self.now,
        )
        return replace(made, instrument_id=market)

    def bracket(self, leg: Leg, market: int, long: bool, quantity: Decimal, distance: float) -> BracketRequest:
        self.trades += 1
        sign, price = (1 if long else -1), self.price(market)
        trade = UUID(int=self.trades << 64)

        def order(which: Leg, amount: Decimal, level: float | None = None) -> OrderRequest:
            trigger = None if level is None else str(self.grid(level))
            return replace(
                request(which, str(amount), trigger, long=long, trade=trade, at=self.now), instrument_id=market
            )

        first, second = quantity * 3 // 10 // STEP * STEP, quantity * 4 // 10 // STEP * STEP
        parts = zip(TARGETS, (first, second, quantity - first - second), (1.0, 1.8, 3.0), strict=True)
        return BracketRequest(
            entry=order(leg, quantity),
            stop=order(Leg.STOP, quantity, price * (1 - sign * distance)),
            targets=tuple(order(t, part, price * (1 + sign * k * distance)) for t, part, k in parts if part > 0),
        )

    def attempt(self, place: Callable[[], object]) -> None:
        """Place an order or be refused; a refusal changes nothing."""
        before = (self.account.cash, self.account.sequence, len(self.account.orders))
        with suppress(OrderRefused):
            place()
            return
        assert (self.account.cash, self.account.sequence, len(self.account.orders)) == before


PaperExchangeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPaperExchange = PaperExchangeMachine.TestCase
