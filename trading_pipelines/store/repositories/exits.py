"""Open positions that their strategy wants closed. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class HeldPosition:
    """An open position of the strategy that opened it; without a signal nobody's."""

    position_id: UUID
    instrument_id: int
    side: str
    strategy: str


@dataclass(frozen=True)
class ExitRow:
    """One decision to close, as stored in `exit_decisions`; `ts` is the open time of its bar."""

    session_id: UUID
    position_id: UUID
    instrument_id: int
    timeframe: str
    ts: datetime
    strategy: str
    decided_at: datetime
    reason: str
    confidence: float | None


def held(connection: psycopg.Connection[Any], session_id: UUID, opened_by: datetime) -> list[HeldPosition]:
    """Open positions that were opened by that time and come from a strategy."""
    with connection.cursor(row_factory=class_row(HeldPosition)) as cursor:
        return cursor.execute(
            """
            select p.position_id, p.instrument_id, p.side, s.strategy
            from positions p join signals s using (signal_id)
            where p.session_id = %s and p.status = 'OPEN' and p.opened_at <= %s
            order by p.instrument_id
            """,
            (session_id, opened_by),
        ).fetchall()


def insert(cursor: psycopg.Cursor[Any], rows: Sequence[ExitRow]) -> None:
    """Store decisions; one that is there stays as it was made."""
    cursor.executemany(
        """
        insert into exit_decisions (session_id, position_id, instrument_id, timeframe, ts, strategy, decided_at, reason,
            confidence)
        values (%(session_id)s, %(position_id)s, %(instrument_id)s, %(timeframe)s, %(ts)s, %(strategy)s,
            %(decided_at)s, %(reason)s, %(confidence)s)
        on conflict do nothing
        """,
        [vars(row) for row in rows],
    )


def pending(connection: psycopg.Connection[Any], session_id: UUID) -> list[ExitRow]:
    """Decisions that nobody has carried out yet, oldest first."""
    with connection.cursor(row_factory=class_row(ExitRow)) as cursor:
        return cursor.execute(
            """
            select session_id, position_id, instrument_id, timeframe, ts, strategy, decided_at, reason, confidence
            from exit_decisions where session_id = %s and handled_at is null order by ts, instrument_id
            """,
            (session_id,),
        ).fetchall()


def mark_handled(cursor: psycopg.Cursor[Any], position_ids: Sequence[UUID], outcome: str, handled_at: datetime) -> None:
    """Note what became of the pending decisions about these positions."""
    cursor.execute(
        "update exit_decisions set handled_at = %s, outcome = %s where position_id = any(%s) and handled_at is null",
        (handled_at, outcome, list(position_ids)),
    )
