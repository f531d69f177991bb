"""Child processes that are kept alive: started in groups of their own, watched, restarted, stopped in reverse order.

Belongs here: the life of any group of programs. Does not belong here: which programs make up the platform
(`supervisor`).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import uuid4

from trading_pipelines.services import guardian

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
HEALTHY_AFTER_S = 60.0
"""A program that has lived this long is restarted without the delays that earlier deaths have earned it."""
LOG_BYTES = 20_000_000
_PAUSE_S = 0.05


@dataclass(frozen=True)
class Program:
    """What to run, and how to know that it does its work."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool] = lambda: True
    grace_seconds: float = 10.0
    """Time for an orderly end before the whole process group is killed."""


@dataclass(frozen=True)
class Restart:
    """A program has ended by itself; it is started again after `delay_seconds`."""

    name: str
    exit_code: int
    delay_seconds: float


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    started_at: float
    deaths: int = 0
    due_at: float | None = None
    """When to start it again; None while it runs."""


@dataclass
class ProcessGroup:
    """Programs that live and end together.

    Parameters
    ----------
    owner : str
        Names the group among all of the machine, for example the data folder.
    environment : callable
        Variables of each program, asked for at every start.
    """

    owner: str
    logs: Path
    environment: Callable[[], Mapping[str, str]] = lambda: os.environ
    _children: list[_Child] = field(default_factory=list["_Child"])
    _guardian: subprocess.Popen[bytes] | None = None
    _mark: str = ""

    def __enter__(self) -> "ProcessGroup":
        """End what a killed predecessor has left behind, and provide for our own sudden end."""
        self._mark = f"{self.owner}:{uuid4().hex}"
        guardian.end(lambda: guardian.marked(lambda mark: mark.startswith(f"{self.owner}:") and mark != self._mark))
        self.logs.mkdir(parents=True, exist_ok=True)
        self._start_guardian()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._guardian is not None and self._guardian.stdin is not None:
            self._guardian.stdin.close()
            self._guardian.wait()

    def start(self, program: Program) -> None:
        """Start a program and keep it running."""
        self._children.append(_Child(program, self.popen(program), time.monotonic()))

    def log_of(self, program: Program) -> Path:
        """File to which goes what the program prints."""
        return self.logs / f"{program.name}.log"

    def popen(self, program: Program, stdout: int | IO[bytes] | None = None) -> "subprocess.Popen[bytes]":
        """Start a program that nobody restarts."""
        with self.log_of(program).open("ab") as output:
            return subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                env={**self.environment(), guardian.MARK: self._mark},
                start_new_session=True,
            )

    def look_after(self, now: float) -> list[Restart]:
        """Note who has died and restart who is due; `now` is monotonic time in seconds."""
        deaths: list[Restart] = []
        for child in self._children:
            if child.due_at is None and (code := child.process.poll()) is not None:
                deaths.append(_bury(child, code, now))
            elif child.due_at is not None and now >= child.due_at:
                child.process = self.popen(child.program)
                child.started_at, child.due_at = now, None
            _shorten(self.log_of(child.program))
        if self._guardian is not None and self._guardian.poll() is not None:
            self._start_guardian()
        return deaths

    def not_ready(self) -> list[str]:
        """Names of the programs that do not do their work yet."""
        return [c.program.name for c in self._children if c.due_at is not None or not c.program.is_ready()]

    def restart(self) -> None:
        """Stop all programs and start them again, for example because their environment has changed."""
        programs = [child.program for child in self._children]
        self.stop()
        for program in programs:
            self.start(program)

    def stop(self, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Ask all programs to end, the youngest first, and wait for all of them; with `hurry` they are killed."""
        youngest_first = self._children[::-1]
        self._children.clear()
        for child in youngest_first:
            _signal_group(child.process.pid, signal.SIGTERM)
        for child in youngest_first:
            _await_end(child.process, child.program.grace_seconds, hurry)

    def _start_guardian(self) -> None:
        self._guardian = subprocess.Popen(
            (sys.executable, "-m", guardian.__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, guardian.MARK: self._mark},
            start_new_session=True,
        )


def stop_process(process: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """End a process and its whole group: ask first, kill what is left after the grace."""
    _signal_group(process.pid, signal.SIGTERM)
    _await_end(process, grace_seconds, lambda: False)


def _await_end(process: "subprocess.Popen[bytes]", grace_seconds: float, hurry: Callable[[], bool]) -> None:
    deadline = time.monotonic() + grace_seconds
    while _group_lives(process) and time.monotonic() < deadline and not hurry():
        time.sleep(_PAUSE_S)
    if _group_lives(process):
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _bury(child: _Child, code: int, now: float) -> Restart:
    # What the dead leader has started (run workers, proxies) would work on beside its successor's.
    _signal_group(child.process.pid, signal.SIGKILL)
    child.deaths = 1 if now - child.started_at >= HEALTHY_AFTER_S else child.deaths + 1
    delay = min(FIRST_DELAY_S * 2 ** (child.deaths - 1), LONGEST_DELAY_S)
    child.due_at = now + delay
    return Restart(child.program.name, code, delay)


def _signal_group(leader: int, number: signal.Signals) -> None:
    # macOS answers with a permission error when only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _group_lives(process: "subprocess.Popen[bytes]") -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _shorten(log: Path) -> None:
    """Move a long log aside; its writer appends, so it goes on at the beginning of the emptied file."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_suffix(".old.log"))
            os.truncate(log, 0)
