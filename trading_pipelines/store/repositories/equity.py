"""The marked account over time. Nothing here commits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class EquitySummary:
    """The newest mark, the running maximum and the mark at the start of a day; start capital before the first."""

    equity: float
    peak: float
    day_open: float


def save(
    connection: psycopg.Connection[Any], session_id: UUID, ts: datetime, cash: float, margin: float, unrealised: float
) -> None:
    """Store the mark of one moment and the running maximum up to it; a repeated call replaces the mark."""
    connection.execute(
        """
        insert into equity (session_id, ts, equity, cash, margin, unrealised, peak)
        select s.session_id, %(ts)s, %(equity)s, %(cash)s, %(margin)s, %(unrealised)s,
               greatest(%(equity)s, coalesce(
                   (select coalesce(e.peak, e.equity) from equity e
                    where e.session_id = s.session_id and e.ts < %(ts)s order by e.ts desc limit 1),
                   s.start_capital::float8))
        from sessions s where s.session_id = %(session)s
        on conflict (session_id, ts) do update
        set equity = excluded.equity, cash = excluded.cash, margin = excluded.margin,
            unrealised = excluded.unrealised, peak = excluded.peak
        """,
        {
            "session": session_id,
            "ts": ts,
            "equity": cash + margin + unrealised,
            "cash": cash,
            "margin": margin,
            "unrealised": unrealised,
        },
    )


def summary(connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime, day: datetime) -> EquitySummary:
    """Where the account stands at `as_of`; `day` is 00:00 UTC of the day in question."""
    with connection.cursor(row_factory=class_row(EquitySummary)) as cursor:
        found = cursor.execute(
            """
            select coalesce(newest.equity, s.start_capital::float8) as equity,
                   coalesce(newest.peak, newest.equity, s.start_capital::float8) as peak,
                   coalesce(opening.equity, s.start_capital::float8) as day_open
            from sessions s
            left join lateral (select equity, peak from equity e
                where e.session_id = s.session_id and e.ts <= %(as_of)s order by e.ts desc limit 1) newest on true
            left join lateral (select equity from equity e
                where e.session_id = s.session_id and e.ts <= %(day)s order by e.ts desc limit 1) opening on true
            where s.session_id = %(session)s
            """,
            {"session": session_id, "as_of": as_of, "day": day},
        ).fetchone()
    if found is None:
        raise LookupError(f"there is no session {session_id}")
    return found
