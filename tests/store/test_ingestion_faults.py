"""What an ingestion meets on its way; afterwards the tables equal the exchange's, row for row.

The exchange is a server on 127.0.0.1, asked by the real client library; time is virtual where pauses are long.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fake_bybit
import pandas as pd
import psycopg
import pytest
from fake_bybit import KLINE, Answer, FakeBybit, Fault

from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.application.market_data.ingestion import IngestReport, ingest
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import funding as funding_store
from trading_pipelines.store.repositories import instruments

M5 = Timeframe.M5
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
HISTORY = timedelta(days=8)
START = NOW - HISTORY
SYMBOLS = ("BTCUSDT", "SOLUSDT")


class Naps:
    """Pauses that take no time, added up."""

    total = 0.0

    def __call__(self, seconds: float) -> None:
        self.total += seconds


@pytest.fixture
def exchange() -> Iterator[FakeBybit]:
    fake = FakeBybit(NOW, HISTORY, SYMBOLS)
    yield fake
    fake.stop()


@pytest.fixture
def naps() -> Naps:
    return Naps()


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def run(
    database: str, exchange: FakeBybit, naps: Naps, *, local_error: timedelta = timedelta(), **options: bool
) -> IngestReport:
    source = CcxtSource("bybit", exchange.url, clock=lambda: exchange.now + local_error, sleep=naps)
    with connect(database) as connection:
        return ingest(connection, source, SYMBOLS, M5, START, NOW + timedelta(days=1), **options)


def assert_equal_to_the_exchange(database: str, exchange: FakeBybit) -> None:
    """Candles of every timeframe, funding, and nothing that is missing or refused."""
    closed_until = M5.floor(exchange.now)
    with connect(database) as connection:
        for symbol in SYMBOLS:
            instrument_id = instruments.by_symbol(connection, "bybit")[symbol].instrument_id
            rows = exchange.rows(symbol, M5)
            closed = rows[(rows["ts"] >= START) & (rows["ts"] < closed_until)].reset_index(drop=True)

            def stored(timeframe: Timeframe, instrument_id: int = instrument_id) -> pd.DataFrame:
                return candle_store.read_candles(connection, instrument_id, timeframe, START, NOW + timedelta(days=1))

            pd.testing.assert_frame_equal(stored(M5), closed, check_exact=True)
            for longer in M5.longer():
                bars = aggregate(closed, longer)
                whole = (bars["ts"] >= START) & (bars["ts"] + longer.delta <= closed_until)
                pd.testing.assert_frame_equal(stored(longer), bars[whole].reset_index(drop=True), rtol=1e-12)
            rates = funding_store.read_rates(connection, instrument_id, START, NOW)
            settled = exchange.funding(symbol)
            settled = settled[(settled["ts"] >= START) & (settled["ts"] < NOW)].reset_index(drop=True)
            pd.testing.assert_frame_equal(rates, settled, check_exact=True)
        assert connection.execute("select count(*) from ohlcv_gaps where verdict = 'open'").fetchone() == (0,)
        assert connection.execute("select count(*) from ohlcv_quarantine").fetchone() == (0,)


def complete(database: str, exchange: FakeBybit, naps: Naps, attempts: int = 6, **options: bool) -> int:
    """Ingest until nothing fails any more; how often that took."""
    for attempt in range(1, attempts + 1):
        with contextlib.suppress(SourceError):
            if not run(database, exchange, naps, **options).errors:
                return attempt
    raise AssertionError("it never went through")


def test_connection_reset_in_the_middle_of_a_page(database: str, exchange: FakeBybit, naps: Naps) -> None:
    exchange.faults[KLINE].extend([fake_bybit.reset_in_mid_body, fake_bybit.reset, fake_bybit.reset_in_mid_body])
    assert run(database, exchange, naps).errors == ()
    assert_equal_to_the_exchange(database, exchange)


def test_storm_of_429_is_waited_out_as_long_as_the_exchange_asks(
    database: str, exchange: FakeBybit, naps: Naps
) -> None:
    exchange.faults[KLINE].extend([fake_bybit.too_many_requests("20")] * 30)
    attempts = complete(database, exchange, naps)
    assert attempts > 1
    assert naps.total >= 20 * (30 - attempts * len(SYMBOLS))
    assert_equal_to_the_exchange(database, exchange)


@pytest.mark.parametrize("minutes", [0.5, 4])
def test_exchange_that_fails_for_minutes(database: str, exchange: FakeBybit, naps: Naps, minutes: float) -> None:
    exchange.outage = lambda: fake_bybit.server_error(502) if naps.total < 60 * minutes else None
    attempts = complete(database, exchange, naps)
    assert (attempts == 1) == (minutes < 1)
    assert_equal_to_the_exchange(database, exchange)


def repeated(answer: Answer) -> None:
    rows = answer.payload["result"]["list"]
    answer.payload["result"]["list"] = [row for row in rows for _ in range(2)][: len(rows)]
    answer.send()


def shuffled(answer: Answer) -> None:
    rows = answer.payload["result"]["list"]
    answer.payload["result"]["list"] = rows[1::2] + rows[::2]
    answer.send()


def foreign(answer: Answer) -> None:
    """Rows before and after the span that was asked for, as some exchanges send."""
    rows = answer.payload["result"]["list"]
    day = 86_400_000
    answer.payload["result"]["list"] = [
        [str(int(rows[0][0]) + day), *rows[0][1:]],
        *rows,
        [str(int(rows[-1][0]) - day), *rows[-1][1:]],
    ]
    answer.send()


@pytest.mark.parametrize("fault", [repeated, shuffled, foreign, fake_bybit.shuffled_and_doubled])
def test_page_with_rows_that_are_repeated_out_of_order_or_not_asked_for(
    database: str, exchange: FakeBybit, naps: Naps, fault: Fault
) -> None:
    exchange.faults[KLINE].extend([fault] * 6)
    assert run(database, exchange, naps).errors == ()
    assert_equal_to_the_exchange(database, exchange)


def test_exchange_that_corrects_yesterdays_candle(database: str, exchange: FakeBybit, naps: Naps) -> None:
    run(database, exchange, naps)
    yesterday = exchange.candles["BTCUSDT"]["ts"].searchsorted(pd.Timestamp(NOW - timedelta(days=1)))
    before = exchange.candles["BTCUSDT"].loc[yesterday, "high"]
    exchange.candles["BTCUSDT"].loc[yesterday, ["high", "volume"]] = [before * 1.5, 77.0]
    report = run(database, exchange, naps, refetch=True)
    assert (report.inserted, report.corrected) == (0, 1)
    assert_equal_to_the_exchange(database, exchange)
    with connect(database) as connection:
        former = connection.execute("select timeframe, high from ohlcv_revisions order by timeframe").fetchall()
    assert ("5m", before) in former
    assert {timeframe for timeframe, _ in former} == {"5m", "15m", "1h", "4h", "1d"}


def test_pair_that_is_delisted_does_not_hold_up_the_others(database: str, exchange: FakeBybit, naps: Naps) -> None:
    run(database, exchange, naps)
    whole = exchange.candles["SOLUSDT"]
    del exchange.candles["SOLUSDT"]
    exchange.candles["BTCUSDT"].loc[1500, "volume"] = 77.0
    report = run(database, exchange, naps, refetch=True)
    assert (report.errors, report.vanished, report.corrected) == ((), ("SOLUSDT",), 1)
    with connect(database) as connection:
        told = connection.execute("select symbol, last_error from source_status where last_error is not null")
        assert told.fetchall() == [("SOLUSDT", "bybit lists it no more")]
    exchange.candles["SOLUSDT"] = whole
    assert_equal_to_the_exchange(database, exchange)
    assert run(database, exchange, naps).vanished == ()


@pytest.mark.parametrize("local_error", [-30, 30])
@pytest.mark.parametrize("second", [1, 29, 31, 299])
def test_local_clock_that_is_half_a_minute_wrong(
    database: str, exchange: FakeBybit, naps: Naps, local_error: int, second: int
) -> None:
    run(database, exchange, naps)
    exchange.now = M5.floor(NOW) + timedelta(seconds=second)
    forming = exchange.candles["BTCUSDT"].index[-1]
    exchange.candles["BTCUSDT"].loc[forming, "close"] = exchange.candles["BTCUSDT"].loc[forming, "open"]
    run(database, exchange, naps, local_error=timedelta(seconds=local_error))
    assert_equal_to_the_exchange(database, exchange)


def test_clock_of_the_exchange_that_is_half_a_minute_fast_is_made_good_by_asking_again(
    database: str, exchange: FakeBybit, naps: Naps
) -> None:
    truth = M5.floor(NOW) + M5.delta - timedelta(seconds=20)
    exchange.now = truth + timedelta(seconds=30)
    unfinished = exchange.candles["BTCUSDT"].index[-1]
    last = exchange.candles["BTCUSDT"].loc[unfinished].copy()
    exchange.candles["BTCUSDT"].loc[unfinished, ["close", "volume"]] = [last["open"], last["volume"] / 2]
    run(database, exchange, naps)
    exchange.candles["BTCUSDT"].loc[unfinished] = last
    exchange.now = M5.floor(truth) + M5.delta
    report = run(database, exchange, naps, refetch=True)
    assert report.corrected == 1
    assert_equal_to_the_exchange(database, exchange)


WORKER = """
import sys, json, time
from datetime import datetime
from pathlib import Path
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store import copy
from trading_pipelines.store.connection import connect
task = json.loads(sys.argv[1])
now, start, end = (datetime.fromisoformat(task[name]) for name in ("now", "start", "end"))

def stop_here(*arguments):
    Path(task["marker"]).touch()
    time.sleep(600)

if task["stop_before"] == "upsert":
    copy._Merge.insert_missing = stop_here
elif task["stop_before"] == "update":
    copy._Merge.update_changed = stop_here
elif task["stop_before"] == "commit":
    written = copy.copy_rows
    def copy_and_stop(cursor, table, columns, types):
        written(cursor, table, columns, types)
        stop_here()
    copy.copy_rows = copy_and_stop
Path(task["marker"] + ".ready").touch()
source = CcxtSource("bybit", task["url"], clock=lambda: now, sleep=lambda seconds: None)
with connect(task["database"]) as connection:
    report = ingest(connection, source, task["symbols"], Timeframe.M5, start, end, refetch=task["refetch"])
print(json.dumps(report.errors))
"""


def worker(
    database: str, exchange: FakeBybit, marker: Path, stop_before: str = "", *, refetch: bool = False
) -> "subprocess.Popen[str]":
    """An ingestion in a process of its own, which may stop at a given line and wait to be killed."""
    task = {
        "database": database, "url": exchange.url, "now": exchange.now.isoformat(), "start": START.isoformat(),
        "end": (NOW + timedelta(days=1)).isoformat(), "symbols": SYMBOLS, "marker": str(marker),
        "stop_before": stop_before, "refetch": refetch,
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRADING_")}
    return subprocess.Popen(
        (sys.executable, "-c", WORKER, json.dumps(task)),
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("stop_before", ["commit", "upsert", "update"])
def test_process_that_is_killed_between_staging_and_the_end_of_the_upsert(
    database: str, exchange: FakeBybit, naps: Naps, tmp_path: Path, stop_before: str
) -> None:
    if stop_before != "commit":  # only a page that meets stored rows is staged
        run(database, exchange, naps)
        for symbol in SYMBOLS:
            exchange.candles[symbol].loc[10:1500, "volume"] += 1.0
    marker = tmp_path / "there"
    with worker(database, exchange, marker, stop_before, refetch=stop_before != "commit") as process:
        wait_for(lambda: marker.exists() or process.poll() is not None)
        assert marker.exists(), process.communicate()
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    run(database, exchange, naps, refetch=stop_before != "commit")
    assert_equal_to_the_exchange(database, exchange)


def test_two_processes_on_the_same_symbols(database: str, exchange: FakeBybit, naps: Naps, tmp_path: Path) -> None:
    held = threading.Event()
    exchange.outage = lambda: fake_bybit.held_until(held)
    processes = [worker(database, exchange, tmp_path / str(number)) for number in range(2)]
    try:
        wait_for(lambda: len(exchange.requests) >= 2 or any(process.poll() is not None for process in processes))
        exchange.outage = lambda: None
        held.set()
        ended = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [json.loads(out) for out, _ in ended] == [[], []], ended
    assert_equal_to_the_exchange(database, exchange)
    exchange.requests.clear()
    assert run(database, exchange, naps).inserted == 0
    assert exchange.asked(KLINE) == []


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A database server of the test's own."""
    with tempfile.TemporaryDirectory(prefix="trading-tests-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        yield server
        server.stop()


@pytest.mark.parametrize("pages", [1, 3])
def test_database_that_is_restarted_under_load(
    server: EmbeddedPostgres, exchange: FakeBybit, naps: Naps, pages: int
) -> None:
    database = server.start()
    migrate(database)
    asked = 0

    def restart() -> Fault | None:
        nonlocal asked
        asked += exchange.requests[-1].path == KLINE
        if asked == pages + 1 and exchange.requests[-1].path == KLINE:
            os.kill(server.status().pid or 0, signal.SIGQUIT)  # no goodbye to anybody, as in a crash
        return None

    exchange.outage = restart
    with pytest.raises(psycopg.OperationalError):
        run(database, exchange, naps)
    exchange.outage = lambda: None
    database = server.start()
    exchange.requests.clear()
    assert run(database, exchange, naps).errors == ()
    whole = 3 * len(SYMBOLS)
    assert len(exchange.asked(KLINE)) == whole - pages  # what was committed is not asked for again
    assert_equal_to_the_exchange(database, exchange)
