"""The last one out: ends what a killed supervisor has left behind.

The supervisor starts every process with a mark in its environment, which all their descendants inherit, and holds a
pipe to this one. When the pipe closes, for whatever reason, everything with the mark is ended. Works without asking
the kernel for favours, so on Linux and macOS alike.

Belongs here: finding marked processes and ending them. Does not belong here: an orderly stop (`supervisor`).
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable

import psutil

MARK = "PIPELINES_SUPERVISED_BY"
"""Environment variable of every supervised process: `<data folder>:<one start of the supervisor>`."""
GRACE_S = 5.0


def marked(matches: Callable[[str], bool]) -> list[psutil.Process]:
    """Living processes, other than this one, whose mark fulfils `matches`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK)
            if mark is not None and matches(mark) and process.pid != os.getpid():
                found.append(process)
    return found


def end(find: Callable[[], list[psutil.Process]], grace_seconds: float = GRACE_S) -> int:
    """Ask the processes that `find` returns to end, then kill the rest and what they have started meanwhile.

    Returns how many there were.
    """
    processes = find()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=grace_seconds)
    while stubborn := find():
        for process in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(stubborn, timeout=grace_seconds)
    return len(processes)


def main() -> None:
    """Wait for the end of the supervisor, which is the end of our standard input."""
    own_mark = os.environ[MARK]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while sys.stdin.buffer.read(1024):
        pass
    end(lambda: marked(lambda mark: mark == own_mark))


if __name__ == "__main__":
    main()
