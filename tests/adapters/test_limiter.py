"""The rate limit that processes share."""

import subprocess
import sys
import time
from pathlib import Path

from trading_pipelines.adapters.sources.limiter import SharedLimiter

ASK = """
import sys, time
from pathlib import Path
from trading_pipelines.adapters.sources.limiter import SharedLimiter
limiter = SharedLimiter(Path(sys.argv[1]), 0.02)
for _ in range(15):
    limiter.wait()
    print(repr(time.time()), flush=True)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_requests_keep_their_distance_by_cost(tmp_path: Path) -> None:
    clock = Clock()
    limiter = SharedLimiter(tmp_path / "bybit", 0.5, clock, clock.sleep)
    for cost in (1.0, 4.0, 1.0):
        limiter.wait(cost)
    assert clock.slept == [0.5, 2.0]
    clock.now += 60
    limiter.wait()
    assert clock.slept == [0.5, 2.0]


def test_rest_that_one_process_is_told_to_take_holds_for_all(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (SharedLimiter(tmp_path / "bybit", 0.5, clock, clock.sleep) for _ in range(2))
    one.rest(30)
    one.rest(5)
    other.wait()
    assert clock.slept == [30]


def test_unreadable_file_is_no_reason_to_wait(tmp_path: Path) -> None:
    (tmp_path / "bybit").write_text("half a num")
    clock = Clock()
    SharedLimiter(tmp_path / "bybit", 0.5, clock, clock.sleep).wait()
    assert clock.slept == []


def test_slot_that_a_wrong_clock_has_put_into_the_far_future_is_no_reason_to_wait(tmp_path: Path) -> None:
    clock = Clock()
    limiter = SharedLimiter(tmp_path / "bybit", 0.5, clock, clock.sleep)
    clock.now += 86_400
    limiter.wait()
    clock.now -= 86_400
    limiter.wait()
    limiter.wait()
    assert clock.slept == [0.5]


def test_processes_together_ask_no_faster_than_one_may(tmp_path: Path) -> None:
    began = time.time()
    askers = [
        subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path / "bybit")], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    asked = sorted(float(line) for asker in askers for line in asker.communicate()[0].splitlines())
    assert len(asked) == 45
    # A slot can be used late, never early: the n-th request of all comes after n intervals.
    assert all(moment - began >= i * 0.02 - 0.002 for i, moment in enumerate(asked))
