"""Looks at a venue's list of markets: what they find, what they leave behind, what they refuse to believe."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.analysis.market import rank_universe
from trading_pipelines.application.market_data.derivatives import ingest_derivatives
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.market_data.universe import fetch_universe_candles, watch_universe
from trading_pipelines.domain.market.instrument import Instrument, Listing, ListingStatus, MarketKind
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.market.universe import UniverseRules
from trading_pipelines.domain.simulation.listings import listings_until
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models.market import list_symbols
from trading_pipelines.store.read_models.universe import newest_listings, universe_now
from trading_pipelines.store.repositories import derivatives, instruments, universe

NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
RULES = UniverseRules()


class Exchange(SimulatedSource):
    """A simulated venue whose list of markets is written by the test."""

    exchange = "venue"

    def __init__(self) -> None:
        super().__init__(SimulatedMarketSpec(), lambda: self.clock)
        self.clock = NOW
        self.pairs = {s: Listing(_pair(s)) for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "ETHBTC")}
        self.volumes = dict.fromkeys(self.pairs, 5e6)

    def listings(self) -> list[Listing]:
        return list(self.pairs.values())

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        return [Ticker(s, self.clock, 100.0, 99.9, 100.1, 0.0, self.volumes[s]) for s in symbols if s in self.volumes]

    def list_pair(self, symbol: str, volume: float) -> None:
        self.pairs[symbol] = Listing(_pair(symbol), listed_at=self.clock - timedelta(minutes=3))
        self.volumes[symbol] = volume


def _pair(symbol: str) -> Instrument:
    quote = "BTC" if symbol.endswith("BTC") else "USDT"
    return Instrument("venue", symbol, symbol.removesuffix(quote), quote, MarketKind.PERPETUAL)


@pytest.fixture
def venue() -> Exchange:
    return Exchange()


def events(connection: Connection) -> list[tuple[str, str]]:
    return connection.execute("select subject, message from events where kind = 'listing' order by event_id").fetchall()


def test_first_look_names_members_and_alerts_nobody(connection: Connection, venue: Exchange) -> None:
    venue.volumes["SOLUSDT"] = 999_999.0
    report = watch_universe(connection, venue, RULES)
    assert (report.pairs, report.members, report.listed) == (3, 2, ())
    assert universe.members_at(connection, "venue", NOW) == ["BTCUSDT", "ETHUSDT"]
    found = connection.execute(
        "select symbol, reasons, quote_volume_24h, round(spread::numeric, 4)::float8 from universe "
        "join instruments using (instrument_id) where not member"
    ).fetchall()
    assert found == [("SOLUSDT", ["VOLUME"], 999_999.0, 0.002)]
    assert events(connection) == []


def test_pairs_of_the_list_are_not_traded_unless_their_candles_are_fetched(
    connection: Connection, venue: Exchange
) -> None:
    watch_universe(connection, venue, RULES)
    assert instruments.by_symbol(connection, "venue") == {}
    instruments.save(connection, [_pair("BTCUSDT")])
    watch_universe(connection, venue, RULES)
    assert list(instruments.by_symbol(connection, "venue")) == ["BTCUSDT"]
    assert len(instruments.by_symbol(connection, "venue", everything=True)) == 3


def test_new_pair_is_announced_with_its_first_price_and_turnover(connection: Connection, venue: Exchange) -> None:
    watch_universe(connection, venue, RULES)
    venue.clock += timedelta(minutes=5)
    venue.list_pair("NEWUSDT", 250_000.0)
    report = watch_universe(connection, venue, RULES)
    assert (report.listed, report.members) == (("NEWUSDT",), 3)
    assert events(connection) == [("NEWUSDT", "newly listed: first price 100, turnover so far 250,000")]
    row = connection.execute("select ts, kind, listed_at, first_price, first_volume from listings").fetchall()
    assert row == [(venue.clock, "LISTED", venue.clock - timedelta(minutes=3), 100.0, 250_000.0)]
    assert watch_universe(connection, venue, RULES).listed == ()
    assert len(events(connection)) == 1


@pytest.mark.parametrize("vanishes", [True, False])
def test_pair_that_leaves_and_comes_back_is_told_each_time(
    connection: Connection, venue: Exchange, vanishes: bool
) -> None:
    watch_universe(connection, venue, RULES)
    listed = venue.pairs["SOLUSDT"]
    venue.clock += timedelta(minutes=5)
    if vanishes:
        del venue.pairs["SOLUSDT"]
    else:
        venue.pairs["SOLUSDT"] = Listing(listed.instrument, ListingStatus.DELISTED)
    assert watch_universe(connection, venue, RULES).delisted == ("SOLUSDT",)
    assert watch_universe(connection, venue, RULES).delisted == ()
    venue.clock += timedelta(minutes=5)
    venue.pairs["SOLUSDT"] = listed
    assert watch_universe(connection, venue, RULES).listed == ("SOLUSDT",)
    kinds = connection.execute("select kind from listings order by ts").fetchall()
    assert kinds == [("DELISTED",), ("RELISTED",)]


def test_membership_is_known_for_every_time_in_the_past(connection: Connection, venue: Exchange) -> None:
    for minutes, volume in ((0, 5e6), (5, 5e6), (10, 1.0), (15, 5e6)):
        venue.clock = NOW + timedelta(minutes=minutes)
        venue.volumes["SOLUSDT"] = volume
        watch_universe(connection, venue, RULES)
    members = [universe.members_at(connection, "venue", NOW + timedelta(minutes=m)) for m in (-1, 0, 9, 10, 14, 15, 99)]
    short, whole = ["BTCUSDT", "ETHUSDT"], ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert members == [None, whole, whole, short, short, whole, whole]
    rows = connection.execute("select count(*) from universe").fetchone()
    assert rows == (5,)


def test_other_rules_at_the_same_time_replace_the_judgement(connection: Connection, venue: Exchange) -> None:
    watch_universe(connection, venue, RULES)
    watch_universe(connection, venue, UniverseRules(min_quote_volume=1e9))
    assert universe.members_at(connection, "venue", NOW) == []


def test_list_that_has_lost_most_pairs_is_not_believed(connection: Connection, venue: Exchange) -> None:
    watch_universe(connection, venue, RULES)
    venue.pairs = {"BTCUSDT": venue.pairs["BTCUSDT"]}
    with pytest.raises(SourceError, match="only 1 of the 3 pairs"):
        watch_universe(connection, venue, RULES)
    assert universe.members_at(connection, "venue", NOW) == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


def test_simulated_market_lists_a_pair_now_and_then(connection: Connection) -> None:
    spec = SimulatedMarketSpec(history_days=60)
    newest = max(listings_until(spec, NOW + timedelta(days=20)), key=lambda one: one.listed_at)
    clock = newest.listed_at - timedelta(minutes=2)
    source = SimulatedSource(spec, lambda: clock)
    watch_universe(connection, source, RULES)
    clock += timedelta(minutes=20)
    report = watch_universe(connection, source, RULES)
    assert report.listed == (newest.symbol,)
    ((subject, message),) = events(connection)
    assert subject == newest.symbol
    assert message.startswith("newly listed: first price ")


def test_screener_ranks_members_that_are_not_traded(connection: Connection) -> None:
    spec = SimulatedMarketSpec(listing_every_days=9, listing_days=200)
    clock = datetime(2026, 5, 3, 23, 50, tzinfo=UTC)
    source = SimulatedSource(spec, lambda: clock)
    start = NOW - timedelta(days=150)
    ingest(connection, source, ["BTCUSDT"], Timeframe.H4, start, clock)
    watch_universe(connection, source, RULES)
    members = universe.members_at(connection, "simulated", clock) or []
    clock = NOW
    report = fetch_universe_candles(connection, source, ["BTCUSDT"], RULES)
    assert report is not None
    assert {one.symbol for one in report.symbols} == set(members) - {"BTCUSDT"}
    assert list(instruments.by_symbol(connection, "simulated")) == ["BTCUSDT"]
    connection.commit()
    ingest(connection, source, ["BTCUSDT"], Timeframe.H4, start, clock)
    rank_universe(connection, "simulated", ["BTCUSDT"], NOW - timedelta(days=1), NOW)
    ranked = {
        symbol
        for (symbol,) in connection.execute(
            "select symbol from screener_rankings join instruments using (instrument_id)"
        ).fetchall()
    }
    assert {"BTCUSDT", "ETHUSDT"} < ranked <= set(members)
    assert ranked - set(spec.symbols)  # a pair that was listed later


def test_derivatives_are_fetched_once_and_go_on_where_they_ended(connection: Connection) -> None:
    clock = NOW
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", "SOLUSDT")), lambda: clock)
    start = NOW - timedelta(hours=30)
    first = ingest_derivatives(connection, source, (), start, NOW)
    assert (first.open_interest.inserted, first.mark_prices.inserted, first.errors) == (60, 58, [])
    clock += timedelta(hours=2)
    again = ingest_derivatives(connection, source, (), start, clock)
    assert (again.open_interest.inserted, again.mark_prices.inserted) == (4, 4)
    assert again.open_interest.unchanged == 0
    instrument_id = instruments.by_symbol(connection, "simulated")["BTCUSDT"].instrument_id
    marks = derivatives.read_mark_prices(connection, instrument_id, start, clock)
    assert marks.equals(source.mark_prices(source.instruments()[0], start, clock))


def test_open_interest_without_a_value_is_valued_by_the_mark_price(connection: Connection) -> None:
    class WithoutValue(SimulatedSource):
        def open_interest(self, *arguments: object) -> object:  # type: ignore[override]  # what the base class gives
            return super().open_interest(*arguments).assign(value_usd=float("nan"))  # type: ignore[arg-type]

    source = WithoutValue(SimulatedMarketSpec(symbols=("BTCUSDT",)), lambda: NOW)
    ingest_derivatives(connection, source, (), NOW - timedelta(hours=10), NOW)
    instrument_id = instruments.by_symbol(connection, "simulated")["BTCUSDT"].instrument_id
    stored = derivatives.read_open_interest(connection, instrument_id, NOW - timedelta(hours=9), NOW)
    marks = derivatives.read_mark_prices(connection, instrument_id, NOW - timedelta(hours=10), NOW)
    expected = stored["quantity"].to_numpy() * marks["close"].to_numpy()[-len(stored) :]
    assert stored["value_usd"].to_numpy() == pytest.approx(expected)
    assert len(stored) == 9


def test_pairs_can_be_read_with_their_quotes_funding_and_interest(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(), lambda: NOW)
    ingest(connection, source, ["BTCUSDT"], Timeframe.M5, NOW - timedelta(days=1), NOW)
    ingest_derivatives(connection, source, ["BTCUSDT"], NOW - timedelta(days=1), NOW)
    watch_universe(connection, source, RULES)
    pairs = universe_now(connection, "simulated").set_index("symbol")
    btc = pairs.loc["BTCUSDT"]
    assert pairs.index[0] == "BTCUSDT"
    assert btc[["member", "followed", "funding_hours", "reasons"]].tolist() == [True, True, 8.0, ""]
    assert btc["mark_price"] == pytest.approx(btc["price"], rel=0.02)
    assert btc["open_interest_usd"] > 1e9
    assert not pairs.loc["CINDERUSDT", "member"]
    assert pairs.loc["CINDERUSDT", "reasons"] == "VOLUME"
    recent = newest_listings(connection, "simulated", 10)
    assert recent["kind"].eq("LISTED").all()
    assert recent["listed_at"].is_monotonic_decreasing
    assert list_symbols(connection, "simulated") == ["BTCUSDT"]
