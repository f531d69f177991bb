"""Groups of processes: restarts, the order of the end, and what a killed owner leaves behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from trading_pipelines.services import processes
from trading_pipelines.services.processes import (
    FIRST_DELAY_S,
    HEALTHY_AFTER_S,
    LONGEST_DELAY_S,
    ProcessGroup,
    Program,
    Restart,
)

SLEEP = "time.sleep(600)"


def pid_of(folder: Path, name: str) -> int:
    return int((folder / f"{name}.started").read_text())


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def group(tmp_path: Path) -> ProcessGroup:
    return ProcessGroup(str(tmp_path), tmp_path / "logs")


def test_all_programs_are_asked_to_end_and_waited_for(
    group: ProcessGroup, make_program: Callable[..., Program], tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    body = f"def end(*_):\n    open({str(ended)!r}, 'a').write(NAME)\n    sys.exit(0)\nsignal.signal(15, end)\n{SLEEP}"
    with group:
        for name in "abc":
            group.start(make_program(name, f"NAME = {name!r}\n{body}"))
        wait_until(lambda: not group.not_ready())
    assert all(is_gone(pid_of(tmp_path, name)) for name in "abc")
    assert sorted(ended.read_text()) == ["a", "b", "c"]


def test_program_that_ignores_the_request_is_killed_with_its_children(
    group: ProcessGroup, make_program: Callable[..., Program], tmp_path: Path
) -> None:
    child = tmp_path / "child"
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "deaf = 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'\n"
        "p = subprocess.Popen([sys.executable, '-c', deaf])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(p.pid))\n{SLEEP}"
    )
    with group:
        group.start(make_program("deaf", body, grace_seconds=0.2))
        wait_until(lambda: child.exists() and child.read_text())
    assert is_gone(pid_of(tmp_path, "deaf"))
    assert is_gone(int(child.read_text()))


def test_impatience_ends_the_grace_at_once(
    group: ProcessGroup, make_program: Callable[..., Program], tmp_path: Path
) -> None:
    with group:
        group.start(make_program("deaf", f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEP}", grace_seconds=600))
        wait_until(lambda: not group.not_ready())
        group.stop(hurry=lambda: True)
        assert is_gone(pid_of(tmp_path, "deaf"))


def next_death(group: ProcessGroup, now: float) -> Restart:
    """Look, at a moment that stands still, until a program's end is noticed."""
    deaths: list[Restart] = []
    wait_until(lambda: deaths.extend(group.look_after(now)) or deaths)
    return deaths[0]


def test_program_that_keeps_dying_is_restarted_ever_more_slowly(
    group: ProcessGroup, make_program: Callable[..., Program]
) -> None:
    with group:
        group.start(make_program("brief", "sys.exit(3)"))
        now, delays = time.monotonic(), []
        for _ in range(8):
            death = next_death(group, now)
            assert (death.name, death.exit_code) == ("brief", 3)
            assert group.look_after(now + death.delay_seconds - 0.1) == []
            assert group.not_ready() == ["brief"]
            now += death.delay_seconds
            delays.append(death.delay_seconds)
    assert delays == [1, 2, 4, 8, 16, 32, LONGEST_DELAY_S, LONGEST_DELAY_S]


def test_delay_starts_over_after_a_healthy_life(
    group: ProcessGroup, make_program: Callable[..., Program], tmp_path: Path
) -> None:
    with group:
        group.start(make_program("steady", SLEEP))
        now = time.monotonic()
        for _ in range(3):
            group.look_after(now)
            wait_until(lambda: not group.not_ready())
            os.kill(pid_of(tmp_path, "steady"), signal.SIGKILL)
            (tmp_path / "steady.started").unlink()
            now += HEALTHY_AFTER_S + 1
            death = next_death(group, now)
            assert (death.exit_code, death.delay_seconds) == (-signal.SIGKILL, FIRST_DELAY_S)
            now += death.delay_seconds


def test_output_goes_to_a_log_that_does_not_grow_for_ever(
    group: ProcessGroup, make_program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 1000)
    with group:
        program = make_program("chatty", f"print('x' * 2000, flush=True)\n{SLEEP}")
        group.start(program)
        wait_until(lambda: group.log_of(program).stat().st_size > 1000)
        group.look_after(time.monotonic())
        assert group.log_of(program).stat().st_size == 0
    assert (tmp_path / "logs" / "chatty.old.log").read_text().strip() == "x" * 2000


OWNER = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever runs the tests may ignore it, and that is inherited
from trading_pipelines.services.processes import ProcessGroup, Program
folder = pathlib.Path(sys.argv[1])
body = '''
import os, pathlib, signal, subprocess, sys, time
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
p = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {p.pid}")
time.sleep(600)
'''
with ProcessGroup(str(folder), folder / "logs") as group:
    group.start(Program("child", (sys.executable, "-c", body, str(folder / "pids"), sys.argv[2])))
    time.sleep(600)
"""


def start_owner(folder: Path, temper: str = "obedient") -> tuple[subprocess.Popen[bytes], list[int]]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder), temper])
    wait_until(lambda: (folder / "pids").exists() and (folder / "pids").read_text())
    return owner, [int(pid) for pid in (folder / "pids").read_text().split()]


def test_kill_of_the_owner_ends_everything_it_started(tmp_path: Path) -> None:
    owner, pids = start_owner(tmp_path, "deaf")
    owner.kill()
    owner.wait()
    wait_until(lambda: all(is_gone(pid) for pid in pids))


def test_next_owner_ends_what_survived_the_guardian_as_well(tmp_path: Path) -> None:
    owner, pids = start_owner(tmp_path)
    guardian = next(p for p in psutil.Process(owner.pid).children() if "guardian" in " ".join(p.cmdline()))
    owner.send_signal(signal.SIGSTOP)  # so that it does not start another guardian
    guardian.kill()
    owner.kill()
    owner.wait()
    assert not any(is_gone(pid) for pid in pids)
    with ProcessGroup(str(tmp_path), tmp_path / "logs"):
        assert all(is_gone(pid) for pid in pids)


def test_group_of_another_folder_is_left_alone(tmp_path: Path) -> None:
    owner, pids = start_owner(tmp_path)
    try:
        with ProcessGroup(str(tmp_path / "other"), tmp_path / "other-logs"):
            pass
        with ProcessGroup(f"{tmp_path}-other", tmp_path / "other-logs"):
            pass
        assert not any(is_gone(pid) for pid in pids)
    finally:
        owner.terminate()
        owner.wait()
        wait_until(lambda: all(is_gone(pid) for pid in pids))


def guardians() -> set[int]:
    """Process ids of the guardians that this process has started and that are alive."""
    found: set[int] = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it may end while it is looked at
            if "guardian" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_lost_guardian_is_replaced(group: ProcessGroup) -> None:
    with group:
        (lost,) = guardians()
        os.kill(lost, signal.SIGKILL)
        wait_until(lambda: lost not in guardians())
        group.look_after(time.monotonic())
        wait_until(guardians)
    assert not guardians()
