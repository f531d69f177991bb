"""`trading up`: everything that makes the platform, started in order, watched, and stopped in reverse order.

Belongs here: what is started when, and what is done when something dies. Does not belong here: the programs
(`programs`) and the life of processes as such (`processes`).
"""

import contextlib
import fcntl
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import FrameType

import psycopg
import structlog

from trading_pipelines.errors import UserError
from trading_pipelines.services.database import prepare_database, run_dir, running_database
from trading_pipelines.services.processes import ProcessGroup, Program, Restart, stop_process
from trading_pipelines.services.programs import (
    Programs,
    check_port,
    platform_environment,
    prepare_dagster_home,
    project_root,
)
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import connect, embedded_server
from trading_pipelines.store.repositories import events

READY_TIMEOUT_S = 90.0
WATCH_INTERVAL_S = 0.5
DATABASE_CHECK_S = 5.0

log = structlog.get_logger(__name__)


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """Somebody pressed Ctrl-C or sent SIGTERM."""


@dataclass(frozen=True)
class Progress:
    """How far a step is; `fraction` is None where nobody knows and 1.0 when it is done."""

    step: str
    fraction: float | None = None
    detail: str = ""


Report = Callable[[Progress], None]


@dataclass
class StopRequest:
    """Turns SIGINT, SIGTERM and SIGHUP into something to look at; the second one asks for haste."""

    _times: int = 0
    _event: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def installed(self) -> Iterator["StopRequest"]:
        """Catch the signals inside the block."""
        before = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def sleep(self, seconds: float) -> None:
        """Wait; a request to stop, now or earlier, raises `Stopped`."""
        if self._event.wait(seconds):
            raise Stopped

    def hurry(self) -> bool:
        """Whether the user has lost patience."""
        return self._times > 1

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._times += 1
        self._event.set()


def up(settings: Settings, report: Report, on_running: Callable[[dict[str, str]], None]) -> None:
    """Run the platform until Ctrl-C or SIGTERM; it goes on where an earlier run, or its crash, has stopped.

    Parameters
    ----------
    on_running : callable
        Called once with the addresses by name when all of it answers.

    Raises
    ------
    UserError
        It runs already, a port is taken, or a step failed for a reason that the user can mend.
    """
    project_root()
    owner, logs = str(settings.data_dir), settings.data_dir / "logs"
    with (
        contextlib.suppress(Stopped),
        StopRequest().installed() as stop,
        _only_one(settings),
        ProcessGroup(owner, logs, lambda: _environment(settings)) as group,
    ):
        check_port(settings.ports.dagster, "TRADING_PORTS__DAGSTER")
        check_port(settings.ports.streamlit, "TRADING_PORTS__STREAMLIT")
        report(Progress("database"))
        with running_database(settings, on_stop=lambda: report(Progress("stop database"))) as url:
            _Platform(settings, url, group, report, stop).run(on_running)


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **platform_environment(settings), "PYTHONUNBUFFERED": "1"}


def running_process(settings: Settings) -> int | None:
    """Process id of the `trading up` that runs on this data folder, None if there is none."""
    with (run_dir(settings) / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            return int(lock.read() or 0)
    return None


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Refuse to run beside another `trading up` of the same data folder; the lock falls with its process."""
    with (run_dir(settings) / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"the platform is running already (process {running_process(settings)}): stop it with Ctrl-C there, "
                "or set TRADING_DATA_DIR for another one"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@dataclass
class _Platform:
    """One start of the platform on a running database."""

    settings: Settings
    url: str
    group: ProcessGroup
    report: Report
    stop: StopRequest
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    database_checked_at: float = 0.0

    def run(self, on_running: Callable[[dict[str, str]], None]) -> None:
        prepare_database(self.settings, self.url)
        prepare_dagster_home(self.settings)
        self.report(Progress("database", 1.0))
        programs = Programs.prepare(self.settings)
        try:
            self._start(programs)
            on_running(programs.addresses())
            while True:
                self._watch()
        finally:
            self.report(Progress("stop services"))
            self.group.stop(hurry=self.stop.hurry)

    def _start(self, programs: Programs) -> None:
        """Start the pages while the data is filled in; what trades, when there is something to trade on."""
        with _Fill(self.group, programs.fill()) as fill:
            self._run_once(programs.dagster_storage())
            self.group.start(programs.code_server())
            self.group.start(programs.webserver())
            self.group.start(programs.dashboard())
            while not fill.is_done(self.report):
                self._watch()
        self.group.start(programs.daemon())
        self.group.start(programs.trader(self.began_at))
        if (collector := programs.collector(self.began_at)) is not None:
            self.group.start(collector)
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while waiting := self.group.not_ready():
            self.report(Progress("services", None, f"waiting for {', '.join(waiting)}"))
            if time.monotonic() > deadline:
                log_file = self.group.logs / f"{waiting[0]}.log"
                raise UserError(f"{waiting[0]} does not answer after {READY_TIMEOUT_S:.0f} s: see {log_file}")
            self._watch()
        self.report(Progress("services", 1.0))

    def _watch(self) -> None:
        self.stop.sleep(WATCH_INTERVAL_S)
        now = time.monotonic()
        if now - self.database_checked_at >= DATABASE_CHECK_S:
            self.database_checked_at = now
            self._keep_database_up()
        for restart in self.group.look_after(now):
            self._record(restart)

    def _keep_database_up(self) -> None:
        if self.settings.database_url is not None or embedded_server(self.settings).is_running():
            return
        log.warning("the database has died and is started again")
        url = embedded_server(self.settings).start()
        self._append_event("database_restarted", "database", "had died and was started again")
        if url != self.url:  # somebody else has taken its port meanwhile
            self.url = url
            self.group.restart()

    def _record(self, restart: Restart) -> None:
        log.warning(
            "a program has ended", program=restart.name, code=restart.exit_code, again_in_s=restart.delay_seconds
        )
        message = f"ended with code {restart.exit_code}, starts again in {restart.delay_seconds:.0f} s"
        self._append_event("service_restarted", restart.name, message)

    def _append_event(self, kind: str, subject: str, message: str) -> None:
        with contextlib.suppress(UserError, psycopg.Error), connect(self.url, application_name="up") as connection:
            at = datetime.now(UTC)
            events.append(connection, at, kind, subject, message, severity=events.Severity.WARNING)

    def _run_once(self, program: Program) -> None:
        process = self.group.popen(program)
        try:
            while process.poll() is None:
                self.stop.sleep(0.1)
        finally:
            stop_process(process, program.grace_seconds)
        if process.returncode != 0:
            raise UserError(f"{program.name} has failed: see {self.group.log_of(program)}")


class _Fill:
    """The first fill as a process of its own: it can be stopped at any moment, and its memory goes with it."""

    def __init__(self, group: ProcessGroup, program: Program) -> None:
        self._log = group.log_of(program)
        self._program = program
        self._process = group.popen(program, subprocess.PIPE)
        self._progress: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "_Fill":
        return self

    def __exit__(self, *_: object) -> None:
        stop_process(self._process, self._program.grace_seconds)

    def is_done(self, report: Report) -> bool:
        """Report how far it is.

        Raises
        ------
        UserError
            It failed; the message is its own where it has one.
        """
        done = self._process.poll() is not None
        if done:
            self._reader.join()
        while not self._progress.empty():
            report(self._progress.get())
        if done and self._process.returncode != 0:
            raise UserError(self._complaint())
        return done

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._progress.put(Progress(**json.loads(line)))

    def _complaint(self) -> str:
        if self._process.returncode == 2:
            return self._log.read_text().strip().splitlines()[-1].removeprefix("error: ")
        return f"the first fill has ended with code {self._process.returncode}: see {self._log}"
