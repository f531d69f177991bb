"""What the daily comparison of live decisions with a replay has found."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class ParitySummary:
    """The newest report of one session; prices in bps, positive where the real fill was worse than the modelled one."""

    session: str
    day: date
    computed_at: datetime
    decisions: int
    equal: int
    late: int
    missed: int
    diverged: int
    fills: int
    fills_matched: int
    price_bps_mean: float | None
    first: str | None


_NEWEST = """
select distinct on (s.name) s.name as session, r.day, r.computed_at, r.decisions, r.equal, r.late, r.missed, r.diverged,
       r.fills, r.fills_matched, r.price_bps_mean, r.first_divergence ->> 'says' as first
from parity_reports r join sessions s using (session_id)
where s.mode <> 'replay'
order by s.name, r.day desc
"""


def newest_reports(connection: psycopg.Connection[Any]) -> list[ParitySummary]:
    """The newest report of every live session, by name."""
    with connection.cursor(row_factory=class_row(ParitySummary)) as cursor:
        return cursor.execute(_NEWEST).fetchall()
