"""`trading up` as a whole: on a small market, through kills, to an end that leaves nothing behind.

One start serves many tests; each of them finds the platform running, or starts it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from waiting import wait_until

from trading_pipelines.services.guardian import marked
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import embedded_server

MARKET = {
    "SIMULATION__SYMBOLS": '["BTCUSDT", "ETHUSDT", "SOLUSDT"]',
    "SIMULATION__HISTORY_DAYS": "60",
    "TRAINING__TRAIN_DAYS": "30",
    "TRAINING__TEST_DAYS": "3",
    "TRAINING__FOLDS": "2",
    "TRAINING__EARLY_STOPPING_DAYS": "5",
    "TRAINING__NUM_BOOST_ROUND": "20",
    "TRAINING__MIN_DATA_IN_LEAF": "50",
    "FILL__HISTORY_DAYS": "50",
    "FILL__REPLAY_DAYS": "2",
}
PROGRAMS = {
    "api grpc", "dagster_webserver", "dagster._daemon", "streamlit", "services.trader", "services.collector",
    "services.guardian",
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Platform:
    """One data folder, and the `trading up` that may run on it."""

    data_dir: Path
    dagster: int = field(default_factory=free_port)
    streamlit: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def environment(self) -> dict[str, str]:
        own = {"DATA_DIR": str(self.data_dir), "PORTS__DAGSTER": str(self.dagster)}
        own["PORTS__STREAMLIT"] = str(self.streamlit)
        return {**os.environ, **{f"TRADING_{name}": value for name, value in {**MARKET, **own}.items()}}

    @property
    def told(self) -> str:
        """What the newest start has printed on standard error."""
        return (self.data_dir / "told").read_text()

    def start(self) -> None:
        with (self.data_dir / "said").open("wb") as out, (self.data_dir / "told").open("wb") as err:
            command = (sys.executable, "-m", "trading_pipelines.cli", "up")
            self.process = subprocess.Popen(
                command, env=self.environment, cwd=self.data_dir, stdout=out, stderr=err, start_new_session=True
            )

    def await_running(self) -> None:
        assert self.process is not None
        wait_until(lambda: "Ctrl-C stops" in (self.data_dir / "said").read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.told

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def programs(self) -> dict[str, psutil.Process]:
        """Living processes that belong to this data folder, by what they run."""
        found: dict[str, psutil.Process] = {}
        for process in self.remains():
            with contextlib.suppress(psutil.Error):  # it may end while it is looked at
                line = " ".join(process.cmdline())
                found |= {name: process for name in PROGRAMS if name in line}
        return found

    def remains(self) -> list[psutil.Process]:
        """All living processes that a start on this data folder has brought about."""
        return marked(lambda mark: mark.startswith(f"{self.data_dir}:"))

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(embedded_server(load_settings(data_dir=self.data_dir)).url) as connection:
            return connection.execute(question.encode()).fetchall()

    def answers(self) -> bool:
        pages = (f"http://127.0.0.1:{self.dagster}/server_info", f"http://127.0.0.1:{self.streamlit}/_stcore/health")
        return all(urllib.request.urlopen(page, timeout=10).status == 200 for page in pages)

    def heartbeat(self) -> Any:
        return self.ask("select ts from heartbeats where service = 'trader'")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="trading-up-") as folder:
        Path(folder).chmod(0o755)
        platform = Platform(Path(folder).resolve())
        yield platform
        if platform.process is not None:
            platform.process.terminate()
            platform.process.wait(timeout=60)
        wait_until(lambda: not platform.remains())
        embedded_server(load_settings(data_dir=folder)).stop()


@pytest.fixture
def running(platform: Platform) -> Platform:
    if platform.process is None:
        platform.start()
        platform.await_running()
    return platform


def test_kill_in_the_middle_of_the_first_fill_leaves_no_program(platform: Platform) -> None:
    platform.start()
    wait_until(lambda: "models" in platform.told)
    platform.kill()
    wait_until(lambda: not platform.remains())


def test_next_start_completes_the_fill_and_answers(running: Platform) -> None:
    assert running.answers()
    assert running.programs().keys() == PROGRAMS
    sessions = dict(running.ask("select name, status from sessions"))
    assert sessions == {"warmup-replay": "STOPPED", "paper": "RUNNING"}
    ((bars, decided),) = running.ask(
        "select count(distinct ts), count(*) from decisions join sessions using (session_id) where mode = 'replay'"
    )
    assert decided == 3 * bars
    assert bars >= 2 * 96
    assert running.ask("select count(*) from model_versions") == [(3,)]
    for looked_at in ("technical_signals", "universe"):
        ((symbols,),) = running.ask(f"select count(distinct instrument_id) from {looked_at}")
        assert symbols >= 3, looked_at


def test_schedules_and_sensors_take_over(running: Platform) -> None:
    decided = "select count(*) from decisions join sessions using (session_id) where mode = 'paper'"
    wait_until(lambda: running.ask(decided)[0][0] > 0)


def test_second_start_beside_it_is_refused(running: Platform) -> None:
    command = (sys.executable, "-m", "trading_pipelines.cli", "up")
    second = subprocess.run(
        command, env=running.environment, cwd=running.data_dir, capture_output=True, text=True, timeout=60, check=False
    )
    assert running.process is not None
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: the platform is running already (process {running.process.pid})")
    assert running.answers()


@pytest.mark.parametrize("name", ["dagster._daemon", "services.trader", "services.collector", "streamlit"])
def test_killed_program_comes_back_and_is_reported(running: Platform, name: str) -> None:
    before = running.programs()
    before[name].kill()
    wait_until(lambda: (now := running.programs().get(name)) is not None and now != before[name])
    reported = "select subject from events where kind = 'service_restarted'"
    wait_until(lambda: any(subject.split("-")[-1] in name for (subject,) in running.ask(reported)))
    after = running.programs()
    assert {other: after[other] for other in PROGRAMS - {name}} == {o: before[o] for o in PROGRAMS - {name}}


def test_killed_database_comes_back_and_trading_goes_on(running: Platform) -> None:
    server = embedded_server(load_settings(data_dir=running.data_dir))
    killed = server.status().pid
    assert killed is not None
    decisions = running.ask("select count(*) from decisions")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: server.status().pid not in (None, killed) and server.is_running())
    beat = running.heartbeat()
    wait_until(lambda: running.heartbeat() > beat)
    assert running.ask("select count(*) from decisions") >= decisions
    wait_until(lambda: running.ask("select 1 from events where kind = 'database_restarted'"))


def test_killed_platform_ends_whole_and_the_next_start_doubles_nothing(running: Platform) -> None:
    everything = "select (select count(*) from ohlcv_5m where ts < '{}'), (select count(*) from model_versions)"
    replayed = "select session_id, fingerprint from sessions where name = 'warmup-replay'"
    ((newest,),) = running.ask("select max(ts) from ohlcv_5m")
    before = running.ask(everything.format(newest)), running.ask(replayed)
    running.kill()
    wait_until(lambda: not running.remains())
    running.start()
    running.await_running()
    assert running.answers()
    assert (running.ask(everything.format(newest)), running.ask(replayed)) == before
    ((orders, names),) = running.ask("select count(*), count(distinct client_order_id) from orders")
    assert orders == names


def test_interrupt_ends_everything_in_order(running: Platform) -> None:
    process = running.process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    running.process = None
    assert running.remains() == []
    assert not embedded_server(load_settings(data_dir=running.data_dir)).status().running
    assert running.told.splitlines()[-2:] == ["stop services", "stop database"]
    assert "Traceback" not in running.told
