"""Compare the books with the exchange, which is the truth, and say whether trading may go on.

Each call reads positions, orders and balance of the exchange and sets them against what is stored. A difference is
recorded under an id that follows from the difference itself, told to a person, and mended by records of our own that
carry the same id, so that the same difference met twice is mended once. While anything is not known or not explained
the account counts as unknown, and the order path sends no entry (`KillSwitch.refusal`); exits and stops stay allowed.

Belongs here: what is compared and how the books follow. Does not belong here: what the exchange reports by itself
(`execution.synchronise`), and missing stops (`protection`).
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort, ExchangeUnavailable, OrderRefused, OutcomeUnknown
from trading_pipelines.application.trading import protection
from trading_pipelines.application.trading.execution import resolve_pending, synchronise, take_over_fills
from trading_pipelines.domain.execution.amounts import money
from trading_pipelines.domain.execution.orders import (
    UNRESOLVED,
    WORKING,
    BalanceReport,
    FillKind,
    FillReport,
    FillSource,
    OrderReport,
    OrderSide,
    OrderStatus,
    PositionReport,
)
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.settings import TraderSettings
from trading_pipelines.store.repositories import events, fills, orders, positions, truth
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import StoredOrder
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.repositories.truth import DiscrepancyRow
from trading_pipelines.store.transaction import committed

_PLAUSIBLE = Decimal("0.2")
"""An exit price that the balance implies is believed up to this share away from the last mark."""
_LOST_MARGIN = Decimal("0.9")
"""A position that vanished with this share of its margin was liquidated."""


@dataclass(frozen=True)
class ReconciliationReport:
    """Whether the account is known, why not if not, and which differences were found and mended."""

    known: bool
    reason: str
    found: tuple[DiscrepancyRow, ...] = ()
    mended: tuple[DiscrepancyRow, ...] = ()


def reconcile(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    exchange: ExchangePort,
    as_of: datetime,
    rules: TraderSettings,
    *,
    thorough: bool = False,
) -> ReconciliationReport:
    """Compare one account with its exchange, mend the books, and store whether the account is known.

    A difference is mended when it is met for the second time, so that a fill which the exchange lists a little late
    still comes as itself. Whatever goes wrong here ends in "unknown"; only a lost database is passed on.

    Parameters
    ----------
    thorough : bool
        Go through the whole history of fills although nothing differs, as at the start of a service.
    """
    started = time.perf_counter()
    context = _Context(connection, session, exchange, as_of, rules)
    try:
        report = _compare(context, thorough)
    except (OutcomeUnknown, ExchangeUnavailable) as error:
        report = ReconciliationReport(False, f"the exchange does not answer: {error}")
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise
    except Exception as error:
        connection.rollback()
        report = ReconciliationReport(False, f"the comparison failed: {type(error).__name__}: {error}")
    _store(context, report, 1000 * (time.perf_counter() - started))
    return report


@dataclass(frozen=True)
class _Context:
    connection: psycopg.Connection[Any]
    session: TradingSession
    exchange: ExchangePort
    as_of: datetime
    rules: TraderSettings

    @property
    def session_id(self) -> UUID:
        return self.session.session_id

    def synchronise(self) -> None:
        synchronise(self.connection, self.session, self.exchange, self.as_of)


@dataclass(frozen=True)
class _View:
    """Exchange and books at one moment; orders by client order id, positions by instrument id."""

    held: Mapping[int, PositionReport]
    working: Mapping[str, OrderReport]
    balance: BalanceReport
    books: Mapping[int, OpenPosition]
    orders: Mapping[str, StoredOrder]
    wallet: Decimal

    @property
    def missing_money(self) -> Decimal:
        """What the exchange has beyond the books, without unrealised results."""
        return self.balance.cash + self.balance.margin - self.wallet


def _compare(context: _Context, thorough: bool) -> ReconciliationReport:
    connection, session = context.connection, context.session
    resolve_pending(connection, session, context.exchange, context.as_of)
    _make_room_for_late_fills(context)
    context.synchronise()
    found = _confirmed(context)
    lost = _lost_fills(context) if found or thorough else []
    if lost:
        context.synchronise()
        found = _confirmed(context)
    mended = [row for row in found if _mend(context, row)]
    if mended:
        context.synchronise()
    left = [row for row in found if row not in mended] + (_differences(context, _look(context)) if mended else [])
    with committed(connection):
        truth.settle(connection, session.session_id, [row.discrepancy_id for row in left], context.as_of)
    reason = _unresolved(context) or (f"the exchange differs: {left[0].message}" if left else "")
    return ReconciliationReport(not reason, reason, tuple(lost + found), tuple(lost + mended))


def _look(context: _Context) -> _View:
    """Read the exchange, then the books: what was stored meanwhile is newer, never older."""
    exchange, connection = context.exchange, context.connection
    held = {report.instrument_id: report for report in exchange.fetch_positions()}
    working = {report.client_order_id: report for report in exchange.fetch_open_orders()}
    balance = exchange.fetch_balance()
    with committed(connection):
        known = {order.client_order_id: order for order in orders.working(connection, context.session_id)}
        for name in working.keys() - known.keys():
            if (order := orders.find(connection, name)) is not None:
                known[name] = order
        books = {p.instrument_id: p for p in positions.open_positions(connection, context.session_id)}
        return _View(held, working, balance, books, known, truth.wallet(connection, context.session_id))


def _confirmed(context: _Context) -> list[DiscrepancyRow]:
    """Differences that are still there at a second look: an order that was on its way has arrived by then."""
    first = {row.discrepancy_id for row in _differences(context, _look(context))}
    if not first:
        return []
    context.synchronise()
    rows = [row for row in _differences(context, _look(context)) if row.discrepancy_id in first]
    return [row for row in rows if _note(context, row)]


def _note(context: _Context, row: DiscrepancyRow) -> bool:
    """Store a difference and tell of it when it is new; always True."""
    with committed(context.connection):
        if truth.see(context.connection, row, context.as_of):
            _tell(context, "discrepancy", row.subject, row.message, Severity.CRITICAL, row.expected, row.found)
    return True


# What differs


def _differences(context: _Context, view: _View) -> list[DiscrepancyRow]:
    return [
        *(row for key in sorted(view.held.keys() | view.books.keys()) for row in _of_position(context, view, key)),
        *_of_orders(context, view),
        *_of_balance(context, view),
    ]


def _of_position(context: _Context, view: _View, instrument_id: int) -> Iterator[DiscrepancyRow]:
    held, booked = view.held.get(instrument_id), view.books.get(instrument_id)
    if held is not None and booked is not None and held.side is booked.side:
        if held.quantity != booked.quantity_open:
            message = (
                f"{booked.symbol}: the exchange holds {_plain(held.quantity)}, the books {_plain(booked.quantity_open)}"
            )
            yield _difference(context, "QUANTITY", booked.symbol, message, instrument_id, _booked(booked), _held(held))
        return
    if booked is not None:
        kind = "LIQUIDATED" if _is_liquidated(view, booked) else "POSITION_CLOSED_OUTSIDE"
        message = f"{booked.symbol}: {booked.side} {_plain(booked.quantity_open)} is no longer on the exchange"
        yield _difference(context, kind, booked.symbol, message, instrument_id, _booked(booked), {})
    if held is not None:
        symbol = _symbol(context, instrument_id)
        message = f"{symbol}: the exchange holds {held.side} {_plain(held.quantity)}, which nobody opened here"
        yield _difference(context, "POSITION_OPENED_OUTSIDE", symbol, message, instrument_id, {}, _held(held))


def _of_orders(context: _Context, view: _View) -> Iterator[DiscrepancyRow]:
    for name, order in sorted(view.orders.items()):
        if order.status in WORKING and name not in view.working:
            message = f"order {name} ({order.leg}) is not on the exchange any more"
            expected = {"status": order.status.value}
            yield _difference(context, "ORDER_MISSING", name, message, order.instrument_id, expected, {})
    for name, report in sorted(view.working.items()):
        if (reason := _orphaned(view, name, report)) is not None:
            found = {"leg": report.leg.value, "quantity": str(report.quantity)}
            message = f"order {name} ({report.leg}) works on the exchange: {reason}"
            yield _difference(context, "ORPHAN_ORDER", name, message, report.instrument_id, {}, found)


def _orphaned(view: _View, name: str, report: OrderReport) -> str | None:
    """Why an order that works on the exchange should not; None when all is well or it can only reduce a position."""
    stored = view.orders.get(name)
    if stored is not None and stored.status in UNRESOLVED:
        return None
    if report.leg.opens:
        if stored is None:
            return "nobody here has sent it"
        return None if stored.status in WORKING else f"it is {stored.status} here"
    entering = {order.instrument_id for order in view.working.values() if order.leg.opens}
    if report.instrument_id not in view.held and report.instrument_id not in entering:
        return "there is no position for it to reduce"
    return None


def _of_balance(context: _Context, view: _View) -> Iterator[DiscrepancyRow]:
    """Only where positions agree: a fill that is missing explains the money as well."""
    agree = all(_agrees(view, key) for key in view.held.keys() | view.books.keys())
    if agree and abs(view.missing_money) > Decimal(repr(context.rules.balance_tolerance)):
        wallet = money(view.balance.cash + view.balance.margin)
        message = f"the balance is {_plain(wallet)}, the history explains {_plain(money(view.wallet))}"
        expected, found = {"wallet": str(money(view.wallet))}, {"wallet": str(wallet)}
        yield _difference(
            context, "BALANCE", "balance", message, None, expected, found, amount=money(view.missing_money)
        )


def _difference(
    context: _Context,
    kind: str,
    subject: str,
    message: str,
    instrument_id: int | None,
    expected: Mapping[str, str],
    found: Mapping[str, str],
    amount: Decimal = Decimal(0),
) -> DiscrepancyRow:
    """Name a difference by what it consists of and by the history before it, so that it is the same when met again."""
    with committed(context.connection):
        before = truth.newest_fill(context.connection, context.session_id, instrument_id)
    name = "|".join([kind, subject, before, *(f"{k}={v}" for part in (expected, found) for k, v in part.items())])
    key = uuid5(context.session_id, name)
    return DiscrepancyRow(key, context.session_id, instrument_id, kind, subject, message, expected, found, amount)


def _is_liquidated(view: _View, booked: OpenPosition) -> bool:
    beyond = booked.side.sign * (booked.liquidation_price - booked.mark_price) >= 0
    return beyond or (
        len(view.books.keys() - view.held.keys()) == 1 and view.missing_money <= _LOST_MARGIN * -booked.margin
    )


def _unresolved(context: _Context) -> str:
    limit = context.as_of - timedelta(seconds=context.rules.unresolved_seconds)
    with committed(context.connection):
        waiting = truth.unresolved_since(context.connection, context.session_id, limit)
    return f"{waiting} orders are without an answer from the exchange" if waiting else ""


# How the books follow


def _mend(context: _Context, row: DiscrepancyRow) -> bool:
    """Bring the books to what the exchange says; False while it is too early for that."""
    if row.kind == "ORPHAN_ORDER":
        return _cancel_orphan(context, row)
    with committed(context.connection):
        if truth.first_seen(context.connection, row.discrepancy_id) >= context.as_of:
            return False
    if row.kind == "ORDER_MISSING":
        with protection.changing_orders(context.connection, context.session):
            orders.set_status(
                context.connection, [row.subject], OrderStatus.CANCELLED, context.as_of, "gone from the exchange"
            )
        return _mended(context, row, "marked as cancelled")
    if row.kind == "BALANCE":
        return _mended(context, row, truth.TAKEN_OVER)
    fill = _synthetic_fill(context, _look(context), row)
    if fill is None:
        return False
    take_over_fills(context.connection, context.session, context.exchange, [fill], context.as_of)
    if fill.kind is FillKind.ENTRY:
        _follow_position(context, fill.instrument_id)
    return _mended(context, row, f"fill {fill.fill_id}")


def _cancel_orphan(context: _Context, row: DiscrepancyRow) -> bool:
    try:
        context.exchange.cancel_order(row.subject)
    except OrderRefused:
        return False
    return _mended(context, row, "cancelled on the exchange")


def _mended(context: _Context, row: DiscrepancyRow, by: str) -> bool:
    with committed(context.connection):
        truth.mark_mended(context.connection, row.discrepancy_id, by, context.as_of)
        _tell(
            context,
            "discrepancy_mended",
            row.subject,
            f"{row.message}: {by}",
            Severity.WARNING,
            row.expected,
            row.found,
        )
    return True


def _synthetic_fill(context: _Context, view: _View, row: DiscrepancyRow) -> FillReport | None:
    """The fill that explains a difference in a position; None when the exchange has moved on meanwhile."""
    assert row.instrument_id is not None  # only the balance has none
    held, booked = view.held.get(row.instrument_id), view.books.get(row.instrument_id)
    if booked is not None and (held is None or held.side is not booked.side):
        return _exit_fill(context, view, row, booked, booked.quantity_open)
    if booked is not None and held is not None:
        grown = held.quantity - booked.quantity_open
        if grown < 0:
            return _exit_fill(context, view, row, booked, -grown)
        return _entry_fill(context, row, held, grown, _price_of_growth(held, booked, grown)) if grown else None
    return None if held is None else _entry_fill(context, row, held, held.quantity, held.entry_price)


def _exit_fill(
    context: _Context, view: _View, row: DiscrepancyRow, booked: OpenPosition, quantity: Decimal
) -> FillReport:
    """Close at the price that the balance implies where that can be, else at the last mark."""
    price = booked.mark_price
    alone = sum(1 for key in view.held.keys() | view.books.keys() if not _agrees(view, key)) == 1
    implied = booked.entry_price + booked.side.sign * view.missing_money / quantity
    if alone and (row.kind == "LIQUIDATED" or abs(implied - price) <= _PLAUSIBLE * price) and implied > 0:
        price = implied
    kind = FillKind.LIQUIDATION if row.kind == "LIQUIDATED" else FillKind.EXIT
    result = money(booked.side.sign * quantity * (price - booked.entry_price))
    return _fill(context, row, kind, booked.side.exit_side, quantity, price, result, context.as_of)


def _entry_fill(
    context: _Context, row: DiscrepancyRow, held: PositionReport, quantity: Decimal, price: Decimal
) -> FillReport:
    opened = min(held.opened_at, context.as_of)
    return _fill(context, row, FillKind.ENTRY, held.side.entry_side, quantity, price, Decimal(0), opened)


def _price_of_growth(held: PositionReport, booked: OpenPosition, grown: Decimal) -> Decimal:
    """What was paid for the addition, from the average entry price before and after it."""
    price = (held.entry_price * held.quantity - booked.entry_price * booked.quantity_open) / grown
    return price if price > 0 else held.mark_price


def _fill(
    context: _Context,
    row: DiscrepancyRow,
    kind: FillKind,
    side: OrderSide,
    quantity: Decimal,
    price: Decimal,
    realised_pnl: Decimal,
    ts: datetime,
) -> FillReport:
    assert row.instrument_id is not None  # as in `_synthetic_fill`
    with committed(context.connection):
        cursor = fills.read_cursor(context.connection, context.session_id)
    return FillReport(
        fill_id=f"{context.session_id.hex}-mended-{row.discrepancy_id.hex[:16]}",
        sequence=cursor.fill_sequence,
        client_order_id=None,
        instrument_id=row.instrument_id,
        ts=ts,
        kind=kind,
        side=side,
        quantity=quantity,
        price=money(price),
        reference_price=money(price),
        fee=Decimal(0),
        realised_pnl=realised_pnl,
        source=FillSource.RECONCILED,
    )


def _follow_position(context: _Context, instrument_id: int) -> None:
    """Take margin, leverage and liquidation price from the exchange: our own rules did not open this."""
    held = next((p for p in context.exchange.fetch_positions() if p.instrument_id == instrument_id), None)
    if held is not None:
        with protection.changing_orders(context.connection, context.session):
            truth.follow_position(context.connection, context.session_id, held)


def _lost_fills(context: _Context) -> list[DiscrepancyRow]:
    """Book the fills of the exchange's history that the books lack although the cursor has passed them."""
    history = context.exchange.fetch_fills(0)
    with committed(context.connection):
        stored = truth.stored_fills(context.connection, context.session_id)
        cursor = fills.read_cursor(context.connection, context.session_id)
    lost = [fill for fill in history if fill.fill_id not in stored and fill.sequence <= cursor.fill_sequence]
    rows: list[DiscrepancyRow] = []
    for fill in lost:
        symbol = _symbol(context, fill.instrument_id)
        message = f"{symbol}: fill {fill.fill_id} ({fill.kind} {_plain(fill.quantity)}) was not in the books"
        found = {"fill": fill.fill_id}
        row = _difference(context, "FILL_MISSING", symbol, message, fill.instrument_id, {}, found)
        _note(context, row)
        take_over_fills(context.connection, context.session, context.exchange, [fill], context.as_of)
        _mended(context, row, "booked from the exchange's history")
        rows.append(row)
    return rows


def _make_room_for_late_fills(context: _Context) -> None:
    """Take back a record of our own when the fill that it stood for arrives after all.

    Only the next fill of an instrument can be that one, and only while nothing came after our record.
    """
    connection = context.connection
    with committed(connection):
        cursor = fills.read_cursor(connection, context.session_id)
        if not truth.has_synthetic_fills(connection, context.session_id):
            return
    next_fills = {fill.instrument_id: fill for fill in reversed(context.exchange.fetch_fills(cursor.fill_sequence))}
    for fill in next_fills.values():
        with protection.changing_orders(connection, context.session):
            position_id = truth.withdraw_synthetic_fill(connection, context.session_id, fill)
            if position_id is not None:
                positions.refresh(connection, position_id, context.as_of)


# Helpers


def _store(context: _Context, report: ReconciliationReport, duration_ms: float) -> None:
    connection, session_id, as_of = context.connection, context.session_id, context.as_of
    with committed(connection):
        before = truth.read(connection, session_id)
        truth.write(
            connection,
            session_id,
            known=report.known,
            reason=report.reason,
            at=as_of,
            valid_until=as_of + timedelta(seconds=context.rules.truth_seconds),
            duration_ms=duration_ms,
        )
        if not report.known and (before is None or before.known or before.reason != report.reason):
            _tell(context, "trading_refused", context.session.name, report.reason, Severity.CRITICAL)
        if report.known and before is not None and not before.known:
            _tell(context, "trading_allowed", context.session.name, "the account is known again", Severity.INFO)


def _tell(
    context: _Context,
    kind: str,
    subject: str,
    message: str,
    severity: Severity,
    expected: Mapping[str, Any] | None = None,
    found: Mapping[str, Any] | None = None,
) -> None:
    events.append(
        context.connection,
        context.as_of,
        kind,
        subject,
        message,
        session_id=context.session_id,
        severity=severity,
        payload={} if expected is None or found is None else {"expected": dict(expected), "found": dict(found)},
    )


def _symbol(context: _Context, instrument_id: int) -> str:
    with committed(context.connection):
        return truth.symbol_of(context.connection, instrument_id)


def _agrees(view: _View, instrument_id: int) -> bool:
    held, booked = view.held.get(instrument_id), view.books.get(instrument_id)
    return held is not None and booked is not None and held.quantity == booked.quantity_open


def _held(report: PositionReport) -> dict[str, str]:
    return {"side": report.side.value, "quantity": _plain(report.quantity)}


def _booked(position: OpenPosition) -> dict[str, str]:
    return {"side": position.side.value, "quantity": _plain(position.quantity_open)}


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
