"""Roles: what each may do, and what it may not."""

from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import APP, READER, app_url, connect, password_file, reader_url, resolve_url
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.roles import ensure_app, ensure_reader

pytestmark = pytest.mark.usefixtures("embedded_only")

INSERT = "insert into funding_rates values (1, now(), 0.1, now())"


def _login(url: str, role: str, file: Path) -> str:
    return make_conninfo(url, user=role, password=file.read_text())


def test_reader_reads_what_was_there_and_what_a_later_migration_made(database: str, tmp_path: Path) -> None:
    file = tmp_path / "reader"
    ensure_reader(database, file)
    with connect(database) as owner:
        owner.execute(INSERT)
        owner.execute("create table later as select 1 as a")
    with connect(_login(database, READER, file)) as reader:
        assert reader.execute("select count(*) from funding_rates").fetchone() == (1,)
        assert reader.execute("select a from later").fetchone() == (1,)


def test_reader_cannot_write_even_when_it_asks_to(database: str, tmp_path: Path) -> None:
    file = tmp_path / "reader"
    ensure_reader(database, file)
    with connect(_login(database, READER, file)) as reader:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute(INSERT)
        reader.rollback()
        reader.read_only = False
        reader.execute("set transaction read write")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(INSERT)


def test_app_writes_rows_and_cannot_change_the_schema(database: str, tmp_path: Path) -> None:
    file = tmp_path / "app"
    ensure_app(database, file)
    with connect(_login(database, APP, file)) as app:
        app.execute("insert into events (kind, subject, message) values ('test', 'row', 'with a generated id')")
        app.execute("update events set message = 'changed'")
        app.execute("delete from events")
        app.commit()
        for statement in (b"create table mine (a int)", b"drop table events", b"alter table events add a int"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)
            app.rollback()


def test_role_made_again_keeps_its_password_in_a_private_file(database: str, tmp_path: Path) -> None:
    file = tmp_path / "reader"
    ensure_reader(database, file)
    first = file.read_text()
    ensure_reader(database, file)
    assert file.read_text() == first
    assert file.stat().st_mode & 0o077 == 0
    with connect(_login(database, READER, file)) as reader:
        assert reader.execute("select current_user").fetchone() == (READER,)


def test_addresses_name_the_roles_once_they_are_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("data")
    for folder in (data, *list(data.parents)[:2]):
        folder.chmod(0o755)
    settings = load_settings(data_dir=data)
    with EmbeddedPostgres(data / "postgres", durable=False) as server:
        migrate(server.url)
        assert app_url(settings) == resolve_url(settings)
        with connect(reader_url(settings)) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute(INSERT)
        ensure_app(server.url, password_file(settings, APP))
        ensure_reader(server.url, password_file(settings, READER))
        for url, role in ((app_url(settings), APP), (reader_url(settings), READER)):
            with connect(url) as connection:
                assert connection.execute("select current_user").fetchone() == (role,)
