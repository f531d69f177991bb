"""Apply the plain SQL migrations in order, each once.

Files are named ``NNNN_name.sql``. Those that end in ``.timescale.sql`` need the extension: on a server without it
they are left out and applied should it turn up. There is no way back: a mistake is mended by the next migration.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection, connect

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


def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    A second migrator waits for the first; each file is a transaction of its own.

    Raises
    ------
    UserError
        A file that is already applied has been changed since, or the database has seen a newer version.
    """
    migrations = available() if migrations is None else migrations
    with connect(url, application_name="migrate", lock_timeout_s=0, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
        connection.execute(
            "create table if not exists schema_migrations ("
            "name text primary key, sha256 text not null, applied_at timestamptz not null default now())"
        )
        missing = _missing(connection, migrations)
        for migration in missing:
            _apply(connection, migration)
    return [migration.name for migration in missing]


def pending(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Names of the migrations that `migrate` would apply; the same errors, nothing is written."""
    with connect(url, application_name="migrate", autocommit=True) as connection:
        return [m.name for m in _missing(connection, available() if migrations is None else migrations)]


def _missing(connection: Connection, migrations: Sequence[Migration]) -> list[Migration]:
    done = _applied(connection)
    _check_known(done, migrations)
    timescale = _has_timescale(connection)
    return [m for m in migrations if m.name not in done and (timescale or not m.needs_timescale)]


def _applied(connection: Connection) -> dict[str, str]:
    """Name and hash of the applied files."""
    if connection.execute("select to_regclass('schema_migrations')").fetchone() == (None,):
        return {}
    return dict(connection.execute("select name, sha256 from schema_migrations").fetchall())


def _check_known(done: dict[str, str], migrations: Sequence[Migration]) -> None:
    for migration in migrations:
        if done.get(migration.name, migration.sha256) != migration.sha256:
            raise UserError(
                f"migration {migration.name} was changed after it had been applied: "
                "put the file back and write a new one"
            )
    if unknown := sorted(done.keys() - {migration.name for migration in migrations}):
        raise UserError(f"the database is newer than this program (it has {unknown[-1]}): update the program")


def _apply(connection: Connection, migration: Migration) -> None:
    with connection.transaction():
        connection.execute(migration.sql.encode())
        connection.execute(
            "insert into schema_migrations (name, sha256) values (%s, %s)", (migration.name, migration.sha256)
        )


def _has_timescale(connection: Connection) -> bool:
    return connection.execute("select from pg_available_extensions where name = 'timescaledb'").rowcount > 0
