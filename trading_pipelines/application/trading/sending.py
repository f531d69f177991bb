"""The second stage of the order path: send what is intended, and find out what became of attempts that were cut off.

Belongs here: one request to the exchange and what its answer, or the lack of one, makes of orders and signals. Does
not belong here: what is sent (`intents`) and what fills make of it (`bookkeeping`).
"""

from collections.abc import Sequence
from uuid import UUID

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OrderRefused, OutcomeUnknown
from trading_pipelines.application.trading import protection
from trading_pipelines.application.trading.order_context import OrderContext, Outcome
from trading_pipelines.domain.execution.orders import BracketRequest, OrderReport, OrderStatus
from trading_pipelines.domain.signals.lifecycle import SignalStatus
from trading_pipelines.store.repositories import orders
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import StoredOrder
from trading_pipelines.store.transaction import committed


def send(context: OrderContext, signal_id: UUID, bracket: BracketRequest) -> Outcome:
    """Send the bracket of a signal; the kill switch is looked at in the moment of sending."""
    connection, session, as_of = context.connection, context.session, context.as_of
    names = [leg.client_order_id for leg in bracket.legs]
    with protection.changing_orders(connection, session):
        if context.kill is not None and context.kill.refusal(connection, session.session_id, as_of) is not None:
            return Outcome.WAITING
        if orders.set_status(connection, names, OrderStatus.SENT, as_of) < len(names):
            raise RuntimeError(f"the orders of signal {signal_id} were changed while they were being sent")
    try:
        reports = context.exchange.create_bracket(bracket)
    except OrderRefused as refusal:
        with protection.changing_orders(connection, session):
            orders.set_status(connection, names, OrderStatus.REJECTED, as_of, str(refusal), refusal.code)
            orders.set_signal_status(connection, signal_id, SignalStatus.REJECTED, str(refusal), as_of)
            context.event(
                "order_rejected",
                names[0],
                str(refusal),
                Severity.WARNING,
                signal_id=str(signal_id),
                code=refusal.code,
                venue_code=refusal.venue_code,
            )
        return Outcome.REJECTED
    except (OutcomeUnknown, ExchangeUnavailable) as error:
        with protection.changing_orders(connection, session):
            orders.set_status(connection, names, OrderStatus.UNKNOWN, as_of, str(error))
            if isinstance(error, ExchangeUnavailable):
                orders.set_status(connection, names, OrderStatus.INTENT, as_of)
        return Outcome.WAITING if isinstance(error, ExchangeUnavailable) else Outcome.UNRESOLVED
    with protection.changing_orders(connection, session):
        return _settle(context, signal_id, reports)


def resolve(context: OrderContext) -> int:
    """Resolve what can be resolved; how many orders are still not known to be there or not."""
    connection = context.connection
    with committed(connection):
        pending = orders.unresolved(connection, context.session.session_id)
    unknown = 0
    brackets = {o.trade: o.signal_id for o in pending if o.leg.opens}
    for trade, signal_id in sorted(brackets.items()):
        unknown += _resolve_bracket(context, signal_id, [o for o in pending if o.trade == trade])
    for order in pending:
        if order.trade not in brackets:
            known = protection.resolve_exit(connection, context.session, context.exchange, order, context.as_of)
            unknown += not known
    return unknown


def mark_executed(context: OrderContext, signal_id: UUID) -> None:
    """An accepted entry makes its signal EXECUTED, unless it ended meanwhile; then a person should know."""
    status = orders.signal_status(context.connection, signal_id)
    if status is SignalStatus.ACTIVE:
        orders.set_signal_status(
            context.connection, signal_id, SignalStatus.EXECUTED, "accepted by the exchange", context.as_of
        )
    elif status in (SignalStatus.EXPIRED, SignalStatus.CANCELLED, SignalStatus.REJECTED):
        context.event(
            "late_execution",
            str(signal_id),
            f"the exchange accepted the entry of a signal that is {status}",
            Severity.WARNING,
        )


def _settle(context: OrderContext, signal_id: UUID | None, reports: Sequence[OrderReport]) -> Outcome:
    """Store what the exchange answered about a bracket; the signal follows its entry, the first report."""
    for report in reports:
        orders.apply_report(context.connection, report)
    entry = reports[0]
    ended = entry.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED) and entry.filled_quantity == 0
    if signal_id is not None and ended:
        _end_signal(context, signal_id, SignalStatus(entry.status.value), entry.reason or "refused by the exchange")
    elif signal_id is not None:
        mark_executed(context, signal_id)
    return Outcome[entry.status.name] if ended else Outcome.EXECUTED


def _end_signal(context: OrderContext, signal_id: UUID, status: SignalStatus, reason: str) -> None:
    if orders.signal_status(context.connection, signal_id) is SignalStatus.ACTIVE:
        orders.set_signal_status(context.connection, signal_id, status, reason, context.as_of)


def _resolve_bracket(context: OrderContext, signal_id: UUID | None, legs: Sequence[StoredOrder]) -> int:
    connection, session, as_of = context.connection, context.session, context.as_of
    if any(leg.status is not OrderStatus.INTENT for leg in legs):
        names = [leg.client_order_id for leg in legs]
        try:
            reports = [context.exchange.fetch_order(name) for name in names]
        except (OutcomeUnknown, ExchangeUnavailable) as error:
            with protection.changing_orders(connection, session):
                orders.set_status(connection, names, OrderStatus.UNKNOWN, as_of, str(error))
            return len(names)
        found = [report for report in reports if report is not None]
        with protection.changing_orders(connection, session):
            if any(report.leg.opens for report in found):
                _settle_found(context, signal_id, names, found)
                return 0
            # The exchange has proved that it never saw them, so they are as if they had not been sent.
            orders.set_status(connection, names, OrderStatus.UNKNOWN, as_of)
            orders.set_status(connection, names, OrderStatus.INTENT, as_of)
    _drop_if_over(context, signal_id, legs)
    return 0


def _settle_found(
    context: OrderContext, signal_id: UUID | None, names: Sequence[str], found: Sequence[OrderReport]
) -> None:
    """Go on from what the exchange holds; exits that it lacks are given up, and the missing stop is repaired."""
    _settle(context, signal_id, sorted(found, key=lambda report: not report.leg.opens))
    missing = sorted(set(names) - {report.client_order_id for report in found})
    for status in (OrderStatus.UNKNOWN, OrderStatus.CANCELLED):
        orders.set_status(context.connection, missing, status, context.as_of, "never reached the exchange")


def _drop_if_over(context: OrderContext, signal_id: UUID | None, legs: Sequence[StoredOrder]) -> None:
    """Cancel intents whose signal can no longer be executed."""
    connection = context.connection
    with protection.changing_orders(connection, context.session):
        if signal_id is not None and orders.is_executable(connection, signal_id, context.as_of):
            return
        names = [leg.client_order_id for leg in legs]
        orders.set_status(connection, names, OrderStatus.CANCELLED, context.as_of, "its signal is over")
