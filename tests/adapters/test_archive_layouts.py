"""The layouts and formats in which people have candles: Binance's public files and what freqtrade stores."""

import io
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.feather as feather
import pytest

from trading_pipelines.adapters.sources.archive import ArchiveSource, exchanges_in
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.instrument import MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection

START = datetime(2024, 1, 1, tzinfo=UTC)
FAR = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
M5 = Timeframe.M5
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def make(start: datetime, end: datetime) -> pd.DataFrame:
    ts = pd.date_range(start, end, freq="5min", inclusive="left").as_unit("us")
    close = 100 + np.round(np.sin(np.arange(len(ts))), 3)
    return pd.DataFrame({"ts": ts, "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 2.5})


def as_csv(candles: pd.DataFrame, *, header: bool, unit: str = "ms") -> str:
    """Rows as Binance writes them."""
    times = candles["ts"].dt.as_unit(unit).astype("int64")
    text = io.StringIO()
    for ts, row in zip(times, candles.itertuples(index=False), strict=True):
        text.write(
            f"{ts},{row.open},{row.high},{row.low},{row.close},{row.volume},{ts + 299_999},250.0,7,1.2,120.0,0\n"
        )
    return (HEADER + "\n" if header else "") + text.getvalue()


def put(folder: Path, name: str, text: str) -> Path:
    """Write a CSV file, inside a ZIP of the same name where the name says so."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        path.write_text(text)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.with_suffix(".csv").name, text)
    return path


def put_feather(folder: Path, name: str, candles: pd.DataFrame) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    dated = candles.rename(columns={"ts": "date"}).assign(date=lambda f: f["date"].dt.as_unit("ms"))
    feather.write_feather(dated, path, compression="lz4", chunksize=100)


def served(folder: Path, exchange: str, start: datetime = FAR[0], end: datetime = FAR[1]) -> pd.DataFrame:
    source = ArchiveSource(folder, exchange)
    pages = list(source.candles(source.instruments()[0], M5, start, end))
    assert [page.start for page in pages[1:]] == [page.end for page in pages[:-1]]
    return pd.concat([page.candles for page in pages], ignore_index=True)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("suffix", ["csv", "zip"])
def test_binance_file_is_read_with_and_without_header_zip_and_unit(
    tmp_path: Path, header: bool, unit: str, suffix: str
) -> None:
    day = make(START, START + timedelta(days=1))
    name = f"data/spot/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2024-01-01.{suffix}"
    put(tmp_path, name, as_csv(day, header=header, unit=unit))
    assert exchanges_in(tmp_path) == ["binance"]
    pd.testing.assert_frame_equal(served(tmp_path, "binance"), day)


def test_months_and_days_of_binance_join_and_repeat_nothing(tmp_path: Path) -> None:
    whole = make(START, START + timedelta(days=33))
    folder = "data/futures/um/{}/klines/BTCUSDT/5m/BTCUSDT-5m-2024-{}.zip"
    january = whole[whole["ts"] < pd.Timestamp("2024-02-01", tz="UTC")]
    put(tmp_path, folder.format("monthly", "01"), as_csv(january, header=True))
    for day in ("2024-01-31", "2024-02-01", "2024-02-02"):
        rows = whole[whole["ts"].dt.strftime("%Y-%m-%d") == day]
        put(tmp_path, folder.format("daily", day[5:]), as_csv(rows, header=True))
    source = ArchiveSource(tmp_path, "binanceusdm")
    assert source.instruments()[0].kind is MarketKind.PERPETUAL
    assert source.now() == START + timedelta(days=33)
    pd.testing.assert_frame_equal(served(tmp_path, "binanceusdm"), whole)
    part = served(tmp_path, "binanceusdm", START + timedelta(days=30, hours=3), START + timedelta(days=31, hours=2))
    assert len(part) == 23 * 12


def test_outage_at_the_end_of_a_month_is_a_gap_and_not_an_unanswered_span(
    tmp_path: Path, connection: Connection
) -> None:
    january = make(START, START + timedelta(days=31) - timedelta(hours=1))
    february = make(START + timedelta(days=31), START + timedelta(days=60))
    for month, rows in (("01", january), ("02", february)):
        put(tmp_path, f"BTCUSDT-5m-2024-{month}.csv", as_csv(rows, header=False))
    report = ingest(connection, ArchiveSource(tmp_path, "binance"), (), M5, START, START + timedelta(days=60))
    assert report.errors == ()
    assert report.symbols[0].missing_bars == 12
    assert connection.execute("select gap_start, bars from ohlcv_gaps").fetchall() == [
        (START + timedelta(days=31) - timedelta(hours=1), 12)
    ]


def test_freqtrade_spot_and_futures_are_told_apart(tmp_path: Path) -> None:
    candles = make(START, START + timedelta(days=2))
    put_feather(tmp_path, "binance/BTC_USDT-5m.feather", candles)
    put_feather(tmp_path, "binance/futures/BTC_USDT_USDT-5m-futures.feather", candles.assign(close=99.5))
    put_feather(tmp_path, "binance/futures/BTC_USDT_USDT-1h-mark.feather", candles)
    put_feather(tmp_path, "bybit/ETH_USDT-5m.feather", candles)
    assert exchanges_in(tmp_path) == ["binance", "binanceusdm", "bybit_spot"]
    pd.testing.assert_frame_equal(served(tmp_path, "binance"), candles)
    assert set(served(tmp_path, "binanceusdm")["close"]) == {99.5}
    part = served(tmp_path, "binance", START + timedelta(hours=9), START + timedelta(hours=10))
    assert len(part) == 12


def test_funding_of_both_tools_is_rounded_to_minutes(tmp_path: Path) -> None:
    put(tmp_path, "um/BTCUSDT-5m-2024-01.csv", as_csv(make(START, START + timedelta(days=1)), header=True))
    jitter = [int(START.timestamp() * 1000) + i * 8 * 3_600_000 + i for i in range(3)]
    rows = "".join(f"{ts},8,0.000{i}\n" for i, ts in enumerate(jitter, start=1))
    put(tmp_path, "um/BTCUSDT-fundingRate-2024-01.zip", "calc_time,funding_interval_hours,last_funding_rate\n" + rows)
    rates = make(START, START + timedelta(days=1)).iloc[::96].assign(open=3e-4)
    put_feather(tmp_path, "binance/futures/ETH_USDT_USDT-8h-funding_rate.feather", rates)
    put_feather(tmp_path, "binance/futures/ETH_USDT_USDT-5m-futures.feather", make(START, START + timedelta(days=1)))
    source = ArchiveSource(tmp_path, "binanceusdm")
    bitcoin, ether = source.instruments()
    assert bitcoin.funding_interval_minutes == ether.funding_interval_minutes == 480
    found = source.funding(bitcoin, *FAR)
    assert found["rate"].tolist() == [1e-4, 2e-4, 3e-4]
    assert found["ts"].tolist() == [pd.Timestamp(START + timedelta(hours=8 * i)) for i in range(3)]
    assert source.funding(ether, *FAR)["rate"].tolist() == [3e-4] * 3


def test_broken_rows_are_kept_with_their_text_and_the_rest_loads(tmp_path: Path, connection: Connection) -> None:
    lines = as_csv(make(START, START + timedelta(hours=2)), header=True).splitlines()
    lines[3] = lines[3].replace(",250.0", "")
    lines[5] = lines[5].replace("2.5", "much", 1)
    lines[7] = "not a time" + lines[7][13:]
    put(tmp_path, "BTCUSDT-5m-2024-01.csv", "\n".join(lines))
    report = ingest(connection, ArchiveSource(tmp_path, "binance"), (), M5, START, START + timedelta(hours=2))
    assert (report.inserted, report.quarantined, report.errors) == (21, 3, ())
    kept = connection.execute("select reason, payload::text from ohlcv_quarantine order by quarantine_id").fetchall()
    assert {reason for reason, _ in kept} == {"missing or unreadable"}
    assert any(lines[3] in payload for _, payload in kept)
    assert any("much" in payload for _, payload in kept)


def test_long_text_file_is_served_in_pages(tmp_path: Path) -> None:
    candles = make(START, START + timedelta(days=700))
    put(tmp_path, "binance/BTCUSDT-5m-2024-01.csv", as_csv(candles, header=False))
    source = ArchiveSource(tmp_path, "binance")
    pages = list(source.candles(source.instruments()[0], M5, START, START + timedelta(days=31)))
    assert sum(len(page.candles) for page in pages) == 31 * 288
    assert (pages[0].start, pages[-1].end) == (START, START + timedelta(days=31))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("BTCUSDT-5m-2024-01.zip", b"PK and nothing", "zipped CSV"),
        ("BTCUSDT-5m-2024-01.csv", b"when,what\n1,2\n", "expected a time, then open to volume"),
        ("BTCUSDT-5m-2024-01.csv", b"1704067200000,1,2\n", "3 columns"),
        ("binance/BTC_USDT-5m.feather", b"FEA1 of old", "feather"),
    ],
)
def test_file_that_is_not_what_its_name_says_is_named(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    source = ArchiveSource(tmp_path, "binance")
    (instrument,) = source.instruments()
    with pytest.raises(UserError, match=complaint) as failure:
        list(source.candles(instrument, M5, *FAR))
    assert str(path) in str(failure.value)


def test_empty_file_has_no_candles(tmp_path: Path) -> None:
    put(tmp_path, "BTCUSDT-5m-2024-01.csv", "")
    source = ArchiveSource(tmp_path, "binance")
    assert list(source.candles(source.instruments()[0], M5, *FAR)) == []


@pytest.mark.real_data
def test_real_candles_come_back_the_same_from_every_layout(tmp_path: Path, real_data_dir: Path) -> None:
    real = pd.read_parquet(real_data_dir / "ohlcv" / "bybit" / "BTCUSDT" / "15m.parquet")
    real = real.assign(ts=pd.to_datetime(real["ts"], utc=True).dt.as_unit("us"))
    real = real[["ts", "open", "high", "low", "close", "volume"]]
    put_feather(tmp_path, "bybit/futures/BTC_USDT_USDT-15m-futures.feather", real)
    for month, rows in real.groupby(real["ts"].dt.strftime("%Y-%m")):
        put(tmp_path, f"um/BTCUSDT-15m-{month}.zip", as_csv(rows, header=False))
    for exchange in ("bybit", "binanceusdm"):
        source = ArchiveSource(tmp_path, exchange)
        pages = list(source.candles(source.instruments()[0], Timeframe.M15, *FAR))
        found = pd.concat([page.candles for page in pages if len(page.candles)], ignore_index=True)
        pd.testing.assert_frame_equal(found, real.reset_index(drop=True))
