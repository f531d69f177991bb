"""The append-only event log that feeds dashboards and alerts."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb


class Severity(StrEnum):
    """How urgently a person should look."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


def append(
    connection: psycopg.Connection[Any],
    at: datetime,
    kind: str,
    subject: str,
    message: str,
    *,
    session_id: UUID | None = None,
    severity: Severity = Severity.INFO,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Add one event; listeners are told when the transaction commits."""
    connection.execute(
        "insert into events (ts, kind, severity, session_id, subject, message, payload) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        (at, kind, severity, session_id, subject, message, Jsonb(dict(payload or {}))),
    )


def append_once(
    connection: psycopg.Connection[Any],
    at: datetime,
    kind: str,
    subject: str,
    message: str,
    *,
    session_id: UUID,
    severity: Severity = Severity.INFO,
    payload: Mapping[str, Any] | None = None,
) -> bool:
    """Add an event unless the newest one of its kind and subject says the same; True when it was added.

    For conditions that are looked at every few seconds and last for hours.
    """
    newest = connection.execute(
        "select message from events where session_id = %s and kind = %s and subject = %s "
        "order by event_id desc limit 1",
        (session_id, kind, subject),
    ).fetchone()
    if newest is not None and newest[0] == message:
        return False
    append(connection, at, kind, subject, message, session_id=session_id, severity=severity, payload=payload)
    return True
