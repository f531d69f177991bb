"""Instructions of people: written down first, then carried out once, whoever gets to it.

The dashboard and the command line write a row under an idempotency key; the fast service carries it out within its
next tick and notes what came of it. Where no service is alive, the command line calls the same function itself.

Belongs here: taking an instruction in, carrying each out exactly once, letting it expire. Does not belong here: what
the single instructions do (`manual`, `sessions`).
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.application.signals.sessions import pause_session, start_session, stop_session
from trading_pipelines.application.trading import manual
from trading_pipelines.application.trading.manual import Desk, Outcome
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import events
from trading_pipelines.store.repositories import instructions as store
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.instructions import Instruction, InstructionKind, InstructionStatus
from trading_pipelines.store.transaction import committed


@dataclass(frozen=True)
class Handled:
    """What became of one instruction."""

    instruction_id: UUID
    status: InstructionStatus
    outcome: str


def submit(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    kind: InstructionKind,
    arguments: Mapping[str, Any],
    *,
    key: str,
    by: str,
    as_of: datetime,
    valid_seconds: float,
) -> UUID:
    """Write an instruction down; one with the same key is the same instruction, whatever it says."""
    with committed(connection):
        return store.insert(
            connection,
            session_id,
            kind,
            key,
            arguments,
            requested_by=by,
            requested_at=as_of,
            valid_until=as_of + timedelta(seconds=valid_seconds),
        )


def carry_out(connection: psycopg.Connection[Any], desk: Desk, as_of: datetime) -> list[Handled]:
    """Carry out what waits for the desk's session, oldest first; nothing while another process does so.

    An instruction that was cut off in the middle is taken up again; every order has the id that follows from the
    instruction, so nothing is sent twice. One that could not be carried out in time expires.
    """
    handled: list[Handled] = []
    with committed(connection):
        waiting = store.pending(connection, desk.session.session_id)
    if not waiting:
        return handled
    with _alone(connection, desk.session.session_id) as alone:
        for instruction in waiting if alone else []:
            outcome = _attempt(connection, desk, instruction, as_of)
            if outcome is not None:
                handled.append(_close(connection, instruction, outcome, as_of))
    return handled


def _attempt(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome | None:
    """Try once; None while it has to wait."""
    late = as_of > instruction.valid_until
    try:
        outcome = (
            manual.give_up(connection, desk, instruction, as_of)
            if late
            else _HANDLERS[instruction.kind](connection, desk, instruction, as_of)
        )
    except (UserError, ValueError, KeyError, TypeError) as error:
        connection.rollback()
        return Outcome(
            InstructionStatus.REFUSED, f"{error}" if isinstance(error, UserError) else f"unreadable: {error!r}"
        )
    return outcome


def _close(connection: psycopg.Connection[Any], instruction: Instruction, outcome: Outcome, as_of: datetime) -> Handled:
    with committed(connection):
        store.close(connection, instruction.instruction_id, outcome.status, outcome.text, as_of)
        events.append(
            connection,
            as_of,
            "instruction",
            str(instruction.arguments.get("symbol", instruction.kind)),
            f"{instruction.kind} by {instruction.requested_by}: {outcome.status}, {outcome.text}",
            session_id=instruction.session_id,
            severity=Severity.INFO if outcome.status is InstructionStatus.DONE else Severity.WARNING,
            payload={"instruction_id": str(instruction.instruction_id), "arguments": dict(instruction.arguments)},
        )
    return Handled(instruction.instruction_id, outcome.status, outcome.text)


def _change_session(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome:
    match instruction.arguments["action"]:
        case "start":
            text = start_session(connection, desk.session, as_of)
        case "pause":
            text = pause_session(connection, desk.session)
        case "stop":
            flatten = instruction.arguments.get("flatten") is True
            text = stop_session(connection, desk.session, as_of, flatten=flatten)
        case other:
            raise UserError(f"a session is started, paused or stopped, not {other!r}")
    return Outcome(InstructionStatus.DONE, text)


_HANDLERS: Mapping[
    InstructionKind, Callable[[psycopg.Connection[Any], Desk, Instruction, datetime], Outcome | None]
] = {
    InstructionKind.OPEN: manual.open_trade,
    InstructionKind.CLOSE: manual.close_trade,
    InstructionKind.STOP: manual.set_stop,
    InstructionKind.TARGET: manual.set_target,
    InstructionKind.SESSION: _change_session,
}


@contextmanager
def _alone(connection: psycopg.Connection[Any], session_id: UUID) -> Generator[bool]:
    """Let one process at a time carry out a session's instructions; the lock dies with the connection."""
    key = f"instructions:{session_id}"
    with committed(connection):
        row = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)).fetchone()
    alone = row is not None and bool(row[0])
    try:
        yield alone
    finally:
        if alone:
            with suppress(psycopg.OperationalError):
                connection.rollback()
                with committed(connection):
                    connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))
