"""Composite scores from the database to the database: fifty symbols with all factors, in one pass and one by one.

Prints one JSON object with medians in milliseconds. Every run scores the newest close anew: the rows of the run before
are removed first, outside the measured time.

    python benchmarks/scoring.py --symbols 50 --repeats 7
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.application.analysis.market import read_technical_signals
from trading_pipelines.application.analysis.scoring import score, score_range
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.scoring.spec import ScoringSpec
from trading_pipelines.store.connection import connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import candles, funding, instruments, observations

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAYS = 120
SPEC = ScoringSpec()
EXCHANGE = "simulated"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-scoring-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            url = server.url_of("postgres")
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("create database bench")
            migrate(server.url_of("bench"))
            with connect(server.url_of("bench")) as connection:
                names = _fill(connection, options.symbols)
                sys.stdout.write(json.dumps(_measure(connection, names, options.repeats), indent=2) + "\n")
        finally:
            server.stop()


def _fill(connection: psycopg.Connection[Any], count: int) -> list[str]:
    """Candles, funding, observations of every series, and the charts as the platform has read them."""
    draw = np.random.default_rng(1)
    names = [f"C{n:02d}USDT" for n in range(count)]
    instruments.save(connection, [_instrument(name) for name in names])
    stored = instruments.by_symbol(connection, EXCHANGE)
    for name in names:
        _candles(connection, stored[name].instrument_id, draw)
    rows = [
        Observation(series, coin, SIMULATED, at, at, float(value))
        for series, coin, hours, values in _series(names, draw)
        for at, value in zip(
            (NOW - n * timedelta(hours=hours) - timedelta(minutes=5) for n in range(len(values))), values, strict=True
        )
    ]
    for at in range(0, len(rows), 20_000):
        observations.add(connection, rows[at : at + 20_000])
    connection.commit()
    read_technical_signals(
        connection,
        EXCHANGE,
        names,
        NOW - timedelta(hours=6),
        NOW,
        capital=10_000,
        execution=ExecutionParams(),
        limits=RiskLimits(),
    )
    connection.execute("analyze")
    connection.commit()
    return names


def _series(names: list[str], draw: np.random.Generator) -> Any:
    for name in names:
        coin = name.removesuffix("USDT")
        yield "sentiment", coin, 1, draw.uniform(-1, 1, 240)
        yield "whale_score", coin, 24, draw.uniform(-1, 1, 60)
        yield "exchange_netflow_usd", coin, 1, draw.normal(0, 1e6, 720)
        yield "prediction_bias", coin, 1, draw.uniform(-1, 1, 240)
        yield "exchange_reserve", coin, 24, 1e6 + np.cumsum(draw.normal(0, 1e3, 200))
        yield "etf_netflow_usd", coin, 24, draw.normal(0, 1e6, 200)
    yield "stablecoin_inflow_usd", MARKET, 1, draw.normal(0, 1e7, 720)
    yield "stablecoin_supply_usd", MARKET, 24, 1e11 + np.cumsum(draw.normal(0, 1e8, 200))
    yield "fear_greed", MARKET, 24, draw.uniform(0, 100, 200)


def _candles(connection: psycopg.Connection[Any], instrument_id: int, draw: np.random.Generator) -> None:
    for frame in (Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1):
        bars = DAYS * 1440 // frame.minutes
        first = frame.floor(NOW) - bars * frame.delta
        close = 100 * np.exp(np.cumsum(draw.normal(0, 0.002 * np.sqrt(frame.minutes / 15), bars)))
        ts = pd.date_range(first, periods=bars, freq=frame.delta).as_unit("us")
        table = pd.DataFrame(
            {
                "ts": ts,
                "open": close,
                "high": close * 1.002,
                "low": close * 0.998,
                "close": close,
                "volume": draw.uniform(1, 9, bars),
            }
        )
        with connection.cursor() as cursor:
            candles.upsert_candles(cursor, instrument_id, frame, table)
    ts = pd.date_range(NOW - timedelta(days=30), NOW - timedelta(hours=4), freq="8h").as_unit("us")
    with connection.cursor() as cursor:
        funding.upsert_rates(cursor, instrument_id, pd.DataFrame({"ts": ts, "rate": draw.normal(1e-4, 1e-4, len(ts))}))


def _measure(connection: psycopg.Connection[Any], names: list[str], repeats: int) -> dict[str, Any]:
    ways: dict[str, Callable[[], Any]] = {
        "one_pass": lambda: score(connection, EXCHANGE, names, "15m", NOW, SPEC),
        "symbol_by_symbol": lambda: [score(connection, EXCHANGE, [name], "15m", NOW, SPEC) for name in names],
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # caches and plans
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            connection.execute("delete from composite_scores")
            connection.execute("delete from factor_values")
            connection.commit()
            began = time.perf_counter()
            way()
            took[name].append(1000 * (time.perf_counter() - began))
    scores = connection.execute(
        "select count(*), min(known), max(known), min(coverage) from composite_scores"
    ).fetchone()
    assert scores is not None
    began = time.perf_counter()
    history = score_range(connection, EXCHANGE, names, "15m", NOW - timedelta(days=30), NOW, SPEC)
    seconds = time.perf_counter() - began
    medians = {name: round(statistics.median(values), 1) for name, values in took.items()}
    return {
        "symbols": len(names),
        "scores": scores[0],
        "known_factors": [scores[1], scores[2]],
        "median_ms": medians,
        "slowest_ms": {name: round(max(values), 1) for name, values in took.items()},
        "times_faster": round(medians["symbol_by_symbol"] / medians["one_pass"], 1),
        "target_ms": 200,
        "history": {"days": 30, "scores": history.rows, "scores_per_second": round(history.rows / seconds)},
        "repeats": repeats,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }


def _instrument(symbol: str) -> Instrument:
    step = Decimal("0.01")
    return Instrument(
        EXCHANGE,
        symbol,
        symbol.removesuffix("USDT"),
        "USDT",
        MarketKind.PERPETUAL,
        price_step=step,
        quantity_step=step,
        min_quantity=step,
        min_notional=Decimal(5),
        funding_interval_minutes=480,
    )


if __name__ == "__main__":
    main()
