"""The kill switch: a database row and a file, of which either engages it."""

import contextlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import kill_switch as store

FILE_NAME = "KILL"

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
    trading. Orders that only reduce a position stay allowed.
    """

    def __init__(self, data_dir: Path, connect: Connect) -> None:
        self.file = data_dir / FILE_NAME
        self._connect = connect

    def state(self, connection: psycopg.Connection[Any] | None = None) -> KillState:
        """Look at file and row, the row over `connection` if one is given; what either asks for is asked for."""
        file, row = _from_file(self.file), self._from_database(connection)
        if file is None or not row.engaged:
            return file or row
        return KillState(True, file.reason, file.cancel or row.cancel, file.flatten or row.flatten)

    def engage(self, reason: str, *, cancel: bool = True, flatten: bool = False) -> KillState:
        """Stop trading at once; one of file and row is enough, so the other may fail.

        Raises
        ------
        UserError
            Neither could be written: nothing is stopped.
        """
        failures: list[str] = []
        try:
            _write_durably(self.file, _describe(reason, cancel, flatten))
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

    def _from_database(self, connection: psycopg.Connection[Any] | None) -> KillState:
        try:
            with self._connect() if connection is None else contextlib.nullcontext(connection) as usable:
                row = store.read(usable)
        except psycopg.Error as error:
            return KillState(True, f"the kill switch row cannot be read: {_first_line(error)}", cancel=False)
        if row is None:
            return KillState(True, "the kill switch row is missing", cancel=False)
        return KillState(row.engaged, row.reason, row.cancel, row.flatten)

    def _write_row(self, *, engaged: bool, reason: str, cancel: bool, flatten: bool) -> None:
        with self._connect() as connection:
            store.write(connection, engaged=engaged, reason=reason, cancel=cancel, flatten=flatten)
            connection.commit()


def _from_file(file: Path) -> KillState | None:
    """None when there is no file; an empty or unreadable one engages as well."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        return KillState(True, f"{file} cannot be read: {error.strerror}", cancel=False)
    return _parse(text) or KillState(True, f"{file} exists")


def _parse(text: str) -> KillState | None:
    with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
        content = json.loads(text)
        return KillState(True, str(content["reason"]), content["cancel"] is not False, content["flatten"] is True)
    return None


def _describe(reason: str, cancel: bool, flatten: bool) -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"reason": reason, "cancel": cancel, "flatten": flatten, "since": since})


def _write_durably(file: Path, text: str) -> None:
    """Write so that a power cut right after leaves the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
