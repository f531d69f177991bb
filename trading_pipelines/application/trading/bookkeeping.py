"""The last stage of the order path: from what the exchange reports to fills, positions and the end of signals.

Belongs here: taking over fills, funding and order states, each once. Does not belong here: when the exchange is asked
(`execution`), and stops that are missing (`protection`).
"""

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid5

from trading_pipelines.application.risk.rules import record_protections
from trading_pipelines.application.trading.order_context import OrderContext
from trading_pipelines.application.trading.sending import mark_executed
from trading_pipelines.domain.engine.lifecycle import open_position
from trading_pipelines.domain.execution.amounts import exact, money
from trading_pipelines.domain.execution.orders import (
    UNRESOLVED,
    FillKind,
    FillReport,
    FundingReport,
    Leg,
    OrderReport,
    OrderRequest,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionSide,
    client_order_id,
    trade_of,
)
from trading_pipelines.domain.signals.lifecycle import SignalStatus
from trading_pipelines.store.repositories import fills, orders, positions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import StoredOrder
from trading_pipelines.store.transaction import committed

_SIGNAL_ENDS = {
    FillKind.TP1: SignalStatus.HIT_TP,
    FillKind.TP2: SignalStatus.HIT_TP,
    FillKind.TP3: SignalStatus.HIT_TP,
    FillKind.STOP: SignalStatus.HIT_SL,
}


def take_over(
    context: OrderContext,
    new_fills: Sequence[FillReport],
    new_funding: Sequence[FundingReport],
    reports: Mapping[str, OrderReport],
) -> tuple[list[UUID], list[UUID]]:
    """Store fills in their order, funding and order states; which positions were opened and closed."""
    opened: list[UUID] = []
    closed: list[UUID] = []
    happened = sorted([*new_fills, *new_funding], key=lambda what: what.sequence)
    for what in happened:
        if isinstance(what, FundingReport):
            _take_over_funding(context, what)
            continue
        position_id, is_new, is_closed = take_over_fill(context, what)
        opened += [position_id] if is_new else []
        closed += [position_id] if is_closed else []
    for report in reports.values():
        _take_over_order(context, report)
    if closed:
        record_protections(context.connection, context.session, context.as_of)
    return opened, closed


def take_over_fill(context: OrderContext, fill: FillReport) -> tuple[UUID, bool, bool]:
    """Store one fill with its position; the position, whether it is new and whether it is closed now."""
    connection, session_id = context.connection, context.session.session_id
    order = None if fill.client_order_id is None else orders.find(connection, fill.client_order_id)
    held = positions.open_position_id(connection, session_id, fill.instrument_id)
    is_new = fill.kind is FillKind.ENTRY and held is None
    position_id = held or uuid5(session_id, fill.fill_id)
    if held is None and not is_new:
        raise LookupError(f"fill {fill.fill_id} closes a position that is not stored")
    if is_new:
        _open(context, position_id, fill, order)
    if order is not None and order.leg.opens:
        _enlarge(context, position_id, order)
    name = order.client_order_id if order is not None else _adopt(context, position_id, fill)
    fills.insert_fill(connection, session_id, position_id, name, fill)
    result = positions.refresh(connection, position_id, context.as_of)
    context.event(
        "fill",
        result.symbol,
        f"{fill.kind} {fill.side} {fill.quantity.normalize():f} at {float(fill.price):.8g}",
        Severity.CRITICAL if fill.kind is FillKind.LIQUIDATION else Severity.INFO,
        position_id=str(position_id),
        client_order_id=name,
    )
    if result.is_closed and result.close_kind is not None:
        _end_signals(context, position_id, FillKind(result.close_kind))
    return position_id, is_new, result.is_closed


def cancel_orphans(context: OrderContext, open_orders: Sequence[OrderReport]) -> None:
    """Cancel entries that the exchange holds although they were given up here, as after a very late arrival."""
    connection = context.connection
    for report in open_orders:
        if not report.leg.opens:
            continue
        with committed(connection):
            stored = orders.find(connection, report.client_order_id)
        if stored is not None and stored.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED):
            context.exchange.cancel_order(report.client_order_id)
            with committed(connection):
                message = f"an entry that was {stored.status} here was still working"
                context.event("orphan_order", report.client_order_id, message, Severity.CRITICAL)


def _open(context: OrderContext, position_id: UUID, fill: FillReport, order: StoredOrder | None) -> None:
    session = context.session
    side = PositionSide.LONG if fill.side is OrderSide.BUY else PositionSide.SHORT
    # Margin and liquidation price by the one rule that there is; the levels play no part in them.
    state, _ = open_position(
        side,
        float(fill.quantity),
        float(fill.reference_price),
        0.0 if side is PositionSide.LONG else float("inf"),
        (0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        session.execution,
    )
    positions.insert(
        context.connection,
        positions.NewPosition(
            position_id=position_id,
            session_id=session.session_id,
            instrument_id=fill.instrument_id,
            signal_id=None if order is None else order.signal_id,
            side=side,
            quantity_initial=fill.quantity,
            entry_price=fill.price,
            entry_margin=money(state.entry_margin),
            leverage=exact(session.execution.leverage),
            stop_price=None if order is None else orders.first_stop_price(context.connection, order.trade),
            liquidation_price=exact(state.liquidation_price),
            mark_price=fill.price,
            opened_at=fill.ts,
        ),
    )


def _enlarge(context: OrderContext, position_id: UUID, order: StoredOrder) -> None:
    """Let the orders of an entry or addition belong to what it opens or enlarges, from its first fill on."""
    if order.position_id == position_id:
        return
    orders.assign_position(context.connection, order.trade, position_id)
    if order.signal_id is not None:
        mark_executed(context, order.signal_id)


def _adopt(context: OrderContext, position_id: UUID, fill: FillReport) -> str:
    """Give a fill that no order of ours asked for an order of its own, so that the history is complete."""
    signal_id = positions.signal_of(context.connection, position_id)
    trade_id = signal_id or position_id
    entering = fill.kind is FillKind.ENTRY
    leg = Leg.ENTRY if entering else Leg.EXIT
    revision = orders.next_revision(context.connection, trade_of(trade_id), position_id, leg)
    name = client_order_id(trade_id, leg, revision)
    request = OrderRequest(
        client_order_id=name,
        instrument_id=fill.instrument_id,
        leg=leg,
        side=fill.side,
        type=OrderType.MARKET,
        quantity=fill.quantity,
        reduce_only=not entering,
        requested_at=fill.ts,
    )
    orders.insert_intents(
        context.connection,
        context.session.session_id,
        [request],
        signal_id=signal_id,
        position_id=position_id,
        requested_price=fill.reference_price,
        at=fill.ts,
        reason="LIQUIDATION" if fill.kind is FillKind.LIQUIDATION else "OUTSIDE",
    )
    orders.set_status(context.connection, [name], OrderStatus.SENT, fill.ts)
    orders.apply_report(
        context.connection,
        OrderReport(
            client_order_id=name,
            exchange_order_id=fill.fill_id,
            instrument_id=fill.instrument_id,
            leg=leg,
            status=OrderStatus.FILLED,
            quantity=fill.quantity,
            filled_quantity=fill.quantity,
            average_price=fill.price,
            trigger_price=None,
            fee=fill.fee,
            updated_at=fill.ts,
        ),
    )
    return name


def _take_over_funding(context: OrderContext, payment: FundingReport) -> None:
    session_id = context.session.session_id
    position_id = positions.position_id_at(context.connection, session_id, payment.instrument_id, payment.ts)
    if position_id is None:
        raise LookupError(f"funding {payment.sequence} belongs to no stored position")
    if fills.insert_funding(context.connection, session_id, position_id, payment):
        positions.refresh(context.connection, position_id, context.as_of)


def _take_over_order(context: OrderContext, report: OrderReport) -> None:
    """Store the state of an order; one without an answer is left to `resolve_pending`."""
    connection = context.connection
    stored = orders.find(connection, report.client_order_id)
    if stored is None or stored.status in UNRESOLVED:
        return
    if orders.apply_report(connection, report) and report.leg.opens:
        _entry_ended(context, stored, report)


def _entry_ended(context: OrderContext, stored: StoredOrder, report: OrderReport) -> None:
    """Close a signal whose entry was cancelled or refused after it had been accepted."""
    ended = report.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED) and report.filled_quantity == 0
    if ended and stored.signal_id is not None:
        reason = f"entry {report.status.lower()}: {report.reason or 'by the exchange'}"
        _end_signal(context, stored.signal_id, SignalStatus.CLOSED, reason)


def _end_signals(context: OrderContext, position_id: UUID, kind: FillKind) -> None:
    """End every signal that opened or enlarged a position, by what closed it."""
    for signal_id in orders.executed_signals(context.connection, position_id):
        status = _SIGNAL_ENDS.get(kind, SignalStatus.CLOSED)
        _end_signal(context, signal_id, status, f"position closed by {kind}")


def _end_signal(context: OrderContext, signal_id: UUID, status: SignalStatus, reason: str) -> None:
    if orders.signal_status(context.connection, signal_id) is SignalStatus.EXECUTED:
        orders.set_signal_status(context.connection, signal_id, status, reason, context.as_of)
