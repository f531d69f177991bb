"""Apply the plain SQL migrations in order, each once.

Files are named ``NNNN_name.sql``. Those that end in ``.timescale.sql`` need the extension: on a server without it they are
left out and applied should it turn up. There is no way back: a mistake is mended by the next migration.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg

from trading_pipelines.errors import UserError

_LOCK = 0x7472616465  # any fixed number: two migrators must agree on it


@dataclass(frozen=True)
class Migration:
    """One file of the folder `migrations`."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hash of the text, by which a later change of an applied file is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def needs_timescale(self) -> bool:
        """Whether the file is for servers with the extension only."""
        return self.name.endswith(".timescale")


def available() -> list[Migration]:
    """All migrations of this version, in order."""
    folder = resources.files("trading_pipelines.store.migrations")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(f.name.removesuffix(".sql"), f.read_text()) for f in files]


def migrate(url: str, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    A second migrator waits for the first; each file is a transaction of its own.

    Raises
    ------
    UserError
        A file that is already applied has been changed since.
    """
    applied: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
        done = _done(connection)
        for migration in available() if migrations is None else migrations:
            if migration.name in done:
                _check_unchanged(migration, done[migration.name])
            elif not migration.needs_timescale or _has_timescale(connection):
                _apply(connection, migration)
                applied.append(migration.name)
    return applied


def pending(url: str) -> list[str]:
    """Names of the migrations that `migrate` would apply."""
    with psycopg.connect(url, autocommit=True) as connection:
        done = _done(connection)
        timescale = _has_timescale(connection)
        return [m.name for m in available() if m.name not in done and (timescale or not m.needs_timescale)]


def _done(connection: psycopg.Connection[Any]) -> dict[str, str]:
    connection.execute(
        "create table if not exists schema_migrations ("
        "name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
    )
    return {row[0]: row[1] for row in connection.execute("select name, sha256 from schema_migrations")}


def _check_unchanged(migration: Migration, sha256: str) -> None:
    if migration.sha256 != sha256:
        raise UserError(
            f"migration {migration.name} was changed after it had been applied: put the file back and write a new one"
        )


def _apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.sql.encode())
        connection.execute(
            "insert into schema_migrations (name, sha256) values (%s, %s)", (migration.name, migration.sha256)
        )


def _has_timescale(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("select 1 from pg_available_extensions where name = 'timescaledb'").fetchone()
    return row is not None
