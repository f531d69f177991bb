"""Trading sessions as a person chooses between them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class SessionSummary:
    """One session with the span of its equity marks.

    Attributes
    ----------
    clock : datetime or None
        As-of time that a replay has reached, UTC; None for a session on the wall clock.
    first_mark, last_mark : datetime or None
        First and last equity mark, UTC; None before the first bar.
    max_open_positions : int or None
        Limit from the session's own rules.
    """

    session_id: UUID
    name: str
    mode: str
    status: str
    exchange: str
    symbols: list[str]
    timeframe: str
    strategies: list[str]
    direction: str
    start_capital: float
    clock: datetime | None
    fingerprint: str | None
    created_at: datetime
    first_mark: datetime | None
    last_mark: datetime | None
    max_open_positions: int | None


_SESSIONS = """
select s.session_id, s.name, s.mode, s.status, s.exchange, s.symbols, s.timeframe, s.strategies, s.direction,
       s.start_capital::float8 as start_capital, s.clock, s.fingerprint, s.created_at,
       (select min(ts) from equity e where e.session_id = s.session_id) as first_mark,
       (select max(ts) from equity e where e.session_id = s.session_id) as last_mark,
       (s.config #>> '{limits,max_open_positions}')::int as max_open_positions
from sessions s
order by s.mode = 'replay', s.created_at desc
"""


def list_sessions(connection: psycopg.Connection[Any]) -> list[SessionSummary]:
    """All sessions: those on the wall clock first, then the replays, newest first."""
    with connection.cursor(row_factory=class_row(SessionSummary)) as cursor:
        return cursor.execute(_SESSIONS).fetchall()
