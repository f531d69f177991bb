"""Fixtures for all tests: an isolated environment, a migrated database per test, recorded market data."""

import os
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.settings import Settings, settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

TEMPLATE = "trading_template"
OUTSIDE_SERVERS = ("TRADING_TEST_TIMESCALE_URL", "TRADING_TEST_DATABASE_URL")

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _isolated_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's variables and `.env` out of the tests."""
    for name in list(os.environ):
        if name.startswith("TRADING_") and not name.startswith("TRADING_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setitem(_settings_config(), "env_file", None)
    settings.cache_clear()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Address of a server to create databases on: one named by the environment, else an embedded one."""
    if outside := _outside_server():
        yield outside
        return
    with tempfile.TemporaryDirectory(prefix="trading-tests-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
        server.start()
        try:
            yield server.url_of("postgres")
        finally:
            server.stop()


@pytest.fixture(scope="session")
def embedded_only() -> None:
    """Skip tests that change what all databases of a server share, such as its roles, on somebody's server."""
    if _outside_server():
        pytest.skip("changes more than its own database, and the server is somebody's")


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """Name of a database with all migrations applied, to be cloned."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    _administer(server_url, f"create database {name}")
    migrate(make_conninfo(server_url, dbname=name))
    # Only what nobody is connected to can be cloned, and TimescaleDB has workers that connect to whatever lets them.
    _administer(server_url, f"alter database {name} with allow_connections false")
    _administer(server_url, f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'")
    yield name
    _administer(server_url, f"drop database {name} with (force)")


@pytest.fixture
def database(server_url: str, template: str) -> Iterator[str]:
    """Address of a fresh, migrated database of this test's own."""
    with _clone(server_url, template) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database(server_url: str, template: str) -> Iterator[str]:
    """Address of a migrated database for a module's tests that undo what they write."""
    with _clone(server_url, template) as url:
        yield url


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """An open connection to `database`."""
    with connect(database, application_name="test") as opened:
        yield opened


@pytest.fixture
def scratch(shared_database: str) -> Iterator[Connection]:
    """An open connection to `shared_database` whose work is undone."""
    with connect(shared_database) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="session")
def real_data_dir() -> Path:
    """Folder of recorded market data; tests that need it are skipped by name without it."""
    folder = os.environ.get("TRADING_TEST_DATA")
    if not folder:
        pytest.skip("TRADING_TEST_DATA names no folder of recorded market data")
    return Path(folder).resolve()


def _outside_server() -> str | None:
    return next((os.environ[name] for name in OUTSIDE_SERVERS if os.environ.get(name)), None)


@contextmanager
def _clone(server_url: str, template: str) -> Generator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _administer(server_url, f"create database {name} template {template} strategy file_copy")
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        _administer(server_url, f"drop database {name} with (force)")


def _administer(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def _settings_config() -> dict[str, object]:
    return Settings.model_config  # type: ignore[return-value]  # a TypedDict, changed key by key
