"""What ours and the others' backtests have in common in a comparison: the terms of trading and the clocks."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from trading_pipelines.domain.engine.params import ExecutionParams

EXECUTION = ExecutionParams()
CAPITAL = 10_000.0


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the wall clock, and the value."""
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def speed(call: Callable[[], Any], repeat: int, symbol_bars: int) -> dict[str, float]:
    """Call again and again; milliseconds, and million symbol-bars a second, by both clocks."""
    wall, own = list[float](), list[float]()
    for _ in range(repeat):
        started = time.thread_time()
        wall.append(timed(call)[0])
        own.append(time.thread_time() - started)
    figures = {"best": min(wall), "median": statistics.median(wall), "median_cpu": statistics.median(own)}
    return {f"{name}_ms": round(1e3 * seconds, 2) for name, seconds in figures.items()} | {
        f"{name}_million_symbol_bars_per_s": round(symbol_bars / seconds / 1e6, 1) for name, seconds in figures.items()
    }
