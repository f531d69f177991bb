"""Who keeps the embedded database running.

Every process that needs it holds a shared file lock for as long; the last one that lets go stops the server. So a
single command works on a fresh clone, and neither it nor `trading up` ever takes the server away from the other. A
process that is killed drops its lock with it. `trading db start` pins the server until `trading db stop`.

Belongs here: when the server runs. Does not belong here: how it is started and stopped (`store.embedded`).
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psycopg

from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import (
    READER,
    REQUESTER,
    embedded_server,
    make_uri,
    password_file,
    resolve_url,
)
from trading_pipelines.store.migrate import migrate, pending
from trading_pipelines.store.roles import ensure_reader, ensure_requester


def run_dir(settings: Settings) -> Path:
    """Folder of what the running processes know of each other; created when missing."""
    folder = settings.data_dir / "run"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"TRADING_DATA_DIR: {settings.data_dir} cannot be used: {error.strerror}") from error
    return folder


@contextlib.contextmanager
def running_database(settings: Settings, on_stop: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Keep the database running for the block; its address.

    A database of the user's own (`TRADING_DATABASE_URL`) is left as it is. `on_stop` is called before the server is
    stopped.

    Raises
    ------
    UserError
        The embedded server does not start.
    """
    if settings.database_url is not None:
        yield resolve_url(settings)
        return
    server = embedded_server(settings)
    with _users_lock(settings) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield server.start()
        finally:
            if not is_pinned(settings) and _is_last(lock):
                on_stop()
                server.stop()


@contextlib.contextmanager
def ready_database(settings: Settings) -> Iterator[str]:
    """Like `running_database`, with the schema of this version.

    Raises
    ------
    UserError
        The user's own database lacks migrations: only the user decides when they are applied there.
    """
    with running_database(settings) as url:
        if settings.database_url is None:
            prepare_database(settings, url)
        elif missing := pending(url):
            raise UserError(f"the database lacks {', '.join(missing)}: run `trading db migrate`")
        yield url


def prepare_database(settings: Settings, url: str) -> list[str]:
    """Apply the migrations; the names of what was applied.

    An embedded server gets the dashboard's roles as well, a server of the user's own a database for Dagster.
    """
    applied = migrate(url)
    if settings.database_url is None:
        ensure_reader(url, password_file(settings, READER))
        ensure_requester(url, password_file(settings, REQUESTER))
    else:
        _ensure_dagster_database(url)
    return applied


def dagster_url(settings: Settings) -> str:
    """Address of Dagster's own database, as the URI that its configuration takes; the server need not be up."""
    if settings.database_url is None:
        return embedded_server(settings).url_of("dagster")
    return make_uri(resolve_url(settings, "dagster"))


def start_pinned(settings: Settings) -> str:
    """Start the server and let it run until `stop_pinned`; its address."""
    server = embedded_server(settings)
    with _users_lock(settings) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        url = server.start()
        _pin(settings).touch()
    return url


def stop_pinned(settings: Settings) -> None:
    """Stop the server.

    Raises
    ------
    UserError
        Somebody uses it.
    """
    with _users_lock(settings) as lock:
        if not _is_last(lock):
            raise UserError("the database is in use: stop `trading up` and other commands first (Ctrl-C)")
        _pin(settings).unlink(missing_ok=True)
        embedded_server(settings).stop()


def is_pinned(settings: Settings) -> bool:
    """Whether `trading db start` asked for the server to stay."""
    return _pin(settings).exists()


def _ensure_dagster_database(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = 'dagster'").fetchone() is not None:
            return
        try:
            connection.execute("create database dagster")
        except psycopg.errors.InsufficientPrivilege as error:
            raise UserError(
                "the database user may not create the database `dagster`: create it for that user"
            ) from error
        except psycopg.errors.DuplicateDatabase:
            return  # somebody else was faster


def _pin(settings: Settings) -> Path:
    return run_dir(settings) / "database-pinned"


def _users_lock(settings: Settings) -> IO[bytes]:
    return (run_dir(settings) / "database-users.lock").open("ab")


def _is_last(lock: IO[bytes]) -> bool:
    """Turn the shared lock into an exclusive one, which only the last holder gets."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
