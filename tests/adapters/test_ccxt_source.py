"""The real client library against a server that speaks Bybit's protocol, in good and bad weather."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import fake_bybit
import pandas as pd
import pytest
from fake_bybit import FUNDING, KLINE, FakeBybit, Fault

from trading_pipelines.adapters.sources import open_source
from trading_pipelines.adapters.sources.base import CandlePage, SourceError
from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.adapters.sources.retry import RetryPolicy
from trading_pipelines.adapters.sources.venues import VENUES
from trading_pipelines.application.market_data.ingestion import IngestReport, ingest
from trading_pipelines.domain.market.instrument import Instrument, ListingStatus, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import funding as funding_store
from trading_pipelines.store.repositories import instruments

M5 = Timeframe.M5
NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
HISTORY = timedelta(days=9)
START = NOW - HISTORY
CLOSED = M5.floor(NOW)


@pytest.fixture
def bybit() -> Iterator[FakeBybit]:
    exchange = FakeBybit(NOW, HISTORY)
    yield exchange
    exchange.stop()


class Naps(list[float]):
    """Records the pauses instead of making them."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
def source(bybit: FakeBybit, naps: Naps) -> CcxtSource:
    return CcxtSource("bybit", bybit.url, clock=lambda: bybit.now, sleep=naps)


def btc(source: CcxtSource) -> Instrument:
    return next(i for i in source.instruments() if i.symbol == "BTCUSDT")


def fetch(source: CcxtSource, start: datetime = START, end: datetime = NOW) -> list[CandlePage]:
    return list(source.candles(btc(source), M5, start, end))


def joined(pages: list[CandlePage]) -> pd.DataFrame:
    return pd.concat([page.candles for page in pages], ignore_index=True)


def closed_rows(bybit: FakeBybit, symbol: str = "BTCUSDT") -> pd.DataFrame:
    rows = bybit.rows(symbol, M5)
    return rows[rows["ts"] < CLOSED].reset_index(drop=True)


def test_instruments_carry_the_steps_and_minimums_of_the_exchange(source: CcxtSource) -> None:
    assert btc(source) == Instrument(
        "bybit",
        "BTCUSDT",
        "BTC",
        "USDT",
        MarketKind.PERPETUAL,
        price_step=Decimal("0.1"),
        quantity_step=Decimal("0.001"),
        min_quantity=Decimal("0.001"),
        min_notional=Decimal(5),
        funding_interval_minutes=240,
        max_leverage=Decimal(100),
    )


def test_spot_markets_are_asked_for_in_the_spot_category(bybit: FakeBybit) -> None:
    source = CcxtSource("bybit_spot", bybit.url, clock=lambda: bybit.now)
    instrument = btc(source)
    assert (instrument.kind, instrument.min_notional) == (MarketKind.SPOT, Decimal(1))
    assert instrument.quantity_step == Decimal("0.000001")
    pd.testing.assert_frame_equal(joined(fetch(source)), closed_rows(bybit))
    assert {query["category"] for query in bybit.asked(KLINE)} == {"spot"}
    assert source.funding(instrument, START, NOW).empty


def test_history_is_paged_without_holes_in_the_least_number_of_requests(bybit: FakeBybit, source: CcxtSource) -> None:
    pages = fetch(source)
    assert len(bybit.asked(KLINE)) == 3  # 2592 bars, 1000 per page
    assert (pages[0].start, pages[-1].end) == (START, CLOSED)
    assert [page.start for page in pages[1:]] == [page.end for page in pages[:-1]]
    pd.testing.assert_frame_equal(joined(pages), closed_rows(bybit))


def test_forming_candle_is_never_served(bybit: FakeBybit, source: CcxtSource) -> None:
    assert bybit.rows("BTCUSDT", M5)["ts"].max() == CLOSED
    assert joined(fetch(source, end=NOW + timedelta(hours=1)))["ts"].max() == CLOSED - M5.delta


@pytest.mark.parametrize("error", [timedelta(seconds=30), timedelta(seconds=-30), timedelta(hours=2)])
def test_the_exchange_decides_what_is_closed_when_our_clock_is_wrong(bybit: FakeBybit, error: timedelta) -> None:
    bybit.now = CLOSED + M5.delta - timedelta(seconds=10)
    source = CcxtSource("bybit", bybit.url, clock=lambda: bybit.now + error)
    assert source.now() == bybit.now
    assert joined(fetch(source, end=NOW + timedelta(days=1)))["ts"].max() == CLOSED - M5.delta


def test_bar_that_appears_late_is_not_answered_yet(bybit: FakeBybit, source: CcxtSource) -> None:
    bybit.publishes_newest_bar = False
    assert fetch(source)[-1].end == CLOSED - M5.delta
    assert fetch(source, start=CLOSED - M5.delta) == []
    bybit.publishes_newest_bar = True
    assert fetch(source, start=CLOSED - M5.delta)[-1].end == CLOSED


def test_time_before_the_listing_is_answered_with_nothing(source: CcxtSource) -> None:
    pages = fetch(source, start=START - timedelta(days=8), end=START)
    assert [len(page.candles) for page in pages] == [0, 0, 0]
    assert pages[-1].end == START


@pytest.mark.parametrize(
    "faults",
    [
        [fake_bybit.server_error(502)] * 3,
        [fake_bybit.server_error(503), fake_bybit.server_error(500)],
        [fake_bybit.reset],
        [fake_bybit.reset_in_mid_body] * 2,
        [fake_bybit.maintenance_page] * 2,
        [fake_bybit.too_many_requests("0")] * 5,
        [fake_bybit.shuffled_and_doubled] * 3,
    ],
    ids=["502", "503-500", "reset", "reset-in-mid-body", "html", "429", "shuffled-and-doubled"],
)
def test_rows_are_complete_after_a_failure_that_passes(
    bybit: FakeBybit, source: CcxtSource, faults: list[Fault]
) -> None:
    bybit.faults[KLINE].extend(faults)
    rows = joined(fetch(source)).drop_duplicates().sort_values("ts", ignore_index=True)
    pd.testing.assert_frame_equal(rows, closed_rows(bybit))
    assert not bybit.faults[KLINE]


def test_pauses_grow_and_keep_their_jitter_within_bounds(bybit: FakeBybit, source: CcxtSource, naps: Naps) -> None:
    bybit.faults[KLINE].extend([fake_bybit.server_error(502)] * 7)
    fetch(source)
    limits = [1, 2, 4, 8, 16, 32, 60]
    assert len(naps) == len(limits)
    assert all(limit / 2 <= nap <= limit for nap, limit in zip(naps, limits, strict=True))


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_exchange_that_asks_for_a_pause_gets_it(bybit: FakeBybit, source: CcxtSource, naps: Naps, form: str) -> None:
    asked_for = "17" if form == "seconds" else format_datetime(NOW + timedelta(seconds=17), usegmt=True)
    bybit.faults[KLINE].append(fake_bybit.too_many_requests(asked_for))
    fetch(source)
    (nap,) = naps
    assert 17 < nap <= 18


def test_processes_share_the_pace_and_the_pauses_that_the_exchange_asks_for(bybit: FakeBybit, tmp_path: Path) -> None:
    paces = Naps(), Naps()
    one, other = (
        CcxtSource("bybit", bybit.url, clock=lambda: bybit.now, sleep=naps, limits_folder=tmp_path) for naps in paces
    )
    one.instruments()
    other.instruments()
    assert sum(paces[1]) > 0  # the slots that the first has taken
    instrument = btc(one)
    bybit.faults[KLINE].append(fake_bybit.too_many_requests("30"))
    list(one.candles(instrument, M5, CLOSED - timedelta(hours=1), CLOSED))
    del paces[1][:]
    list(other.candles(instrument, M5, CLOSED - timedelta(hours=1), CLOSED))
    assert max(paces[1]) > 25


def test_exchange_that_asks_for_too_long_a_pause_has_failed(bybit: FakeBybit, source: CcxtSource, naps: Naps) -> None:
    bybit.faults[KLINE].append(fake_bybit.too_many_requests("86400"))
    with pytest.raises(
        SourceError, match="does not give 5m candles of BTCUSDT for the next 86400 s: RateLimitExceeded"
    ):
        fetch(source)
    assert naps == []


def test_pause_asked_for_by_an_earlier_answer_does_not_count_again(
    bybit: FakeBybit, source: CcxtSource, naps: Naps
) -> None:
    bybit.faults[KLINE].extend([fake_bybit.too_many_requests("30"), fake_bybit.reset])
    fetch(source)
    assert naps[0] > 30
    assert naps[1] < 30


def test_exchange_that_stays_down_is_one_line(bybit: FakeBybit, naps: Naps) -> None:
    source = CcxtSource("bybit", bybit.url, RetryPolicy(attempts=3), lambda: bybit.now, naps)
    bybit.faults[KLINE].extend([fake_bybit.server_error(503)] * 3)
    with pytest.raises(SourceError) as failure:
        fetch(source)
    assert str(failure.value).startswith(
        "bybit does not give 5m candles of BTCUSDT after 3 attempts: ExchangeNotAvailable"
    )
    assert "\n" not in str(failure.value)
    assert len(naps) == 2


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (fake_bybit.refusal(10001, "params error: Symbol Is Invalid"), "BadSymbol|BadRequest"),
        (fake_bybit.refusal(10003, "API key is invalid"), "AuthenticationError"),
        (fake_bybit.another_shape, "ExchangeError"),
    ],
    ids=["bad-request", "no-permission", "unreadable"],
)
def test_refusal_and_unreadable_answers_are_not_repeated(
    bybit: FakeBybit, source: CcxtSource, naps: Naps, fault: Fault, cause: str
) -> None:
    bybit.faults[KLINE].append(fault)
    with pytest.raises(SourceError, match=f"bybit does not give 5m candles of BTCUSDT: .*({cause})"):
        fetch(source)
    assert naps == []


def test_funding_is_complete_and_rounded_to_minutes(bybit: FakeBybit, source: CcxtSource) -> None:
    rates = source.funding(btc(source), START, NOW)
    pd.testing.assert_frame_equal(rates, bybit.funding("BTCUSDT"), check_exact=True)
    assert len(bybit.asked(FUNDING)) == 1


def test_funding_that_settles_more_often_than_stated_is_complete_all_the_same(naps: Naps) -> None:
    exchange = FakeBybit(NOW, timedelta(days=20), ("BTCUSDT",))
    try:
        source = CcxtSource("bybit", exchange.url, clock=lambda: NOW, sleep=naps)
        instrument = btc(source)
        exchange.funding_minutes = 60
        rates = source.funding(instrument, NOW - timedelta(days=20), NOW)
        assert rates["ts"].tolist() == [pd.Timestamp(moment) for moment in exchange.settlements()]
        assert len(rates) == 480
    finally:
        exchange.stop()


def test_tickers_come_in_one_request_in_our_units(bybit: FakeBybit, source: CcxtSource) -> None:
    tickers = {ticker.symbol: ticker for ticker in source.tickers(("BTCUSDT", "SOLUSDT", "NONEUSDT"))}
    assert set(tickers) == {"BTCUSDT", "SOLUSDT"}
    quote = tickers["BTCUSDT"]
    assert quote.price == bybit.candles["BTCUSDT"]["close"].iloc[-1]
    assert (quote.bid, quote.ask, quote.ts) == (16596.0, 16597.5, NOW)
    assert quote.change_24h == pytest.approx(0.008047)
    assert quote.quote_volume_24h == pytest.approx(2352.94950046)
    assert len(bybit.asked("/v5/market/tickers")) == 1


@pytest.mark.parametrize("exchange", list(VENUES))
def test_address_of_every_exchange_can_be_replaced(bybit: FakeBybit, exchange: str) -> None:
    assert CcxtSource(exchange, bybit.url, clock=lambda: NOW - timedelta(minutes=1)).now() == NOW
    assert len(bybit.requests) == 1


def test_settings_choose_the_exchange_and_its_address(bybit: FakeBybit) -> None:
    settings = load_settings(source="ccxt", exchange="bybit", symbols="BTCUSDT", ccxt_base_url=bybit.url)
    source = open_source(settings)
    assert (source.name, source.exchange) == ("ccxt", "bybit")
    assert [instrument.symbol for instrument in source.instruments()] == ["BTCUSDT", "SOLUSDT"]


def test_settings_without_symbols_or_with_an_unknown_exchange_are_refused() -> None:
    with pytest.raises(UserError, match="TRADING_SYMBOLS: name at least one symbol"):
        open_source(load_settings(source="ccxt", exchange="bybit"))
    with pytest.raises(
        UserError, match=r"TRADING_EXCHANGE: no exchange binanceusd .* did you mean binanceusdm or binance"
    ):
        open_source(load_settings(source="ccxt", exchange="binanceusd", symbols="BTCUSDT"))


def run(connection: Connection, source: CcxtSource, **options: bool) -> IngestReport:
    return ingest(connection, source, ("BTCUSDT", "SOLUSDT"), M5, START, NOW + timedelta(hours=1), **options)


def stored(connection: Connection, symbol: str) -> pd.DataFrame:
    instrument_id = instruments.by_symbol(connection, "bybit")[symbol].instrument_id
    return candle_store.read_candles(connection, instrument_id, M5, START, NOW + timedelta(days=1))


def test_tables_equal_the_exchange_after_a_storm_of_failures(
    connection: Connection, bybit: FakeBybit, source: CcxtSource
) -> None:
    weather = random.Random(5)
    kinds: list[Fault] = [
        fake_bybit.server_error(502),
        fake_bybit.reset,
        fake_bybit.reset_in_mid_body,
        fake_bybit.maintenance_page,
        fake_bybit.too_many_requests("1"),
        fake_bybit.shuffled_and_doubled,
        fake_bybit.refusal(10001, "params error"),
    ]
    bybit.faults[KLINE].extend(weather.choices(kinds, k=25))
    attempts = 0
    while run(connection, source).errors:
        attempts += 1
        assert attempts < 25
    assert attempts > 0
    for symbol in bybit.candles:
        pd.testing.assert_frame_equal(stored(connection, symbol), closed_rows(bybit, symbol), check_exact=True)
    instrument_id = instruments.by_symbol(connection, "bybit")["BTCUSDT"].instrument_id
    assert len(funding_store.read_rates(connection, instrument_id, START, NOW)) == len(bybit.settlements())


def test_hostile_values_are_quarantined_and_leave_a_known_gap(
    connection: Connection, bybit: FakeBybit, source: CcxtSource
) -> None:
    bybit.faults[KLINE].append(fake_bybit.hostile_values)
    report = run(connection, source)
    assert (report.errors, report.quarantined) == ((), 2)
    assert [symbol.missing_bars for symbol in report.symbols] == [2, 0]
    assert run(connection, source, refetch=True).inserted == 2
    pd.testing.assert_frame_equal(stored(connection, "BTCUSDT"), closed_rows(bybit), check_exact=True)


def test_update_costs_one_request_per_symbol_and_none_for_funding_that_is_not_due(
    database: str, bybit: FakeBybit, source: CcxtSource
) -> None:
    with connect(database) as connection:
        run(connection, source)
        bybit.requests.clear()
        bybit.now = CLOSED + M5.delta + timedelta(seconds=3)
        report = run(connection, source)
        assert report.inserted == 2
        asked = bybit.asked(KLINE)
        assert [(query["symbol"], query["start"]) for query in asked] == [
            (symbol, str(int(CLOSED.timestamp() * 1000))) for symbol in ("BTCUSDT", "SOLUSDT")
        ]
        assert bybit.asked(FUNDING) == []


def test_candle_that_the_exchange_corrects_is_overwritten(database: str, bybit: FakeBybit, source: CcxtSource) -> None:
    with connect(database) as connection:
        run(connection, source)
    bybit.candles["BTCUSDT"].loc[300, "volume"] += 1.0
    with connect(database) as connection:
        report = run(connection, source, refetch=True)
        assert (report.corrected, report.inserted) == (1, 0)
        pd.testing.assert_frame_equal(stored(connection, "BTCUSDT"), closed_rows(bybit), check_exact=True)


def test_open_interest_is_paged_by_the_hour(bybit: FakeBybit, source: CcxtSource) -> None:
    found = source.open_interest(btc(source), START, NOW)
    hours = bybit.rows("BTCUSDT", Timeframe.H1)
    expected = hours[(hours["ts"] >= START) & (hours["ts"] <= NOW)]
    assert len(bybit.asked(fake_bybit.OPEN_INTEREST)) == 2  # 217 hours, 200 per page
    assert found["ts"].tolist() == expected["ts"].tolist()
    assert found["quantity"].tolist() == expected["volume"].tolist()
    assert found["value_usd"].isna().all()


def test_mark_prices_leave_the_hour_in_progress_out(bybit: FakeBybit, source: CcxtSource) -> None:
    found = source.mark_prices(btc(source), START, NOW)
    hours = bybit.rows("BTCUSDT", Timeframe.H1)
    expected = hours[(hours["ts"] >= START) & (hours["ts"] < Timeframe.H1.floor(NOW))]
    assert list(found) == ["ts", "open", "high", "low", "close"]
    assert found.to_numpy().tolist() == expected[list(found)].to_numpy().tolist()


def test_spot_has_neither_open_interest_nor_mark_prices(bybit: FakeBybit) -> None:
    source = CcxtSource("bybit_spot", bybit.url, clock=lambda: bybit.now)
    assert source.open_interest(btc(source), START, NOW).empty
    assert source.mark_prices(btc(source), START, NOW).empty
    assert bybit.asked(fake_bybit.MARK) == []


def test_list_of_markets_is_read_anew_and_stays_when_it_cannot_be(bybit: FakeBybit, source: CcxtSource) -> None:
    def offered() -> list[str]:
        return [instrument.symbol for instrument in source.instruments()]

    assert offered() == ["BTCUSDT", "SOLUSDT"]
    gone = bybit.candles.pop("SOLUSDT")
    assert offered() == ["BTCUSDT", "SOLUSDT"]
    bybit.now += timedelta(minutes=16)
    assert offered() == ["BTCUSDT"]
    bybit.candles["SOLUSDT"] = gone
    bybit.now += timedelta(minutes=16)
    bybit.faults["/v5/market/instruments-info"].append(fake_bybit.refusal(10003, "API key is invalid"))
    assert offered() == ["BTCUSDT"]
    bybit.now += timedelta(minutes=16)
    assert offered() == ["BTCUSDT", "SOLUSDT"]


def test_market_that_has_left_the_list_is_named(bybit: FakeBybit, source: CcxtSource) -> None:
    instrument = btc(source)
    del bybit.candles["BTCUSDT"]
    bybit.now += timedelta(minutes=16)
    with pytest.raises(SourceError, match=r"^bybit does not list BTCUSDT$"):
        list(source.candles(instrument, M5, START, NOW))


def test_listings_carry_the_time_of_the_launch(source: CcxtSource) -> None:
    found = {one.instrument.symbol: one for one in source.listings()}
    assert set(found) == {"BTCUSDT", "SOLUSDT"}
    assert found["BTCUSDT"].status is ListingStatus.TRADING
    assert found["BTCUSDT"].listed_at == datetime(2020, 3, 30, tzinfo=UTC)
