"""Open positions between their entry and their exit: stops move, equity is marked, exits are sent.

Belongs here: what is decided about open positions at a close, and what an engaged kill switch does to them. Does
not belong here: stops and targets that trigger, which are orders on the exchange and need nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort, ExchangeUnavailable, OrderRefused, OutcomeUnknown
from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.application.trading.execution import synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.protection import Sent, changing_orders, close_position, move_stop
from trading_pipelines.domain.engine.lifecycle import PositionState, step_close
from trading_pipelines.domain.execution.amounts import exact, on_grid
from trading_pipelines.domain.execution.orders import BalanceReport, OrderStatus
from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.domain.risk.rules import must_close_all
from trading_pipelines.store.repositories import equity, events, orders, positions, sessions
from trading_pipelines.store.repositories import exits as exit_decisions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed


@dataclass(frozen=True)
class BarClose:
    """Close of one bar of the signal timeframe; `ts` is its open time, `closed_at` the moment of the close.

    `atr` is ATR(14) of that bar, NaN while it warms up.
    """

    ts: datetime
    closed_at: datetime
    close: float
    atr: float


@dataclass(frozen=True)
class ExitDecision:
    """Close the position of an instrument at the next price, for example on a model reversal."""

    instrument_id: int
    reason: str


@dataclass(frozen=True)
class ManagementReport:
    """What was done at one close; `exits` are the positions that are being closed, `held` counts the open ones."""

    stops_moved: int
    exits: tuple[UUID, ...]
    equity: float
    held: int


def manage_at_close(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    bars: Mapping[int, BarClose],
    as_of: datetime,
    *,
    exits: Sequence[ExitDecision] = (),
) -> ManagementReport:
    """Apply rules 7 and 8 of the execution model at a close; `synchronise` has run before.

    Stops trail, equity is marked at the closes, then exits are sent: those in `exits`, those of positions held
    beyond the time limit, and all when the drawdown has reached its limit; then waiting entries are cancelled as
    well. A repeated call for the same close changes nothing.

    Parameters
    ----------
    bars : mapping
        The bars that have just closed, by instrument id; a position without one keeps its stop and its mark.
    """
    with committed(connection):
        held = positions.open_positions(connection, session.session_id)
    moved = sum(
        _trail(connection, session, exchange, position, bars[position.instrument_id], as_of)
        for position in held
        if position.instrument_id in bars
    )
    closed_at = max((bar.closed_at for bar in bars.values()), default=as_of)
    marked = _mark_equity(connection, session, exchange.fetch_balance(), held, bars, closed_at)
    wanted = _overdue(session, held, closed_at) | {decision.instrument_id: decision.reason for decision in exits}
    if held and _drawdown_reached(connection, session, closed_at):
        wanted |= {position.instrument_id: "DRAWDOWN" for position in held}
        _cancel_entries(connection, session, exchange, as_of)
    leaving = [
        position.position_id
        for position in held
        if position.instrument_id in wanted
        and close_position(connection, session, exchange, position, wanted[position.instrument_id], as_of)
        is not Sent.NOT_SENT
    ]
    return ManagementReport(moved, tuple(leaving), marked, len(held))


def mark_positions(
    connection: psycopg.Connection[Any], session: TradingSession, prices: Mapping[int, float], as_of: datetime
) -> None:
    """Value the open positions at current prices by instrument id."""
    with changing_orders(connection, session):
        positions.mark(connection, session.session_id, prices, as_of)


def enforce_kill_switch(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    kill: KillSwitch,
    as_of: datetime,
) -> int:
    """Do what an engaged kill switch asks for: cancel waiting entries, close positions; how many orders that took.

    The order path refuses new entries by itself. Called again and again while the switch is engaged, so what
    could not be done at once is done later.
    """
    state = kill.state(connection, session.session_id)
    connection.commit()
    if not state.engaged:
        return 0
    done = _cancel_entries(connection, session, exchange, as_of) if state.cancel else 0
    if state.flatten:
        with committed(connection):
            held = positions.open_positions(connection, session.session_id)
        for position in held:
            sent = close_position(connection, session, exchange, position, "KILL_SWITCH", as_of)
            done += sent is Sent.PLACED
    return done


def carry_out_exits(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> int:
    """Send the exits that strategies have decided; how many positions are being closed.

    A decision stays pending while its exit can neither be placed nor is under way, so the next call tries again.
    """
    with committed(connection):
        wanted = {row.position_id: row.reason for row in exit_decisions.pending(connection, session.session_id)}
        held = {p.position_id: p for p in positions.open_positions(connection, session.session_id)} if wanted else {}
    leaving = 0
    for position_id, reason in wanted.items():
        position = held.get(position_id)
        sent = None if position is None else close_position(connection, session, exchange, position, reason, as_of)
        leaving += sent is Sent.PLACED
        if sent not in (Sent.UNKNOWN, Sent.REFUSED):
            outcome = "closed before" if sent is None else "exit sent" if sent is Sent.PLACED else "exit under way"
            with committed(connection), connection.cursor() as cursor:
                exit_decisions.mark_handled(cursor, [position_id], outcome, as_of)
    return leaving


def finish_stop(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> bool:
    """Take a session that is to be stopped nearer to it: cancel, close, and stop it once it is flat; True when it is.

    Called again and again until then.
    """
    with committed(connection):
        if not sessions.is_stop_requested(connection, session.session_id):
            return False
        held = positions.open_positions(connection, session.session_id)
    _cancel_entries(connection, session, exchange, as_of)
    for position in held:
        close_position(connection, session, exchange, position, "SESSION_STOPPED", as_of)
    try:
        with committed(connection):
            sessions.set_status(connection, session.session_id, SessionStatus.STOPPED)
    except psycopg.errors.CheckViolation:
        return False  # the database knows better than we whether something is open
    with committed(connection):
        events.append(connection, as_of, "session_stopped", session.name, "flat", session_id=session.session_id)
    return True


def _overdue(session: TradingSession, held: Sequence[OpenPosition], closed_at: datetime) -> dict[int, str]:
    """Positions that have been open for as long as the rules allow."""
    hours = session.execution.max_holding_hours
    if hours is None:
        return {}
    limit = timedelta(hours=hours)
    return {p.instrument_id: "TIME_LIMIT" for p in held if closed_at - p.opened_at >= limit}


def _drawdown_reached(connection: psycopg.Connection[Any], session: TradingSession, closed_at: datetime) -> bool:
    with committed(connection):
        return must_close_all(portfolio_view(connection, session, closed_at), session.limits)


def _trail(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    position: OpenPosition,
    bar: BarClose,
    as_of: datetime,
) -> bool:
    """Rule 7: move the stop, where the life cycle says so."""
    if position.stop_price is None or not position.target_filled:
        return False
    trailed = step_close(_state(position, position.stop_price), bar.close, bar.atr, session.execution).stop_price
    stop = on_grid(trailed, position.price_step)
    if (stop - position.stop_price) * position.side.sign <= 0:
        return False
    return move_stop(connection, session, exchange, position, stop, as_of) is Sent.PLACED


def _state(position: OpenPosition, stop_price: Decimal) -> PositionState:
    """The position as the rule of the close sees it; targets play no part in it."""
    return PositionState(
        side=position.side,
        quantity=float(position.quantity_open),
        quantity_initial=float(position.quantity_initial),
        entry_price=float(position.entry_price),
        entry_margin=float(position.entry_margin),
        liquidation_price=float(position.liquidation_price),
        stop_price=float(stop_price),
        targets=(0.0, 0.0, 0.0),
        target_quantities=(0.0, 0.0, 0.0),
        tp1_filled=position.target_filled,
        exit_pending=position.exit_pending,
    )


def _mark_equity(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    balance: BalanceReport,
    held: Sequence[OpenPosition],
    bars: Mapping[int, BarClose],
    closed_at: datetime,
) -> float:
    """Mark positions and account at the closes: cash and margin from the exchange, the rest by price."""
    marks = {p.instrument_id: p.mark_price for p in held}
    marks.update({key: exact(bar.close) for key, bar in bars.items() if key in marks})
    unrealised = sum(
        (p.side.sign * p.quantity_open * (marks[p.instrument_id] - p.entry_price) for p in held), Decimal(0)
    )
    cash, margin = float(balance.cash), float(balance.margin)
    with changing_orders(connection, session):
        if held:
            prices = {key: float(price) for key, price in marks.items()}
            positions.mark(connection, session.session_id, prices, closed_at)
        equity.save(connection, session.session_id, closed_at, cash, margin, float(unrealised))
    return cash + margin + float(unrealised)


def _cancel_entries(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> int:
    """Cancel entries that the exchange has not filled yet."""
    with committed(connection):
        waiting = [
            order
            for order in orders.entries_under_way(connection, session.session_id)
            if order.status in (OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED)
        ]
    done = 0
    for order in waiting:
        try:
            exchange.cancel_order(order.client_order_id)
        except (OrderRefused, OutcomeUnknown, ExchangeUnavailable) as error:
            with committed(connection):
                events.append_once(
                    connection,
                    as_of,
                    "cancel_failed",
                    order.client_order_id,
                    str(error),
                    session_id=session.session_id,
                    severity=Severity.CRITICAL,
                )
            continue
        done += 1
    if done:
        synchronise(connection, session, exchange, as_of)
    return done
