"""Orders as the platform and an exchange speak about them, and the table of their legal status changes.

Belongs here: requests, reports, client order ids, the life of an order. Does not belong here: when to trade
(`domain.signals`), how much (`domain.risk`) and what an exchange does with an order (`adapters.exchanges`).
Quantities and prices are `Decimal`: this is the border where rounding to the venue's steps has happened.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID


class OrderStatus(StrEnum):
    """Where an order stands.

    INTENT is committed before anything is sent; SENT means that the exchange may have it; UNKNOWN that a
    reply was lost, which only asking the exchange resolves.
    """

    INTENT = "INTENT"
    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


UNRESOLVED = frozenset({OrderStatus.INTENT, OrderStatus.SENT, OrderStatus.UNKNOWN})
"""The exchange has not confirmed these yet."""
WORKING = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
"""The exchange holds these and may still fill them."""
TRANSITIONS: frozenset[tuple[OrderStatus, OrderStatus]] = frozenset(
    {
        (OrderStatus.INTENT, OrderStatus.SENT),
        (OrderStatus.INTENT, OrderStatus.CANCELLED),
        (OrderStatus.INTENT, OrderStatus.REJECTED),
        (OrderStatus.SENT, OrderStatus.ACCEPTED),
        (OrderStatus.SENT, OrderStatus.REJECTED),
        (OrderStatus.SENT, OrderStatus.UNKNOWN),
        (OrderStatus.SENT, OrderStatus.PARTIALLY_FILLED),
        (OrderStatus.SENT, OrderStatus.FILLED),
        (OrderStatus.SENT, OrderStatus.CANCELLED),
        (OrderStatus.UNKNOWN, OrderStatus.ACCEPTED),
        (OrderStatus.UNKNOWN, OrderStatus.REJECTED),
        (OrderStatus.UNKNOWN, OrderStatus.PARTIALLY_FILLED),
        (OrderStatus.UNKNOWN, OrderStatus.FILLED),
        (OrderStatus.UNKNOWN, OrderStatus.CANCELLED),
        (OrderStatus.UNKNOWN, OrderStatus.INTENT),
        (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED),
        (OrderStatus.ACCEPTED, OrderStatus.FILLED),
        (OrderStatus.ACCEPTED, OrderStatus.CANCELLED),
        (OrderStatus.ACCEPTED, OrderStatus.REJECTED),
        (OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED),
        (OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELLED),
    }
)
"""Legal status changes; the table `order_transitions` of the database holds the same rows."""


class Leg(StrEnum):
    """What an order is for within one trade; ADD enlarges a position that is open."""

    ENTRY = "ENTRY"
    ADD = "ADD"
    STOP = "STOP"
    TP1 = "TP1"
    TP2 = "TP2"
    TP3 = "TP3"
    EXIT = "EXIT"

    @property
    def opens(self) -> bool:
        """Whether such an order makes a position larger."""
        return self in (Leg.ENTRY, Leg.ADD)


TARGETS = (Leg.TP1, Leg.TP2, Leg.TP3)
"""The legs that take profit, nearest first."""


class OrderSide(StrEnum):
    """Direction of an order."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """How an order fills: at once, or at the market once its trigger price trades."""

    MARKET = "MARKET"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"


class FillKind(StrEnum):
    """Why a fill happened; an addition to a position is an ENTRY as well."""

    ENTRY = "ENTRY"
    TP1 = "TP1"
    TP2 = "TP2"
    TP3 = "TP3"
    STOP = "STOP"
    LIQUIDATION = "LIQUIDATION"
    EXIT = "EXIT"


class FillSource(StrEnum):
    """Who says that a fill happened; RECONCILED is our own record of what an exchange did without a report."""

    EXCHANGE = "EXCHANGE"
    RECONCILED = "RECONCILED"


class PositionSide(StrEnum):
    """Direction of a position."""

    LONG = "LONG"
    SHORT = "SHORT"

    @property
    def sign(self) -> int:
        """+1 for long, -1 for short."""
        return 1 if self is PositionSide.LONG else -1

    @property
    def entry_side(self) -> OrderSide:
        """Side of the order that opens the position."""
        return OrderSide.BUY if self is PositionSide.LONG else OrderSide.SELL

    @property
    def exit_side(self) -> OrderSide:
        """Side of the orders that close the position."""
        return OrderSide.SELL if self is PositionSide.LONG else OrderSide.BUY


_LEG_CODES = {
    Leg.ENTRY: "E",
    Leg.ADD: "A",
    Leg.STOP: "S",
    Leg.TP1: "T1",
    Leg.TP2: "T2",
    Leg.TP3: "T3",
    Leg.EXIT: "X",
}
_MAX_ID_LENGTH = 36


def client_order_id(trade_id: UUID, leg: Leg, revision: int = 0) -> str:
    """Name the order of one leg; the same trade (a signal, as a rule), leg and revision always give the same id.

    At most 36 characters, the shortest limit of the venues in view. A later revision replaces an earlier
    order of the same leg.
    """
    name = f"{order_id_prefix(trade_id)}{_LEG_CODES[leg]}-{revision}"
    if revision < 0 or len(name) > _MAX_ID_LENGTH:
        raise ValueError(f"revision {revision} does not fit into a client order id")
    return name


def order_id_prefix(trade_id: UUID) -> str:
    """What the client order ids of all orders of one trade begin with."""
    return f"{trade_of(trade_id)}-"


def trade_of(trade_id: UUID) -> str:
    """The part of client order ids that names the trade: its signal, or the instruction of a person."""
    return trade_id.hex[:24]


def revision_of(client_order_id: str) -> int:
    """The revision that an id was made with."""
    return int(client_order_id.rpartition("-")[2])


@dataclass(frozen=True)
class OrderRequest:
    """One order as it is sent.

    Attributes
    ----------
    requested_at : datetime
        When it is sent, UTC; a simulated exchange fills it with what happens from then on.
    trigger_price : Decimal or None
        None for market orders.
    leverage : Decimal or None
        Isolated-margin leverage of the position that an entry opens; None for exits.
    """

    client_order_id: str
    instrument_id: int
    leg: Leg
    side: OrderSide
    type: OrderType
    quantity: Decimal
    reduce_only: bool
    requested_at: datetime
    trigger_price: Decimal | None = None
    leverage: Decimal | None = None


@dataclass(frozen=True)
class BracketRequest:
    """An entry with its exits, which work from the entry's fill until the position is closed.

    The exits always have the size of what is open: of an entry that fills in parts the exchange lets them protect
    what has filled. With leg ADD the entry enlarges an open position, and the exits take the place of those that
    work, at the moment of its first fill; a stop never moves back that way.
    """

    entry: OrderRequest
    stop: OrderRequest
    targets: tuple[OrderRequest, ...]

    @property
    def legs(self) -> tuple[OrderRequest, ...]:
        """All orders, the entry first."""
        return (self.entry, self.stop, *self.targets)


@dataclass(frozen=True)
class OrderReport:
    """What the exchange says about one order; `fee` in quote currency."""

    client_order_id: str
    exchange_order_id: str
    instrument_id: int
    leg: Leg
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None
    trigger_price: Decimal | None
    fee: Decimal
    updated_at: datetime
    reason: str | None = None


@dataclass(frozen=True)
class FillReport:
    """One execution.

    Attributes
    ----------
    fill_id : str
        Unique over all sessions.
    sequence : int
        Ascending per account; a reader goes on after the last one it has stored.
    client_order_id : str or None
        None where no order of ours was filled, as in a liquidation.
    reference_price : Decimal
        Price before slippage.
    realised_pnl : Decimal
        Price result of this fill in quote currency, before fees and funding.
    """

    fill_id: str
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
    source: FillSource = FillSource.EXCHANGE


@dataclass(frozen=True)
class FundingReport:
    """One funding payment; `amount` in quote currency, positive when we paid."""

    sequence: int
    instrument_id: int
    ts: datetime
    rate: float
    amount: Decimal


@dataclass(frozen=True)
class PositionReport:
    """An open position as the exchange holds it; `margin` is the isolated margin of what is still open."""

    instrument_id: int
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    leverage: Decimal
    margin: Decimal
    liquidation_price: Decimal
    mark_price: Decimal
    unrealised_pnl: Decimal
    opened_at: datetime


@dataclass(frozen=True)
class BalanceReport:
    """The account in quote currency; `cash` is what is not bound as margin."""

    cash: Decimal
    margin: Decimal
    unrealised_pnl: Decimal

    @property
    def equity(self) -> Decimal:
        """Cash, margin and unrealised result together."""
        return self.cash + self.margin + self.unrealised_pnl
