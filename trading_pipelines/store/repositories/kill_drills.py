"""Drills of the kill switch and how long each part took. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class DrillRow:
    """One row of `kill_drills`; times in milliseconds from engaging the switch, None where it was not reached."""

    drill_id: UUID
    started_at: datetime
    finished_at: datetime
    outcome: str
    reason: str
    refused_ms: float | None
    cancelled_ms: float | None
    flat_ms: float | None
    steps: Sequence[str]


def insert(connection: psycopg.Connection[Any], row: DrillRow) -> None:
    """Store a drill."""
    columns = list(DrillRow.__dataclass_fields__)
    connection.execute(
        f"insert into kill_drills ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})".encode(),
        [Jsonb(list(value)) if name == "steps" else value for name, value in vars(row).items()],
    )


def entries_sent_after(connection: psycopg.Connection[Any], session_id: UUID, at: datetime) -> int:
    """How many entries of a session were sent after that time."""
    row = connection.execute(
        "select count(*) from orders where session_id = %s and leg = 'ENTRY' and sent_at > %s", (session_id, at)
    ).fetchone()
    return 0 if row is None else row[0]
