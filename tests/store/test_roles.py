"""Roles: what each may do, and what it may not."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from trading_world import build_world

from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import (
    READER,
    REQUESTER,
    connect,
    password_file,
    reader_url,
    requester_url,
    resolve_url,
)
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.roles import ensure_reader, ensure_requester

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


def test_requester_adds_instructions_and_can_change_nothing(database: str, tmp_path: Path) -> None:
    file = tmp_path / "requester"
    ensure_requester(database, file)
    with connect(database) as owner:
        session = build_world(owner).session.session_id
    insert = (
        "insert into manual_instructions (session_id, kind, idempotency_key, arguments, requested_by, valid_until) "
        "values (%s, 'CLOSE', 'k', '{}', 'test', now())"
    )
    with connect(_login(database, REQUESTER, file)) as requester:
        requester.execute(insert, (session,))
        requester.commit()
        for statement in (
            b"update manual_instructions set status = 'DONE'",
            b"delete from manual_instructions",
            b"update sessions set status = 'STOPPED'",
            b"insert into kill_switch values (true, true, '', now())",
            b"delete from orders",
            b"create table mine (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                requester.execute(statement)
            requester.rollback()


def test_role_made_again_keeps_its_password_in_a_private_file(database: str, tmp_path: Path) -> None:
    file = tmp_path / "reader"
    ensure_reader(database, file)
    first = file.read_text()
    ensure_reader(database, file)
    assert file.read_text() == first
    assert file.stat().st_mode & 0o077 == 0
    with connect(_login(database, READER, file)) as reader:
        assert reader.execute("select current_user").fetchone() == (READER,)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's own account may enter; pytest's temporary folders are closed to it."""
    with tempfile.TemporaryDirectory(prefix="trading-tests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_addresses_name_the_roles_once_they_are_made(open_folder: Path) -> None:
    settings = load_settings(data_dir=open_folder)
    with EmbeddedPostgres(open_folder / "postgres", durable=False) as server:
        migrate(server.url)
        assert requester_url(settings) == resolve_url(settings)
        with connect(reader_url(settings)) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute(INSERT)
        ensure_requester(server.url, password_file(settings, REQUESTER))
        ensure_reader(server.url, password_file(settings, READER))
        for url, role in ((requester_url(settings), REQUESTER), (reader_url(settings), READER)):
            with connect(url) as connection:
                assert connection.execute("select current_user").fetchone() == (role,)
