"""Migrations: applied once, in order, unchanged."""

import threading

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.errors import UserError
from trading_pipelines.store.migrate import Migration, available, migrate, pending


def test_migrated_database_has_nothing_pending(database: str) -> None:
    assert pending(database) == []
    assert migrate(database) == []


def test_changed_file_that_was_applied_is_refused(database: str) -> None:
    first = available()[0]
    with pytest.raises(UserError, match=first.name):
        migrate(database, [Migration(first.name, first.sql + "\n-- changed")])


def test_timescale_file_is_left_out_without_the_extension(database: str) -> None:
    with psycopg.connect(database) as connection:
        if connection.execute("select from pg_available_extensions where name = 'timescaledb'").fetchone():
            pytest.skip("this server has the extension")
    assert migrate(database, [Migration("9999_chunks.timescale", "select create_hypertable('nothing')")]) == []


def test_failing_file_leaves_nothing_behind(database: str) -> None:
    broken = Migration("9998_broken", "create table half_done (a int); select no_such_function();")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        migrate(database, [broken])
    with psycopg.connect(database) as connection:
        assert connection.execute("select to_regclass('half_done')").fetchone() == (None,)


def test_two_migrators_at_once_apply_each_file_once(server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("create database two_migrators")
    url = make_conninfo(server_url, dbname="two_migrators")
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(migrate(url))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("drop database two_migrators with (force)")
    names = [m.name for m in available() if not m.needs_timescale]
    assert sorted(map(len, results)) == [0, len(names)]
