"""The books of one account on the simulated exchange, and how orders and market moves change them.

Belongs here: accepting, replacing and cancelling orders, and turning what the life cycle of a position
(`domain.engine.lifecycle`) says into fills, funding and cash. Does not belong here: the records
(`domain.execution.paper_books`), refusals (`domain.execution.paper_rules`), how the books are stored
(`adapters.exchanges.paper`) and when a position is stopped, filled or liquidated, which only the life cycle knows.

Where a market has too little volume for an order, part of it fills and the rest stays: an entry or exit at the market
and a stop or target whose price was reached fill on at the next event. Exits always have the size of what is open.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    LifecycleEvent,
    PositionState,
    add_to_position,
    gap_at_open,
    open_position,
    step_bar,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution import paper_rules
from trading_pipelines.domain.execution.amounts import exact, money, round_down
from trading_pipelines.domain.execution.orders import (
    TARGETS,
    BracketRequest,
    FillKind,
    Leg,
    OrderRequest,
    OrderSide,
    OrderType,
    PositionReport,
    PositionSide,
)
from trading_pipelines.domain.execution.paper_books import (
    Changes,
    FundingEvent,
    Liquidity,
    MarketEvent,
    PaperFill,
    PaperFunding,
    PaperMarket,
    PaperOrder,
    PaperOrderStatus,
    PaperPosition,
)
from trading_pipelines.domain.execution.refusals import OrderRefused, Refusal
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.instrument import Instrument

_NO_TARGETS = (0.0, 0.0, 0.0)
_FILL_KINDS = {
    EventKind.ENTRY: FillKind.ENTRY,
    EventKind.TP1: FillKind.TP1,
    EventKind.TP2: FillKind.TP2,
    EventKind.TP3: FillKind.TP3,
    EventKind.STOP: FillKind.STOP,
    EventKind.LIQUIDATION: FillKind.LIQUIDATION,
    EventKind.EXIT: FillKind.EXIT,
}


@dataclass
class PaperAccount:
    """Cash, working orders and open positions of one account.

    `orders` holds the working ones by client order id, `positions` and `markets` are by instrument id. `changes`
    collects what an operation has touched.
    """

    cash: Decimal
    sequence: int
    params: ExecutionParams
    venue: VenueParams = field(default_factory=VenueParams)
    orders: dict[str, PaperOrder] = field(default_factory=dict[str, PaperOrder])
    positions: dict[int, PaperPosition] = field(default_factory=dict[int, PaperPosition])
    markets: dict[int, PaperMarket] = field(default_factory=dict[int, PaperMarket])
    changes: Changes = field(default_factory=Changes)

    # What the account is worth

    @property
    def margin(self) -> Decimal:
        """Isolated margin of all open positions."""
        return sum((p.margin for p in self.positions.values()), Decimal(0))

    @property
    def unrealised(self) -> Decimal:
        """Result of all open positions at the newest prices, before costs."""
        return sum((p.unrealised(self._mark(p.instrument_id)) for p in self.positions.values()), Decimal(0))

    @property
    def available(self) -> Decimal:
        """Cash that no entry waiting for its fill has claimed."""
        claims = (self._cost(o.instrument_id, o.remaining, o.leverage) for o in self.orders.values() if o.leg.opens)
        return self.cash - sum(claims, Decimal(0))

    def position_reports(self) -> list[PositionReport]:
        """All open positions."""
        return [p.report(self._mark(p.instrument_id)) for p in self.positions.values()]

    # Orders

    def place_bracket(self, request: BracketRequest, instrument: Instrument) -> tuple[PaperOrder, ...]:
        """Accept an entry or addition with its exits, which stay held until its first fill; all or nothing."""
        entry = request.entry
        self._check_opening(entry, instrument)
        paper_rules.check_bracket(request, instrument, self._mark(entry.instrument_id))
        position = self.positions.get(entry.instrument_id) if entry.leg is Leg.ADD else None
        opens = entry.quantity + (Decimal(0) if position is None else position.quantity)
        if sum(t.quantity for t in request.targets) > opens:
            raise OrderRefused(Refusal.INVALID_REQUEST, "the targets close more than is open then")
        accepted = [self._accept(entry, entry.client_order_id, instrument)]
        for leg in request.legs[1:]:
            held = self._accept(leg, entry.client_order_id, instrument)
            held.status = PaperOrderStatus.HELD
            accepted.append(held)
        return tuple(accepted)

    def place(self, request: OrderRequest, instrument: Instrument) -> PaperOrder:
        """Accept one order: an entry, an addition, or an exit of an open position."""
        if request.leg.opens:
            self._check_opening(request, instrument)
            return self._accept(request, request.client_order_id, instrument)
        position = self._check_exit(request, instrument)
        paper_rules.check_single(request, self._exits(position))
        paper_rules.check_trigger(request, self._mark(request.instrument_id))
        return self._accept_exit(request, position, instrument)

    def replace(self, client_order_id: str, request: OrderRequest, instrument: Instrument) -> PaperOrder:
        """Put an exit in the place of a working one of the same leg.

        A stop that is moved through the market is accepted and triggers at the next price, as a resting stop does
        after a gap: refusing it would leave the worse one in force.
        """
        old = paper_rules.check_replaced(self.orders.get(client_order_id), client_order_id, request)
        position = self._check_exit(request, instrument)
        accepted = self._accept_exit(request, position, instrument, old)
        if accepted.effective_at > request.requested_at:
            accepted.status, accepted.replaces = PaperOrderStatus.HELD, client_order_id
        else:
            self._cancel(old, request.requested_at, f"replaced by {request.client_order_id}")
        return accepted

    def cancel(self, client_order_id: str, reason: str) -> PaperOrder | None:
        """Cancel a working order, an entry with the exits that wait for it; None when it is not working."""
        order = self.orders.get(client_order_id)
        if order is None:
            return None
        market = self.markets.get(order.instrument_id)
        at = order.created_at if market is None else max(order.created_at, market.advanced_to)
        self._cancel(order, at, reason)
        if order.leg.opens:
            for held in self._of_bracket(order.client_order_id):
                if held.status is PaperOrderStatus.HELD:
                    self._cancel(held, at, reason)
            self._drop_empty_targets(order.instrument_id, at)
        return order

    # Market

    def advance(self, event: MarketEvent) -> bool:
        """Let one market move; an event that does not end after everything applied before changes nothing.

        Of an event that began before a position was opened only its close counts for it, and an order at the market
        that came into force during an event fills at its close: what came before an order existed must not fill it.
        """
        market = self.markets.get(event.instrument_id)
        if market is not None and event.ts_close <= market.advanced_to:
            return False
        step = Decimal(0) if market is None else market.quantity_step
        if self._is_active(event.instrument_id):
            self._live_through(event, Liquidity(self.venue.liquidity(event.volume)))
        self.markets[event.instrument_id] = PaperMarket(event.instrument_id, event.ts_close, event.close, step)
        self.changes.markets[event.instrument_id] = self.markets[event.instrument_id]
        return True

    def _live_through(self, event: MarketEvent, liquidity: Liquidity) -> None:
        position = self.positions.get(event.instrument_id)
        began_before = position is not None and event.ts_open < position.opened_at < event.ts_close
        self._apply(event.close_only() if began_before else event, liquidity)
        comes_inside = any(
            event.ts_open < order.effective_at < event.ts_close
            for order in self.orders.values()
            if order.instrument_id == event.instrument_id and order.type is OrderType.MARKET
        )
        if comes_inside and not began_before:
            self._apply(event.close_only(), liquidity)

    def _apply(self, event: MarketEvent, liquidity: Liquidity) -> None:
        self._bring_into_force(event)
        position = self.positions.get(event.instrument_id)
        entry = self._entry(event.instrument_id, event.ts_open)
        if position is not None and entry is not None and self._enlarges(entry, position):
            self._step_and_add(position, entry, event, liquidity)
            return
        free = position is None or self._step(position, event, liquidity)
        if entry is not None and entry.is_working and free and entry.leg is Leg.ENTRY:
            self._enter(entry, event, liquidity)

    def _step(self, position: PaperPosition, event: MarketEvent, liquidity: Liquidity) -> bool:
        """Rules 1 to 6 for an open position; True when orders at the market closed it at the open."""
        at = event.ts_open
        due = [f for f in event.funding if position.funded_to < f.ts <= at]
        price = sum(f.rate * _mark_of(f, event) for f in due)
        leaving = self._at_market(position, at)
        if leaving:
            self._book_funding(position, due, event, self._funding(position, event.open, price))
            self._fill_at_market(position, leaving, event, liquidity)
            if position.quantity == 0:
                return True
            due, price = [], 0.0
        state, happened = step_bar(self.state_of(position, at), event.open, event.high, event.low, price, self.params)
        self._book_funding(position, due, event, -sum(w.pnl for w in happened if w.kind is EventKind.FUNDING))
        self._book_exits(position, [w for w in happened if w.kind in _FILL_KINDS], state, at, liquidity)
        return False

    def _step_and_add(
        self, position: PaperPosition, entry: PaperOrder, event: MarketEvent, liquidity: Liquidity
    ) -> None:
        """What is due at the open for what is open, then the addition, then the rest of the event for all of it."""
        at = event.ts_open
        due = [f for f in event.funding if position.funded_to < f.ts <= at]
        price = sum(f.rate * _mark_of(f, event) for f in due)
        leaving = self._at_market(position, at)
        state, happened = gap_at_open(self.state_of(position, at), event.open, price, self.params)
        self._book_funding(position, due, event, -sum(w.pnl for w in happened if w.kind is EventKind.FUNDING))
        if leaving:
            self._fill_at_market(position, leaving, event, liquidity)
            if position.quantity > 0:
                state, happened = gap_at_open(self.state_of(position, at), event.open, 0.0, self.params)
        if position.quantity > 0:
            self._book_exits(position, [w for w in happened if w.kind in _FILL_KINDS], state, at, liquidity)
        if position.quantity > 0 and not leaving:
            quantity = self._take(liquidity, entry, entry.remaining)
            if quantity > 0:
                self._add(position, entry, quantity, event, liquidity)
        if position.quantity > 0:
            self._let_pass(position, event, liquidity)

    def _enter(self, entry: PaperOrder, event: MarketEvent, liquidity: Liquidity) -> None:
        """Rule 4, then rules 5 and 6 for what it opened."""
        quantity = self._take(liquidity, entry, entry.remaining)
        if quantity == 0:
            return
        exits = [order for order in self._of_bracket(entry.bracket_id) if order is not entry]
        self._fit(exits, entry.quantity, quantity, event.ts_open)
        side = PositionSide.LONG if entry.side is OrderSide.BUY else PositionSide.SHORT
        leverage = entry.leverage or exact(self.params.leverage)
        stop, targets, quantities = _levels({o.leg: o for o in exits}, side)
        state, happened = open_position(
            side, float(quantity), event.open, stop, targets, quantities, self._costs(entry), float(leverage)
        )
        position = PaperPosition(
            instrument_id=entry.instrument_id,
            bracket_id=entry.bracket_id,
            side=side,
            quantity_initial=quantity,
            quantity=quantity,
            entry_price=exact(state.entry_price),
            entry_margin=money(state.entry_margin),
            leverage=leverage,
            liquidation_price=exact(state.liquidation_price),
            tp1_filled=False,
            opened_at=event.ts_open,
            funded_to=event.ts_open,
        )
        self.positions[entry.instrument_id] = position
        self.changes.positions.add(entry.instrument_id)
        for held in exits:
            self._open(held, event.ts_open)
        self.cash -= position.margin
        self._fill(entry, happened[0], position, quantity, event.ts_open, entry.remaining - quantity)
        self._book_exits(position, happened[1:], state, event.ts_open, liquidity)
        if position.quantity > 0:
            self._let_pass(position, event, liquidity)

    def _add(
        self, position: PaperPosition, entry: PaperOrder, quantity: Decimal, event: MarketEvent, liquidity: Liquidity
    ) -> None:
        """Enlarge a position at the open; its exits grow with it in the same moment."""
        at, before, bound = event.ts_open, position.quantity, position.margin
        if entry.leg is Leg.ADD:
            self._take_over_exits(position, entry, at)
        held = self.state_of(position, at)
        state, happened = add_to_position(
            held,
            float(quantity),
            event.open,
            held.stop_price,
            self._costs(entry),
            float(self.markets[position.instrument_id].quantity_step),
            float(position.leverage),
        )
        position.entry_price = exact(state.entry_price)
        position.entry_margin = money(state.entry_margin)
        position.liquidation_price = exact(state.liquidation_price)
        position.quantity = position.quantity_initial = before + quantity
        self.cash -= position.margin - bound
        self.changes.positions.add(position.instrument_id)
        self._fill(entry, happened[0], position, quantity, at, entry.remaining - quantity)
        self._fit(self._exits(position), before, position.quantity, at)
        self._book_exits(position, happened[1:], state, at, liquidity)

    def _let_pass(self, position: PaperPosition, event: MarketEvent, liquidity: Liquidity) -> None:
        """Rules 5 and 6 for what is open after the open."""
        state, happened = step_inside(
            self.state_of(position, event.ts_open), event.open, event.high, event.low, self.params
        )
        self._book_exits(position, happened, state, event.ts_open, liquidity)

    def state_of(self, position: PaperPosition, at: datetime) -> PositionState:
        """A position and its exits as the life cycle takes them; what is not in force by `at` does not count.

        While all of it is leaving at the market no level counts but that of the liquidation.
        """
        leaving = sum((o.remaining for o in self._at_market(position, at)), Decimal(0))
        waiting = {} if leaving >= position.quantity else self._waiting_exits(position, at)
        stop, targets, quantities = _levels(waiting, position.side)
        return PositionState(
            side=position.side,
            quantity=float(position.quantity),
            quantity_initial=float(position.quantity_initial),
            entry_price=float(position.entry_price),
            entry_margin=float(position.entry_margin),
            liquidation_price=float(position.liquidation_price),
            stop_price=stop,
            targets=targets,
            target_quantities=quantities,
            tp1_filled=position.tp1_filled,
        )

    # Exits

    def _fill_at_market(
        self, position: PaperPosition, leaving: Sequence[PaperOrder], event: MarketEvent, liquidity: Liquidity
    ) -> None:
        """Rule 2: what was decided before, and what is left of orders whose price was reached, fills at the open."""
        before = position.quantity
        for order in leaving:
            wanted = min(order.remaining, position.quantity)
            quantity = self._take(liquidity, order, wanted)
            if quantity > 0:
                what = self._closing(order, position, quantity, event.open, EventKind[order.leg.value])
                self._close(order, position, quantity, what, event.ts_open, wanted - quantity)
        self._settle(position, before, event.ts_open)

    def _book_exits(
        self,
        position: PaperPosition,
        fills: Sequence[LifecycleEvent],
        state: PositionState,
        at: datetime,
        liquidity: Liquidity,
    ) -> None:
        """Turn closing events into fills; the one that closes the position takes whatever is left.

        Where the market has not enough for one, the rest of that order is at the market from then on.
        """
        before = position.quantity
        for what in fills:
            closes = what is fills[-1] and not state.is_open
            if what.kind is EventKind.LIQUIDATION:
                self._close(None, position, position.quantity, what, at)
                break
            order = self._waiting_exits(position, at)[Leg(what.kind.name)]
            wanted = position.quantity if closes else min(order.remaining, position.quantity)
            quantity = self._take(liquidity, order, wanted)
            order.is_triggered = quantity < wanted
            if quantity > 0:
                whole = quantity == wanted and self.venue.slippage_bps is None
                event = what if whole else self._closing(order, position, quantity, what.reference_price, what.kind)
                self._close(order, position, quantity, event, at, wanted - quantity)
            self._touch(order, at)
        self._settle(position, before, at)

    def _close(
        self,
        order: PaperOrder | None,
        position: PaperPosition,
        quantity: Decimal,
        what: LifecycleEvent,
        at: datetime,
        rest: Decimal = Decimal(0),
    ) -> None:
        """Book one closing fill and set its margin free; `rest` is what of the order is still to come."""
        bound = position.margin
        position.quantity -= quantity
        position.tp1_filled |= order is not None and order.leg in TARGETS
        self.cash += bound - position.margin
        self.changes.positions.add(position.instrument_id)
        self._fill(order, what, position, quantity, at, rest)

    def _settle(self, position: PaperPosition, before: Decimal, at: datetime) -> None:
        """After fills of exits: give the others the size of what is open, or end them with the position."""
        if position.quantity == before:
            return
        if position.quantity > 0:
            self._fit(self._exits(position), before, position.quantity, at)
            return
        del self.positions[position.instrument_id]
        added = self._entry(position.instrument_id)
        over = self._of_bracket(position.bracket_id)
        if added is not None and added.leg is Leg.ADD:
            over += self._of_bracket(added.client_order_id)
        for order in over:
            self._cancel(order, at, "position closed")

    def _closing(
        self, order: PaperOrder, position: PaperPosition, quantity: Decimal, reference: float, kind: EventKind
    ) -> LifecycleEvent:
        """What closing a part of a position at a reference price gives: that part as a position of its own."""
        leaving = _leaving(position, quantity)
        _, (event,) = step_bar(leaving, reference, reference, reference, 0.0, self._costs(order))
        return replace(event, kind=kind)

    def _funding(self, position: PaperPosition, open_: float, price: float) -> float:
        """What a position pays at the open at which it leaves."""
        leaving = _leaving(position, position.quantity)
        _, happened = step_bar(leaving, open_, open_, open_, price, self.params)
        return -sum(what.pnl for what in happened if what.kind is EventKind.FUNDING)

    def _fit(self, exits: Sequence[PaperOrder], before: Decimal, after: Decimal, at: datetime) -> None:
        """Give the exits of a position the size of what is open, `after`, where `before` was open.

        Targets that together closed all of it go on doing so, in proportion to what was asked of each, rounded down
        to the step with the rest for the last one; those that closed a part keep that share.
        """
        targets = [o for o in exits if o.leg in TARGETS and o.replaces is None]
        leaving = after
        for order in exits:
            if order.leg is Leg.STOP:
                self._resize(order, after, at)
            elif order.leg is Leg.EXIT and leaving == 0:
                self._cancel(order, at, "nothing left to close")
            elif order.leg is Leg.EXIT:
                self._resize(order, min(order.remaining, leaving), at)
                leaving -= order.remaining
        covered = sum((o.remaining for o in targets), Decimal(0))
        if not targets or covered == after:
            return
        step = self.markets[targets[0].instrument_id].quantity_step
        weights = sum((o.weight for o in targets), Decimal(0))
        left = after if covered >= before else min(after, round_down(covered * after / before, step))
        total = left
        for order in sorted(targets, key=lambda o: o.leg)[:-1]:
            share = min(left, round_down(total * order.weight / weights, step))
            self._resize(order, share, at)
            left -= share
        self._resize(max(targets, key=lambda o: o.leg), left, at)
        self._drop_empty_targets(targets[0].instrument_id, at)

    def _resize(self, order: PaperOrder, remaining: Decimal, at: datetime) -> None:
        if order.remaining != remaining:
            order.quantity = order.filled_quantity + remaining
            self._touch(order, at)

    def _drop_empty_targets(self, instrument_id: int, at: datetime) -> None:
        """End targets that have nothing to close any more; while an entry still fills theirs may come."""
        position = self.positions.get(instrument_id)
        if position is None or self._entry(instrument_id) is not None:
            return
        for order in self._exits(position):
            if order.leg in TARGETS and order.remaining == 0:
                self._cancel(order, at, "nothing left to close")

    def _take_over_exits(self, position: PaperPosition, addition: PaperOrder, at: datetime) -> None:
        """Let the exits that came with an addition take the place of those that work, at its first fill.

        A stop never moves back, and a target that was filled meanwhile does not come back.
        """
        working = {
            o.leg: o
            for o in self._exits(position)
            if o.trigger_price is not None and not o.is_triggered and o.status is PaperOrderStatus.OPEN
        }
        for held in self._of_bracket(addition.client_order_id):
            if held is addition or held.status is not PaperOrderStatus.HELD:
                continue
            old = working.get(held.leg)
            if held.leg in TARGETS and old is None and (position.tp1_filled or working.keys() & set(TARGETS)):
                self._cancel(held, at, "its target was filled")
                continue
            if old is not None:
                if held.leg is Leg.STOP and held.trigger_price is not None and old.trigger_price is not None:
                    better = max if position.side is PositionSide.LONG else min
                    held.trigger_price = better(held.trigger_price, old.trigger_price)
                self._cancel(old, at, f"replaced by {held.client_order_id}")
            held.bracket_id = position.bracket_id
            self._open(held, at)

    def _bring_into_force(self, event: MarketEvent) -> None:
        """Let replacements take their place once their time has come."""
        for order in list(self.orders.values()):
            due = order.instrument_id == event.instrument_id and order.effective_at <= event.ts_open
            if not due or order.replaces is None or order.status is not PaperOrderStatus.HELD:
                continue
            old = self.orders.get(order.replaces)
            if old is None or old.is_triggered:
                self._cancel(order, event.ts_open, f"{order.replaces} is not working any more")
                continue
            self._cancel(old, event.ts_open, f"replaced by {order.client_order_id}")
            order.replaces = None
            order.quantity = old.remaining if order.leg is Leg.STOP else min(order.weight, old.remaining)
            self._open(order, event.ts_open)

    # Bookkeeping

    def _fill(
        self,
        order: PaperOrder | None,
        what: LifecycleEvent,
        position: PaperPosition,
        quantity: Decimal,
        at: datetime,
        rest: Decimal,
    ) -> None:
        price, fee, pnl = exact(what.price), money(what.fee), money(what.pnl)
        self.cash += pnl - fee
        self.changes.fills.append(
            PaperFill(
                sequence=self._next(),
                client_order_id=None if order is None else order.client_order_id,
                instrument_id=position.instrument_id,
                ts=at,
                kind=_FILL_KINDS[what.kind],
                side=position.side.exit_side if order is None else order.side,
                quantity=quantity,
                price=price,
                reference_price=exact(what.reference_price),
                fee=fee,
                realised_pnl=pnl,
            )
        )
        if order is not None:
            order.add_fill(quantity, price, fee)
            order.quantity = order.filled_quantity + rest
            self._set_status(order, PaperOrderStatus.OPEN if rest else PaperOrderStatus.FILLED, at)

    def _book_funding(
        self, position: PaperPosition, due: Sequence[FundingEvent], event: MarketEvent, paid: float
    ) -> None:
        """Share what the life cycle charged among the payments that fell due, so that their sum is exact."""
        if not due:
            return
        weights = [f.rate * _mark_of(f, event) for f in due]
        left = money(paid)
        for index, (funding, weight) in enumerate(zip(due, weights, strict=True)):
            last = index == len(due) - 1
            amount = left if last else money(paid * weight / sum(weights)) if sum(weights) else Decimal(0)
            left -= amount
            self.cash -= amount
            self.changes.funding.append(
                PaperFunding(self._next(), position.instrument_id, funding.ts, funding.rate, amount)
            )
        position.funded_to = due[-1].ts
        self.changes.positions.add(position.instrument_id)

    def _accept(self, request: OrderRequest, bracket_id: str, instrument: Instrument) -> PaperOrder:
        self.markets[request.instrument_id].quantity_step = instrument.quantity_step
        order = PaperOrder(
            client_order_id=request.client_order_id,
            exchange_order_id=self._next(),
            instrument_id=request.instrument_id,
            bracket_id=bracket_id,
            leg=request.leg,
            side=request.side,
            type=request.type,
            reduce_only=request.reduce_only,
            quantity=request.quantity,
            trigger_price=request.trigger_price,
            leverage=request.leverage,
            status=PaperOrderStatus.OPEN,
            created_at=request.requested_at,
            updated_at=request.requested_at,
            weight=request.quantity,
            effective_at=request.requested_at + self.venue.latency(request.client_order_id),
        )
        self.orders[order.client_order_id] = order
        self._touch(order, request.requested_at)
        return order

    def _accept_exit(
        self, request: OrderRequest, position: PaperPosition, instrument: Instrument, old: PaperOrder | None = None
    ) -> PaperOrder:
        """Accept an exit, in the place of `old` if there is one, clipped to what others of its kind leave open."""
        kind = TARGETS if request.leg in TARGETS else (request.leg,)
        others = (o.remaining for o in self._exits(position) if o.leg in kind and o is not old and o.replaces is None)
        left = position.quantity - sum(others, Decimal(0))
        if left <= 0:
            raise OrderRefused(Refusal.REDUCE_ONLY, f"other orders close all of it before {request.client_order_id}")
        clipped = replace(request, quantity=min(request.quantity, left))
        return self._accept(clipped, position.bracket_id, instrument)

    def _cancel(self, order: PaperOrder, at: datetime, reason: str) -> None:
        order.reason = reason
        self._set_status(order, PaperOrderStatus.CANCELLED, at)

    def _open(self, order: PaperOrder, at: datetime) -> None:
        order.effective_at = min(order.effective_at, at)
        self._set_status(order, PaperOrderStatus.OPEN, at)

    def _set_status(self, order: PaperOrder, status: PaperOrderStatus, at: datetime) -> None:
        order.status = status
        self._touch(order, at)
        if not order.is_working:
            self.orders.pop(order.client_order_id, None)

    def _touch(self, order: PaperOrder, at: datetime) -> None:
        order.updated_at = at
        self.changes.orders[order.client_order_id] = order

    def _next(self) -> int:
        self.sequence += 1
        return self.sequence

    # Lookups

    def _of_bracket(self, bracket_id: str) -> list[PaperOrder]:
        return [order for order in self.orders.values() if order.bracket_id == bracket_id]

    def _exits(self, position: PaperPosition) -> list[PaperOrder]:
        """Working exits of a position, replacements that wait for their time included."""
        return [o for o in self._of_bracket(position.bracket_id) if not o.leg.opens]

    def _waiting_exits(self, position: PaperPosition, at: datetime) -> dict[Leg, PaperOrder]:
        """Stop and targets that wait for their price."""
        return {
            o.leg: o
            for o in self._exits(position)
            if o.trigger_price is not None and not o.is_triggered and o.counts(at)
        }

    def _at_market(self, position: PaperPosition, at: datetime) -> list[PaperOrder]:
        """Exits that fill at the next price, the oldest first."""
        found = [o for o in self._exits(position) if o.counts(at) and (o.is_triggered or o.trigger_price is None)]
        return sorted(found, key=lambda order: order.exchange_order_id)

    def _entry(self, instrument_id: int, at: datetime | None = None) -> PaperOrder | None:
        """The entry or addition that has not filled entirely; with `at`, only if it counted by then."""
        found = (o for o in self.orders.values() if o.instrument_id == instrument_id and o.leg.opens)
        return next((o for o in found if at is None or o.counts(at)), None)

    def _enlarges(self, entry: PaperOrder, position: PaperPosition) -> bool:
        return entry.leg is Leg.ADD or entry.bracket_id == position.bracket_id

    def _is_active(self, instrument_id: int) -> bool:
        return instrument_id in self.positions or self._entry(instrument_id) is not None

    def _mark(self, instrument_id: int) -> Decimal:
        return exact(self.markets[instrument_id].last_price)

    def _costs(self, order: PaperOrder) -> ExecutionParams:
        return self.venue.costs(order.client_order_id, self.params)

    def _take(self, liquidity: Liquidity, order: PaperOrder, wanted: Decimal) -> Decimal:
        return liquidity.take(wanted, self.markets[order.instrument_id].quantity_step)

    def _cost(self, instrument_id: int, quantity: Decimal, leverage: Decimal | None) -> Decimal:
        """Margin and fee that an entry needs at the newest price."""
        notional = quantity * self._mark(instrument_id) * (1 + exact(self.params.slippage_rate))
        return notional / (leverage or exact(self.params.leverage)) + notional * exact(self.params.taker_fee_rate)

    # Refusals

    def _check_opening(self, request: OrderRequest, instrument: Instrument) -> None:
        position = self.positions.get(request.instrument_id)
        working = [] if position is None else self._exits(position)
        paper_rules.check_place(request, position, self._entry(request.instrument_id), working)
        leverage = request.leverage or exact(self.params.leverage)
        paper_rules.check_opening(
            request,
            instrument,
            self.venue,
            mark=self._mark(request.instrument_id),
            leverage=leverage,
            needed=self._cost(request.instrument_id, request.quantity, leverage),
            available=self.available,
        )

    def _check_exit(self, request: OrderRequest, instrument: Instrument) -> PaperPosition:
        return paper_rules.check_exit(request, instrument, self.positions.get(request.instrument_id))


def _leaving(position: PaperPosition, quantity: Decimal) -> PositionState:
    """A part of a position that leaves at the next price, as a position of its own."""
    return PositionState(
        side=position.side,
        quantity=float(quantity),
        quantity_initial=float(quantity),
        entry_price=float(position.entry_price),
        entry_margin=0.0,
        liquidation_price=float(position.liquidation_price),
        stop_price=_unreachable(position.side),
        targets=_NO_TARGETS,
        target_quantities=_NO_TARGETS,
        exit_pending=True,
    )


def _levels(
    exits: Mapping[Leg, PaperOrder], side: PositionSide
) -> tuple[float, tuple[float, float, float], tuple[float, float, float]]:
    """Stop, target prices and target quantities as the life cycle takes them; a missing stop is out of reach."""
    stop = exits[Leg.STOP].trigger_price if Leg.STOP in exits else None
    (p1, q1), (p2, q2), (p3, q3) = (_target(exits.get(leg)) for leg in TARGETS)
    return _unreachable(side) if stop is None else float(stop), (p1, p2, p3), (q1, q2, q3)


def _target(order: PaperOrder | None) -> tuple[float, float]:
    if order is None or order.trigger_price is None:
        return 0.0, 0.0
    return float(order.trigger_price), float(order.remaining)


def _unreachable(side: PositionSide) -> float:
    return 0.0 if side is PositionSide.LONG else float("inf")


def _mark_of(funding: FundingEvent, event: MarketEvent) -> float:
    return event.open if funding.mark is None else funding.mark
