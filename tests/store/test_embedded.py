"""The embedded server: start, attach, crash, collide, stop."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from trading_pipelines.errors import UserError
from trading_pipelines.store.embedded import EmbeddedPostgres


@pytest.fixture
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.getbasetemp()
    for folder in (base, base.parent):
        folder.chmod(0o755)
    root = tmp_path_factory.mktemp("server") / "postgres"
    root.parent.chmod(0o755)
    yield root
    EmbeddedPostgres(root).stop()


def _postmaster_pid(root: Path) -> int:
    return int((root / "data" / "postmaster.pid").read_text().split("\n")[0])


def test_restart_after_a_crash_keeps_what_was_committed(root: Path) -> None:
    server = EmbeddedPostgres(root)
    with psycopg.connect(server.start()) as connection:
        connection.execute("create table kept (a int)")
    os.kill(_postmaster_pid(root), signal.SIGKILL)
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (0,)
    server.stop()
    assert not server.is_running()


def test_second_starter_attaches_to_the_same_server(root: Path) -> None:
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(EmbeddedPostgres(root).start())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(urls)) == 1
    with psycopg.connect(urls[0]) as connection:
        assert connection.execute("show listen_addresses").fetchone() == ("127.0.0.1",)


def test_port_that_somebody_else_took_is_replaced(root: Path) -> None:
    server = EmbeddedPostgres(root)
    server.start()
    server.stop()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", int((root / "port").read_text())))
        squatter.listen()
        server.start()
        assert int((root / "port").read_text()) != squatter.getsockname()[1]


def test_pid_file_of_another_process_is_no_obstacle(root: Path) -> None:
    server = EmbeddedPostgres(root)
    server.start()
    server.stop()
    (root / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{root / 'data'}\n1\n1\n\n\n\n\n")
    server.start()
    assert server.is_running()


def test_login_needs_the_generated_password(root: Path) -> None:
    url = EmbeddedPostgres(root).start()
    assert (root / "password").stat().st_mode & 0o077 == 0
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace((root / "password").read_text(), "guess"))


def test_address_without_a_server_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trading db start"):
        _ = EmbeddedPostgres(tmp_path).url
