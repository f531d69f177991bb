"""The market around what is traded: which pairs there are, which of them are worth a look, what is new.

Belongs here: one look at an exchange's list of markets and quotes, in one transaction, and the 4h candles that the
screener needs of the universe. Does not belong here: who is a member (`domain.market.universe`) and the ranking
(`application.analysis.market`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog

from trading_pipelines.adapters.sources.base import MarketDataSource, SourceError
from trading_pipelines.application.market_data.ingestion import IngestReport, ingest
from trading_pipelines.domain.market.instrument import Listing, ListingStatus
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.market.universe import UniverseRules, exclusions, spread_of
from trading_pipelines.store.repositories import events, instruments, tickers, universe
from trading_pipelines.store.repositories.universe import Change, Judged
from trading_pipelines.store.transaction import committed

CANDLES = Timeframe.H4
"""Timeframe fetched of members that are not traded; the daily candles follow from it."""
_FEWEST_LEFT = 0.5
"""Share of the known pairs below which a list of markets is taken for a fault of the exchange."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class UniverseReport:
    """What one look has found; `changed` are pairs that are judged otherwise than before."""

    listed: tuple[str, ...]
    delisted: tuple[str, ...]
    pairs: int
    members: int
    changed: int
    quotes: int


def watch_universe(
    connection: psycopg.Connection[Any], source: MarketDataSource, rules: UniverseRules
) -> UniverseReport:
    """Look at every pair of the exchange once: what is new, what has gone, who is a member; store it and commit.

    The first look has nothing to compare with: it only names pairs whose listing the exchange itself dates within
    `rules.recent_days`, and alerts nobody.

    Raises
    ------
    SourceError
        The source does not answer, or leaves out most of what it had listed before.
    """
    listings = {one.instrument.symbol: one for one in source.listings() if one.instrument.quote == rules.quote}
    trading = [symbol for symbol, one in listings.items() if one.status is ListingStatus.TRADING]
    quotes = {ticker.symbol: ticker for ticker in source.tickers(trading)}
    now = source.now()
    with committed(connection):
        universe.lock(connection, source.exchange)
        before = universe.known_statuses(connection, source.exchange)
        listings |= _vanished(connection, source, before, listings)
        instruments.save(connection, [one.instrument for one in listings.values()], followed=False)
        stored = instruments.by_symbol(connection, source.exchange, everything=True)
        ids = {symbol: stored[symbol].instrument_id for symbol in listings}
        universe.set_statuses(connection, {ids[symbol]: one.status.value for symbol, one in listings.items()})
        changes = {
            symbol: change
            for symbol, one in sorted(listings.items())
            if (change := _change(ids[symbol], one, quotes.get(symbol), before, now, rules)) is not None
        }
        universe.add_changes(connection, now, changes.values())
        if before:
            for symbol, change in changes.items():
                _announce(connection, now, symbol, change)
        tickers.save(connection, {ids[symbol]: ticker for symbol, ticker in quotes.items()})
        judged = [_judged(ids[symbol], one, quotes.get(symbol), rules) for symbol, one in listings.items()]
        changed = universe.judge(connection, now, judged)
    return UniverseReport(
        listed=tuple(symbol for symbol, change in changes.items() if change.kind != "DELISTED"),
        delisted=tuple(symbol for symbol, change in changes.items() if change.kind == "DELISTED"),
        pairs=len(listings),
        members=sum(not one.reasons for one in judged),
        changed=len(changed),
        quotes=len(quotes),
    )


def fetch_universe_candles(
    connection: psycopg.Connection[Any], source: MarketDataSource, traded: Sequence[str], rules: UniverseRules
) -> IngestReport | None:
    """Fetch 4h candles of the members that are not traded, and derive their days; None if there is nobody."""
    now = source.now()
    with committed(connection):
        members = universe.members_at(connection, source.exchange, now) or []
    wanted = [symbol for symbol in members if symbol not in set(traded) and CANDLES in source.timeframes(symbol)]
    if not wanted:
        return None
    start = Timeframe.D1.floor(now - timedelta(days=rules.history_days))
    return ingest(connection, source, wanted, CANDLES, start, now, follow=False)


def _vanished(
    connection: psycopg.Connection[Any],
    source: MarketDataSource,
    before: Mapping[str, tuple[int, ListingStatus]],
    listings: Mapping[str, Listing],
) -> dict[str, Listing]:
    """Pairs that were listed before and are not any more, as delisted ones."""
    traded_before = {symbol for symbol, (_, status) in before.items() if status is not ListingStatus.DELISTED}
    gone = traded_before - set(listings)
    if len(gone) > (1 - _FEWEST_LEFT) * len(traded_before):
        raise SourceError(
            f"{source.exchange} lists only {len(traded_before) - len(gone)} of the {len(traded_before)} pairs that it "
            "had: that is taken for a fault of its own"
        )
    stored = instruments.by_symbol(connection, source.exchange, everything=True)
    return {symbol: Listing(stored[symbol].instrument, ListingStatus.DELISTED) for symbol in gone}


def _change(
    instrument_id: int,
    listing: Listing,
    quote: Ticker | None,
    before: Mapping[str, tuple[int, ListingStatus]],
    now: datetime,
    rules: UniverseRules,
) -> Change | None:
    was = before.get(listing.instrument.symbol)
    is_gone = listing.status is ListingStatus.DELISTED
    if not before:
        recent = listing.listed_at is not None and now - listing.listed_at <= timedelta(days=rules.recent_days)
        return Change(instrument_id, "LISTED", listing.listed_at) if recent and not is_gone else None
    if was is None and not is_gone:
        return _appeared(instrument_id, "LISTED", listing, quote)
    if was is None or (was[1] is ListingStatus.DELISTED) == is_gone:
        return None
    return (
        Change(instrument_id, "DELISTED", listing.listed_at)
        if is_gone
        else _appeared(instrument_id, "RELISTED", listing, quote)
    )


def _appeared(instrument_id: int, kind: str, listing: Listing, quote: Ticker | None) -> Change:
    price, volume = (None, None) if quote is None else (quote.price, quote.quote_volume_24h)
    return Change(instrument_id, kind, listing.listed_at, price, volume)


def _judged(instrument_id: int, listing: Listing, quote: Ticker | None, rules: UniverseRules) -> Judged:
    return Judged(
        instrument_id,
        tuple(reason.value for reason in exclusions(listing, quote, rules)),
        None if quote is None else quote.quote_volume_24h,
        None if quote is None else spread_of(quote),
    )


def _announce(connection: psycopg.Connection[Any], now: datetime, symbol: str, change: Change) -> None:
    if change.kind == "DELISTED":
        message = "no longer listed"
    else:
        price = "no price yet" if change.first_price is None else f"first price {change.first_price:g}"
        volume = "" if change.first_volume is None else f", turnover so far {change.first_volume:,.0f}"
        message = f"{'newly listed' if change.kind == 'LISTED' else 'listed again'}: {price}{volume}"
    payload: dict[str, Any] = {
        "kind": change.kind,
        "first_price": change.first_price,
        "first_volume": change.first_volume,
        "listed_at": None if change.listed_at is None else change.listed_at.isoformat(),
    }
    severity = events.Severity.WARNING if change.kind == "DELISTED" else events.Severity.INFO
    events.append(connection, now, "listing", symbol, message, severity=severity, payload=payload)
