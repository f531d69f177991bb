"""Measure the backtest with everything on; prints one JSON object.

Run with `python benchmarks/backtest.py --data DIR`, where DIR holds `<exchange>/<SYMBOL>/<timeframe>.parquet`, or
without `--data` on random walks of the same size. Everything runs on one thread. Times are the best and the median of
`--repeat` rounds by the wall clock, and the median by the thread's own clock, which does not count the time that other
programs take from it. Where vectorbt is installed, it runs in the same process on its nearest settings, and for a
plain stop and target without costs its trades are compared with ours. With `--freqtrade PYTHON` freqtrade runs the
benchmark strategy with its own partial exits, in the environment of that interpreter, on 5-minute candles.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from backtest_terms import CAPITAL, EXECUTION, speed, timed

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.engine.lifecycle import pack_execution
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.sizing import pack_limits
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, make_plan, run_backtest
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS, EmaCross

SYMBOLS = ("ADAUSDT", "BNBUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "SUIUSDT", "XRPUSDT")
BARS = 78_912
SWEEP = [EmaCross(fast, slow) for fast in range(5, 45) for slow in range(50, 175, 5)]
YEAR_OF_5M_BARS = 105_120
FREQTRADE_REPEAT = 3


def main() -> None:
    """Compile, load, measure."""
    options = _options()
    timeframe = Timeframe(options.timeframe)
    first, _ = timed(lambda: _end_to_end(_walks(("AUSDT",), 500), Timeframe.M5, {}))
    load, frames = timed(lambda: _load(options) if options.data else _walks(options.symbols, BARS))
    funding = {symbol: _funding(frame) for symbol, frame in frames.items()}
    result, added = _with_added_memory(lambda: _end_to_end(frames, timeframe, funding))
    data = BacktestInput.from_frames(frames, timeframe, funding=funding)
    plan = make_plan(data, EmaCross(), EXECUTION)
    symbol_bars = sum(len(frame) for frame in frames.values())
    input_bytes = sum(int(frame.memory_usage(index=False).sum()) for frame in frames.values())
    used = None if added is None else input_bytes + added
    report: dict[str, Any] = {
        "benchmark": "backtest",
        "data": "recorded" if options.data else "random walks",
        "symbols": len(frames),
        "symbol_bars": symbol_bars,
        "load_s": round(load, 3),
        "first_call_s": round(first, 3),
        "compiled_code_from_disk": bool(kernel.run_portfolio.stats.cache_hits),
        "loop": speed(lambda: _loop(data, plan), options.repeat, symbol_bars),
        "end_to_end": speed(lambda: _end_to_end(frames, timeframe, funding), options.repeat, symbol_bars),
        "input_mb": round(input_bytes / 1e6, 1),
        "peak_memory_mb": None if used is None else round(used / 1e6, 1),
        "peak_memory_over_input": None if used is None else round(used / input_bytes, 2),
        "sweep": _sweep(next(iter(frames.items())), timeframe),
        "trades": len(result.trades),
        "fills": len(result.fills),
        "final_equity": result.final_equity,
    }
    if importlib.util.find_spec("vectorbt"):
        from backtest_vectorbt import compare  # an optional extra, and slow to import

        report["vectorbt"] = compare(frames, timeframe, options.repeat)
    if options.freqtrade:
        import backtest_freqtrade  # an optional extra

        report["freqtrade"] = backtest_freqtrade.compare(options.freqtrade, frames, FREQTRADE_REPEAT)
    sys.stdout.write(json.dumps(report) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with <exchange>/<SYMBOL>/<timeframe>.parquet")
    parser.add_argument("--exchange", default="binance")
    parser.add_argument("--symbols", nargs="+", default=SYMBOLS)
    parser.add_argument("--timeframe", default="5m")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument(
        "--freqtrade",
        type=Path,
        metavar="PYTHON",
        help="interpreter of an environment with freqtrade, to run it as well",
    )
    options = parser.parse_args()
    if options.freqtrade and options.timeframe != "5m":
        parser.error("--freqtrade: its strategy is written for 5m")
    return options


def _load(options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    folder = options.data / options.exchange
    return {s: pd.read_parquet(folder / s / f"{options.timeframe}.parquet") for s in options.symbols}


def _walks(symbols: Iterable[str], bars: int) -> dict[str, pd.DataFrame]:
    dice = np.random.default_rng(1)
    frames: dict[str, pd.DataFrame] = {}
    for symbol in symbols:
        close = 100 * np.exp(np.cumsum(0.0015 * dice.standard_normal(bars)))
        opened = np.concatenate(([100.0], close[:-1]))
        wicks = 0.0007 * np.abs(dice.standard_normal((2, bars)))
        frames[symbol] = pd.DataFrame(
            {
                "ts": pd.date_range("2025-01-01", periods=bars, freq="5min", tz="UTC", unit="us"),
                "open": opened,
                "high": np.maximum(opened, close) * (1 + wicks[0]),
                "low": np.minimum(opened, close) * (1 - wicks[1]),
                "close": close,
                "volume": 1.0,
            }
        )
    return frames


def _funding(frame: pd.DataFrame) -> pd.DataFrame:
    """The expected rate every eight hours: recorded spot candles have none of their own."""
    ts = pd.date_range(frame["ts"].iloc[0].ceil("8h"), frame["ts"].iloc[-1], freq="8h")
    return pd.DataFrame({"ts": ts, "rate": EXECUTION.funding_rate_expected})


def _end_to_end(
    frames: Mapping[str, pd.DataFrame], timeframe: Timeframe, funding: Mapping[str, pd.DataFrame]
) -> BacktestResult:
    """From loaded frames to trades, fills, equity curve and metrics."""
    data = BacktestInput.from_frames(frames, timeframe, funding=funding)
    result = run_backtest(data, EmaCross(), EXECUTION, BENCHMARK_LIMITS, CAPITAL)
    if result.performance.trades > len(result.trades) or len(result.equity_curve) != len(result.equity):
        raise AssertionError("the parts of the result contradict each other")
    return result


def _loop(data: BacktestInput, plan: kernel.Plan) -> None:
    state = kernel.new_state(data.market, plan, CAPITAL)
    parameters = pack_execution(EXECUTION), pack_limits(BENCHMARK_LIMITS)
    kernel.run_portfolio(data.market, plan, state, data.bar_length, *parameters)


def _sweep(symbol: tuple[str, pd.DataFrame], timeframe: Timeframe) -> dict[str, float]:
    """A thousand pairs of averages over one symbol, metrics for each, scaled to a year of 5-minute bars."""
    data = BacktestInput.from_frames(dict([symbol]), timeframe)

    def run() -> list[float | None]:
        results = (run_backtest(data, s, EXECUTION, BENCHMARK_LIMITS, CAPITAL) for s in SWEEP)
        return [result.performance.sharpe for result in results]

    seconds, _ = timed(run)
    bars = len(symbol[1])
    return {
        "combinations": len(SWEEP),
        "bars": bars,
        "seconds": round(seconds, 2),
        "seconds_per_year_of_5m_bars": round(seconds * YEAR_OF_5M_BARS / bars, 2),
    }


def _with_added_memory(call: Callable[[], Any]) -> tuple[Any, int | None]:
    """Run `call`; how far resident memory rose meanwhile at most, where Linux lets its high-water mark be reset.

    What reading the files has left behind is not counted, neither here nor as input.
    """
    pyarrow.default_memory_pool().release_unused()
    mark = Path("/proc/self/clear_refs")
    if not os.access(mark, os.W_OK):
        return call(), None
    mark.write_text("5")
    before = _memory("VmRSS")
    value = call()
    return value, _memory("VmHWM") - before


def _memory(name: str) -> int:
    """A memory figure of this process in bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


if __name__ == "__main__":
    main()
