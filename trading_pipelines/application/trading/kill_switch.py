"""The kill switch: a database row and a file, of which either engages it, and what else keeps entries back.

Belongs here: whether an entry may be sent at all. Does not belong here: whether it is a good one (`risk`), and what is
done while the switch is engaged (`monitor.enforce_kill_switch`).
"""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from trading_pipelines.errors import UserError
from trading_pipelines.store.kill_file import KillOrder, kill_file, read_kill_file, write_kill_file
from trading_pipelines.store.repositories import kill_switch as store
from trading_pipelines.store.repositories import truth

Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@dataclass(frozen=True)
class KillState:
    """Whether trading is stopped, why, and what is to be done about what is open.

    `cancel` asks for working entry orders to be cancelled, `flatten` for open positions to be closed.
    """

    engaged: bool
    reason: str
    cancel: bool = True
    flatten: bool = False


class KillSwitch:
    """Stop all new orders, whatever else of the platform is down.

    Engaged when the row or the file says so, and also when either cannot be read: not knowing means not
    trading. Orders that only reduce a position stay allowed. Besides the switch of the platform each session has one
    of its own.
    """

    def __init__(self, data_dir: Path, connect: Connect) -> None:
        self.file = kill_file(data_dir)
        self._connect = connect

    def state(self, connection: psycopg.Connection[Any] | None = None, session_id: UUID | None = None) -> KillState:
        """Look at file and rows, over `connection` if one is given; what any of them asks for is asked for.

        With `session_id` the switch of that session counts as well.
        """
        order = read_kill_file(self.file)
        row = self._from_database(connection, session_id)
        if order is None:
            return row
        if not row.engaged:
            return KillState(True, order.reason, order.cancel, order.flatten)
        return KillState(True, order.reason, order.cancel or row.cancel, order.flatten or row.flatten)

    def refusal(self, connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime) -> str | None:
        """Why no entry of a session may be sent at `as_of`; None when one may.

        Besides the switches it takes a comparison of the books with the exchange that is not out of date: who does not
        know what is open must not open more.
        """
        state = self.state(connection, session_id)
        if state.engaged:
            return f"the kill switch is engaged: {state.reason}"
        try:
            known = truth.read(connection, session_id)
        except psycopg.Error as error:
            return f"what is known of the account cannot be read: {_first_line(error)}"
        if known is None:
            return "the account has not been compared with the exchange yet"
        if not known.known:
            return known.reason
        if known.valid_until < as_of:
            return f"the account was last compared with the exchange at {known.checked_at:%Y-%m-%d %H:%M:%S} UTC"
        return None

    def engage(self, reason: str, *, cancel: bool = True, flatten: bool = False) -> KillState:
        """Stop trading at once; one of file and row is enough, so the other may fail.

        Raises
        ------
        UserError
            Neither could be written: nothing is stopped.
        """
        failures: list[str] = []
        try:
            write_kill_file(self.file, KillOrder(reason, cancel, flatten))
        except OSError as error:
            failures.append(f"{self.file}: {error.strerror}")
        try:
            self._write_row(engaged=True, reason=reason, cancel=cancel, flatten=flatten)
        except psycopg.Error as error:
            failures.append(f"database: {_first_line(error)}")
        if len(failures) == 2:
            raise UserError(f"the kill switch could not be engaged ({'; '.join(failures)}): stop the services")
        return KillState(True, reason, cancel, flatten)

    def release(self, reason: str) -> KillState:
        """Allow trading again; the file goes last, so that a failure leaves the switch engaged.

        Raises
        ------
        UserError
            The row or the file could not be changed.
        """
        try:
            self._write_row(engaged=False, reason=reason, cancel=True, flatten=False)
            self.file.unlink(missing_ok=True)
        except psycopg.Error as error:
            raise UserError(f"still engaged, the database does not answer: {_first_line(error)}") from error
        except OSError as error:
            raise UserError(f"still engaged, remove {self.file} by hand: {error.strerror}") from error
        return KillState(False, reason, cancel=False)

    def engage_for(self, session_id: UUID, reason: str, *, cancel: bool = True, flatten: bool = False) -> None:
        """Stop one session alone; it has no file, so the database has to answer."""
        with self._connect() as connection:
            store.write_session(connection, session_id, engaged=True, reason=reason, cancel=cancel, flatten=flatten)
            connection.commit()

    def _from_database(self, connection: psycopg.Connection[Any] | None, session_id: UUID | None) -> KillState:
        try:
            with self._connect() if connection is None else contextlib.nullcontext(connection) as usable:
                row = store.read(usable)
                own = None if session_id is None else store.read_session(usable, session_id)
        except psycopg.Error as error:
            return KillState(True, f"the kill switch row cannot be read: {_first_line(error)}", cancel=False)
        if row is None:
            return KillState(True, "the kill switch row is missing", cancel=False)
        engaged = [found for found in (row, own) if found is not None and found.engaged]
        if not engaged:
            return KillState(False, row.reason, row.cancel, row.flatten)
        return KillState(
            True, engaged[0].reason, any(found.cancel for found in engaged), any(found.flatten for found in engaged)
        )

    def _write_row(self, *, engaged: bool, reason: str, cancel: bool, flatten: bool) -> None:
        with self._connect() as connection:
            store.write(connection, engaged=engaged, reason=reason, cancel=cancel, flatten=flatten)
            connection.commit()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
