"""Who belongs to the universe, and which pairs the simulated market lists when."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.domain.market.instrument import Instrument, Listing, ListingStatus, MarketKind
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.universe import Exclusion, UniverseRules, exclusions, spread_of
from trading_pipelines.domain.simulation.listings import NAMES, listings_until
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
RULES = UniverseRules()
PAIR = Instrument("venue", "ABCUSDT", "ABC", "USDT", MarketKind.SPOT)


def quote(volume: float | None = 2e6, bid: float | None = 99.9, ask: float | None = 100.1) -> Ticker:
    return Ticker("ABCUSDT", NOW, 100.0, bid, ask, 0.0, volume)


@pytest.mark.parametrize(
    ("status", "ticker", "expected"),
    [
        (ListingStatus.TRADING, quote(), ()),
        (ListingStatus.TRADING, quote(volume=1e6), (Exclusion.VOLUME,)),
        (ListingStatus.TRADING, quote(volume=None), (Exclusion.VOLUME,)),
        (ListingStatus.TRADING, quote(bid=99.75, ask=100.25), (Exclusion.SPREAD,)),
        (ListingStatus.TRADING, quote(volume=5.0, bid=90.0), (Exclusion.VOLUME, Exclusion.SPREAD)),
        (ListingStatus.TRADING, quote(bid=None), ()),
        (ListingStatus.TRADING, None, (Exclusion.NO_QUOTE,)),
        (ListingStatus.HALTED, quote(), (Exclusion.HALTED,)),
        (ListingStatus.DELISTED, quote(), (Exclusion.DELISTED,)),
    ],
)
def test_pair_is_excluded_for_what_speaks_against_it(
    status: ListingStatus, ticker: Ticker | None, expected: tuple[Exclusion, ...]
) -> None:
    assert exclusions(Listing(PAIR, status), ticker, RULES) == expected


def test_spread_is_relative_to_the_middle_and_unknown_without_both_quotes() -> None:
    assert spread_of(quote(bid=99.0, ask=101.0)) == pytest.approx(0.02)
    assert spread_of(quote(ask=None)) is None


def test_listings_follow_from_seed_and_time_alone() -> None:
    spec = SimulatedMarketSpec()
    now = listings_until(spec, NOW)
    assert now == listings_until(spec, NOW)
    assert {one.symbol for one in now} <= set(NAMES)
    assert all(one.listed_at <= NOW for one in now)
    later = {one.symbol: one for one in listings_until(spec, NOW + timedelta(days=spec.listing_every_days))}
    assert len([one for one in later.values() if one.listed_at > NOW]) == 1
    assert listings_until(SimulatedMarketSpec(listing_every_days=0), NOW) == []


def test_a_listed_pair_leaves_after_its_time() -> None:
    spec = SimulatedMarketSpec(listing_days=20)
    oldest = min(listings_until(spec, NOW), key=lambda one: one.listed_at)
    assert oldest.delisted_at - oldest.listed_at == timedelta(days=20)
    assert not oldest.trades_at(NOW)
    assert oldest.trades_at(oldest.listed_at)


def test_mark_prices_stay_near_trades_and_join_up() -> None:
    market = SimulatedMarket(SimulatedMarketSpec())
    start = NOW - timedelta(days=3)
    marks = market.mark_prices("BTCUSDT", start, NOW)
    trades = market.candles("BTCUSDT", marks["ts"].iloc[0].to_pydatetime(), NOW + timedelta(hours=1))
    hourly = trades.iloc[11::12]["close"].to_numpy()
    assert len(marks) == 72
    assert abs(marks["close"].to_numpy() / hourly[:72] - 1).max() < 5e-4
    assert ((marks["high"] >= marks[["open", "close"]].max(axis=1)) & (marks["low"] <= marks["close"])).all()
    assert abs(marks["open"].iloc[1:].to_numpy() / marks["close"].iloc[:-1].to_numpy() - 1).max() < 1e-6


def test_open_interest_of_an_hour_is_the_same_in_any_window() -> None:
    market = SimulatedMarket(SimulatedMarketSpec())
    whole = market.open_interest("SOLUSDT", NOW - timedelta(days=2), NOW)
    part = market.open_interest("SOLUSDT", NOW - timedelta(hours=3), NOW)
    assert len(whole) == 48
    assert part.to_dict("list") == whole.tail(3).to_dict("list")
    assert (whole["value_usd"] > 0).all()
    assert market.open_interest("SOLUSDT", NOW, NOW).empty
