"""The order path: from an active signal to one bracket on the exchange, and from its fills to positions.

An intent is committed before anything is sent, and every step after it can be taken up by another process: the
client order ids are fixed by the signal, so whoever goes on meets the same orders and never makes a second one.
"""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import Any
from uuid import UUID, uuid5

import psycopg

from trading_pipelines.adapters.exchanges.base import (
    ExchangePort,
    ExchangeUnavailable,
    OrderRefused,
    OutcomeUnknown,
)
from trading_pipelines.application import protection
from trading_pipelines.application.kill_switch import KillSwitch
from trading_pipelines.application.risk import assess
from trading_pipelines.domain.engine.lifecycle import ladder_quantities, open_position
from trading_pipelines.domain.execution.amounts import exact, money, on_grid
from trading_pipelines.domain.execution.orders import (
    UNRESOLVED,
    BracketRequest,
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
)
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.risk.rules import Proposal
from trading_pipelines.domain.risk.sizing import Outcome
from trading_pipelines.domain.signals.lifecycle import SignalStatus
from trading_pipelines.store.repositories import events, fills, orders, positions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import SignalOrder, StoredOrder
from trading_pipelines.store.transaction import committed

_TARGETS = (Leg.TP1, Leg.TP2, Leg.TP3)


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


class _Outcome(Enum):
    EXECUTED = auto()
    REJECTED = auto()
    CANCELLED = auto()
    UNRESOLVED = auto()
    WAITING = auto()


@dataclass(frozen=True)
class _Context:
    """What all steps of one call share."""

    connection: psycopg.Connection[Any]
    session: TradingSession
    exchange: ExchangePort
    as_of: datetime
    kill: KillSwitch | None = None
    quotes: Mapping[int, float] = field(default_factory=dict[int, float])
    run_id: str | None = None

    def event(self, kind: str, subject: str, message: str, severity: Severity, **payload: Any) -> None:
        events.append(
            self.connection,
            self.as_of,
            kind,
            subject,
            message,
            session_id=self.session.session_id,
            severity=severity,
            payload=payload,
        )


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
    context = _Context(connection, session, exchange, as_of, kill, quotes, run_id)
    with _only_worker(connection, session):
        if unresolved := _resolve(context):
            return ExecutionReport(blocked=f"{unresolved} earlier orders are unresolved")
        try:
            synchronise(connection, session, exchange, as_of)
        except (OutcomeUnknown, ExchangeUnavailable) as error:
            return ExecutionReport(blocked=f"the exchange does not answer: {error}")
        outcomes: dict[_Outcome, list[UUID]] = {outcome: [] for outcome in _Outcome}
        for signal_id in orders.executable_signals(connection, session.session_id, as_of, signal_ids):
            outcomes[_execute(context, signal_id)].append(signal_id)
    return ExecutionReport(
        executed=tuple(outcomes[_Outcome.EXECUTED]),
        rejected=tuple(outcomes[_Outcome.REJECTED]),
        cancelled=tuple(outcomes[_Outcome.CANCELLED]),
        unresolved=tuple(outcomes[_Outcome.UNRESOLVED]),
        waiting=tuple(outcomes[_Outcome.WAITING]),
    )


def resolve_pending(
    connection: psycopg.Connection[Any], session: TradingSession, exchange: ExchangePort, as_of: datetime
) -> int:
    """Find out what became of orders whose attempt ended in the middle; how many are still unresolved.

    Does nothing while a worker is executing: its orders are under way, not lost.
    """
    with _only_worker(connection, session, wait=False) as alone:
        if alone:
            return _resolve(_Context(connection, session, exchange, as_of))
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
    context = _Context(connection, session, exchange, as_of)
    with protection.changing_orders(connection, session):
        # Another process may have taken the same fills over while these were being read.
        cursor = fills.read_cursor(connection, session.session_id)
        new_fills = [fill for fill in new_fills if fill.sequence > cursor.fill_sequence]
        new_funding = [payment for payment in new_funding if payment.sequence > cursor.funding_sequence]
        opened, closed = _take_over(context, new_fills, new_funding, reports)
        moved = fills.Cursor(
            max([cursor.fill_sequence, *(fill.sequence for fill in new_fills)]),
            max([cursor.funding_sequence, *(payment.sequence for payment in new_funding)]),
        )
        fills.move_cursor(connection, session.session_id, moved)
    _cancel_orphans(context, open_orders)
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
    context = _Context(connection, session, exchange, as_of)
    booked = 0
    with protection.changing_orders(connection, session):
        for fill in missing:
            if not fills.is_stored(connection, fill.fill_id):
                _take_over_fill(context, fill)
                booked += 1
    return booked


# One signal


def _execute(context: _Context, signal_id: UUID) -> _Outcome:
    bracket = _prepare(context, signal_id)
    return bracket if isinstance(bracket, _Outcome) else _send(context, signal_id, bracket)


def _prepare(context: _Context, signal_id: UUID) -> BracketRequest | _Outcome:
    """Decide under the lock of the session, and commit either the refusal or the intents."""
    connection, session = context.connection, context.session
    with committed(connection):
        status = orders.lock_session(connection, session.session_id)
        signal = orders.claim_signal(connection, signal_id, context.as_of)
        if signal is None or status != SessionStatus.RUNNING or signal.instrument_id not in context.quotes:
            return _Outcome.WAITING
        intents = orders.of_signal(connection, signal_id)
        if any(order.status is not OrderStatus.INTENT for order in intents):
            return _Outcome.WAITING
        if refusal := _entry_drift(context, signal):
            orders.set_status(
                connection, [o.client_order_id for o in intents], OrderStatus.CANCELLED, context.as_of, refusal
            )
            return _give_up(context, signal, SignalStatus.CANCELLED, refusal, _Outcome.CANCELLED)
        if intents:
            return _stored_bracket(intents, context)
        risk = assess(connection, session, _proposal(signal), context.as_of)
        if risk.outcome is Outcome.REFUSE:
            return _give_up(context, signal, SignalStatus.REJECTED, risk.reason, _Outcome.REJECTED)
        if risk.outcome is Outcome.REDUCE:
            context.event("size_reduced", signal.instrument.symbol, risk.reason, Severity.INFO)
        bracket = _bracket(context, signal, on_grid(risk.quantity, signal.instrument.quantity_step))
        orders.insert_intents(
            connection,
            session.session_id,
            bracket.legs,
            signal_id=signal_id,
            requested_price=exact(context.quotes[signal.instrument_id]),
            at=context.as_of,
            run_id=context.run_id,
        )
        return bracket


def _send(context: _Context, signal_id: UUID, bracket: BracketRequest) -> _Outcome:
    connection, session, as_of = context.connection, context.session, context.as_of
    names = [leg.client_order_id for leg in bracket.legs]
    with protection.changing_orders(connection, session):
        if context.kill is not None and context.kill.state(connection, session.session_id).engaged:
            return _Outcome.WAITING
        if orders.set_status(connection, names, OrderStatus.SENT, as_of) < len(names):
            raise RuntimeError(f"the orders of signal {signal_id} were changed while they were being sent")
    try:
        reports = context.exchange.create_bracket(bracket)
    except OrderRefused as refusal:
        with protection.changing_orders(connection, session):
            orders.set_status(connection, names, OrderStatus.REJECTED, as_of, str(refusal))
            orders.set_signal_status(connection, signal_id, SignalStatus.REJECTED, str(refusal), as_of)
            context.event("order_rejected", names[0], str(refusal), Severity.WARNING, signal_id=str(signal_id))
        return _Outcome.REJECTED
    except (OutcomeUnknown, ExchangeUnavailable) as error:
        with protection.changing_orders(connection, session):
            orders.set_status(connection, names, OrderStatus.UNKNOWN, as_of, str(error))
            if isinstance(error, ExchangeUnavailable):
                orders.set_status(connection, names, OrderStatus.INTENT, as_of)
        return _Outcome.WAITING if isinstance(error, ExchangeUnavailable) else _Outcome.UNRESOLVED
    with protection.changing_orders(connection, session):
        return _settle(context, signal_id, reports)


def _settle(context: _Context, signal_id: UUID, reports: Sequence[OrderReport]) -> _Outcome:
    """Store what the exchange answered about a bracket; the signal follows its entry, the first report."""
    for report in reports:
        orders.apply_report(context.connection, report)
    entry = reports[0]
    if entry.filled_quantity == 0 and entry.status in (OrderStatus.REJECTED, OrderStatus.CANCELLED):
        _end_signal(context, signal_id, SignalStatus(entry.status.value), entry.reason or "refused by the exchange")
        return _Outcome[entry.status.name]
    _mark_executed(context, signal_id)
    return _Outcome.EXECUTED


def _mark_executed(context: _Context, signal_id: UUID) -> None:
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


def _end_signal(context: _Context, signal_id: UUID, status: SignalStatus, reason: str) -> None:
    if orders.signal_status(context.connection, signal_id) is SignalStatus.ACTIVE:
        orders.set_signal_status(context.connection, signal_id, status, reason, context.as_of)


def _give_up(context: _Context, signal: SignalOrder, status: SignalStatus, reason: str, outcome: _Outcome) -> _Outcome:
    orders.set_signal_status(context.connection, signal.signal_id, status, reason, context.as_of)
    context.event(
        f"signal_{status.lower()}",
        signal.instrument.symbol,
        reason,
        Severity.INFO,
        signal_id=str(signal.signal_id),
    )
    return outcome


def _entry_drift(context: _Context, signal: SignalOrder) -> str | None:
    """Why the set-up no longer holds at the current price, in multiples of the stop distance R."""
    allowed = context.session.policy.max_entry_drift_r
    if allowed is None:
        return None
    drift = abs(context.quotes[signal.instrument_id] - signal.entry_price) / abs(signal.entry_price - signal.stop_price)
    return f"price moved {drift:.2f} R from the set-up, allowed {allowed:g} R" if drift > allowed else None


def _proposal(signal: SignalOrder) -> Proposal:
    return Proposal(
        instrument_id=signal.instrument_id,
        instrument=signal.instrument,
        side=signal.side,
        reference_price=signal.entry_price,
        stop_price=signal.stop_price,
        targets=signal.targets,
        confidence=signal.confidence,
    )


def _bracket(context: _Context, signal: SignalOrder, quantity: Decimal) -> BracketRequest:
    instrument = signal.instrument

    def order(leg: Leg, kind: OrderType, amount: Decimal, trigger: float | None = None) -> OrderRequest:
        entering = leg is Leg.ENTRY
        return OrderRequest(
            client_order_id=client_order_id(signal.signal_id, leg),
            instrument_id=signal.instrument_id,
            leg=leg,
            side=signal.side.entry_side if entering else signal.side.exit_side,
            type=kind,
            quantity=amount,
            reduce_only=not entering,
            requested_at=context.as_of,
            trigger_price=None if trigger is None else instrument.round_price(exact(trigger)),
            leverage=exact(context.session.execution.leverage) if entering else None,
        )

    return BracketRequest(
        entry=order(Leg.ENTRY, OrderType.MARKET, quantity),
        stop=order(Leg.STOP, OrderType.STOP_MARKET, quantity, signal.stop_price),
        targets=tuple(
            order(leg, OrderType.TAKE_PROFIT_MARKET, part, price)
            for leg, part, price in zip(_TARGETS, _ladder(context, signal, quantity), signal.targets, strict=True)
            if part > 0
        ),
    )


def _ladder(context: _Context, signal: SignalOrder, quantity: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    step = signal.instrument.quantity_step
    first, second, _ = ladder_quantities(float(quantity), context.session.execution.target_weights, float(step))
    one, two = on_grid(first, step), on_grid(second, step)
    return one, two, quantity - one - two


def _stored_bracket(intents: Sequence[StoredOrder], context: _Context) -> BracketRequest:
    """The bracket of an earlier attempt that was never sent."""
    leverage = exact(context.session.execution.leverage)
    requests = {o.leg: o.request(context.as_of, leverage if o.leg is Leg.ENTRY else None) for o in intents}
    targets = tuple(requests[leg] for leg in _TARGETS if leg in requests)
    return BracketRequest(requests[Leg.ENTRY], requests[Leg.STOP], targets)


# Attempts that ended in the middle


def _resolve(context: _Context) -> int:
    """Resolve what can be resolved; how many orders are still not known to be there or not."""
    connection = context.connection
    with committed(connection):
        pending = orders.unresolved(connection, context.session.session_id)
    unknown = 0
    entries = {o.signal_id for o in pending if o.leg is Leg.ENTRY}
    for signal_id in sorted(s for s in entries if s is not None):
        unknown += _resolve_bracket(context, signal_id, [o for o in pending if o.signal_id == signal_id])
    for order in pending:
        if order.signal_id not in entries:
            known = protection.resolve_exit(connection, context.session, context.exchange, order, context.as_of)
            unknown += not known
    return unknown


def _resolve_bracket(context: _Context, signal_id: UUID, legs: Sequence[StoredOrder]) -> int:
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
            if any(report.leg is Leg.ENTRY for report in found):
                _settle_found(context, signal_id, names, found)
                return 0
            # The exchange has proved that it never saw them, so they are as if they had not been sent.
            orders.set_status(connection, names, OrderStatus.UNKNOWN, as_of)
            orders.set_status(connection, names, OrderStatus.INTENT, as_of)
    _drop_if_over(context, signal_id, legs)
    return 0


def _settle_found(context: _Context, signal_id: UUID, names: Sequence[str], found: Sequence[OrderReport]) -> None:
    """Go on from what the exchange holds; exits that it lacks are given up, and the missing stop is repaired."""
    _settle(context, signal_id, sorted(found, key=lambda report: report.leg is not Leg.ENTRY))
    missing = sorted(set(names) - {report.client_order_id for report in found})
    for status in (OrderStatus.UNKNOWN, OrderStatus.CANCELLED):
        orders.set_status(context.connection, missing, status, context.as_of, "never reached the exchange")


def _drop_if_over(context: _Context, signal_id: UUID, legs: Sequence[StoredOrder]) -> None:
    """Cancel intents whose signal can no longer be executed."""
    connection = context.connection
    with protection.changing_orders(connection, context.session):
        if orders.is_executable(connection, signal_id, context.as_of):
            return
        names = [leg.client_order_id for leg in legs]
        orders.set_status(connection, names, OrderStatus.CANCELLED, context.as_of, "its signal is over")


# What the exchange reports


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


def _take_over(
    context: _Context,
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
        position_id, is_new, is_closed = _take_over_fill(context, what)
        opened += [position_id] if is_new else []
        closed += [position_id] if is_closed else []
    for report in reports.values():
        _take_over_order(context, report)
    return opened, closed


def _take_over_fill(context: _Context, fill: FillReport) -> tuple[UUID, bool, bool]:
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
    if result.is_closed and result.signal_id is not None and result.close_kind is not None:
        _close_signal(context, result.signal_id, FillKind(result.close_kind))
    return position_id, is_new, result.is_closed


def _open(context: _Context, position_id: UUID, fill: FillReport, order: StoredOrder | None) -> None:
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
    signal_id = None if order is None else order.signal_id
    stop = None if signal_id is None else orders.first_stop_price(context.connection, signal_id)
    positions.insert(
        context.connection,
        positions.NewPosition(
            position_id=position_id,
            session_id=session.session_id,
            instrument_id=fill.instrument_id,
            signal_id=signal_id,
            side=side,
            quantity_initial=fill.quantity,
            entry_price=fill.price,
            entry_margin=money(state.entry_margin),
            leverage=exact(session.execution.leverage),
            stop_price=stop,
            liquidation_price=exact(state.liquidation_price),
            mark_price=fill.price,
            opened_at=fill.ts,
        ),
    )
    if signal_id is not None:
        orders.assign_position(context.connection, signal_id, position_id)
        _mark_executed(context, signal_id)


def _adopt(context: _Context, position_id: UUID, fill: FillReport) -> str:
    """Give a fill that no order of ours asked for an order of its own, so that the history is complete."""
    signal_id = positions.signal_of(context.connection, position_id)
    entering = fill.kind is FillKind.ENTRY
    leg = Leg.ENTRY if entering else Leg.EXIT
    revision = orders.next_revision(context.connection, signal_id, position_id, leg)
    name = client_order_id(signal_id or position_id, leg, revision)
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


def _take_over_funding(context: _Context, payment: FundingReport) -> None:
    session_id = context.session.session_id
    position_id = positions.position_id_at(context.connection, session_id, payment.instrument_id, payment.ts)
    if position_id is None:
        raise LookupError(f"funding {payment.sequence} belongs to no stored position")
    if fills.insert_funding(context.connection, session_id, position_id, payment):
        positions.refresh(context.connection, position_id, context.as_of)


def _take_over_order(context: _Context, report: OrderReport) -> None:
    """Store the state of an order; one without an answer is left to `resolve_pending`."""
    connection = context.connection
    stored = orders.find(connection, report.client_order_id)
    if stored is None or stored.status in UNRESOLVED:
        return
    if orders.apply_report(connection, report) and report.leg is Leg.ENTRY:
        _entry_ended(context, stored, report)


def _cancel_orphans(context: _Context, open_orders: Sequence[OrderReport]) -> None:
    """Cancel entries that the exchange holds although they were given up here, as after a very late arrival."""
    connection = context.connection
    for report in open_orders:
        if report.leg is not Leg.ENTRY:
            continue
        with committed(connection):
            stored = orders.find(connection, report.client_order_id)
        if stored is not None and stored.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED):
            context.exchange.cancel_order(report.client_order_id)
            with committed(connection):
                message = f"an entry that was {stored.status} here was still working"
                context.event("orphan_order", report.client_order_id, message, Severity.CRITICAL)


def _entry_ended(context: _Context, stored: StoredOrder, report: OrderReport) -> None:
    """Close a signal whose entry was cancelled or refused after it had been accepted."""
    ended = report.status in (OrderStatus.CANCELLED, OrderStatus.REJECTED) and report.filled_quantity == 0
    if ended and stored.signal_id is not None:
        status = orders.signal_status(context.connection, stored.signal_id)
        if status is SignalStatus.EXECUTED:
            orders.set_signal_status(
                context.connection,
                stored.signal_id,
                SignalStatus.CLOSED,
                f"entry {report.status.lower()}: {report.reason or 'by the exchange'}",
                context.as_of,
            )


def _close_signal(context: _Context, signal_id: UUID, kind: FillKind) -> None:
    status = {
        FillKind.TP1: SignalStatus.HIT_TP,
        FillKind.TP2: SignalStatus.HIT_TP,
        FillKind.TP3: SignalStatus.HIT_TP,
        FillKind.STOP: SignalStatus.HIT_SL,
    }.get(kind, SignalStatus.CLOSED)
    if orders.signal_status(context.connection, signal_id) is SignalStatus.EXECUTED:
        orders.set_signal_status(context.connection, signal_id, status, f"position closed by {kind}", context.as_of)


@contextmanager
def _only_worker(connection: psycopg.Connection[Any], session: TradingSession, *, wait: bool = True) -> Generator[bool]:
    """Let one process at a time send the session's orders; the lock dies with the connection.

    Yields whether the lock is ours, which with `wait` it always is.
    """
    key = int.from_bytes(session.session_id.bytes[:8], "big", signed=True)
    with committed(connection):
        if wait:
            connection.execute("select pg_advisory_lock(%s)", (key,))
            alone = True
        else:
            row = connection.execute("select pg_try_advisory_lock(%s)", (key,)).fetchone()
            alone = row is not None and bool(row[0])
    try:
        yield alone
    finally:
        if alone:
            with suppress(psycopg.OperationalError):
                connection.rollback()
                with committed(connection):
                    connection.execute("select pg_advisory_unlock(%s)", (key,))
