"""One rate limit per exchange for all processes of this machine.

The client library keeps its pace within a process; Dagster runs, the fast service and a command at the prompt are
several, and an exchange bans the address that they share.
"""

import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

_LONGEST_WAIT_SECONDS = 3600.0


class SharedLimiter:
    """Hands out slots in time; the next free one stands in a file, under a lock.

    Parameters
    ----------
    file : Path
        Where the processes meet; its folder is made.
    interval_seconds : float
        Between two requests of cost 1.
    clock, sleep : callables
        Seconds since 1970, the same for all processes, and a pause in seconds.
    """

    def __init__(
        self,
        file: Path,
        interval_seconds: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = FileLock(file.with_suffix(".lock"), timeout=30)
        self._interval = interval_seconds
        self._clock = clock
        self._sleep = sleep

    def wait(self, cost: float = 1.0) -> None:
        """Wait for a slot of one's own; requests of a higher cost take longer ones."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next_free(now))
            self._file.write_text(repr(start + cost * self._interval))
        if start > now:
            self._sleep(start - now)

    def rest(self, seconds: float) -> None:
        """Keep every process from asking for a while: what an exchange demands of one it means for all."""
        with self._lock:
            now = self._clock()
            self._file.write_text(repr(max(self._next_free(now), now + seconds)))

    def _next_free(self, now: float) -> float:
        """When the next slot begins; a file that is not there or not readable is of the past.

        One that points farther ahead than anybody waits was written while the clock was wrong.
        """
        try:
            next_free = float(self._file.read_text())
        except (OSError, ValueError):
            return 0.0
        return next_free if next_free <= now + _LONGEST_WAIT_SECONDS else 0.0
