"""Orders that only reduce a position: market exits, stops and targets.

They follow the same path as entries (intent, sent, exchange) but ask neither the risk rules nor the kill switch:
nothing may keep a position from being closed or protected.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import (
    ExchangePort,
    ExchangeUnavailable,
    OrderRefused,
    OutcomeUnknown,
)
from trading_pipelines.domain.execution.orders import (
    Leg,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    client_order_id,
)
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.store.repositories import events, orders, positions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import StoredOrder
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed


@contextmanager
def changing_orders(connection: psycopg.Connection[Any], session: TradingSession) -> Generator[None]:
    """One committed transaction that no other writer of the session's orders and positions runs beside.

    All take the same lock first, so none waits for another that waits for it.
    """
    with committed(connection):
        orders.lock_session(connection, session.session_id)
        yield


class Sent(Enum):
    """What became of an order that was sent."""

    PLACED = auto()
    REFUSED = auto()
    UNKNOWN = auto()
    NOT_SENT = auto()


def close_position(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    position: OpenPosition,
    reason: str,
    as_of: datetime,
    *,
    quantity: Decimal | None = None,
    trade_id: UUID | None = None,
) -> Sent:
    """Close a position at the next price, or a part of it; nothing is sent for what is about to be closed already.

    Parameters
    ----------
    quantity : Decimal, optional
        Part to close, on the venue's step; all of it if left out. Stop and targets shrink with what is left.
    trade_id : UUID, optional
        Names the exit, so that a repeated call sends nothing; needed where a part is closed, for there a second exit
        would not be noticed otherwise.
    """
    with changing_orders(connection, session):
        left = position.quantity_open - orders.quantity_leaving(connection, position.position_id)
        part = left if quantity is None else min(quantity, left)
        name = None if trade_id is None else client_order_id(trade_id, Leg.EXIT)
        if part <= 0 or (name is not None and orders.find(connection, name) is not None):
            return Sent.NOT_SENT
        request = _request(connection, position, Leg.EXIT, OrderType.MARKET, None, as_of, part, name)
        _intend(connection, session, position, request, reason)
    return _place(connection, session, exchange, request)


def move_stop(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    position: OpenPosition,
    stop_price: Decimal,
    as_of: datetime,
) -> Sent:
    """Put a stop for all that is open at a price, in the place of the one that works, if any.

    Unless the new one is placed, the old one stays in force.
    """
    with changing_orders(connection, session):
        request = _request(connection, position, Leg.STOP, OrderType.STOP_MARKET, stop_price, as_of)
        old = orders.working_exit(connection, position.position_id, Leg.STOP)
        _intend(connection, session, position, request, None)
    sent = _place(connection, session, exchange, request, None if old is None else old.client_order_id)
    if sent is Sent.PLACED:
        with changing_orders(connection, session):
            positions.set_protection(connection, position.position_id, position.quantity_open, stop_price)
    return sent


def move_target(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    position: OpenPosition,
    leg: Leg,
    price: Decimal,
    as_of: datetime,
) -> Sent:
    """Put a target at a price, in the place of the one that works; a new one closes what no other target does.

    A target that has been filled, or for which nothing is left, is not sent.
    """
    with changing_orders(connection, session):
        targets = orders.working_targets(connection, position.position_id)
        old = targets.get(leg)
        free = position.quantity_open - sum((t.remaining for t in targets.values()), Decimal(0))
        part = free if old is None else old.remaining
        if part <= 0:
            return Sent.NOT_SENT
        request = _request(connection, position, leg, OrderType.TAKE_PROFIT_MARKET, price, as_of, part)
        _intend(connection, session, position, request, None)
    return _place(connection, session, exchange, request, None if old is None else old.client_order_id)


def ensure_protected(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    open_orders: Iterable[OrderReport],
    as_of: datetime,
) -> int:
    """Give every open position a working stop for all of its quantity, or close it; how many needed it.

    `open_orders` may be older than the newest position, so the exchange is asked again before anyone is alarmed.
    """
    if not _unprotected(connection, session, open_orders, as_of):
        return 0
    held = {p.instrument_id for p in exchange.fetch_positions()}
    bare = [
        p for p in _unprotected(connection, session, exchange.fetch_open_orders(), as_of) if p.instrument_id in held
    ]
    for position in bare:
        _alarm(connection, session, position, as_of)
        stop = position.stop_price
        sent = Sent.REFUSED if stop is None else move_stop(connection, session, exchange, position, stop, as_of)
        if sent is Sent.REFUSED:
            close_position(connection, session, exchange, position, "UNPROTECTED", as_of)
    return len(bare)


def resolve_exit(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    order: StoredOrder,
    as_of: datetime,
) -> bool:
    """Find out what became of an exit, stop or target whose attempt ended in the middle; True when that is known now.

    An exit that the exchange never saw is sent again. A stop or target is given up instead: the one before it is still
    in force, and whoever moves or repairs them computes a newer one.
    """
    name = order.client_order_id
    if order.status is not OrderStatus.INTENT:
        try:
            report = exchange.fetch_order(name)
        except (OutcomeUnknown, ExchangeUnavailable):
            with changing_orders(connection, session):
                orders.set_status(connection, [name], OrderStatus.UNKNOWN, as_of)
            return False
        with changing_orders(connection, session):
            if report is not None:
                orders.apply_report(connection, report)
                return True
            orders.set_status(connection, [name], OrderStatus.UNKNOWN, as_of)
            orders.set_status(connection, [name], OrderStatus.INTENT, as_of)
    if order.leg is Leg.EXIT:
        return _place(connection, session, exchange, order.request(as_of)) is not Sent.UNKNOWN
    with changing_orders(connection, session):
        orders.set_status(connection, [name], OrderStatus.CANCELLED, as_of, "never reached the exchange")
    return True


def _alarm(
    connection: psycopg.Connection[Any], session: TradingSession, position: OpenPosition, as_of: datetime
) -> None:
    bare = position.quantity_open - position.quantity_protected
    with changing_orders(connection, session):
        events.append(
            connection,
            as_of,
            "unprotected_position",
            position.symbol,
            f"{bare.normalize():f} of {position.quantity_open.normalize():f} had no stop",
            session_id=session.session_id,
            severity=Severity.CRITICAL,
            payload={"position_id": str(position.position_id)},
        )


def _unprotected(
    connection: psycopg.Connection[Any], session: TradingSession, open_orders: Iterable[OrderReport], as_of: datetime
) -> list[OpenPosition]:
    """Store how much of each position its own stops cover; the positions that they do not cover entirely.

    A stop that is not stored counts for the position of its symbol: whoever placed it, it protects. One that waits
    with an entry or addition belongs to no position yet.
    """
    stops = [order for order in open_orders if order.leg is Leg.STOP]
    bare: list[OpenPosition] = []
    with changing_orders(connection, session):
        owners = orders.positions_of(connection, [stop.client_order_id for stop in stops])
        for position in positions.open_positions(connection, session.session_id):
            own = [
                stop
                for stop in stops
                if stop.instrument_id == position.instrument_id
                and owners.get(stop.client_order_id, position.position_id) == position.position_id
            ]
            stopped = sum((stop.quantity - stop.filled_quantity for stop in own), Decimal(0))
            covered = min(stopped, position.quantity_open)
            price = own[-1].trigger_price if own else position.stop_price
            if (covered, price) != (position.quantity_protected, position.stop_price):
                positions.set_protection(connection, position.position_id, covered, price)
            if covered < position.quantity_open and not position.exit_pending:
                bare.append(replace(position, quantity_protected=covered))
        positions.record_protection(connection, session.session_id, as_of)
    return bare


def _request(
    connection: psycopg.Connection[Any],
    position: OpenPosition,
    leg: Leg,
    kind: OrderType,
    trigger_price: Decimal | None,
    as_of: datetime,
    quantity: Decimal | None = None,
    name: str | None = None,
) -> OrderRequest:
    if name is None:
        revision = orders.next_revision(connection, position.trade, position.position_id, leg)
        name = client_order_id(position.signal_id or position.position_id, leg, revision)
    return OrderRequest(
        client_order_id=name,
        instrument_id=position.instrument_id,
        leg=leg,
        side=position.side.exit_side,
        type=kind,
        quantity=position.quantity_open if quantity is None else quantity,
        reduce_only=True,
        requested_at=as_of,
        trigger_price=trigger_price,
    )


def _intend(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    position: OpenPosition,
    request: OrderRequest,
    reason: str | None,
) -> None:
    orders.insert_intents(
        connection,
        session.session_id,
        [request],
        signal_id=position.signal_id,
        position_id=position.position_id,
        requested_price=position.mark_price,
        at=request.requested_at,
        reason=reason,
    )


def _place(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    request: OrderRequest,
    replaces: str | None = None,
) -> Sent:
    name, at = request.client_order_id, request.requested_at
    with changing_orders(connection, session):
        if orders.set_status(connection, [name], OrderStatus.SENT, at) == 0:
            return Sent.NOT_SENT
    try:
        report = exchange.create_order(request) if replaces is None else exchange.replace_order(replaces, request)
    except OrderRefused as refusal:
        _note_refusal(connection, session, request, refusal)
        return Sent.REFUSED
    except (OutcomeUnknown, ExchangeUnavailable):
        with changing_orders(connection, session):
            orders.set_status(connection, [name], OrderStatus.UNKNOWN, at)
        return Sent.UNKNOWN
    with changing_orders(connection, session):
        orders.apply_report(connection, report)
        if replaces is not None:
            orders.set_status(connection, [replaces], OrderStatus.CANCELLED, at, f"replaced by {name}")
    return Sent.PLACED


def _note_refusal(
    connection: psycopg.Connection[Any], session: TradingSession, request: OrderRequest, refusal: OrderRefused
) -> None:
    name, at = request.client_order_id, request.requested_at
    with changing_orders(connection, session):
        orders.set_status(connection, [name], OrderStatus.REJECTED, at, str(refusal), refusal.code)
        events.append(
            connection,
            at,
            "order_rejected",
            name,
            str(refusal),
            session_id=session.session_id,
            severity=Severity.WARNING,
        )
