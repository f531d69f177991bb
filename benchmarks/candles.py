"""Measure the way of candles into the database and back; prints one JSON object.

Run with `python benchmarks/candles.py`; a durable embedded server in a temporary folder is used, as the platform does.
"""

import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import instruments

SPEC = SimulatedMarketSpec()
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
START = NOW - timedelta(days=SPEC.history_days)
REPEATS = 3
TABLES = "ohlcv_5m, ohlcv_15m, ohlcv_1h, ohlcv_4h, ohlcv_1d, ohlcv_coverage, ohlcv_gaps, funding_rates"


def main() -> None:
    """Measure each step `REPEATS` times in turn and print the medians."""
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        try:
            migrate(url)
            with connect(url) as connection:
                rounds = [measure(connection) for _ in range(REPEATS)]
        finally:
            server.stop()
    medians = {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]}
    rows = SPEC.history_days * 288 * len(SPEC.symbols)
    sys.stdout.write(
        json.dumps(
            {
                "benchmark": "candles",
                "rows": rows,
                **medians,
                "ingest_rows_per_s": round(rows / medians["ingest_s"]),
                "read_rows_per_s": round(rows / medians["read_s"]),
            }
        )
        + "\n"
    )


def measure(connection: Connection) -> dict[str, float]:
    """Seconds of one round from empty tables."""
    connection.execute(f"truncate {TABLES}")
    connection.commit()
    marks = [time.perf_counter()]

    def lap() -> float:
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    market = SimulatedMarket(SPEC)
    for symbol in SPEC.symbols:
        market.candles(symbol, START, NOW)
    seconds = {"simulate_s": lap()}
    load(connection, NOW)
    seconds["ingest_s"] = lap()
    load(connection, NOW)
    seconds["ingest_nothing_new_s"] = lap()
    load(connection, NOW + timedelta(minutes=5))
    seconds["ingest_one_bar_each_s"] = lap()
    with connection.transaction():
        ids = [stored.instrument_id for stored in instruments.by_symbol(connection, "simulated").values()]
    lap()
    with connection.transaction():
        candle_store.derive(connection, ids, Timeframe.M5, START, NOW)
    seconds["derive_again_s"] = lap()
    with connection.transaction():
        for instrument_id in ids:
            candle_store.read_candles(connection, instrument_id, Timeframe.M5, START, NOW)
    seconds["read_s"] = lap()
    return seconds


def load(connection: Connection, now: datetime) -> None:
    """One ingestion of everything, up to `now`."""
    report = ingest(connection, SimulatedSource(SPEC, lambda: now), (), Timeframe.M5, START, now)
    if report.errors:
        raise RuntimeError("; ".join(report.errors))


if __name__ == "__main__":
    main()
