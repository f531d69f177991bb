"""Instructions of people, and what became of them. Nothing here commits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.signals.lifecycle import SignalStatus


class InstructionKind(StrEnum):
    """What is asked for."""

    OPEN = "OPEN"
    CLOSE = "CLOSE"
    STOP = "STOP"
    TARGET = "TARGET"
    SESSION = "SESSION"


class InstructionStatus(StrEnum):
    """EXPIRED: could not be carried out in time, and will not be any more."""

    PENDING = "PENDING"
    DONE = "DONE"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True)
class Instruction:
    """One row of `manual_instructions`."""

    instruction_id: UUID
    session_id: UUID
    kind: InstructionKind
    idempotency_key: str
    arguments: Mapping[str, Any]
    requested_by: str
    requested_at: datetime
    valid_until: datetime
    status: InstructionStatus
    outcome: str | None


_COLUMNS = (
    "instruction_id, session_id, kind, idempotency_key, arguments, requested_by, requested_at, valid_until, status, "
    "outcome"
)


def insert(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    kind: InstructionKind,
    idempotency_key: str,
    arguments: Mapping[str, Any],
    *,
    requested_by: str,
    requested_at: datetime,
    valid_until: datetime,
) -> UUID:
    """Store a request; its id, or that of the earlier one with the same key."""
    connection.execute(
        "insert into manual_instructions (session_id, kind, idempotency_key, arguments, requested_by, requested_at, "
        "valid_until) values (%s, %s, %s, %s, %s, %s, %s) on conflict (session_id, idempotency_key) do nothing",
        (session_id, kind, idempotency_key, Jsonb(dict(arguments)), requested_by, requested_at, valid_until),
    )
    row = connection.execute(
        "select instruction_id from manual_instructions where session_id = %s and idempotency_key = %s",
        (session_id, idempotency_key),
    ).fetchone()
    assert row is not None  # inserted just now, or there before
    return row[0]


def find(connection: psycopg.Connection[Any], instruction_id: UUID) -> Instruction | None:
    """The instruction of that id."""
    with connection.cursor(row_factory=kwargs_row(_instruction)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from manual_instructions where instruction_id = %s", (instruction_id,)
        ).fetchone()


def find_by_key(connection: psycopg.Connection[Any], session_id: UUID, key: str) -> Instruction | None:
    """The instruction that was given under an idempotency key."""
    with connection.cursor(row_factory=kwargs_row(_instruction)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from manual_instructions where session_id = %s and idempotency_key = %s",
            (session_id, key),
        ).fetchone()


def pending(connection: psycopg.Connection[Any], session_id: UUID) -> list[Instruction]:
    """What nobody has carried out yet, oldest first."""
    with connection.cursor(row_factory=kwargs_row(_instruction)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from manual_instructions where session_id = %s and status = 'PENDING' "
            "order by requested_at, instruction_id",
            (session_id,),
        ).fetchall()


def close(
    connection: psycopg.Connection[Any], instruction_id: UUID, status: InstructionStatus, outcome: str, at: datetime
) -> None:
    """Note what became of a pending instruction."""
    connection.execute(
        "update manual_instructions set status = %s, outcome = %s, handled_at = %s "
        "where instruction_id = %s and status = 'PENDING'",
        (status, outcome, at, instruction_id),
    )


def signal_outcome(connection: psycopg.Connection[Any], signal_id: UUID) -> tuple[SignalStatus, str] | None:
    """Where the signal that an opening became stands, and why; None before it was made."""
    row = connection.execute(
        "select status, coalesce(status_reason, '') from signals where signal_id = %s", (signal_id,)
    ).fetchone()
    return None if row is None else (SignalStatus(row[0]), row[1])


def _instruction(**row: Any) -> Instruction:
    row["kind"], row["status"] = InstructionKind(row["kind"]), InstructionStatus(row["status"])
    return Instruction(**row)
