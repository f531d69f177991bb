"""The embedded server: start, attach, crash, collide, stop."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from trading_pipelines.errors import UserError
from trading_pipelines.store.embedded import EmbeddedPostgres


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's account may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="trading-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def durable(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server for tests of crashes."""
    server = EmbeddedPostgres(folder / "postgres")
    yield server
    server.stop()


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server for all other tests, which need not wait for the disk."""
    server = EmbeddedPostgres(folder / "postgres", durable=False)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedPostgres]:
    """A server for tests that only look at it."""
    with tempfile.TemporaryDirectory(prefix="trading-") as name:
        Path(name).chmod(0o755)
        with EmbeddedPostgres(Path(name) / "postgres") as server:
            yield server


def _kill(server: EmbeddedPostgres) -> None:
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _ask(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_restart_at_once_after_a_crash_keeps_what_was_committed(durable: EmbeddedPostgres) -> None:
    with psycopg.connect(durable.start()) as connection:
        connection.execute("create table kept as select 42 as answer")
    for _ in range(2):
        _kill(durable)
        assert _ask(durable.start(), "select answer from kept") == 42


def test_restart_after_a_crash_waits_for_a_query_of_the_dead_server(durable: EmbeddedPostgres) -> None:
    url = durable.start()

    def compute() -> None:
        with contextlib.suppress(psycopg.OperationalError):
            _ask(url, "select count(*) from generate_series(1, 10000000)")

    busy = threading.Thread(target=compute)
    busy.start()
    find = "select max(pid) from pg_stat_activity where query like '%generate_series%' and pid <> pg_backend_pid()"
    while (backend := _ask(url, find)) is None:
        pass
    assert isinstance(backend, int)
    process = psutil.Process(backend)
    _kill(durable)
    durable.start()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert durable.is_running()
    busy.join()


def test_stopped_server_starts_again_at_the_same_address(server: EmbeddedPostgres) -> None:
    first = server.start()
    server.stop()
    assert not server.is_running()
    assert not server.status().running
    server.stop()
    assert server.start() == first


def test_starters_in_several_processes_share_one_server(server: EmbeddedPostgres) -> None:
    program = (
        "import sys; from pathlib import Path; from trading_pipelines.store.embedded import EmbeddedPostgres; "
        "print(EmbeddedPostgres(Path(sys.argv[1])).start())"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", program, str(server.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    urls = {starter.communicate()[0].strip() for starter in starters}
    assert urls == {server.url}
    pid = server.status().pid
    assert server.start() == server.url
    assert server.status().pid == pid
    servers = [p for p in psutil.process_iter(["cmdline"]) if str(server.root / "data") in (p.info["cmdline"] or ())]
    assert [p.pid for p in servers] == [pid]


def test_port_that_somebody_else_took_is_replaced(server: EmbeddedPostgres) -> None:
    server.start()
    port = server.status().port
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        server.start()
        assert server.status().port != port


def test_lock_files_of_another_boot_are_no_obstacle(server: EmbeddedPostgres) -> None:
    server.start()
    lines = (server.root / "data" / "postmaster.pid").read_text().split("\n")
    server.stop()
    (server.root / "data" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))
    port = (server.root / "port").read_text()
    (server.root / "run" / f".s.PGSQL.{port}.lock").write_text(f"{os.getpid()}\n")
    assert not server.status().running
    server.start()
    assert server.is_running()


def test_interrupted_creation_is_begun_anew(server: EmbeddedPostgres) -> None:
    (server.root / "data.new" / "base").mkdir(parents=True)
    (server.root / "data.new" / "PG_VERSION").write_text("18\n")
    server.start()
    assert server.is_running()
    assert not (server.root / "data.new").exists()


def test_copied_folder_gets_a_server_of_its_own(server: EmbeddedPostgres, folder: Path) -> None:
    server.start()
    server.stop()
    shutil.copytree(server.root, folder / "copy")
    if os.geteuid() == 0:
        subprocess.run(
            ["chown", "-R", "nobody", str(folder / "copy" / "data"), str(folder / "copy" / "log")], check=True
        )
    server.start()
    with EmbeddedPostgres(folder / "copy", durable=False) as copy:
        assert copy.status().port != server.status().port
        assert _ask(copy.url, "show data_directory") == str(folder / "copy" / "data")


def test_long_path_moves_the_socket_to_a_temporary_folder_until_the_stop(folder: Path) -> None:
    with EmbeddedPostgres(folder / ("long" * 25) / "it's", durable=False) as server:
        sockets = Path(str(_ask(server.url, "show unix_socket_directories")).strip('"'))
        assert sockets.parent == Path("/tmp")
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_old_logs_are_removed_at_the_start(server: EmbeddedPostgres) -> None:
    (server.root / "log").mkdir(parents=True)
    for day in range(1, 8):
        (server.root / "log" / f"server-2020010{day}-000000.log").touch()
    server.start()
    assert not (server.root / "log" / "server-20200104-000000.log").exists()
    assert (server.root / "log" / "server-20200105-000000.log").exists()


def test_server_keeps_what_it_committed_and_listens_on_this_machine_only(running: EmbeddedPostgres) -> None:
    settings = {
        "listen_addresses": "127.0.0.1",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "timezone": "UTC",
        "server_encoding": "UTF8",
    }
    assert {name: _ask(running.url, f"show {name}") for name in settings} == settings


def test_databases_of_the_platform_and_of_dagster_exist(running: EmbeddedPostgres) -> None:
    for database in ("trading", "dagster"):
        assert _ask(running.url_of(database), "select current_database()") == database


def test_network_login_needs_the_generated_password(running: EmbeddedPostgres) -> None:
    password = (running.root / "password").read_text()
    assert (running.root / "password").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(running.url.replace(password, "guess"))


def test_socket_needs_no_password_and_is_private(running: EmbeddedPostgres) -> None:
    sockets = running.root / "run"
    assert sockets.stat().st_mode & 0o077 == 0
    address = f"host={sockets} port={running.status().port} user=trading dbname=trading"
    assert _ask(address, "select current_user") == "trading"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_root_gives_up_its_rights_for_the_server(running: EmbeddedPostgres) -> None:
    assert psutil.Process(running.status().pid).uids().effective != 0
    assert (running.root / "password").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only a server that gives up rights can be locked out")
def test_folder_closed_to_the_servers_account_is_named_with_the_setting(server: EmbeddedPostgres, folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(UserError, match=rf"{folder} is closed .* TRADING_DATA_DIR"):
        server.start()


def test_address_without_a_server_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trading db start"):
        _ = EmbeddedPostgres(tmp_path).url


def test_server_that_cannot_start_says_why(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    server.stop()
    (server.root / "data" / "global" / "pg_control").unlink()
    monkeypatch.setattr("trading_pipelines.store.embedded.START_TIMEOUT_S", 0.5)
    with pytest.raises(UserError, match="pg_control"):
        server.start()
