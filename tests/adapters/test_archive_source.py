"""The archive: files as people have them, whole, long, unordered or broken."""

import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trading_pipelines.adapters.sources.archive import ArchiveSource, exchanges_in
from trading_pipelines.adapters.sources.base import CandlePage
from trading_pipelines.application.market_data.ingestion import IngestReport, ingest, ingest_everything
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import instruments

START = datetime(2024, 3, 1, tzinfo=UTC)
FAR = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
M5 = Timeframe.M5


def make(bars: int) -> pd.DataFrame:
    close = 100 + np.sin(np.arange(bars))
    ts = pd.date_range(START, periods=bars, freq="5min").as_unit("us")
    return pd.DataFrame({"ts": ts, "open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 2.0})


def write(folder: Path, candles: pd.DataFrame, name: str = "bybit/BTCUSDT/5m", row_group: int = 1_000_000) -> Path:
    path = folder / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(candles, preserve_index=False), path, row_group_size=row_group)
    return path


def pages(folder: Path, start: datetime = FAR[0], end: datetime = FAR[1]) -> list[CandlePage]:
    source = ArchiveSource(folder, "bybit")
    return list(source.candles(source.instruments()[0], M5, start, end))


def joined(found: list[CandlePage]) -> pd.DataFrame:
    return pd.concat([page.candles for page in found], ignore_index=True)


def test_symbols_kinds_and_timeframes_follow_from_folders_and_files(tmp_path: Path) -> None:
    for name in ("bybit/BTCUSDT/5m", "bybit/BTCUSDT/1h", "binance/ETHUSDT/15m", "bybit/README/5m", "bybit/BTCUSDT/3m"):
        write(tmp_path, make(3), name)
    source = ArchiveSource(tmp_path, "bybit")
    assert exchanges_in(tmp_path) == ["binance", "bybit"]
    assert source.instruments() == [Instrument("bybit", "BTCUSDT", "BTC", "USDT", MarketKind.PERPETUAL)]
    assert source.timeframes("BTCUSDT") == (Timeframe.M5, Timeframe.H1)
    assert ArchiveSource(tmp_path, "binance").instruments()[0].kind is MarketKind.SPOT


def test_whole_file_comes_back_and_its_pages_end_with_its_last_candle(tmp_path: Path) -> None:
    write(tmp_path, make(1000))
    found = pages(tmp_path)
    pd.testing.assert_frame_equal(joined(found), make(1000))
    assert (found[0].start, found[-1].end) == (START, START + 1000 * M5.delta)


def test_long_file_is_read_in_pages_that_join(tmp_path: Path) -> None:
    write(tmp_path, make(350_000), row_group=130_000)
    found = pages(tmp_path)
    assert len(found) > 3
    assert [page.start for page in found[1:]] == [page.end for page in found[:-1]]
    for page in found:
        assert page.candles["ts"].between(page.start, page.end, inclusive="left").all()
    pd.testing.assert_frame_equal(joined(found), make(350_000))


@pytest.mark.parametrize(("first", "last"), [(0, 10), (40_000, 40_001), (39_990, 90_010), (99_000, 100_000)])
def test_a_span_gets_its_rows_only(tmp_path: Path, first: int, last: int) -> None:
    write(tmp_path, make(100_000), row_group=20_000)
    found = pages(tmp_path, START + first * M5.delta, START + last * M5.delta)
    expected = make(100_000).iloc[first:last].reset_index(drop=True)
    pd.testing.assert_frame_equal(joined(found), expected)
    assert (found[0].start, found[-1].end) == (START + first * M5.delta, START + last * M5.delta)


def test_nothing_is_answered_outside_of_the_file(tmp_path: Path) -> None:
    write(tmp_path, make(10))
    assert pages(tmp_path, START - timedelta(days=9), START) == []
    assert pages(tmp_path, START + timedelta(days=9), FAR[1]) == []


def test_unordered_file_is_served_in_order_with_its_duplicates(tmp_path: Path) -> None:
    shuffled = pd.concat([make(500), make(3)]).sample(frac=1, random_state=1)
    write(tmp_path, shuffled)
    found = joined(pages(tmp_path))
    assert found["ts"].is_monotonic_increasing
    assert len(found) == 503


def test_long_unordered_file_is_served_in_order(tmp_path: Path) -> None:
    write(tmp_path, make(1_100_000).iloc[::-1])
    pd.testing.assert_frame_equal(joined(pages(tmp_path)), make(1_100_000))


@pytest.mark.parametrize("backwards", [False, True])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, backwards: bool) -> None:
    def peak(bars: int) -> int:
        candles = make(bars)
        write(tmp_path / str(bars), candles.iloc[::-1] if backwards else candles)
        source = ArchiveSource(tmp_path / str(bars), "bybit")
        del candles
        tracemalloc.start()
        try:
            assert sum(len(page.candles) for page in source.candles(source.instruments()[0], M5, *FAR)) == bars
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(2_000_000) < 1.2 * peak(1_000_000)


def test_duplicate_across_a_batch_border_stays_in_one_page(tmp_path: Path) -> None:
    rows = make(100_001)
    doubled = pd.concat([rows.iloc[:100_000], rows.iloc[99_999:]])
    write(tmp_path, doubled)
    assert [len(page.candles) for page in pages(tmp_path)] == [99_999, 3]


def test_times_without_zone_are_utc(tmp_path: Path) -> None:
    write(tmp_path, make(5).assign(ts=lambda f: f["ts"].dt.tz_localize(None).astype("datetime64[ns]")))
    pd.testing.assert_frame_equal(joined(pages(tmp_path)), make(5))


def test_clock_is_the_end_of_the_newest_candle_and_tickers_are_last_closes(tmp_path: Path) -> None:
    write(tmp_path, make(600))
    write(tmp_path, make(10), "bybit/ETHUSDT/5m")
    source = ArchiveSource(tmp_path, "bybit")
    day = make(600).iloc[-288:]
    assert source.now() == START + 600 * M5.delta
    (ticker,) = source.tickers(["BTCUSDT"])
    assert (ticker.ts, ticker.price) == (source.now(), day["close"].iloc[-1])
    assert ticker.change_24h == pytest.approx(day["close"].iloc[-1] / day["open"].iloc[0] - 1)
    assert ticker.quote_volume_24h == pytest.approx((day["close"] * day["volume"]).sum())


@pytest.mark.parametrize("place", ["archive", "."])
def test_funding_lies_inside_the_archive_or_beside_it(tmp_path: Path, place: str) -> None:
    write(tmp_path / "archive", make(10))
    path = tmp_path / place / "funding" / "funding_rates.parquet"
    path.parent.mkdir()
    settled = [START + timedelta(hours=4 * i, milliseconds=11) for i in range(4)]
    rates = pd.DataFrame({"exchange": "bybit", "symbol": "BTCUSDT", "ts": settled, "funding_rate": 1e-4})
    other = rates.assign(exchange="binanceusdm")
    pd.concat([rates, other]).to_parquet(path)
    source = ArchiveSource(tmp_path / "archive", "bybit")
    (instrument,) = source.instruments()
    assert instrument.funding_interval_minutes == 240
    found = source.funding(instrument, START, START + timedelta(hours=9))
    assert found["ts"].tolist() == [pd.Timestamp(START + timedelta(hours=h)) for h in (0, 4, 8)]
    assert found["rate"].tolist() == [1e-4] * 3


def test_without_a_funding_file_there_is_no_funding(tmp_path: Path) -> None:
    write(tmp_path, make(10))
    source = ArchiveSource(tmp_path, "bybit")
    assert source.funding(source.instruments()[0], *FAR).empty


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _damaged_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20:400] = bytes(380)
    path.write_bytes(content)


def _no_parquet(path: Path) -> None:
    path.write_text("ts,open,high\n")


def _no_volume(path: Path) -> None:
    make(10).drop(columns="volume").to_parquet(path)


def _times_as_numbers(path: Path) -> None:
    make(10).assign(ts=range(10)).to_parquet(path)


@pytest.mark.parametrize("spoil", [_truncated, _damaged_inside, _no_parquet, _no_volume, _times_as_numbers])
def test_broken_file_is_one_line_that_names_it_and_the_other_symbols_load(
    tmp_path: Path, connection: Connection, spoil: object
) -> None:
    path = write(tmp_path, make(1000))
    write(tmp_path, make(10), "bybit/ETHUSDT/5m")
    assert callable(spoil)
    spoil(path)
    source = ArchiveSource(tmp_path, "bybit")
    report = ingest(connection, source, (), M5, START, START + timedelta(days=9))
    (error,) = report.errors
    assert error.startswith(f"BTCUSDT: candles 5m: {path}: ")
    assert "\n" not in error
    assert report.inserted == 10


def load(
    connection: Connection, folder: Path, exchange: str, symbol: str, timeframe: Timeframe, *span: str
) -> IngestReport:
    start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in span)
    return ingest(connection, ArchiveSource(folder / "ohlcv", exchange), (symbol,), timeframe, start, end)


def read(connection: Connection, exchange: str, symbol: str, timeframe: Timeframe) -> pd.DataFrame:
    instrument_id = instruments.by_symbol(connection, exchange)[symbol].instrument_id
    return candle_store.read_candles(connection, instrument_id, timeframe, *FAR)


@pytest.mark.real_data
def test_hours_derived_from_five_minutes_equal_those_of_the_exchange(
    connection: Connection, real_data_dir: Path
) -> None:
    report = load(connection, real_data_dir, "binance", "BTCUSDT", M5, "2024-01-01", "2026-12-31")
    assert report.errors == ()
    assert report.quarantined == 0
    derived = read(connection, "binance", "BTCUSDT", Timeframe.H1)
    native = pd.read_parquet(real_data_dir / "ohlcv" / "binance" / "BTCUSDT" / "1h.parquet")
    both = derived.merge(native, on="ts", suffixes=("", "_native"))
    assert len(both) == len(derived) == report.inserted // 12
    for column in ("open", "high", "low", "close", "volume"):
        assert (both[column] == both[f"{column}_native"]).all()


@pytest.mark.real_data
def test_everything_of_real_symbols_loads_and_shorter_candles_add_up_to_the_longer_ones(
    connection: Connection, real_data_dir: Path
) -> None:
    source = ArchiveSource(real_data_dir / "ohlcv", "binance")
    reports = ingest_everything(connection, source, ("BTCUSDT", "SOLUSDT"), *FAR)
    assert list(reports) == [Timeframe.D1, Timeframe.H1, Timeframe.M15, M5]
    assert all(report.errors == () and report.quarantined == 0 for report in reports.values())
    # The exchange's own hours were there before: what is derived from 15m and 5m changes none of them.
    assert reports[Timeframe.M15].derived[Timeframe.H1] == reports[M5].derived[Timeframe.H1] == 0
    assert {s.symbol: s.missing_bars for s in reports[Timeframe.H1].symbols} == {"BTCUSDT": 14, "SOLUSDT": 14}
    again = ingest_everything(connection, source, ("BTCUSDT", "SOLUSDT"), *FAR)
    assert sum(report.inserted + report.corrected for report in again.values()) == 0


@pytest.mark.real_data
def test_real_outages_are_known_gaps_and_the_largest_real_move_stays(
    connection: Connection, real_data_dir: Path
) -> None:
    report = load(connection, real_data_dir, "binance", "DOGEUSDT", Timeframe.H1, "2021-01-01", "2026-12-31")
    assert report.quarantined == 0
    assert report.symbols[0].missing_bars == 14
    assert connection.execute("select count(*) from ohlcv_gaps").fetchone() == (7,)
    days = read(connection, "binance", "DOGEUSDT", Timeframe.D1).set_index("ts")
    record = days.loc[pd.Timestamp("2021-01-28", tz="UTC")]
    assert record["close"] / record["open"] - 1 == pytest.approx(3.92, abs=0.1)


@pytest.mark.real_data
def test_funding_of_a_four_hour_market_is_stored(connection: Connection, real_data_dir: Path) -> None:
    report = load(connection, real_data_dir, "binanceusdm", "ENAUSDT", Timeframe.H1, "2025-09-01", "2025-09-11")
    assert report.symbols[0].funding.inserted == 60
    stored = instruments.by_symbol(connection, "binanceusdm")["ENAUSDT"].instrument
    assert stored.funding_interval_minutes == 240


def test_user_error_names_a_file_that_vanished(tmp_path: Path) -> None:
    path = write(tmp_path, make(10))
    source = ArchiveSource(tmp_path, "bybit")
    (instrument,) = source.instruments()
    path.unlink()
    with pytest.raises(UserError, match=r"5m.parquet: not a readable parquet file"):
        list(source.candles(instrument, M5, *FAR))


def test_archive_without_a_readable_file_names_one_instead_of_being_empty(tmp_path: Path) -> None:
    broken = tmp_path / "bybit" / "BTCUSDT" / "15m.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(UserError, match=r"15m\.parquet"):
        ArchiveSource(tmp_path, "bybit").now()


def test_mark_prices_lie_in_the_archive_or_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "ohlcv"
    write(folder, make(3))
    hours = make(5).assign(ts=pd.date_range(START, periods=5, freq="h").as_unit("us"), volume=None)
    write(tmp_path, hours.drop(columns="volume"), "mark/bybit/BTCUSDT/1h")
    write(folder, hours.tail(1).assign(close=77.0).drop(columns="volume"), "mark/bybit/BTCUSDT/1h")
    source = ArchiveSource(folder, "bybit")
    assert [i.symbol for i in source.instruments()] == ["BTCUSDT"]
    found = source.mark_prices(source.instruments()[0], START, START + timedelta(hours=9))
    assert found["ts"].tolist() == hours["ts"].tolist()
    assert found["close"].tolist() == [*hours["close"].tolist()[:-1], 77.0]
    assert len(source.mark_prices(source.instruments()[0], START, START + timedelta(hours=2))) == 2
    assert source.timeframes("BTCUSDT") == (M5,)


@pytest.mark.parametrize("kind", ["markPriceKlines", "indexPriceKlines", "premiumIndexKlines"])
def test_candles_that_nobody_trades_are_not_taken_for_trades(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data/futures/um/monthly"
    for name, price in ((kind, 50.0), ("klines", 100.0)):
        path = folder / name / "BTCUSDT/1h/BTCUSDT-1h-2024-03.csv"
        path.parent.mkdir(parents=True)
        opened = int(START.timestamp()) * 1000
        path.write_text(f"{opened},{price},{price},{price},{price},2,{opened + 3_599_999},0,0,0,0,0\n")
    source = ArchiveSource(tmp_path, "binanceusdm")
    instrument = source.instruments()[0]
    candles = pd.concat([p.candles for p in source.candles(instrument, Timeframe.H1, *FAR)])
    assert candles["close"].tolist() == [100.0]
    marks = source.mark_prices(instrument, *FAR)
    assert marks["close"].tolist() == ([50.0] if kind == "markPriceKlines" else [])


@pytest.mark.real_data
def test_recorded_mark_prices_follow_the_trades(real_data_dir: Path) -> None:
    source = ArchiveSource(real_data_dir / "ohlcv", "binanceusdm")
    bitcoin = next(i for i in source.instruments() if i.symbol == "BTCUSDT")
    span = (datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 10, 1, tzinfo=UTC))
    marks = source.mark_prices(bitcoin, *span)
    trades = pd.concat([page.candles for page in source.candles(bitcoin, Timeframe.H1, *span)])
    both = marks.merge(trades, on="ts", suffixes=("", "_traded"))
    assert len(both) == len(marks) == 273 * 24
    assert (both["close"] / both["close_traded"] - 1).abs().max() < 0.005
