"""Migrations: applied once, in order, unchanged."""

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import connect
from trading_pipelines.store.migrate import Migration, available, migrate, pending

FIRST = Migration("0001_first", "create table first (a int); insert into first values (1);")
SECOND = Migration("0002_second", "alter table first add b int")
CHUNKS = Migration("0003_chunks.timescale", "create table chunks (a int)")


@pytest.fixture
def empty(database: str) -> str:
    """Address of a database without any table."""
    with connect(database) as connection:
        connection.execute("drop schema public cascade; create schema public")
    return database


def _tables(url: str) -> set[str]:
    with connect(url) as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    return {name for (name,) in rows}


def test_files_of_the_package_are_applied_in_the_order_of_their_unique_numbers(empty: str) -> None:
    names = [m.name for m in available() if not m.needs_timescale]
    numbers = [name.split("_")[0] for name in names]
    assert numbers == sorted(set(numbers))
    assert [name for name in migrate(empty) if not name.endswith(".timescale")] == names
    assert {"instruments", "ohlcv_1m", "events", "schema_migrations"} <= _tables(empty)


def test_migrated_database_has_nothing_pending(database: str) -> None:
    assert pending(database) == []
    assert migrate(database) == []


def test_pending_names_what_is_missing_and_writes_nothing(empty: str) -> None:
    assert pending(empty, [FIRST, SECOND]) == ["0001_first", "0002_second"]
    assert _tables(empty) == set()
    migrate(empty, [FIRST])
    assert pending(empty, [FIRST, SECOND]) == ["0002_second"]


@pytest.mark.parametrize("act", [migrate, pending])
def test_changed_file_that_was_applied_is_refused(empty: str, act: Callable[..., list[str]]) -> None:
    migrate(empty, [FIRST])
    with pytest.raises(UserError, match="0001_first was changed"):
        act(empty, [Migration(FIRST.name, FIRST.sql + "\n-- changed"), SECOND])


@pytest.mark.parametrize("act", [migrate, pending])
def test_database_of_a_newer_version_is_refused(empty: str, act: Callable[..., list[str]]) -> None:
    migrate(empty, [FIRST, SECOND])
    with pytest.raises(UserError, match=r"newer than this program .*0002_second"):
        act(empty, [FIRST])


def test_timescale_file_is_left_out_until_the_extension_turns_up(empty: str) -> None:
    """A table that hides the catalogue's view stands for a server on which the extension can be installed or not."""
    url = make_conninfo(empty, options="-c search_path=public,pg_catalog")
    with connect(url) as connection:
        connection.execute("create table pg_available_extensions (name text)")
    assert migrate(url, [FIRST, CHUNKS, SECOND]) == ["0001_first", "0002_second"]
    assert pending(url, [FIRST, CHUNKS, SECOND]) == []
    with connect(url) as connection:
        connection.execute("insert into pg_available_extensions values ('timescaledb')")
    assert pending(url, [FIRST, CHUNKS, SECOND]) == ["0003_chunks.timescale"]
    assert migrate(url, [FIRST, CHUNKS, SECOND]) == ["0003_chunks.timescale"]
    assert "chunks" in _tables(url)


def test_failing_file_leaves_what_came_before_and_nothing_of_its_own(empty: str) -> None:
    broken = Migration("0002_broken", "create table half_done (a int); select no_such_function();")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        migrate(empty, [FIRST, broken, SECOND])
    assert _tables(empty) == {"first", "schema_migrations"}
    assert migrate(empty, [FIRST, SECOND]) == ["0002_second"]


def test_migration_keeps_the_rows_of_a_filled_database(empty: str) -> None:
    migrate(empty, [FIRST])
    migrate(empty, [FIRST, SECOND])
    with connect(empty) as connection:
        assert connection.execute("select a, b from first").fetchall() == [(1, None)]


def test_two_migrators_at_once_apply_each_file_once(empty: str) -> None:
    results: list[list[str]] = []
    migrators = [threading.Thread(target=lambda: results.append(migrate(empty, [FIRST, SECOND]))) for _ in range(3)]
    for migrator in migrators:
        migrator.start()
    for migrator in migrators:
        migrator.join()
    assert sorted(results) == [[], [], ["0001_first", "0002_second"]]
