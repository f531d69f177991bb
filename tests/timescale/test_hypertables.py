"""The migration for TimescaleDB and the platform's own SQL on what it makes, on a real TimescaleDB.

`make timescale` fetches one that runs inside Node.js; without it these tests are skipped by name. It serves one
connection at a time and knows neither COPY nor background workers, so rows are inserted one by one and policies are
looked at instead of waited for. `TRADING_TEST_TIMESCALE_URL` runs the store's whole suite on a server of your own.
"""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.domain.market.candles import CANDLE_COLUMNS
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store import copy
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.migrate import available, migrate
from trading_pipelines.store.repositories import aggregates, retention
from trading_pipelines.store.repositories import candles as candle_store

HERE = Path(__file__).parent
START = datetime(2024, 1, 1, tzinfo=UTC)
M5 = Timeframe.M5
ROWS = 200
Cursor = psycopg.Cursor[Any]
LONGER = [Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Address of a migrated TimescaleDB of this module's own."""
    if not (HERE / "node_modules").is_dir():
        pytest.skip("no TimescaleDB at hand: run `make timescale` (needs Node.js) once")
    with subprocess.Popen(
        ["node", "server.mjs"],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        address = make_conninfo(
            "", host="127.0.0.1", port=port, dbname="postgres", user="postgres", password="postgres", sslmode="disable"
        )
        try:
            migrate(address)
            yield address
        finally:
            server.kill()


@pytest.fixture(scope="module")
def connection(url: str) -> Iterator[Connection]:
    with connect(url, autocommit=True, prepare_threshold=None) as opened:
        yield opened


@pytest.fixture(scope="module")
def stored(connection: Connection) -> pd.DataFrame:
    """Forty days of 5m candles of two instruments, one with a hole of a day; derived as on plain PostgreSQL."""
    connection.execute(
        "insert into instruments (exchange, symbol, base, quote, kind) "
        "values ('binance', 'BTCUSDT', 'BTC', 'USDT', 'spot'), ('binance', 'ETHUSDT', 'ETH', 'USDT', 'spot')"
    )
    frames = [_walk(1), _walk(2)]
    hole = (START + timedelta(days=9), START + timedelta(days=10))
    frames[1] = frames[1][~frames[1]["ts"].between(*hole, inclusive="left")]
    whole = pd.concat(frames, ignore_index=True)
    for first in range(0, len(whole), ROWS):
        _insert(connection, whole.iloc[first : first + ROWS])
    span = (START, START + timedelta(days=40))
    for instrument_id in (1, 2):
        candle_store.lock_coverage(connection, instrument_id, M5, "test")
        candle_store.extend_coverage(connection, instrument_id, M5, "test", span)
    candle_store.derive(connection, [1, 2], M5, *span)
    return whole


def test_every_migration_of_this_version_is_applied(connection: Connection) -> None:
    applied = {name for (name,) in connection.execute("select name from schema_migrations").fetchall()}
    assert applied == {migration.name for migration in available()}


def test_candles_funding_and_features_lie_in_chunks_of_a_week(connection: Connection) -> None:
    tables = dict(
        connection.execute(
            "select hypertable_name::text, time_interval from timescaledb_information.dimensions"
        ).fetchall()
    )
    expected = {f"ohlcv_{t}" for t in Timeframe} | {f"features_{t}" for t in Timeframe if t is not Timeframe.M1}
    assert expected | {"funding_rates"} <= set(tables)
    assert all(tables[name] == timedelta(days=7) for name in expected)


def test_old_chunks_are_compressed_and_aggregates_refreshed_by_policy(connection: Connection) -> None:
    jobs = connection.execute(
        "select proc_name::text, count(*)::int from timescaledb_information.jobs "
        "where hypertable_name is not null group by 1"
    ).fetchall()
    counts = dict(jobs)
    assert counts.get("policy_compression") == 5
    assert counts.get("policy_refresh_continuous_aggregate") == 4
    assert "policy_retention" not in counts


@pytest.mark.parametrize("timeframe", LONGER)
def test_continuous_aggregate_equals_the_derivation_row_by_row(
    connection: Connection, stored: pd.DataFrame, timeframe: Timeframe
) -> None:
    connection.execute(f"call refresh_continuous_aggregate('ohlcv_{timeframe}_aggregate', null, null)")  # type: ignore[arg-type]
    columns = "instrument_id, ts, open, high, low, close, volume"
    derived, aggregated = (
        connection.execute(f"select {columns} from {table} order by 1, 2").fetchall()  # type: ignore[arg-type]
        for table in (f"ohlcv_{timeframe}", f"ohlcv_{timeframe}_aggregate")
    )
    assert [row[:6] for row in derived] == [row[:6] for row in aggregated]
    # Sums of floats in another order differ in the last bits.
    assert [row[6] for row in derived] == pytest.approx([row[6] for row in aggregated], rel=1e-12)
    span = (START, START + timedelta(days=40))
    assert aggregates.differing_buckets(connection, f"ohlcv_{timeframe}", "binance", *span) == []
    bars = 40 * 1440 // timeframe.minutes
    assert len(derived) == 2 * bars - 1440 // timeframe.minutes


def test_aggregate_that_says_something_else_is_named(connection: Connection, stored: pd.DataFrame) -> None:
    connection.execute("update ohlcv_1h set close = close * 1.0001 where instrument_id = 1 and ts = %s", (START,))
    span = (START, START + timedelta(days=1))
    assert aggregates.differing_buckets(connection, "ohlcv_1h", "binance", *span) == ["BTCUSDT 2024-01-01 00:00"]
    assert aggregates.differing_buckets(connection, "ohlcv_1m", "binance", *span) is None


def test_correction_of_a_compressed_candle_is_an_ordinary_upsert(connection: Connection, stored: pd.DataFrame) -> None:
    old = START + timedelta(days=19)
    connection.execute("select compress_chunk(c) from show_chunks('ohlcv_5m', older_than => %s) c", (old,))
    compressed = connection.execute(
        "select count(*) from timescaledb_information.chunks where hypertable_name = 'ohlcv_5m' and is_compressed"
    ).fetchone()
    assert compressed is not None
    assert compressed[0] >= 2
    row = stored.iloc[[100]].assign(close=stored["close"].iloc[100], volume=12345.0)
    _insert(connection, row)
    found = connection.execute(
        "select volume from ohlcv_5m where instrument_id = 1 and ts = %s", (row["ts"].iloc[0].to_pydatetime(),)
    ).fetchall()
    assert found == [(12345.0,)]


def test_platforms_own_upsert_corrects_compressed_candles_and_keeps_what_they_were(
    connection: Connection, stored: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "copy_rows", _insert_rows)
    old = START + timedelta(days=19)
    connection.execute("select compress_chunk(c, true) from show_chunks('ohlcv_5m', older_than => %s) c", (old,))
    page = stored[(stored["instrument_id"] == 1) & (stored["ts"] < START + timedelta(days=2))].copy()
    page = page[list(CANDLE_COLUMNS)].reset_index(drop=True)
    ts = page["ts"].iloc[150].to_pydatetime()
    former = page["high"].iloc[150]
    page.loc[150, "high"] *= 1.5
    connection.execute("delete from ohlcv_5m where instrument_id = 1 and ts = %s", (page["ts"].iloc[300],))
    with connection.transaction(), connection.cursor() as cursor:
        count = candle_store.upsert_candles(cursor, 1, M5, page)
    # The volume of one of them was corrected by another test before.
    assert (count.inserted, count.updated + count.unchanged) == (1, len(page) - 1)
    assert count.updated in (1, 2)
    found = candle_store.read_candles(connection, 1, M5, START, START + timedelta(days=2))
    pd.testing.assert_frame_equal(found, page, check_exact=True)
    kept = connection.execute(
        "select high from ohlcv_revisions where instrument_id = 1 and timeframe = '5m' and ts = %s", (ts,)
    ).fetchall()
    assert kept == [(former,)]


def test_corrected_candle_leaves_its_former_version_behind(connection: Connection, stored: pd.DataFrame) -> None:
    former = stored.iloc[-50]
    ts = former["ts"].to_pydatetime()
    connection.execute("update ohlcv_5m set volume = 77 where instrument_id = 2 and ts = %s", (ts,))
    kept = connection.execute(
        "select volume from ohlcv_revisions where instrument_id = 2 and timeframe = '5m' and ts = %s", (ts,)
    ).fetchall()
    assert kept == [(former["volume"],)]


def test_retention_drops_whole_chunks_and_forgets_their_coverage(connection: Connection, stored: pd.DataFrame) -> None:
    cutoff = START + timedelta(days=20)
    dropped = retention.forget(connection, M5, cutoff)
    oldest = connection.execute("select min(ts) from ohlcv_5m").fetchone()
    assert dropped > 0
    assert oldest is not None
    assert cutoff - timedelta(days=7) <= oldest[0] <= cutoff
    assert candle_store.missing_spans(connection, 1, M5, "test", START, START + timedelta(days=40)) == [(START, cutoff)]
    kept = connection.execute("select min(ts) from ohlcv_15m").fetchone()
    assert kept == (START,)


@pytest.mark.real_data
def test_aggregates_of_recorded_candles_are_the_exchanges_own(connection: Connection, real_data_dir: Path) -> None:
    folder = real_data_dir / "ohlcv" / "binance" / "BTCUSDT"
    connection.execute(
        "insert into instruments (instrument_id, exchange, symbol, base, quote, kind) overriding system value "
        "values (9, 'recorded', 'BTCUSDT', 'BTC', 'USDT', 'spot')"
    )
    candles = pd.read_parquet(folder / "5m.parquet")[list(CANDLE_COLUMNS)]
    candles = candles.assign(instrument_id=9, available_at=candles["ts"] + M5.delta)
    columns = ["instrument_id", *CANDLE_COLUMNS, "available_at"]
    for first in range(0, len(candles), ROWS):
        _insert(connection, candles[columns].iloc[first : first + ROWS])
    for timeframe in (Timeframe.M15, Timeframe.H1, Timeframe.D1):
        aggregate = f"ohlcv_{timeframe}_aggregate"
        connection.execute(f"call refresh_continuous_aggregate('{aggregate}', null, null)")  # type: ignore[arg-type]
        rows = connection.execute(
            f"select ts, open, high, low, close, volume from {aggregate} "  # type: ignore[arg-type]
            "where instrument_id = 9 and bars = %s order by ts",
            (timeframe.minutes // M5.minutes,),
        ).fetchall()
        found = pd.DataFrame(rows, columns=list(CANDLE_COLUMNS)).astype({"ts": "datetime64[us, UTC]"})
        native = pd.read_parquet(folder / f"{timeframe}.parquet")[list(CANDLE_COLUMNS)]
        begin = max(found["ts"].min(), native["ts"].min())
        native = native[(native["ts"] >= begin) & (native["ts"] <= found["ts"].max())].reset_index(drop=True)
        found = found[(found["ts"] >= begin) & (found["ts"] <= native["ts"].max())].reset_index(drop=True)
        assert len(found) >= len(candles) * M5.minutes // timeframe.minutes - timedelta(days=1) // timeframe.delta
        pd.testing.assert_frame_equal(found, native, rtol=1e-12, check_dtype=False)


def _insert_rows(cursor: Cursor, table: str, columns: copy.Columns, types: copy.Types) -> int:
    """What `copy.copy_rows` does, for this server knows no COPY."""
    rows = list(pd.DataFrame(dict(columns)).itertuples(index=False, name=None))
    with psycopg.ClientCursor(cursor.connection) as client:
        for first in range(0, len(rows), ROWS):
            values = ", ".join(
                client.mogrify("(" + ", ".join(["%s"] * len(columns)) + ")", row) for row in rows[first : first + ROWS]
            )
            client.execute(f"insert into {table} ({', '.join(columns)}) values {values}")
    return len(rows)


def _walk(instrument_id: int) -> pd.DataFrame:
    rng = np.random.default_rng(instrument_id)
    n = 40 * 288
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.001, n)))
    open_ = np.concatenate(([100.0], close[:-1]))
    ts = pd.date_range(START, periods=n, freq="5min").as_unit("us")
    return pd.DataFrame(
        {
            "instrument_id": instrument_id,
            "ts": ts,
            "open": open_,
            "high": np.maximum(open_, close) * 1.001,
            "low": np.minimum(open_, close) * 0.999,
            "close": close,
            "volume": rng.uniform(1, 9, n).round(3),
            "available_at": ts + M5.delta,
        }
    )


def _insert(connection: Connection, frame: pd.DataFrame) -> None:
    """Upsert rows; this server takes a message only as far as one read of the socket goes, so they have to be few."""
    rows = frame.itertuples(index=False, name=None)
    with psycopg.ClientCursor(connection) as cursor:
        values = ", ".join(cursor.mogrify("(%s, %s, %s, %s, %s, %s, %s, %s)", row) for row in rows)
        cursor.execute(
            "insert into ohlcv_5m (instrument_id, ts, open, high, low, close, volume, available_at) "
            f"values {values} on conflict (instrument_id, ts) do update set "
            "open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, "
            "volume = excluded.volume"
        )
