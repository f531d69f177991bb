"""Orders of the platform, and the signals that they execute. Nothing here commits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row, kwargs_row

from trading_pipelines.domain.execution.orders import (
    TRANSITIONS,
    Leg,
    OrderReport,
    OrderRequest,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    revision_of,
)
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.signals.lifecycle import SignalStatus


@dataclass(frozen=True)
class StoredOrder:
    """One row of `orders`; `trade` is what the ids of all orders of one trade begin with."""

    client_order_id: str
    trade: str
    signal_id: UUID | None
    position_id: UUID | None
    instrument_id: int
    leg: Leg
    revision: int
    side: OrderSide
    type: OrderType
    reduce_only: bool
    quantity: Decimal
    trigger_price: Decimal | None
    requested_price: Decimal | None
    status: OrderStatus
    filled_quantity: Decimal
    created_at: datetime
    sent_at: datetime | None

    @property
    def remaining(self) -> Decimal:
        """What may still fill."""
        return self.quantity - self.filled_quantity

    def request(self, at: datetime, leverage: Decimal | None = None) -> OrderRequest:
        """The order as it is sent at `at`."""
        return OrderRequest(
            client_order_id=self.client_order_id,
            instrument_id=self.instrument_id,
            leg=self.leg,
            side=self.side,
            type=self.type,
            quantity=self.quantity,
            reduce_only=self.reduce_only,
            requested_at=at,
            trigger_price=self.trigger_price,
            leverage=leverage,
        )


@dataclass(frozen=True)
class SignalOrder:
    """A signal as the order path reads it, with its instrument."""

    signal_id: UUID
    instrument_id: int
    instrument: Instrument
    created_at: datetime
    valid_until: datetime
    side: PositionSide
    entry_price: float
    stop_price: float
    targets: tuple[float, float, float]
    atr: float
    leverage: float
    confidence: float


_COLUMNS = (
    "client_order_id, trade, signal_id, position_id, instrument_id, leg, revision, side, type, reduce_only, quantity, "
    "trigger_price, requested_price, status, filled_quantity, created_at, sent_at"
)
_SIGNAL_COLUMNS = """
    s.signal_id, s.instrument_id, s.created_at, s.valid_until, s.side, s.entry_price, s.stop_price, s.tp1_price,
    s.tp2_price, s.tp3_price, s.atr, s.leverage, s.confidence, i.exchange, i.symbol, i.base, i.quote, i.kind,
    i.price_step, i.quantity_step, i.min_quantity, i.min_notional, i.funding_interval_minutes
"""


def lock_session(connection: psycopg.Connection[Any], session_id: UUID) -> str:
    """Let one transaction at a time decide for this session; its stored status.

    Two workers that size against the same portfolio at once would together exceed a cap that each of them keeps.
    """
    row = connection.execute(
        "select status from sessions where session_id = %s for no key update", (session_id,)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no session {session_id}")
    return row[0]


def executable_signals(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    as_of: datetime,
    signal_ids: Collection[UUID] | None = None,
) -> list[UUID]:
    """Active signals created by and valid at `as_of`, the most confident first, then by symbol."""
    rows = connection.execute(
        """
        select s.signal_id from signals s join instruments i using (instrument_id)
        where s.session_id = %s and s.status = 'ACTIVE' and s.created_at <= %s and s.valid_until > %s
          and (%s::uuid[] is null or s.signal_id = any(%s::uuid[]))
        order by s.confidence desc, i.symbol, s.ts
        """,
        (session_id, as_of, as_of, *[None if signal_ids is None else list(signal_ids)] * 2),
    )
    return [row[0] for row in rows]


def claim_signal(connection: psycopg.Connection[Any], signal_id: UUID, as_of: datetime) -> SignalOrder | None:
    """Lock a signal that is still active and valid; None when it is not, or another worker holds it."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"select {_SIGNAL_COLUMNS} from signals s join instruments i using (instrument_id) "
            "where s.signal_id = %s and s.status = 'ACTIVE' and s.valid_until > %s "
            "for update of s skip locked",
            (signal_id, as_of),
        ).fetchone()
    return None if row is None else _signal_order(row)


def is_executable(connection: psycopg.Connection[Any], signal_id: UUID, as_of: datetime) -> bool:
    """Whether a signal is still active and valid."""
    row = connection.execute(
        "select status = 'ACTIVE' and valid_until > %s from signals where signal_id = %s", (as_of, signal_id)
    ).fetchone()
    return row is not None and bool(row[0])


def set_signal_status(
    connection: psycopg.Connection[Any], signal_id: UUID, status: SignalStatus, reason: str, at: datetime
) -> None:
    """Move a signal on; the database refuses an illegal change."""
    connection.execute(
        "update signals set status = %s, status_reason = %s, updated_at = %s where signal_id = %s and status <> %s",
        (status, reason, at, signal_id, status),
    )


def signal_status(connection: psycopg.Connection[Any], signal_id: UUID) -> SignalStatus:
    """Where a signal stands."""
    row = connection.execute("select status from signals where signal_id = %s", (signal_id,)).fetchone()
    if row is None:
        raise LookupError(f"there is no signal {signal_id}")
    return SignalStatus(row[0])


def insert_intents(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    requests: Sequence[OrderRequest],
    *,
    signal_id: UUID | None,
    requested_price: Decimal | None,
    at: datetime,
    position_id: UUID | None = None,
    reason: str | None = None,
    run_id: str | None = None,
) -> None:
    """Store what is about to be sent; an id that is already there is an error."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into orders (client_order_id, session_id, signal_id, position_id, instrument_id, leg, revision, "
            "side, type, reduce_only, quantity, trigger_price, requested_price, status_reason, created_at, updated_at, "
            "run_id) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    r.client_order_id,
                    session_id,
                    signal_id,
                    position_id,
                    r.instrument_id,
                    r.leg,
                    revision_of(r.client_order_id),
                    r.side,
                    r.type,
                    r.reduce_only,
                    r.quantity,
                    r.trigger_price,
                    r.trigger_price or requested_price,
                    reason,
                    at,
                    at,
                    run_id,
                )
                for r in requests
            ],
        )


def set_status(
    connection: psycopg.Connection[Any],
    client_order_ids: Collection[str],
    status: OrderStatus,
    at: datetime,
    reason: str | None = None,
    code: str | None = None,
) -> int:
    """Move those of the orders that may legally become `status`; how many did. `code` is why the exchange refused."""
    sources = [before for before, after in TRANSITIONS if after is status]
    return connection.execute(
        "update orders set status = %s, status_reason = coalesce(%s, status_reason), "
        "reject_code = coalesce(%s, reject_code), updated_at = %s, "
        "sent_at = case when %s = 'SENT' then %s else sent_at end "
        "where client_order_id = any(%s) and status = any(%s)",
        (status, reason, code, at, status, at, list(client_order_ids), sources),
    ).rowcount


def apply_report(connection: psycopg.Connection[Any], report: OrderReport) -> bool:
    """Take over what the exchange says about an order; True when that changed something.

    The stored quantity follows the exchange's, because exits have the size of what is open, and so does the price of a
    stop that an addition did not let move back. A report that would lead backwards is older than what is stored and is
    left out.
    """
    sources = [before for before, after in TRANSITIONS if after is report.status] + [report.status]
    return (
        connection.execute(
            """
            update orders set status = %(status)s, status_reason = coalesce(%(reason)s, status_reason),
                exchange_order_id = %(exchange_order_id)s, quantity = %(quantity)s,
                filled_quantity = %(filled_quantity)s, average_price = %(average_price)s, fee = %(fee)s,
                trigger_price = coalesce(%(trigger_price)s, trigger_price), updated_at = %(updated_at)s
            where client_order_id = %(client_order_id)s and status = any(%(sources)s)
              and filled_quantity <= %(filled_quantity)s
              and (status, exchange_order_id, quantity, filled_quantity, trigger_price)
                  is distinct from (%(status)s, %(exchange_order_id)s, %(quantity)s, %(filled_quantity)s,
                                    coalesce(%(trigger_price)s, trigger_price))
            """,
            {**vars(report), "sources": sources},
        ).rowcount
        > 0
    )


def find(connection: psycopg.Connection[Any], client_order_id: str) -> StoredOrder | None:
    """The order of that id."""
    found = _select(connection, "client_order_id = %s", (client_order_id,))
    return found[0] if found else None


def of_signal(connection: psycopg.Connection[Any], signal_id: UUID) -> list[StoredOrder]:
    """All orders of a signal, in the order in which they were made."""
    return _select(connection, "signal_id = %s", (signal_id,))


def unresolved(connection: psycopg.Connection[Any], session_id: UUID) -> list[StoredOrder]:
    """Orders that the exchange has not confirmed."""
    return _select(connection, "session_id = %s and status in ('INTENT', 'SENT', 'UNKNOWN')", (session_id,))


def working(connection: psycopg.Connection[Any], session_id: UUID) -> list[StoredOrder]:
    """Orders that the exchange holds."""
    return _select(connection, "session_id = %s and status in ('ACCEPTED', 'PARTIALLY_FILLED')", (session_id,))


def entries_under_way(connection: psycopg.Connection[Any], session_id: UUID) -> list[StoredOrder]:
    """Entries and additions that have not filled entirely and still may."""
    return _select(
        connection,
        "session_id = %s and status in ('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED') "
        "and leg in ('ENTRY', 'ADD')",
        (session_id,),
    )


def working_exit(connection: psycopg.Connection[Any], position_id: UUID, leg: Leg) -> StoredOrder | None:
    """The newest order of a leg that the exchange holds for a position."""
    found = _select(
        connection, "position_id = %s and leg = %s and status in ('ACCEPTED', 'PARTIALLY_FILLED')", (position_id, leg)
    )
    return found[-1] if found else None


def working_targets(connection: psycopg.Connection[Any], position_id: UUID) -> dict[Leg, StoredOrder]:
    """The targets of a position that the exchange holds."""
    found = _select(
        connection,
        "position_id = %s and leg in ('TP1', 'TP2', 'TP3') and status in ('ACCEPTED', 'PARTIALLY_FILLED')",
        (position_id,),
    )
    return {order.leg: order for order in found}


def positions_of(connection: psycopg.Connection[Any], client_order_ids: Collection[str]) -> dict[str, UUID | None]:
    """The position that each stored order belongs to; orders that are not stored are not in it."""
    rows = connection.execute(
        "select client_order_id, position_id from orders where client_order_id = any(%s)", (list(client_order_ids),)
    )
    return dict(rows.fetchall())


def first_stop_price(connection: psycopg.Connection[Any], trade: str) -> Decimal | None:
    """The stop that a trade's entry was sent with."""
    row = connection.execute(
        "select trigger_price from orders where trade = %s and leg = 'STOP' order by revision limit 1", (trade,)
    ).fetchone()
    return None if row is None else row[0]


def quantity_leaving(connection: psycopg.Connection[Any], position_id: UUID) -> Decimal:
    """What market exits of a position may still close."""
    under_way = _select(
        connection,
        "position_id = %s and leg = 'EXIT' and status in ('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED')",
        (position_id,),
    )
    return sum((order.remaining for order in under_way), Decimal(0))


def next_revision(connection: psycopg.Connection[Any], trade: str, position_id: UUID, leg: Leg) -> int:
    """The first revision of a leg that neither the trade nor the position has used."""
    row = connection.execute(
        "select coalesce(max(revision) + 1, 0) from orders where (trade = %s or position_id = %s) and leg = %s",
        (trade, position_id, leg),
    ).fetchone()
    return 0 if row is None else row[0]


def assign_position(connection: psycopg.Connection[Any], trade: str, position_id: UUID) -> None:
    """Name the position that the orders of a trade have opened or enlarged."""
    connection.execute(
        "update orders set position_id = %s where trade = %s and position_id is distinct from %s",
        (position_id, trade, position_id),
    )


def executed_signals(connection: psycopg.Connection[Any], position_id: UUID) -> list[UUID]:
    """The signals whose orders opened or enlarged a position and that have not ended."""
    rows = connection.execute(
        "select s.signal_id from signals s where s.status = 'EXECUTED' and (s.signal_id = (select signal_id from "
        "positions where position_id = %s) or s.signal_id in (select signal_id from orders where position_id = %s)) "
        "order by s.created_at",
        (position_id, position_id),
    )
    return [row[0] for row in rows]


def _select(connection: psycopg.Connection[Any], where: LiteralString, parameters: Sequence[Any]) -> list[StoredOrder]:
    with connection.cursor(row_factory=kwargs_row(_stored_order)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from orders where {where} order by created_at, revision, client_order_id", parameters
        ).fetchall()


def _stored_order(**row: Any) -> StoredOrder:
    row["leg"], row["side"] = Leg(row["leg"]), OrderSide(row["side"])
    row["type"], row["status"] = OrderType(row["type"]), OrderStatus(row["status"])
    return StoredOrder(**row)


def _signal_order(row: dict[str, Any]) -> SignalOrder:
    names = (
        "exchange",
        "symbol",
        "base",
        "quote",
        "price_step",
        "quantity_step",
        "min_quantity",
        "min_notional",
        "funding_interval_minutes",
    )
    return SignalOrder(
        signal_id=row["signal_id"],
        instrument_id=row["instrument_id"],
        instrument=Instrument(kind=MarketKind(row["kind"]), **{name: row[name] for name in names}),
        created_at=row["created_at"],
        valid_until=row["valid_until"],
        side=PositionSide(row["side"]),
        entry_price=row["entry_price"],
        stop_price=row["stop_price"],
        targets=(row["tp1_price"], row["tp2_price"], row["tp3_price"]),
        atr=row["atr"],
        leverage=row["leverage"],
        confidence=row["confidence"],
    )
