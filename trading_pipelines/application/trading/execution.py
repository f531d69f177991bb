"""The order path: from an active signal to one bracket on the exchange, and from its fills to positions.

An intent is committed before anything is sent, and every step after it can be taken up by another process: the
client order ids are fixed by the signal, so whoever goes on meets the same orders and never makes a second one.

Belongs here: the order of the stages and when the exchange is asked. Does not belong here: the stages, which are
`intents`, `sending`, `bookkeeping` and `protection`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort, ExchangeUnavailable, OutcomeUnknown
from trading_pipelines.application.trading import bookkeeping, protection
from trading_pipelines.application.trading.intents import prepare
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.order_context import OrderContext, Outcome, only_worker
from trading_pipelines.application.trading.sending import resolve, send
from trading_pipelines.domain.execution.orders import FillReport, OrderReport
from trading_pipelines.domain.execution.session import SessionMode, TradingSession
from trading_pipelines.store.repositories import fills, orders
from trading_pipelines.store.transaction import committed


@dataclass(frozen=True)
class ExecutionReport:
    """What became of the signals that were looked at; `blocked` names why none was, if so.

    Attributes
    ----------
    waiting : tuple of UUID
        Left as they were: no quote, kill switch, exchange out of reach, or another worker has them.
    unresolved : tuple of UUID
        Sent without an answer; resolved by asking, at the next call.
    """

    executed: tuple[UUID, ...] = ()
    rejected: tuple[UUID, ...] = ()
    cancelled: tuple[UUID, ...] = ()
    unresolved: tuple[UUID, ...] = ()
    waiting: tuple[UUID, ...] = ()
    blocked: str | None = None


@dataclass(frozen=True)
class SynchronisationReport:
    """What was new on the exchange."""

    fills: int = 0
    opened: tuple[UUID, ...] = ()
    closed: tuple[UUID, ...] = ()
    repaired: int = 0


def execute_signals(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    as_of: datetime,
    *,
    quotes: Mapping[int, float],
    kill: KillSwitch | None,
    run_id: str | None = None,
    signal_ids: Collection[UUID] | None = None,
) -> ExecutionReport:
    """Execute the active, still valid signals, the most confident first.

    Nothing new is sent while an earlier order is unresolved: the portfolio that the risk rules judge would not
    be the true one.

    Parameters
    ----------
    quotes : mapping
        Current prices by instrument id; a signal without one waits.
    kill : KillSwitch or None
        Looked at before each send. None for replays only, whose outcome must not depend on today's switch.
    signal_ids : collection of UUID, optional
        Only these.
    """
    if kill is None and session.mode is not SessionMode.REPLAY:
        raise ValueError("only a replay trades without a kill switch")
    context = OrderContext(connection, session, exchange, as_of, kill, quotes, run_id)
    with only_worker(connection, session):
        if unresolved := resolve(context):
            return ExecutionReport(blocked=f"{unresolved} earlier orders are unresolved")
        try:
            synchronise(connection, session, exchange, as_of)
        except (OutcomeUnknown, ExchangeUnavailable) as error:
            return ExecutionReport(blocked=f"the exchange does not answer: {error}")
        outcomes: dict[Outcome, list[UUID]] = {outcome: [] for outcome in Outcome}
        for signal_id in orders.executable_signals(connection, session.session_id, as_of, signal_ids):
            bracket = prepare(context, signal_id)
            outcome = bracket if isinstance(bracket, Outcome) else send(context, signal_id, bracket)
            outcomes[outcome].append(signal_id)
    return ExecutionReport(
        executed=tuple(outcomes[Outcome.EXECUTED]),
        rejected=tuple(outcomes[Outcome.REJECTED]),
        cancelled=tuple(outcomes[Outcome.CANCELLED]),
        unresolved=tuple(outcomes[Outcome.UNRESOLVED]),
        waiting=tuple(outcomes[Outcome.WAITING]),
    )


def resolve_pending(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> int:
    """Find out what became of orders whose attempt ended in the middle; how many are still unresolved.

    Does nothing while a worker is executing: its orders are under way, not lost.
    """
    with only_worker(connection, session, wait=False) as alone:
        if alone:
            return resolve(OrderContext(connection, session, exchange, as_of))
    with committed(connection):
        return len(orders.unresolved(connection, session.session_id))


def synchronise(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> SynchronisationReport:
    """Take over what happened on the exchange since the last call; a repeated call changes nothing.

    Ends with every open position protected by a stop, or an exit under way for it.
    """
    with committed(connection):
        cursor = fills.read_cursor(connection, session.session_id)
    # Orders are read before fills: what is stored can then be newer than the orders, never older.
    open_orders = exchange.fetch_open_orders()
    new_fills = exchange.fetch_fills(cursor.fill_sequence)
    new_funding = exchange.fetch_funding(cursor.funding_sequence)
    reports = _reports(connection, session, exchange, open_orders, new_fills)
    context = OrderContext(connection, session, exchange, as_of)
    with protection.changing_orders(connection, session):
        # Another process may have taken the same fills over while these were being read.
        cursor = fills.read_cursor(connection, session.session_id)
        new_fills = [fill for fill in new_fills if fill.sequence > cursor.fill_sequence]
        new_funding = [payment for payment in new_funding if payment.sequence > cursor.funding_sequence]
        opened, closed = bookkeeping.take_over(context, new_fills, new_funding, reports)
        moved = fills.Cursor(
            max([cursor.fill_sequence, *(fill.sequence for fill in new_fills)]),
            max([cursor.funding_sequence, *(payment.sequence for payment in new_funding)]),
        )
        fills.move_cursor(connection, session.session_id, moved)
    bookkeeping.cancel_orphans(context, open_orders)
    repaired = protection.ensure_protected(connection, session, exchange, open_orders, as_of)
    return SynchronisationReport(len(new_fills), tuple(opened), tuple(closed), repaired)


def take_over_fills(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    missing: Sequence[FillReport],
    as_of: datetime,
) -> int:
    """Book fills that `synchronise` never saw, as `reconciliation` finds them; how many were not booked already."""
    context = OrderContext(connection, session, exchange, as_of)
    booked = 0
    with protection.changing_orders(connection, session):
        for fill in missing:
            if not fills.is_stored(connection, fill.fill_id):
                bookkeeping.take_over_fill(context, fill)
                booked += 1
    return booked


def _reports(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    open_orders: Sequence[OrderReport],
    new_fills: Sequence[FillReport],
) -> dict[str, OrderReport]:
    """Reports on every order that may have changed: what is open, what was filled, what is gone."""
    reports = {report.client_order_id: report for report in open_orders}
    with committed(connection):
        stored = {order.client_order_id for order in orders.working(connection, session.session_id)}
    filled = {fill.client_order_id for fill in new_fills if fill.client_order_id is not None}
    for name in sorted((stored - reports.keys()) | filled):
        if (report := exchange.fetch_order(name)) is not None:
            reports[name] = report
    return reports
