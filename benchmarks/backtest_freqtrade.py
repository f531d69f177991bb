"""freqtrade on the settings nearest to the benchmark, in the interpreter that it is installed in.

It wants other versions of our libraries, so it lives in an environment of its own and gets the candles as files. It
walks over them in Python: a part is enough to know its speed.
"""

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

BARS = 10_000
"""Of each symbol; a candle costs it a tenth of a millisecond with partial exits."""
WORKER = Path(__file__).with_name("freqtrade_worker.py")


def compare(python: Path, frames: Mapping[str, pd.DataFrame], repeat: int) -> dict[str, Any]:
    """Speed from loaded frames to trades and statistics, over the last `BARS` 5-minute candles of each symbol."""
    with tempfile.TemporaryDirectory(prefix="freqtrade-") as name:
        folder = Path(name)
        (folder / "strategy").mkdir()
        for symbol, frame in frames.items():
            _store(folder, f"{symbol.removesuffix('USDT')}_USDT_USDT", frame.tail(BARS))
        # It looks for the strategy among all files beside the one that it is in.
        worker = shutil.copy(WORKER, folder / "strategy" / WORKER.name)
        done = subprocess.run(
            [str(python), str(worker), name, str(repeat)], capture_output=True, text=True, check=False, cwd=folder
        )
    if done.returncode:
        raise RuntimeError(f"freqtrade failed: {done.stderr.strip().splitlines()[-1:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    times = report.pop("seconds")
    figures = {"best": min(times), "median": statistics.median(times)}
    return report | {
        key: value
        for name, seconds in figures.items()
        for key, value in (
            (f"{name}_ms", round(1e3 * seconds, 1)),
            (f"{name}_symbol_bars_per_s", round(report["symbol_bars"] / seconds)),
        )
    }


def _store(folder: Path, pair: str, frame: pd.DataFrame) -> None:
    """Candles, the mark price and the funding rate as freqtrade names them; the close stands in for the mark."""
    futures = folder / "futures"
    futures.mkdir(exist_ok=True)
    candles = frame.rename(columns={"ts": "date"})[["date", "open", "high", "low", "close", "volume"]]
    candles = candles.assign(date=candles["date"].astype("datetime64[ms, UTC]")).reset_index(drop=True)
    candles.to_feather(futures / f"{pair}-5m-futures.feather")
    hourly = candles[candles["date"].dt.minute == 0]
    hourly.reset_index(drop=True).to_feather(futures / f"{pair}-1h-mark.feather")
    due = hourly[hourly["date"].dt.hour % 8 == 0].reset_index(drop=True)
    rates = due.assign(open=0.0001, high=0.0, low=0.0, close=0.0, volume=0.0)
    rates.to_feather(futures / f"{pair}-1h-funding_rate.feather")
    rates.to_feather(futures / f"{pair}-8h-funding_rate.feather")
    hourly.reset_index(drop=True).to_feather(futures / f"{pair}-8h-mark.feather")
