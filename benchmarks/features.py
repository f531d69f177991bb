"""Measure the features: a long batch, the newest bar, and the way through the database; prints one JSON object.

Run with `python benchmarks/features.py`. Bare TA-Lib calls over the same candles run in turn with ours, for the newest
bar as a bot makes them, over all of the history that is needed: they compute 20 series out of 89 features, so they are
a floor and no rival. pandas-ta-classic computes the same 20 where it is installed (`pip install pandas-ta-classic`).
"""

import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import talib

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.features.compute import compute_features, compute_newest
from trading_pipelines.domain.features.context import Bars, Breadth, FeatureInputs, Settlements
from trading_pipelines.domain.features.observations import OBSERVED, Observed
from trading_pipelines.domain.features.registry import NAMES, WARMUP_BARS
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

BARS = 78_912
SYMBOLS = 10
NEWEST_SYMBOLS = 50
STORED_DAYS = 210
REPEATS = 3
START = np.datetime64("2023-01-01", "us")
NOW = datetime(2026, 5, 4, 3, 20, tzinfo=UTC)
TALIB = cast(Any, talib)


def main() -> None:
    """Measure each step `REPEATS` times in turn and print the medians, of wall and of processor time."""
    batch = make_market(SYMBOLS, BARS)
    newest = make_market(NEWEST_SYMBOLS, WARMUP_BARS["signal"])
    steps: dict[str, Callable[[], object]] = {
        "batch_s": lambda: [compute_features(x) for x in fresh(batch)],
        "batch_talib_only_s": lambda: [bare_talib(x.bars) for x in batch],
        "newest_bar_s": lambda: compute_newest(fresh(newest), 1),
        "newest_bar_talib_only_s": lambda: [bare_talib(x.bars) for x in newest],
    }
    if importlib.util.find_spec("pandas_ta_classic"):
        steps["batch_pandas_ta_s"] = lambda: [bare_pandas_ta(x.bars) for x in batch]
        steps["newest_bar_pandas_ta_s"] = lambda: [bare_pandas_ta(x.bars) for x in newest]
    compute_features(newest[0])  # compile
    rounds = [{name: seconds(step) for name, step in steps.items()} for _ in range(REPEATS)]
    result = {
        kind + name: round(statistics.median(r[name][i] for r in rounds), 4)
        for name in steps
        for i, kind in enumerate(("", "cpu_"))
    }
    sizes = {"features": len(NAMES), "symbols": SYMBOLS, "bars": BARS, "newest_symbols": NEWEST_SYMBOLS}
    sys.stdout.write(json.dumps({"benchmark": "features", **sizes, **result, **through_the_database()}) + "\n")


def through_the_database() -> dict[str, float]:
    """Seconds to build, rebuild and bring up to date the stored features of a simulated market."""
    spec = SimulatedMarketSpec()
    since = NOW - timedelta(days=STORED_DAYS)
    bar = timedelta(minutes=15)
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        try:
            migrate(url)
            with connect(url) as connection:
                ingest(connection, SimulatedSource(spec, lambda: NOW), (), Timeframe.M5, since, NOW)
                closed = Timeframe.M15.floor(NOW)
                first = build(connection, spec, since, closed - bar)
                newest = [build(connection, spec, closed - bar, closed) for _ in range(REPEATS)]
        finally:
            server.stop()
    return {
        "stored_symbols": len(spec.symbols),
        "stored_bars": STORED_DAYS * 96,
        "stored_build_s": round(first, 3),
        "stored_newest_bar_s": round(statistics.median(newest), 3),
    }


def build(connection: Connection, spec: SimulatedMarketSpec, start: datetime, end: datetime) -> float:
    """Seconds of one build of all symbols."""
    return build_features(connection, "simulated", spec.symbols, "15m", start, end).seconds


def make_market(symbols: int, bars: int) -> list[FeatureInputs]:
    """Random symbols, each with its longer timeframes and funding, and the leader that they share."""
    leader = random_bars(1_000, bars, Timeframe.M15)
    settled = np.arange(START, leader.closes_at[-1], np.timedelta64(480, "m"))
    breadth = Breadth(leader.closes_at, *np.random.default_rng(2_000).random((3, bars)))
    funding = Settlements(settled, np.full(len(settled), 1e-4))
    longer = (Timeframe.H1, Timeframe.H4, Timeframe.D1)
    market = {feature.series: hourly(3_000, leader) for feature in OBSERVED if feature.market}
    return [
        FeatureInputs(
            bars=random_bars(seed, bars, Timeframe.M15),
            higher={t: random_bars(seed, -(-bars * 15 // t.minutes), t) for t in longer},
            leader=leader,
            funding=funding,
            breadth=breadth,
            observed={feature.series: hourly(seed, leader) for feature in OBSERVED if not feature.market},
            market=market,
        )
        for seed in range(symbols)
    ]


def hourly(seed: int, bars: Bars) -> Observed:
    """A series from outside, a value an hour, known a quarter of an hour later."""
    ts = np.arange(bars.ts[0], bars.closes_at[-1], np.timedelta64(60, "m"))
    return Observed(ts + np.timedelta64(15, "m"), ts, np.random.default_rng(seed).normal(100, 5, len(ts)))


def random_bars(seed: int, bars: int, timeframe: Timeframe) -> Bars:
    """A random walk as candles."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.002, bars)))
    open_ = np.concatenate((close[:1], close[:-1]))
    return Bars(
        timeframe=timeframe,
        ts=START + np.arange(bars) * np.timedelta64(timeframe.minutes, "m"),
        open=open_,
        high=np.maximum(open_, close) * (1 + draw.exponential(0.001, bars)),
        low=np.minimum(open_, close) * (1 - draw.exponential(0.001, bars)),
        close=close,
        volume=draw.exponential(100, bars),
    )


def fresh(market: list[FeatureInputs]) -> list[FeatureInputs]:
    """The same market without anything computed before."""
    end = market[0].bars.closes_at[-1]
    first = market[0]
    leader = None if first.leader is None else first.leader.known_at(end)
    shared = {"leader": leader, "breadth": first.breadth, "market": first.market}
    return [replace(inputs.known_at(end), observed=inputs.observed, **shared) for inputs in market]


def bare_talib(bars: Bars) -> None:
    """The recursive indicators of the feature set."""
    for period in (9, 21, 50, 200):
        TALIB.EMA(bars.close, period)
    for period in (7, 14):
        TALIB.RSI(bars.close, period)
    TALIB.ATR(bars.high, bars.low, bars.close, 14)
    TALIB.ADX(bars.high, bars.low, bars.close, 14)
    TALIB.MACD(bars.close)
    TALIB.STOCHRSI(bars.close)
    TALIB.BBANDS(bars.close, 20)
    TALIB.OBV(bars.close, bars.volume)
    TALIB.SMA(bars.volume, 20)


def bare_pandas_ta(bars: Bars) -> None:
    """The same with pandas-ta-classic's own code."""
    ta = importlib.import_module("pandas_ta_classic")
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    frame = pd.DataFrame(columns, index=pd.DatetimeIndex(bars.ts))
    close, own = frame["close"], {"talib": False}
    for period in (9, 21, 50, 200):
        ta.ema(close, period, **own)
    for period in (7, 14):
        ta.rsi(close, period, **own)
    ta.atr(frame["high"], frame["low"], close, 14, **own)
    ta.adx(frame["high"], frame["low"], close, 14, **own)
    ta.macd(close, **own)
    ta.stochrsi(close, **own)
    ta.bbands(close, 20, **own)
    ta.obv(close, frame["volume"], **own)
    ta.sma(frame["volume"], 20, **own)


def seconds(step: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time of one call; they differ where the machine is shared."""
    began, worked = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - began, time.process_time() - worked


if __name__ == "__main__":
    main()
