"""Ingestion: resumable, incremental, honest about what is missing, refused or failed."""

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from trading_pipelines.adapters.sources.base import CandlePage, SourceError
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import IngestProgress, IngestReport, ingest, update_tickers
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import funding as funding_store
from trading_pipelines.store.repositories import instruments

M5 = Timeframe.M5
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
START = datetime(2026, 5, 1, tzinfo=UTC)
SPEC = SimulatedMarketSpec(symbols=("BTCUSDT", "SOLUSDT"))
BARS = (NOW - START) // M5.delta
TABLES = ("ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d", "ohlcv_coverage", "ohlcv_gaps", "funding_rates")


class RecordedVenue:
    """A venue with prepared rows, served in pages of some hours; it counts what it is asked for."""

    name = "recorded"
    exchange = "venue"

    def __init__(
        self, rows: dict[str, pd.DataFrame], now: datetime = NOW, page: timedelta = timedelta(hours=6)
    ) -> None:
        self.rows = rows
        self.clock = now
        self.page = page
        self.requests: list[tuple[str, datetime, datetime]] = []
        self.fails_after: int | None = None
        self.broken_symbols: set[str] = set()

    def now(self) -> datetime:
        return self.clock

    def instruments(self) -> list[Instrument]:
        return [Instrument(self.exchange, s, s[:-4], "USDT", MarketKind.PERPETUAL) for s in self.rows]

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        return (M5,)

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        if instrument.symbol in self.broken_symbols:
            raise SourceError(f"{instrument.symbol} is on holiday")
        end = min(end, timeframe.floor(self.clock))
        rows = self.rows[instrument.symbol]
        while start < end:
            if self.fails_after is not None and len(self.requests) >= self.fails_after:
                raise ConnectionAbortedError("the process dies here")
            stop = min(start + self.page, end)
            self.requests.append((instrument.symbol, start, stop))
            ts = pd.to_datetime(rows["ts"], utc=True)
            yield CandlePage(start, stop, rows[(ts >= start) & (ts < stop)])
            start = stop

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        return SimulatedMarket(SPEC).funding("SOLUSDT", start, end)

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        return [Ticker(symbol, self.clock, 100.0, 99.9, 100.1, 0.01, 1e6) for symbol in symbols]


def market(symbol: str = "SOLUSDT", end: datetime = NOW) -> pd.DataFrame:
    return SimulatedMarket(SPEC).candles(symbol, START, M5.floor(end))


def two_symbols() -> RecordedVenue:
    return RecordedVenue({"BTCUSDT": market("BTCUSDT"), "SOLUSDT": market()})


def run(database: str, venue: RecordedVenue | SimulatedSource, end: datetime = NOW, **options: bool) -> IngestReport:
    with connect(database) as connection:
        return ingest(connection, venue, (), M5, START, end, **options)


def snapshot(database: str) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables of market data, without times of bookkeeping."""
    with connect(database) as connection:
        return {
            table: connection.execute(
                f"select to_jsonb(t) - 'detected_at' - 'checked_at' from {table} t order by 1"
            ).fetchall()
            for table in TABLES
        }


def stored(connection: Connection, symbol: str, timeframe: Timeframe = M5, exchange: str = "venue") -> pd.DataFrame:
    instrument_id = instruments.by_symbol(connection, exchange)[symbol].instrument_id
    return candle_store.read_candles(connection, instrument_id, timeframe, START, NOW)


def test_stored_candles_equal_those_of_the_source_on_all_timeframes(database: str) -> None:
    source = SimulatedSource(SPEC, lambda: NOW)
    report = run(database, source)
    assert report.errors == ()
    assert report.inserted == 2 * BARS
    with connect(database) as connection:
        for symbol in SPEC.symbols:
            expected = SimulatedMarket(SPEC).candles(symbol, START, M5.floor(NOW))
            pd.testing.assert_frame_equal(stored(connection, symbol, exchange="simulated"), expected, check_exact=True)
            for target in M5.longer():
                closed = aggregate(expected, target)
                closed = closed[closed["ts"] + target.delta <= M5.floor(NOW)].reset_index(drop=True)
                pd.testing.assert_frame_equal(stored(connection, symbol, target, "simulated"), closed, rtol=1e-12)


def test_funding_is_stored_and_not_asked_for_twice(database: str) -> None:
    report = run(database, SimulatedSource(SPEC, lambda: NOW))
    again = run(database, SimulatedSource(SPEC, lambda: NOW))
    assert report.symbols[1].funding == UpsertCount(inserted=10)
    assert again.symbols[1].funding == UpsertCount()
    with connect(database) as connection:
        instrument_id = instruments.by_symbol(connection, "simulated")["SOLUSDT"].instrument_id
        rates = funding_store.read_rates(connection, instrument_id, START, NOW)
    pd.testing.assert_frame_equal(rates, SimulatedMarket(SPEC).funding("SOLUSDT", START, NOW))


@pytest.mark.parametrize("pages", [0, 1, 5, 13, 14, 20, 25])
def test_ingestion_that_dies_at_any_page_is_completed_by_the_next(database: str, pages: int) -> None:
    venue = two_symbols()
    venue.fails_after = pages
    with pytest.raises(ConnectionAbortedError):
        run(database, venue)
    venue.fails_after = None
    run(database, venue)
    assert len(venue.requests) == len(set(venue.requests))
    interrupted = snapshot(database)
    with connect(database) as connection:
        connection.execute(f"truncate {', '.join(TABLES)}")
    run(database, two_symbols())
    assert interrupted == snapshot(database)


def test_death_between_the_pages_and_the_derivation_is_made_good(database: str) -> None:
    def dies(progress: IngestProgress) -> None:
        if progress.stage == "derive":
            raise KeyboardInterrupt

    with connect(database) as connection, pytest.raises(KeyboardInterrupt):
        ingest(connection, two_symbols(), (), M5, START, NOW, on_progress=dies)
    venue = two_symbols()
    report = run(database, venue)
    assert venue.requests == []
    assert report.derived[Timeframe.H1] == 2 * 75


def test_update_asks_only_for_what_is_new(database: str) -> None:
    venue = two_symbols()
    run(database, venue, end=NOW - timedelta(hours=1))
    venue.requests.clear()
    report = run(database, venue)
    assert venue.requests == [
        (symbol, M5.floor(NOW) - timedelta(hours=1) + M5.delta, M5.floor(NOW)) for symbol in ("BTCUSDT", "SOLUSDT")
    ]
    assert report.inserted == 2 * 11
    venue.requests.clear()
    assert run(database, venue).inserted == 0
    assert venue.requests == []


def test_time_after_the_last_closed_bar_is_not_covered(database: str) -> None:
    venue = two_symbols()
    run(database, venue, end=NOW + timedelta(days=3))
    with connect(database) as connection:
        row = connection.execute("select max(upper(covered)) from ohlcv_coverage where timeframe = '5m'").fetchone()
    assert row == (M5.floor(NOW),)


def test_two_ingestions_at_once_end_in_the_same_tables_as_one(database: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            run(database, SimulatedSource(SPEC, lambda: NOW))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    together = snapshot(database)
    with connect(database) as connection:
        connection.execute(f"truncate {', '.join(TABLES)}")
    run(database, SimulatedSource(SPEC, lambda: NOW))
    assert together == snapshot(database)


def test_correction_overwrites_is_counted_and_reaches_the_derived_candles(database: str) -> None:
    venue = two_symbols()
    run(database, venue)
    venue.rows["SOLUSDT"].loc[100, "high"] *= 1.5
    assert run(database, venue).corrected == 0
    report = run(database, venue, refetch=True)
    assert report.corrected == 1
    assert report.derived == {Timeframe.M15: 1, Timeframe.H1: 1, Timeframe.H4: 1, Timeframe.D1: 1}
    with connect(database) as connection:
        pd.testing.assert_frame_equal(stored(connection, "SOLUSDT"), venue.rows["SOLUSDT"])


def test_refused_rows_go_to_quarantine_once_and_the_others_load(database: str) -> None:
    venue = two_symbols()
    venue.rows["SOLUSDT"].loc[50, "close"] = -1.0
    venue.rows["SOLUSDT"].loc[51, "volume"] = float("nan")
    report = run(database, venue)
    assert report.quarantined == 2
    assert report.inserted == 2 * BARS - 2
    assert report.symbols[1].missing_bars == 2
    assert run(database, venue, refetch=True).quarantined == 0
    with connect(database) as connection:
        reasons = connection.execute("select symbol, reason, payload->>'close' from ohlcv_quarantine order by ts")
        assert [row[:2] for row in reasons] == [
            ("SOLUSDT", "price is not positive"),
            ("SOLUSDT", "missing or unreadable"),
        ]


def test_gap_is_known_then_confirmed_then_repaired(database: str) -> None:
    def verdicts() -> list[tuple[str, int]]:
        with connect(database) as connection:
            return connection.execute("select verdict, bars from ohlcv_gaps").fetchall()

    venue = two_symbols()
    complete = venue.rows["SOLUSDT"]
    venue.rows["SOLUSDT"] = complete.drop(index=range(100, 107))
    assert run(database, venue).symbols[1].missing_bars == 7
    assert verdicts() == [("open", 7)]
    run(database, venue, refetch=True)
    assert verdicts() == [("absent", 7)]
    venue.rows["SOLUSDT"] = complete
    assert run(database, venue, refetch=True).symbols[1].missing_bars == 0
    assert verdicts() == [("repaired", 7)]


def test_failing_symbol_is_recorded_and_does_not_stop_the_others(database: str) -> None:
    venue = two_symbols()
    venue.broken_symbols = {"BTCUSDT"}
    report = run(database, venue)
    assert report.errors == ("BTCUSDT: candles 5m: BTCUSDT is on holiday",)
    assert report.symbols[1].candles.inserted == BARS
    venue.broken_symbols = set()
    with connect(database) as connection:
        failed = connection.execute(
            "select symbol, last_error from source_status where dataset = 'candles 5m' order by 1"
        ).fetchall()
    assert failed == [("BTCUSDT", "BTCUSDT is on holiday"), ("SOLUSDT", None)]

    def known() -> tuple[object, ...] | None:
        with connect(database) as connection:
            return connection.execute(
                "select last_error, last_ts, rows_written, failures, failures_in_a_row from source_status "
                "where symbol = 'BTCUSDT' and dataset = 'candles 5m'"
            ).fetchone()

    venue.broken_symbols = {"BTCUSDT"}
    run(database, venue)
    assert known() == ("BTCUSDT is on holiday", None, 0, 2, 2)
    venue.broken_symbols = set()
    assert run(database, venue).errors == ()
    assert known() == (None, M5.last_closed(NOW), BARS, 2, 0)


def test_progress_grows_to_the_whole_and_counts_rows(database: str) -> None:
    seen: list[IngestProgress] = []
    with connect(database) as connection:
        ingest(connection, two_symbols(), (), M5, START, NOW, on_progress=seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1].rows == 2 * BARS
    assert {progress.stage for progress in seen} == {"candles", "derive"}


def test_unknown_symbol_and_timeframe_are_refused_before_anything_is_stored(connection: Connection) -> None:
    source = SimulatedSource(SPEC, lambda: NOW)
    with pytest.raises(UserError, match="SOLUSD; did you mean SOLUSDT"):
        ingest(connection, source, ("SOLUSD",), M5, START, NOW)
    with pytest.raises(UserError, match=r"TRADING_BASE_TIMEFRAME: .* has no 1m candles .* it has 5m, 15m"):
        ingest(connection, source, ("SOLUSDT",), Timeframe.M1, START, NOW)
    assert connection.execute("select count(*) from instruments").fetchone() == (0,)


def test_connection_inside_a_transaction_is_refused(connection: Connection) -> None:
    connection.execute("select 1")
    with pytest.raises(RuntimeError, match="page by page"):
        ingest(connection, two_symbols(), (), M5, START, NOW)


def test_newest_quotes_are_stored_and_an_older_one_does_not_replace_them(database: str) -> None:
    venue = two_symbols()
    run(database, venue)
    with connect(database) as connection:
        assert update_tickers(connection, venue, ()) == 2
        venue.clock -= timedelta(minutes=1)
        assert update_tickers(connection, venue, ("SOLUSDT", "NONEUSDT")) == 1
        rows = connection.execute("select distinct ts, price, bid, ask from tickers").fetchall()
    assert rows == [(NOW, 100.0, 99.9, 100.1)]


def test_simulated_history_begins_at_the_listing_without_a_gap(database: str) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",), history_days=30), lambda: NOW)
    with connect(database) as connection:
        report = ingest(connection, source, (), M5, NOW - timedelta(days=40), NOW)
        assert connection.execute("select min(ts) from ohlcv_5m").fetchone() == (datetime(2026, 4, 4, tzinfo=UTC),)
    assert report.symbols[0].missing_bars == 0
