"""Parts of `trading up`: refusing to start twice or on taken ports, stopping on signals, telling why a fill failed."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trading_pipelines.errors import UserError
from trading_pipelines.services import supervisor
from trading_pipelines.services.processes import ProcessGroup, Program
from trading_pipelines.services.programs import Programs, check_port, platform_environment, prepare_dagster_home
from trading_pipelines.services.supervisor import Progress, Stopped, StopRequest, running_process, up
from trading_pipelines.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_taken_port_is_one_line_that_names_the_variable(taken_port: int) -> None:
    with pytest.raises(UserError, match=rf"^port {taken_port} is taken: set TRADING_PORTS__DAGSTER to a free one$"):
        check_port(taken_port, "TRADING_PORTS__DAGSTER")


def test_taken_port_stops_the_start_before_anything_runs(tmp_path: Path, taken_port: int) -> None:
    settings = load_settings(data_dir=tmp_path, ports={"streamlit": taken_port, "dagster": free_port()})
    with pytest.raises(UserError, match="TRADING_PORTS__STREAMLIT"):
        up(settings, lambda _: None, lambda _: None)
    assert not (tmp_path / "postgres").exists()
    assert running_process(settings) is None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_second_start_beside_a_running_one_names_its_process(settings: Settings, tmp_path: Path) -> None:
    holder = (
        "import sys; from trading_pipelines.services.supervisor import _only_one\n"
        "from trading_pipelines.settings import load_settings\n"
        f"with _only_one(load_settings(data_dir={str(tmp_path)!r})):\n"
        "    print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        assert running_process(settings) == first.pid
        with pytest.raises(UserError, match=rf"running already \(process {first.pid}\)"):
            up(settings, lambda _: None, lambda _: None)
        first.kill()
        first.wait()
        assert running_process(settings) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_next_wait_and_the_second_one_asks_for_haste(number: signal.Signals) -> None:
    with StopRequest().installed() as stop:
        stop.sleep(0)
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped):
            stop.sleep(60)
        assert not stop.hurry()
        os.kill(os.getpid(), number)
        assert stop.hurry()
        with pytest.raises(Stopped):
            stop.sleep(0)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest().installed():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def run_fill(group: ProcessGroup, program: Program) -> list[Progress]:
    told: list[Progress] = []
    with supervisor._Fill(group, program) as fill:
        while not fill.is_done(told.append):
            pass
    return told


def test_fill_reports_every_step(tmp_path: Path, make_program: Callable[..., Program]) -> None:
    lines = [{"step": "candles", "fraction": 0.5, "detail": "BTCUSDT"}, {"step": "candles", "fraction": 1.0}]
    body = f"print({json.dumps(lines[0])!r}); print({json.dumps(lines[1])!r})"
    with ProcessGroup(str(tmp_path), tmp_path / "logs") as group:
        assert run_fill(group, make_program("fill", body)) == [Progress(**line) for line in lines]


def test_mistake_that_the_fill_names_is_passed_on(tmp_path: Path, make_program: Callable[..., Program]) -> None:
    body = "sys.stderr.write('a log line\\nerror: TRADING_SYMBOLS: simulated has no FOO\\n'); sys.exit(2)"
    with (
        ProcessGroup(str(tmp_path), tmp_path / "logs") as group,
        pytest.raises(UserError, match=r"^TRADING_SYMBOLS: simulated has no FOO$"),
    ):
        run_fill(group, make_program("fill", body))


def test_crash_of_the_fill_names_its_log(tmp_path: Path, make_program: Callable[..., Program]) -> None:
    with (
        ProcessGroup(str(tmp_path), tmp_path / "logs") as group,
        pytest.raises(UserError, match=r"ended with code 1: see .*logs/fill\.log"),
    ):
        run_fill(group, make_program("fill", "raise RuntimeError"))


def test_dagster_finds_its_configuration_beside_its_files(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, database_url="postgresql://u:p%20w@127.0.0.1:5432/trading")
    home = prepare_dagster_home(settings)
    environment = platform_environment(settings)
    assert environment["DAGSTER_HOME"] == str(home)
    assert environment["DAGSTER_POSTGRES_URL"] == "postgresql+psycopg2://u:p%20w@127.0.0.1:5432/dagster"
    assert "DAGSTER_POSTGRES_URL" in (home / "dagster.yaml").read_text()


def test_webserver_and_daemon_share_one_code_server(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, database_url="postgresql://u:p@127.0.0.1:1/trading")
    programs = Programs.prepare(settings)
    workspace = json.loads((tmp_path / "run" / "workspace.yaml").read_text())
    server = workspace["load_from"][0]["grpc_server"]
    assert server == {"host": "127.0.0.1", "port": programs.code_port, "location_name": "trading_pipelines"}
    assert str(programs.code_port) in programs.code_server().command
    for program in (programs.webserver(), programs.daemon()):
        assert str(tmp_path / "run" / "workspace.yaml") in program.command


def test_every_page_listens_on_this_machine_only(settings: Settings) -> None:
    programs = Programs.prepare(settings)
    for program in (programs.code_server(), programs.webserver(), programs.dashboard()):
        assert "127.0.0.1" in program.command
        assert "0.0.0.0" not in program.command
    assert all(address.startswith("http://127.0.0.1:") for address in programs.addresses().values())
