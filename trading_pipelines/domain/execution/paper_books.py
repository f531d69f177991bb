"""What the simulated exchange keeps: orders, positions, fills, funding, and the market events that move them.

Belongs here: the records and what can be said of one of them alone. Does not belong here: how they change
(`domain.execution.paper_account`) and which requests are refused (`domain.execution.paper_rules`).
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading_pipelines.domain.execution.amounts import money
from trading_pipelines.domain.execution.orders import (
    FillKind,
    Leg,
    OrderReport,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionReport,
    PositionSide,
)


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
    volume : float or None
        Traded quantity in base currency; None where it is not known.
    """

    instrument_id: int
    ts_open: datetime
    ts_close: datetime
    open: float
    high: float
    low: float
    close: float
    funding: tuple[FundingEvent, ...] = ()
    volume: float | None = None

    @classmethod
    def tick(
        cls,
        instrument_id: int,
        ts: datetime,
        price: float,
        funding: tuple[FundingEvent, ...] = (),
        volume: float | None = None,
    ) -> "MarketEvent":
        """One traded price."""
        return cls(instrument_id, ts, ts, price, price, price, price, funding, volume)

    def close_only(self) -> "MarketEvent":
        """The part of the event that is certainly later than its open: its close as a tick."""
        return MarketEvent.tick(self.instrument_id, self.ts_close, self.close, self.funding, self.volume)


class PaperOrderStatus(StrEnum):
    """HELD waits: an exit for its entry's fill, a replacement for the time from which it counts."""

    HELD = "HELD"
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"


@dataclass
class PaperOrder:
    """One order in the books of the exchange.

    Attributes
    ----------
    bracket_id : str
        Client order id of the entry that it belongs to.
    quantity : Decimal
        What has been filled and what still may be; of an exit it follows what is open.
    weight : Decimal
        What was asked for; targets share what is open in proportion to it.
    effective_at : datetime
        From then on the order counts.
    replaces : str or None
        Working order whose place it takes then.
    is_triggered : bool
        Its price was reached but only part of it filled: the rest is at the market.
    """

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
    weight: Decimal
    effective_at: datetime
    replaces: str | None = None
    is_triggered: bool = False
    reason: str | None = None
    filled_quantity: Decimal = Decimal(0)
    average_price: Decimal | None = None
    fee: Decimal = Decimal(0)

    @property
    def is_working(self) -> bool:
        """Whether it may still fill."""
        return self.status in (PaperOrderStatus.HELD, PaperOrderStatus.OPEN)

    @property
    def remaining(self) -> Decimal:
        """What may still fill."""
        return self.quantity - self.filled_quantity

    def counts(self, at: datetime) -> bool:
        """Whether it works and was in force at `at`."""
        return self.status is PaperOrderStatus.OPEN and self.effective_at <= at

    def add_fill(self, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        """Add one execution to what has been filled."""
        before = self.filled_quantity
        paid = quantity * price if self.average_price is None else before * self.average_price + quantity * price
        self.filled_quantity = before + quantity
        self.average_price = price if before == 0 else paid / self.filled_quantity
        self.fee += fee

    def report(self) -> OrderReport:
        """The order as an exchange reports it: a held one counts as accepted."""
        status = OrderStatus(self.status.value) if not self.is_working else OrderStatus.ACCEPTED
        if self.is_working and self.filled_quantity > 0:
            status = OrderStatus.PARTIALLY_FILLED
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
    """One open position; `bracket_id` is the client order id of the entry that opened it.

    `entry_margin` is the margin of `quantity_initial`; what is bound now is its remaining share.
    """

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

    def report(self, mark: Decimal) -> PositionReport:
        """The position as an exchange reports it, marked at a price."""
        return PositionReport(
            instrument_id=self.instrument_id,
            side=self.side,
            quantity=self.quantity,
            entry_price=self.entry_price,
            leverage=self.leverage,
            margin=self.margin,
            liquidation_price=self.liquidation_price,
            mark_price=mark,
            unrealised_pnl=self.unrealised(mark),
            opened_at=self.opened_at,
        )


@dataclass
class PaperMarket:
    """How far a market has been applied, its newest price, and the step on which quantities fill."""

    instrument_id: int
    advanced_to: datetime
    last_price: float
    quantity_step: Decimal = Decimal(0)


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
class Liquidity:
    """What may still be filled during one event; None without a limit."""

    left: Decimal | None

    def take(self, wanted: Decimal, step: Decimal) -> Decimal:
        """Take as much of `wanted` as there is, in whole steps."""
        if self.left is None or wanted <= self.left:
            taken = wanted
        else:
            taken = self.left if step == 0 else self.left // step * step
        if self.left is not None:
            self.left -= taken
        return taken


@dataclass
class Changes:
    """What has to be stored after an operation."""

    orders: dict[str, PaperOrder] = field(default_factory=dict[str, PaperOrder])
    markets: dict[int, PaperMarket] = field(default_factory=dict[int, PaperMarket])
    positions: set[int] = field(default_factory=set[int])
    fills: list[PaperFill] = field(default_factory=list[PaperFill])
    funding: list[PaperFunding] = field(default_factory=list[PaperFunding])
