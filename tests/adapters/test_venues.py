"""Every exchange ends in the one market model: markets, candles, funding, quotes, and what it says when it is ill."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import fake_bybit
import pandas as pd
import pytest
from fake_bybit import FakeBybit, FakeExchange, Fault
from fake_venues import FakeBinance, FakeMexc, refused

from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.adapters.sources.retry import RetryPolicy
from trading_pipelines.adapters.sources.venues import VENUES
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import funding as funding_store
from trading_pipelines.store.repositories import instruments

M5 = Timeframe.M5
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
HISTORY = timedelta(days=9)
START = NOW - HISTORY
CLOSED = M5.floor(NOW)
FAKES: dict[str, type[FakeExchange]] = {
    "bybit": FakeBybit, "bybit_spot": FakeBybit, "binance": FakeBinance, "binanceusdm": FakeBinance, "mexc": FakeMexc,
    "mexc_swap": FakeMexc,
}  # fmt: skip
CANDLES = {
    "bybit": "/v5/market/kline", "bybit_spot": "/v5/market/kline", "binance": "/api/v3/klines",
    "binanceusdm": "/fapi/v1/klines", "mexc": "/api/v3/klines", "mexc_swap": "/api/v1/contract/kline/BTC_USDT",
}  # fmt: skip


@dataclass
class Venue:
    """An exchange and the source that asks it."""

    name: str
    exchange: FakeExchange
    source: CcxtSource
    naps: list[float]

    @property
    def btc(self) -> Instrument:
        return next(i for i in self.source.instruments() if i.symbol == "BTCUSDT")

    def candles(self, start: datetime = START, end: datetime = NOW + timedelta(hours=1)) -> pd.DataFrame:
        pages = list(self.source.candles(self.btc, M5, start, end))
        return pd.concat([page.candles for page in pages]).sort_values("ts", ignore_index=True)

    def closed(self) -> pd.DataFrame:
        rows = self.exchange.rows("BTCUSDT", M5)
        return rows[rows["ts"] < CLOSED].reset_index(drop=True)


def test_every_exchange_is_tested() -> None:
    assert FAKES.keys() == CANDLES.keys() == VENUES.keys()


@pytest.fixture(params=list(FAKES))
def venue(request: pytest.FixtureRequest) -> Iterator[Venue]:
    yield from open_venue(request.param)


def open_venue(name: str) -> Iterator[Venue]:
    exchange = FAKES[name](NOW, HISTORY)
    naps: list[float] = []
    source = CcxtSource(name, exchange.url, RetryPolicy(attempts=4), lambda: exchange.now, naps.append)
    yield Venue(name, exchange, source, naps)
    exchange.stop()


STEPS = {
    "bybit": ("0.1", "0.001", "0.001", "5", "100"),
    "bybit_spot": ("0.01", "0.000001", "0.000048", "1", None),
    "binance": ("0.01", "0.00001", "0.00001", "5", None),
    "binanceusdm": ("0.1", "0.001", "0.001", "100", None),
    "mexc": ("0.01", "0.000001", "0.000001", "1", None),
    "mexc_swap": ("0.5", "0.0001", "0.0001", "0", "125"),
}
"""Price step, quantity step, least quantity and least notional in base and quote currency; leverage."""


def test_markets_end_in_one_model(venue: Venue) -> None:
    price, quantity, least, notional, leverage = STEPS[venue.name]
    kind = VENUES[venue.name].kind
    found = venue.btc
    assert (found.exchange, found.base, found.quote, found.kind) == (venue.name, "BTC", "USDT", kind)
    assert (found.price_step, found.quantity_step) == (Decimal(price), Decimal(quantity))
    assert (found.min_quantity, found.min_notional) == (Decimal(least), Decimal(notional))
    assert found.max_leverage == (Decimal(leverage) if leverage else None)


def test_market_that_is_halted_is_not_offered(venue: Venue) -> None:
    assert [instrument.symbol for instrument in venue.source.instruments()] == ["BTCUSDT", "SOLUSDT"]


def test_candles_of_a_market_that_is_halted_can_be_had_by_name(database: str) -> None:
    for venue in open_venue("binance"):
        venue.exchange.halted.add("BTCUSDT")
        assert [instrument.symbol for instrument in venue.source.instruments()] == ["SOLUSDT"]
        with connect(database) as connection:
            assert ingest(connection, venue.source, ["BTCUSDT"], M5, START, NOW).errors == ()
            instrument_id = instruments.by_symbol(connection, "binance")["BTCUSDT"].instrument_id
            stored = candle_store.read_candles(connection, instrument_id, M5, START, NOW)
        pd.testing.assert_frame_equal(stored, venue.closed(), check_exact=True)


def test_history_equals_the_exchanges_in_the_least_number_of_requests(venue: Venue) -> None:
    pd.testing.assert_frame_equal(venue.candles(), venue.closed(), rtol=1e-12)
    bars = len(venue.closed())
    assert len(venue.exchange.asked(CANDLES[venue.name])) == -(-bars // VENUES[venue.name].candles_per_page)


def test_forming_candle_is_never_stored_as_closed(venue: Venue, database: str) -> None:
    assert venue.exchange.rows("BTCUSDT", M5)["ts"].max() == CLOSED
    with connect(database) as connection:
        assert ingest(connection, venue.source, ["BTCUSDT"], M5, START, NOW + timedelta(days=1)).errors == ()
        instrument_id = instruments.by_symbol(connection, venue.name)["BTCUSDT"].instrument_id
        stored = candle_store.read_candles(connection, instrument_id, M5, START, NOW + timedelta(days=1))
    assert stored["ts"].max() == CLOSED - M5.delta
    pd.testing.assert_frame_equal(stored, venue.closed(), rtol=1e-12)


def test_funding_is_complete_and_that_of_spot_is_empty(venue: Venue) -> None:
    rates = venue.source.funding(venue.btc, START, NOW)
    if VENUES[venue.name].kind is MarketKind.SPOT:
        assert rates.empty
    else:
        pd.testing.assert_frame_equal(rates, venue.exchange.funding("BTCUSDT"), check_exact=True)


def test_interval_of_funding_is_told_by_market_where_the_exchange_tells_it(venue: Venue) -> None:
    hours = {"bybit": (4, 4), "binanceusdm": (4, 8)}.get(venue.name)
    found = [instrument.funding_interval_minutes for instrument in venue.source.instruments()]
    assert found == ([None, None] if hours is None else [60 * h for h in hours])


def test_unknown_intervals_of_funding_do_not_keep_anything_else_waiting() -> None:
    for venue in open_venue("binanceusdm"):
        venue.exchange.faults["/fapi/v1/fundingInfo"].extend([fake_bybit.server_error(503)] * 4)
        assert venue.btc.funding_interval_minutes is None
        pd.testing.assert_frame_equal(venue.candles(), venue.closed(), rtol=1e-12)


@pytest.mark.parametrize("name", ["bybit", "binanceusdm", "mexc_swap"])
def test_nobody_is_asked_for_a_settlement_that_is_not_due(name: str, database: str) -> None:
    for venue in open_venue(name):
        with connect(database, autocommit=True) as connection:

            def update(connection: Connection = connection, venue: Venue = venue) -> int:
                venue.exchange.requests.clear()
                report = ingest(connection, venue.source, ["BTCUSDT"], M5, START, venue.exchange.now)
                assert report.errors == ()
                return sum("history" in r.path or "fundingRate" in r.path for r in venue.exchange.requests)

            assert update() > 0
            assert instruments.by_symbol(connection, name)["BTCUSDT"].instrument.funding_interval_minutes == 240
            venue.exchange.now += timedelta(minutes=15)  # 03:36, the next settlement is at 04:00
            assert update() == 0
            venue.exchange.now += timedelta(minutes=30)
            assert update() == 1
            instrument_id = instruments.by_symbol(connection, name)["BTCUSDT"].instrument_id
            stored = funding_store.read_rates(connection, instrument_id, START, venue.exchange.now)
            pd.testing.assert_frame_equal(stored, venue.exchange.funding("BTCUSDT"), check_exact=True)


def test_funding_in_numbered_pages_is_read_back_as_far_as_needed() -> None:
    for venue in open_venue("mexc_swap"):
        venue.exchange.funding_minutes = 60
        due = venue.exchange.settlements()
        rates = venue.source.funding(venue.btc, due[50], NOW)
        assert rates["ts"].tolist() == [pd.Timestamp(moment) for moment in due[50:]]
        path = "/api/v1/contract/funding_rate/history"
        assert [query["page_num"] for query in venue.exchange.asked(path)] == ["1", "2"]
        venue.exchange.requests.clear()
        assert len(venue.source.funding(venue.btc, due[-2], NOW)) == 2
        assert len(venue.exchange.asked(path)) == 1


def test_quotes_come_in_our_units(venue: Venue) -> None:
    (quote,) = venue.source.tickers(["BTCUSDT"])
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid < quote.ask
    assert quote.price == venue.exchange.candles["BTCUSDT"]["close"].iloc[-1]
    assert quote.ts == NOW
    assert quote.quote_volume_24h is not None
    assert quote.change_24h is not None
    assert abs(quote.change_24h) < 1


SICK: list[tuple[str, Fault]] = [
    ("bybit", fake_bybit.refusal(10016, "System error. Please try again later.")),
    ("bybit", fake_bybit.refusal(10000, "Server Timeout")),
    ("bybit", fake_bybit.refusal(10018, "Exceeded the IP rate limit")),
    ("bybit", fake_bybit.maintenance_page),
    ("binance", refused(-1000, "An unknown error occured while processing the request.", 500)),
    ("binance", refused(-1001, "Internal error; unable to process your request. Please try again.", 503)),
    ("binanceusdm", refused(-1001, "Internal error; unable to process your request. Please try again.")),
    ("binance", refused(-1003, "Too much request weight used", 429)),
    ("binance", refused(-1003, "Way too much request weight used; IP banned", 418)),
    ("binanceusdm", fake_bybit.server_error(503)),
    ("mexc", refused(500, "Under maintenance, please try again later", 503)),
    ("mexc_swap", refused(510, "Requests are too frequent, please try again later", 200)),
    ("mexc_swap", refused(501, "System busy, try again later", 200)),
]


@pytest.mark.parametrize(("name", "fault"), SICK)
def test_illness_that_passes_is_waited_for(name: str, fault: Fault) -> None:
    for venue in open_venue(name):
        assert venue.btc
        venue.exchange.faults[CANDLES[name]].extend([fault] * 3)
        pd.testing.assert_frame_equal(venue.candles(), venue.closed(), rtol=1e-12)
        assert len(venue.naps) == 3


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("binance", refused(-1121, "Invalid symbol.")),
        ("mexc", refused(10007, "bad symbol")),
        ("bybit", fake_bybit.refusal(10001, "params error")),
    ],
)
def test_refusal_is_not_repeated(name: str, fault: Fault) -> None:
    for venue in open_venue(name):
        assert venue.btc
        venue.exchange.faults[CANDLES[name]].append(fault)
        with pytest.raises(SourceError, match=f"{name} does not give 5m candles of BTCUSDT: "):
            venue.candles()
        assert venue.naps == []


def test_exchange_that_says_it_is_under_maintenance_is_quoted() -> None:
    for venue in open_venue("binance"):
        assert isinstance(venue.exchange, FakeBinance)
        assert venue.btc
        venue.exchange.outage = lambda: None
        venue.exchange.faults[CANDLES["binance"]].extend([fake_bybit.server_error(503)] * 4)
        venue.exchange.system_status = 1
        with pytest.raises(SourceError, match="after 4 attempts: it is under maintenance, ExchangeNotAvailable"):
            venue.candles()


def test_maintenance_that_only_the_answer_tells_is_quoted() -> None:
    for venue in open_venue("mexc_swap"):
        assert venue.btc
        venue.exchange.faults[CANDLES["mexc_swap"]].extend([refused(801, "System under maintenance", 200)] * 4)
        with pytest.raises(SourceError, match="it is under maintenance"):
            venue.candles()
