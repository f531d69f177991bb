"""The books of one account on the simulated exchange, and how orders and market moves change them.

Belongs here: accepting, refusing, replacing and cancelling orders, and turning what the life cycle of a position
(`domain.engine.lifecycle`) says into fills, funding and cash. Does not belong here: how the books are stored
(`adapters.exchanges.paper`) and when a position is stopped, filled or liquidated, which only the life cycle knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    LifecycleEvent,
    PositionState,
    open_position,
    step_bar,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.amounts import exact, money
from trading_pipelines.domain.execution.orders import (
    BracketRequest,
    FillKind,
    Leg,
    OrderRefused,
    OrderReport,
    OrderRequest,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionReport,
    PositionSide,
)
from trading_pipelines.domain.market.instrument import Instrument

TARGETS = (Leg.TP1, Leg.TP2, Leg.TP3)
MAX_LEVERAGE = 200
_FILL_KINDS = {
    EventKind.ENTRY: FillKind.ENTRY,
    EventKind.TP1: FillKind.TP1,
    EventKind.TP2: FillKind.TP2,
    EventKind.TP3: FillKind.TP3,
    EventKind.STOP: FillKind.STOP,
    EventKind.LIQUIDATION: FillKind.LIQUIDATION,
    EventKind.EXIT: FillKind.EXIT,
}


@dataclass(frozen=True)
class FundingEvent:
    """Funding due at `ts`; `mark` is None where no mark price is stored."""

    ts: datetime
    rate: float
    mark: float | None = None


@dataclass(frozen=True)
class MarketEvent:
    """What one market did between two moments; a tick is an event with four equal prices and equal times.

    Attributes
    ----------
    ts_open, ts_close : datetime
        UTC; a bar covers [ts_open, ts_close).
    funding : tuple of FundingEvent
        Funding due in (previous open, this open].
    """

    instrument_id: int
    ts_open: datetime
    ts_close: datetime
    open: float
    high: float
    low: float
    close: float
    funding: tuple[FundingEvent, ...] = ()

    @classmethod
    def tick(
        cls, instrument_id: int, ts: datetime, price: float, funding: tuple[FundingEvent, ...] = ()
    ) -> "MarketEvent":
        """One traded price."""
        return cls(instrument_id, ts, ts, price, price, price, price, funding)

    def close_only(self) -> "MarketEvent":
        """The part of the event that is certainly later than its open: its close as a tick."""
        return MarketEvent.tick(self.instrument_id, self.ts_close, self.close, self.funding)


class PaperOrderStatus(StrEnum):
    """HELD is an exit that becomes OPEN when its entry fills."""

    HELD = "HELD"
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


_WORKING = (PaperOrderStatus.HELD, PaperOrderStatus.OPEN)


@dataclass
class PaperOrder:
    """One order in the books of the exchange."""

    client_order_id: str
    exchange_order_id: int
    instrument_id: int
    bracket_id: str
    leg: Leg
    side: OrderSide
    type: OrderType
    reduce_only: bool
    quantity: Decimal
    trigger_price: Decimal | None
    leverage: Decimal | None
    status: PaperOrderStatus
    created_at: datetime
    updated_at: datetime
    reason: str | None = None
    filled_quantity: Decimal = Decimal(0)
    average_price: Decimal | None = None
    fee: Decimal = Decimal(0)

    @property
    def is_working(self) -> bool:
        """Whether it may still fill."""
        return self.status in _WORKING

    def report(self) -> OrderReport:
        """The order as an exchange reports it: a held exit counts as accepted."""
        status = OrderStatus.ACCEPTED if self.is_working else OrderStatus(self.status.value)
        return OrderReport(
            client_order_id=self.client_order_id,
            exchange_order_id=str(self.exchange_order_id),
            instrument_id=self.instrument_id,
            leg=self.leg,
            status=status,
            quantity=self.quantity,
            filled_quantity=self.filled_quantity,
            average_price=self.average_price,
            trigger_price=self.trigger_price,
            fee=self.fee,
            updated_at=self.updated_at,
            reason=self.reason,
        )


@dataclass
class PaperPosition:
    """One open position; `bracket_id` is the client order id of the entry that opened it."""

    instrument_id: int
    bracket_id: str
    side: PositionSide
    quantity_initial: Decimal
    quantity: Decimal
    entry_price: Decimal
    entry_margin: Decimal
    leverage: Decimal
    liquidation_price: Decimal
    tp1_filled: bool
    opened_at: datetime
    funded_to: datetime

    @property
    def margin(self) -> Decimal:
        """Isolated margin of what is still open."""
        return money(self.entry_margin * self.quantity / self.quantity_initial)

    def unrealised(self, mark: Decimal) -> Decimal:
        """Result of what is still open at a mark price, before costs."""
        return money(self.side.sign * self.quantity * (mark - self.entry_price))


@dataclass
class PaperMarket:
    """How far a market has been applied, and its newest price."""

    instrument_id: int
    advanced_to: datetime
    last_price: float


@dataclass(frozen=True)
class PaperFill:
    """One execution, numbered by the account's sequence."""

    sequence: int
    client_order_id: str | None
    instrument_id: int
    ts: datetime
    kind: FillKind
    side: OrderSide
    quantity: Decimal
    price: Decimal
    reference_price: Decimal
    fee: Decimal
    realised_pnl: Decimal


@dataclass(frozen=True)
class PaperFunding:
    """One funding payment; `amount` is positive when the account paid."""

    sequence: int
    instrument_id: int
    ts: datetime
    rate: float
    amount: Decimal


@dataclass
class Changes:
    """What has to be stored after an operation."""

    orders: dict[str, PaperOrder] = field(default_factory=dict[str, PaperOrder])
    markets: dict[int, PaperMarket] = field(default_factory=dict[int, PaperMarket])
    positions: set[int] = field(default_factory=set[int])
    fills: list[PaperFill] = field(default_factory=list[PaperFill])
    funding: list[PaperFunding] = field(default_factory=list[PaperFunding])


@dataclass
class PaperAccount:
    """Cash, working orders and open positions of one account.

    `orders` holds the working ones by client order id, `positions` and `markets` are by instrument id. `changes`
    collects what an operation has touched.
    """

    cash: Decimal
    sequence: int
    params: ExecutionParams
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
        return self.cash - sum((self._claim(o) for o in self.orders.values() if o.leg is Leg.ENTRY), Decimal(0))

    def position_reports(self) -> list[PositionReport]:
        """All open positions."""
        return [
            PositionReport(
                instrument_id=p.instrument_id,
                side=p.side,
                quantity=p.quantity,
                entry_price=p.entry_price,
                leverage=p.leverage,
                margin=p.margin,
                liquidation_price=p.liquidation_price,
                mark_price=self._mark(p.instrument_id),
                unrealised_pnl=p.unrealised(self._mark(p.instrument_id)),
                opened_at=p.opened_at,
            )
            for p in self.positions.values()
        ]

    # Orders

    def place_bracket(self, request: BracketRequest, instrument: Instrument) -> tuple[PaperOrder, ...]:
        """Accept an entry with its exits, which stay held until the entry fills; all or nothing."""
        entry = request.entry
        self._check_entry(entry, instrument)
        for leg in request.legs[1:]:
            if not leg.reduce_only or leg.side is entry.side:
                raise OrderRefused("invalid_bracket", f"{leg.client_order_id} does not reduce the entry")
            self._check_steps(leg, instrument)
            self._check_trigger(leg)
        if sum(t.quantity for t in request.targets) > entry.quantity:
            raise OrderRefused("invalid_bracket", "the targets close more than the entry opens")
        accepted = [self._accept(entry, entry.client_order_id, PaperOrderStatus.OPEN)]
        accepted += [self._accept(leg, entry.client_order_id, PaperOrderStatus.HELD) for leg in request.legs[1:]]
        return tuple(accepted)

    def place(self, request: OrderRequest, instrument: Instrument) -> PaperOrder:
        """Accept one order: an entry, or an exit of an open position."""
        if request.leg is Leg.ENTRY:
            self._check_entry(request, instrument)
            return self._accept(request, request.client_order_id, PaperOrderStatus.OPEN)
        position = self._position_to_reduce(request)
        if request.leg in self._exits(position):
            raise OrderRefused("duplicate_exit", f"a working {request.leg} exists: replace it")
        self._check_trigger(request)
        return self._accept_exit(request, position, instrument)

    def replace(self, client_order_id: str, request: OrderRequest, instrument: Instrument) -> PaperOrder:
        """Put an exit in the place of a working one of the same leg.

        A stop that is moved through the market is accepted and triggers at the next price, as a resting stop does
        after a gap: refusing it would leave the worse one in force.
        """
        old = self.orders.get(client_order_id)
        if old is None or old.status is not PaperOrderStatus.OPEN:
            raise OrderRefused("order_not_working", f"{client_order_id} is not working")
        if old.leg is not request.leg or old.instrument_id != request.instrument_id:
            raise OrderRefused("invalid_replacement", f"{request.client_order_id} is another kind of order")
        position = self._position_to_reduce(request)
        accepted = self._accept_exit(request, position, instrument)
        self._cancel(old, request.requested_at, f"replaced by {request.client_order_id}")
        return accepted

    def cancel(self, client_order_id: str, reason: str) -> PaperOrder | None:
        """Cancel a working order, an entry with its held exits; None when it is not working."""
        order = self.orders.get(client_order_id)
        if order is None:
            return None
        market = self.markets.get(order.instrument_id)
        at = order.created_at if market is None else max(order.created_at, market.advanced_to)
        if order.leg is Leg.ENTRY:
            for held in self._of_bracket(order.bracket_id):
                self._cancel(held, at, reason)
        else:
            self._cancel(order, at, reason)
        return order

    # Market

    def advance(self, event: MarketEvent) -> bool:
        """Let one market move; an event that does not end after everything applied before changes nothing.

        An event that began before an entry was filled, or before an order at the market was placed, counts
        with its close only: what came before that order existed must not fill it.
        """
        market = self.markets.get(event.instrument_id)
        if market is not None and event.ts_close <= market.advanced_to:
            return False
        if self._is_active(event.instrument_id):
            self._apply(event.close_only() if self._began_too_early(event) else event)
        self.markets[event.instrument_id] = PaperMarket(event.instrument_id, event.ts_close, event.close)
        self.changes.markets[event.instrument_id] = self.markets[event.instrument_id]
        return True

    def _apply(self, event: MarketEvent) -> None:
        position = self.positions.get(event.instrument_id)
        free = position is None or self._step(position, event)
        entry = self._entry(event.instrument_id)
        if entry is not None and free and entry.created_at <= event.ts_open:
            self._enter(entry, event)

    def _step(self, position: PaperPosition, event: MarketEvent) -> bool:
        """Rules 1 to 6 for an open position; True when a decided exit closed it at the open."""
        due = [f for f in event.funding if position.funded_to < f.ts <= event.ts_open]
        price = sum(f.rate * _mark_of(f, event) for f in due)
        state, happened = step_bar(
            self.state_of(position, event.ts_open), event.open, event.high, event.low, price, self.params
        )
        fills = [what for what in happened if what.kind in _FILL_KINDS]
        self._book_funding(position, due, event, -sum(w.pnl for w in happened if w.kind is EventKind.FUNDING))
        self._book_exits(position, fills, state, event.ts_open)
        return bool(fills) and fills[0].kind is EventKind.EXIT

    def _enter(self, entry: PaperOrder, event: MarketEvent) -> None:
        """Rule 4, then rules 5 and 6 for what it opened."""
        exits = {o.leg: o for o in self._of_bracket(entry.bracket_id) if o is not entry}
        side = PositionSide.LONG if entry.side is OrderSide.BUY else PositionSide.SHORT
        stop, targets, quantities = _levels(exits, side)
        leverage = entry.leverage or exact(self.params.leverage)
        state, happened = open_position(
            side, float(entry.quantity), event.open, stop, targets, quantities, self.params, float(leverage)
        )
        position = PaperPosition(
            instrument_id=entry.instrument_id,
            bracket_id=entry.bracket_id,
            side=side,
            quantity_initial=entry.quantity,
            quantity=entry.quantity,
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
        for held in exits.values():
            self._set_status(held, PaperOrderStatus.OPEN, event.ts_open)
        self.cash -= position.margin
        self._fill(entry, happened[0], position, entry.quantity, event.ts_open)
        if state.is_open:
            state, inside = step_inside(state, event.open, event.high, event.low, self.params)
            happened += inside
        self._book_exits(position, happened[1:], state, event.ts_open)

    def state_of(self, position: PaperPosition, at: datetime) -> PositionState:
        """A position and its exits as the life cycle takes them; a market exit placed after `at` does not count."""
        exits = self._exits(position)
        stop, targets, quantities = _levels(exits, position.side)
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
            exit_pending=Leg.EXIT in exits and exits[Leg.EXIT].created_at <= at,
        )

    # Bookkeeping

    def _book_exits(
        self, position: PaperPosition, fills: Sequence[LifecycleEvent], state: PositionState, at: datetime
    ) -> None:
        """Turn closing events into fills; the one that closes the position takes whatever is left."""
        for what in fills:
            order = None if what.kind is EventKind.LIQUIDATION else self._exits(position)[Leg(what.kind.name)]
            closes = what is fills[-1] and not state.is_open
            quantity = position.quantity if closes or order is None else order.quantity
            bound = position.margin
            position.quantity -= quantity
            self.cash += bound - position.margin
            self._fill(order, what, position, quantity, at)
        if not fills:
            return
        position.tp1_filled = state.tp1_filled
        self.changes.positions.add(position.instrument_id)
        if state.is_open:
            self._resize_stop(position, at)
        else:
            del self.positions[position.instrument_id]
            for order in self._of_bracket(position.bracket_id):
                self._cancel(order, at, "position closed")

    def _resize_stop(self, position: PaperPosition, at: datetime) -> None:
        stop = self._exits(position).get(Leg.STOP)
        if stop is not None:
            stop.quantity = position.quantity
            self._touch(stop, at)

    def _fill(
        self,
        order: PaperOrder | None,
        what: LifecycleEvent,
        position: PaperPosition,
        quantity: Decimal,
        at: datetime,
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
            order.quantity = order.filled_quantity = quantity
            order.average_price, order.fee = price, fee
            self._set_status(order, PaperOrderStatus.FILLED, at)

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

    def _accept(self, request: OrderRequest, bracket_id: str, status: PaperOrderStatus) -> PaperOrder:
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
            status=status,
            created_at=request.requested_at,
            updated_at=request.requested_at,
        )
        self.orders[order.client_order_id] = order
        self._touch(order, request.requested_at)
        return order

    def _accept_exit(self, request: OrderRequest, position: PaperPosition, instrument: Instrument) -> PaperOrder:
        """Accept an exit, clipped to what is open; a stop and a market exit always cover all of it."""
        self._check_steps(request, instrument)
        if request.quantity < position.quantity and request.leg not in TARGETS:
            raise OrderRefused("quantity_too_small", f"a {request.leg} closes the whole position")
        clipped = replace(request, quantity=min(request.quantity, position.quantity))
        return self._accept(clipped, position.bracket_id, PaperOrderStatus.OPEN)

    def _cancel(self, order: PaperOrder, at: datetime, reason: str) -> None:
        order.reason = reason
        self._set_status(order, PaperOrderStatus.CANCELLED, at)

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

    def _exits(self, position: PaperPosition) -> dict[Leg, PaperOrder]:
        return {o.leg: o for o in self._of_bracket(position.bracket_id) if o.leg is not Leg.ENTRY}

    def _entry(self, instrument_id: int) -> PaperOrder | None:
        return next((o for o in self.orders.values() if o.instrument_id == instrument_id and o.leg is Leg.ENTRY), None)

    def _mark(self, instrument_id: int) -> Decimal:
        return exact(self.markets[instrument_id].last_price)

    def _claim(self, entry: PaperOrder) -> Decimal:
        return self._cost_of_entry(entry.instrument_id, entry.quantity, entry.leverage)

    def _cost_of_entry(self, instrument_id: int, quantity: Decimal, leverage: Decimal | None) -> Decimal:
        """Margin and fee that an entry needs at the newest price."""
        notional = quantity * self._mark(instrument_id) * (1 + exact(self.params.slippage_rate))
        return notional / (leverage or exact(self.params.leverage)) + notional * exact(self.params.taker_fee_rate)

    def _is_active(self, instrument_id: int) -> bool:
        return instrument_id in self.positions or self._entry(instrument_id) is not None

    def _began_too_early(self, event: MarketEvent) -> bool:
        position = self.positions.get(event.instrument_id)
        moments = [] if position is None else [position.opened_at]
        moments += [
            order.created_at
            for order in self.orders.values()
            if order.instrument_id == event.instrument_id and order.type is OrderType.MARKET
        ]
        return any(event.ts_open < moment < event.ts_close for moment in moments)

    # Refusals

    def _check_entry(self, request: OrderRequest, instrument: Instrument) -> None:
        if request.reduce_only or request.type is not OrderType.MARKET:
            raise OrderRefused("invalid_entry", "an entry is a market order that is not reduce-only")
        leverage = request.leverage or exact(self.params.leverage)
        if not 1 <= leverage <= MAX_LEVERAGE:
            raise OrderRefused("invalid_leverage", f"leverage {leverage} is not between 1 and {MAX_LEVERAGE}")
        position = self.positions.get(request.instrument_id)
        if position is not None and Leg.EXIT not in self._exits(position):
            raise OrderRefused("position_exists", f"{instrument.symbol} has an open position")
        if self._entry(request.instrument_id) is not None:
            raise OrderRefused("position_exists", f"{instrument.symbol} has an entry that waits for its fill")
        self._check_steps(request, instrument)
        notional = request.quantity * self._mark(request.instrument_id)
        if request.quantity < instrument.min_quantity or notional < instrument.min_notional:
            raise OrderRefused(
                "below_minimum",
                f"{request.quantity} {instrument.symbol} is below {instrument.min_quantity} or its value "
                f"{notional:.4f} below {instrument.min_notional}",
            )
        needed = self._cost_of_entry(request.instrument_id, request.quantity, request.leverage)
        if needed > self.available:
            raise OrderRefused("insufficient_margin", f"{needed:.2f} needed, {self.available:.2f} available")

    def _check_steps(self, request: OrderRequest, instrument: Instrument) -> None:
        if request.quantity <= 0 or instrument.round_quantity(request.quantity) != request.quantity:
            raise OrderRefused("bad_quantity_step", f"{request.quantity} is no multiple of {instrument.quantity_step}")
        price = request.trigger_price
        if (price is None) is not (request.type is OrderType.MARKET):
            raise OrderRefused("invalid_trigger", f"{request.type} and trigger price {price} do not belong together")
        if price is not None and (price <= 0 or instrument.round_price(price) != price):
            raise OrderRefused("bad_price_step", f"{price} is no multiple of {instrument.price_step}")

    def _check_trigger(self, request: OrderRequest) -> None:
        """Refuse a stop or target that the newest price has already reached."""
        if request.trigger_price is None:
            return
        distance = request.trigger_price - self._mark(request.instrument_id)
        waits_below = (request.type is OrderType.STOP_MARKET) is (request.side is OrderSide.SELL)
        if distance >= 0 if waits_below else distance <= 0:
            raise OrderRefused(
                "would_trigger_immediately",
                f"{request.leg} at {request.trigger_price}, price {self._mark(request.instrument_id)}",
            )

    def _position_to_reduce(self, request: OrderRequest) -> PaperPosition:
        position = self.positions.get(request.instrument_id)
        if position is None or not request.reduce_only or request.side is not position.side.exit_side:
            raise OrderRefused("reduce_only_rejected", f"{request.client_order_id} does not reduce a position")
        return position


def _levels(
    exits: Mapping[Leg, PaperOrder], side: PositionSide
) -> tuple[float, tuple[float, float, float], tuple[float, float, float]]:
    """Stop, target prices and target quantities as the life cycle takes them; a missing stop is out of reach."""
    stop = exits[Leg.STOP].trigger_price if Leg.STOP in exits else None
    unreachable = 0.0 if side is PositionSide.LONG else float("inf")
    (p1, q1), (p2, q2), (p3, q3) = (_target(exits.get(leg)) for leg in TARGETS)
    return unreachable if stop is None else float(stop), (p1, p2, p3), (q1, q2, q3)


def _target(order: PaperOrder | None) -> tuple[float, float]:
    if order is None or order.trigger_price is None:
        return 0.0, 0.0
    return float(order.trigger_price), float(order.quantity)


def _mark_of(funding: FundingEvent, event: MarketEvent) -> float:
    return event.open if funding.mark is None else funding.mark
