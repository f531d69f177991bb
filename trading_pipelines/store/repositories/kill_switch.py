"""The row of the kill switch, and the rows of single sessions. Nothing here commits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class KillSwitchRow:
    """What the database says; `cancel` and `flatten` name what is to be done while it is engaged."""

    engaged: bool
    reason: str
    cancel: bool
    flatten: bool
    changed_at: datetime


def read(connection: psycopg.Connection[Any]) -> KillSwitchRow | None:
    """The stored state; None when the row is missing, which a caller must read as engaged."""
    with connection.cursor(row_factory=class_row(KillSwitchRow)) as cursor:
        return cursor.execute("select engaged, reason, cancel, flatten, changed_at from kill_switch").fetchone()


def write(connection: psycopg.Connection[Any], *, engaged: bool, reason: str, cancel: bool, flatten: bool) -> None:
    """Replace the stored state."""
    connection.execute(
        """
        insert into kill_switch (engaged, reason, cancel, flatten, changed_at) values (%s, %s, %s, %s, now())
        on conflict (only_row) do update
        set engaged = excluded.engaged, reason = excluded.reason, cancel = excluded.cancel,
            flatten = excluded.flatten, changed_at = excluded.changed_at
        """,
        (engaged, reason, cancel, flatten),
    )


def read_session(connection: psycopg.Connection[Any], session_id: UUID) -> KillSwitchRow | None:
    """The switch of one session; None when it was never engaged for that session."""
    with connection.cursor(row_factory=class_row(KillSwitchRow)) as cursor:
        return cursor.execute(
            "select engaged, reason, cancel, flatten, changed_at from session_kill_switches where session_id = %s",
            (session_id,),
        ).fetchone()


def write_session(
    connection: psycopg.Connection[Any], session_id: UUID, *, engaged: bool, reason: str, cancel: bool, flatten: bool
) -> None:
    """Replace the switch of one session."""
    connection.execute(
        """
        insert into session_kill_switches (session_id, engaged, reason, cancel, flatten) values (%s, %s, %s, %s, %s)
        on conflict (session_id) do update
        set engaged = excluded.engaged, reason = excluded.reason, cancel = excluded.cancel,
            flatten = excluded.flatten, changed_at = now()
        """,
        (session_id, engaged, reason, cancel, flatten),
    )
