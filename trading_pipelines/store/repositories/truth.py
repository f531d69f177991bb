"""Whether the books of an account agree with its exchange, and where they did not. Nothing here commits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.execution.orders import FillReport, PositionReport

TAKEN_OVER = "taken over"
"""Mends a difference of the balance: it is part of the account's history from then on."""


@dataclass(frozen=True)
class Truth:
    """The result of the newest comparison; it counts until `valid_until`."""

    known: bool
    reason: str
    since: datetime
    checked_at: datetime
    valid_until: datetime


@dataclass(frozen=True)
class DiscrepancyRow:
    """One difference between the exchange and the books; `amount` in quote currency for differences of the balance."""

    discrepancy_id: UUID
    session_id: UUID
    instrument_id: int | None
    kind: str
    subject: str
    message: str
    expected: Mapping[str, Any]
    found: Mapping[str, Any]
    amount: Decimal = Decimal(0)


def read(connection: psycopg.Connection[Any], session_id: UUID) -> Truth | None:
    """The newest comparison, None before the first."""
    with connection.cursor(row_factory=class_row(Truth)) as cursor:
        return cursor.execute(
            "select known, reason, since, checked_at, valid_until from account_truth where session_id = %s",
            (session_id,),
        ).fetchone()


def write(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    *,
    known: bool,
    reason: str,
    at: datetime,
    valid_until: datetime,
    duration_ms: float,
) -> None:
    """Store the result of a comparison; `since` stays while the verdict does."""
    connection.execute(
        """
        insert into account_truth as stored (session_id, known, reason, since, checked_at, valid_until, duration_ms)
        values (%(session)s, %(known)s, %(reason)s, %(at)s, %(at)s, %(valid_until)s, %(duration)s)
        on conflict (session_id) do update
        set known = excluded.known, reason = excluded.reason, checked_at = excluded.checked_at,
            since = case when stored.known = excluded.known then stored.since else excluded.since end,
            valid_until = excluded.valid_until, duration_ms = excluded.duration_ms,
            comparisons = stored.comparisons + 1
        """,
        {
            "session": session_id,
            "known": known,
            "reason": reason,
            "at": at,
            "valid_until": valid_until,
            "duration": duration_ms,
        },
    )


def see(connection: psycopg.Connection[Any], row: DiscrepancyRow, at: datetime) -> bool:
    """Store a difference, or that it was seen again; True when it is new."""
    found = connection.execute(
        """
        insert into discrepancies as stored (discrepancy_id, session_id, instrument_id, kind, subject, message,
            expected, found, amount, first_seen_at, last_seen_at)
        values (%(discrepancy_id)s, %(session_id)s, %(instrument_id)s, %(kind)s, %(subject)s, %(message)s,
            %(expected)s, %(found)s, %(amount)s, %(at)s, %(at)s)
        on conflict (discrepancy_id) do update
        set last_seen_at = excluded.last_seen_at, times_seen = stored.times_seen + 1
        returning times_seen = 1
        """,
        {**vars(row), "expected": Jsonb(dict(row.expected)), "found": Jsonb(dict(row.found)), "at": at},
    ).fetchone()
    return found is not None and bool(found[0])


def mark_mended(connection: psycopg.Connection[Any], discrepancy_id: UUID, by: str, at: datetime) -> None:
    """Note what brought the books back to the truth; the first note stays."""
    connection.execute(
        "update discrepancies set mended_at = %s, mended_by = %s where discrepancy_id = %s and mended_at is null",
        (at, by, discrepancy_id),
    )


def settle(connection: psycopg.Connection[Any], session_id: UUID, left: Sequence[UUID], at: datetime) -> None:
    """Close every recorded difference that is not among those `left`: the books agree there again."""
    connection.execute(
        "update discrepancies set mended_at = %s, mended_by = 'no longer differs' "
        "where session_id = %s and mended_at is null and discrepancy_id <> all(%s)",
        (at, session_id, list(left)),
    )


def wallet(connection: psycopg.Connection[Any], session_id: UUID) -> Decimal:
    """What the account has without its unrealised result, by the books: capital, results, costs, explained drift."""
    row = connection.execute(
        """
        select s.start_capital
             + (select coalesce(sum(realised_pnl - fees - funding), 0) from positions where session_id = s.session_id)
             + (select coalesce(sum(amount), 0) from discrepancies
                where session_id = s.session_id and kind = 'BALANCE' and mended_by = %s)
        from sessions s where s.session_id = %s
        """,
        (TAKEN_OVER, session_id),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no session {session_id}")
    return row[0]


def newest_fill(connection: psycopg.Connection[Any], session_id: UUID, instrument_id: int | None = None) -> str:
    """Id of the last stored fill, of an instrument if one is named; empty before the first."""
    row = connection.execute(
        "select fill_id from fills where session_id = %s and (%s::int is null or instrument_id = %s) "
        "order by sequence desc, ts desc, fill_id desc limit 1",
        (session_id, instrument_id, instrument_id),
    ).fetchone()
    return "" if row is None else row[0]


def stored_fills(connection: psycopg.Connection[Any], session_id: UUID) -> set[str]:
    """Ids of all fills that were taken over."""
    rows = connection.execute("select fill_id from fills where session_id = %s", (session_id,)).fetchall()
    return {row[0] for row in rows}


def unresolved_since(connection: psycopg.Connection[Any], session_id: UUID, before: datetime) -> int:
    """How many orders have been sent without a known outcome since before that time."""
    row = connection.execute(
        "select count(*) from orders where session_id = %s and status in ('SENT', 'UNKNOWN') "
        "and coalesce(sent_at, created_at) < %s",
        (session_id, before),
    ).fetchone()
    return 0 if row is None else row[0]


def first_seen(connection: psycopg.Connection[Any], discrepancy_id: UUID) -> datetime:
    """When a stored difference was met for the first time."""
    row = connection.execute(
        "select first_seen_at from discrepancies where discrepancy_id = %s", (discrepancy_id,)
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no discrepancy {discrepancy_id}")
    return row[0]


def symbol_of(connection: psycopg.Connection[Any], instrument_id: int) -> str:
    """Symbol of an instrument; its number where it is not stored."""
    row = connection.execute("select symbol from instruments where instrument_id = %s", (instrument_id,)).fetchone()
    return str(instrument_id) if row is None else row[0]


def follow_position(connection: psycopg.Connection[Any], session_id: UUID, held: PositionReport) -> None:
    """Take over what only the exchange knows of a position that was opened or enlarged outside."""
    connection.execute(
        """
        update positions
        set entry_margin = %(margin)s * quantity_initial / quantity_open, leverage = %(leverage)s,
            liquidation_price = %(liquidation)s, mark_price = %(mark)s
        where session_id = %(session)s and instrument_id = %(instrument)s and status = 'OPEN'
        """,
        {
            "session": session_id,
            "instrument": held.instrument_id,
            "margin": held.margin,
            "leverage": held.leverage,
            "liquidation": held.liquidation_price,
            "mark": held.mark_price,
        },
    )


def has_synthetic_fills(connection: psycopg.Connection[Any], session_id: UUID) -> bool:
    """Whether any fill of a session stands for one that the exchange did not report."""
    return (
        connection.execute(
            "select from fills where session_id = %s and source = 'RECONCILED' limit 1", (session_id,)
        ).rowcount
        > 0
    )


def withdraw_synthetic_fill(connection: psycopg.Connection[Any], session_id: UUID, arrived: FillReport) -> UUID | None:
    """Delete the record that stood for `arrived`, with its order; the position that has to be added up again."""
    row = connection.execute(
        """
        delete from orders where client_order_id = (
            select client_order_id from (
                select * from fills where session_id = %s and instrument_id = %s
                order by sequence desc, ts desc limit 1) newest
            where side = %s and quantity = %s and source = 'RECONCILED')
        returning position_id
        """,
        (session_id, arrived.instrument_id, arrived.side, arrived.quantity),
    ).fetchone()
    return None if row is None else row[0]
