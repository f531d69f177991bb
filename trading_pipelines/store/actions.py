"""What the dashboard may do: write down what a person asks for, choose models, and stop all trading. Nothing else.

An instruction is only a row; the fast service judges it by the risk rules and carries it out. Stopping writes the file
of the kill switch, for which neither the database nor any service has to be alive. A model is chosen by a function of
the database that refuses what is not legal.

Belongs here: the three ways in which a page changes anything. Does not belong here: any decision.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import connect, requester_url
from trading_pipelines.store.kill_file import KillOrder, kill_file, write_kill_file
from trading_pipelines.store.repositories import instructions
from trading_pipelines.store.repositories.instructions import InstructionKind

REQUESTED_BY = "dashboard"


def instruct(settings: Settings, session_id: UUID, kind: str, arguments: Mapping[str, Any], key: str) -> UUID:
    """Write an instruction down; the same key again is the same instruction. Its id.

    Raises
    ------
    UserError
        The database cannot take it.
    """
    now = datetime.now(UTC)
    try:
        with connect(requester_url(settings), application_name=REQUESTED_BY) as connection:
            return instructions.insert(
                connection,
                session_id,
                InstructionKind(kind),
                key,
                arguments,
                requested_by=REQUESTED_BY,
                requested_at=now,
                valid_until=now + timedelta(seconds=settings.trader.instruction_seconds),
            )
    except psycopg.Error as error:
        raise UserError(f"the instruction could not be written down: {str(error).strip().splitlines()[0]}") from error


def change_model(settings: Settings, wanted: str, model_id: str, reason: str) -> str:
    """Promote or roll back a version, pin or unpin it, from now on; the version that is concerned in the end.

    Raises
    ------
    UserError
        The database refuses the change, or cannot be reached.
    """
    try:
        with connect(requester_url(settings), application_name=REQUESTED_BY) as connection:
            row = connection.execute("select request_model_change(%s, %s, %s)", (wanted, model_id, reason)).fetchone()
    except psycopg.Error as error:
        raise UserError(str(error).strip().splitlines()[0]) from error
    assert row is not None
    return row[0]


def stop_trading(settings: Settings, reason: str, *, flatten: bool) -> None:
    """Engage the kill switch by its file.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    file = kill_file(settings.data_dir)
    try:
        write_kill_file(file, KillOrder(reason, flatten=flatten))
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror}): run `trading kill on`") from error
