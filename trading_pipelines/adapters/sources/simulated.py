"""The simulated market as a source: what of it has been published by now."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd

from trading_pipelines.adapters.sources.base import MARK_COLUMNS, OPEN_INTEREST_COLUMNS, CandlePage, empty_frame
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument, Listing, ListingStatus
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.listings import SimulatedListing, listings_until
from trading_pipelines.domain.simulation.market import EXCHANGE, GRID, SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

_PAGE = timedelta(days=64)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class SimulatedSource:
    """A venue that is always up and has candles until now, made from a seed."""

    name = "simulated"
    exchange = EXCHANGE

    def __init__(self, spec: SimulatedMarketSpec, clock: Callable[[], datetime] = _wall_clock) -> None:
        self._market = SimulatedMarket(spec)
        self._clock = clock

    def now(self) -> datetime:
        """Wall clock, or the clock it was given."""
        return self._clock()

    def instruments(self) -> list[Instrument]:
        """The symbols of the spec."""
        return self._market.instruments()

    def listings(self) -> list[Listing]:
        """The symbols of the spec and the pairs that were listed since the history begins."""
        now = self.now()
        others = [
            Listing(
                self._market.instrument(one.symbol),
                ListingStatus.TRADING if one.trades_at(now) else ListingStatus.DELISTED,
                one.listed_at,
            )
            for one in self._listed_later().values()
        ]
        return sorted([*map(Listing, self.instruments()), *others], key=lambda one: one.instrument.symbol)

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """The simulated timeframe and all longer ones."""
        return (GRID, *GRID.longer())

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """Pages of 64 days, from the beginning of the history to the last closed bar."""
        end = min(end, timeframe.floor(self.now()))
        while start < end:
            stop = min(end, Timeframe.D1.floor(start) + _PAGE)
            yield CandlePage(start, stop, self._candles(instrument.symbol, timeframe, start, stop))
            start = stop

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Settlements so far."""
        first, last = self._life(instrument.symbol)
        return self._market.funding(
            instrument.symbol, max(start, first), min(end, last, self.now() + timedelta(microseconds=1))
        )

    def open_interest(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """At every full hour so far."""
        first, last = self._life(instrument.symbol)
        start, end = max(start, first), min(end, last, self.now() + timedelta(microseconds=1))
        if start >= end:
            return empty_frame(OPEN_INTEREST_COLUMNS)
        return self._market.open_interest(instrument.symbol, start, end)

    def mark_prices(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Hours that have ended."""
        first, last = self._life(instrument.symbol)
        start, end = max(start, first), min(end, last, Timeframe.H1.floor(self.now()))
        return self._market.mark_prices(instrument.symbol, start, end) if start < end else empty_frame(MARK_COLUMNS)

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """Quotes of this instant, of pairs that trade; turnover counts from the listing on."""
        now, later = self.now(), self._listed_later()
        return [
            self._ticker(symbol, now, later.get(symbol))
            for symbol in symbols
            if symbol not in later or later[symbol].trades_at(now)
        ]

    def _ticker(self, symbol: str, now: datetime, listing: SimulatedListing | None) -> Ticker:
        ticker = self._market.ticker(symbol, now)
        if listing is None or now - listing.listed_at >= timedelta(days=1):
            return ticker
        so_far = self._market.candles(symbol, listing.listed_at, GRID.floor(now))
        turnover = float((so_far["close"] * so_far["volume"]).sum())
        change = ticker.price / float(so_far["open"].iloc[0]) - 1 if len(so_far) else 0.0
        return replace(ticker, change_24h=change, quote_volume_24h=turnover)

    def _listed_later(self) -> dict[str, SimulatedListing]:
        return {one.symbol: one for one in listings_until(self._market.spec, self.now())}

    def _life(self, symbol: str) -> tuple[datetime, datetime]:
        """From when to when the symbol has data."""
        listing = self._listed_later().get(symbol)
        return (self._listed(), _FOR_EVER) if listing is None else (listing.listed_at, listing.delisted_at)

    def _listed(self) -> datetime:
        return Timeframe.D1.floor(self.now()) - timedelta(days=self._market.spec.history_days)

    def _candles(self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime) -> pd.DataFrame:
        listed_at, delisted_at = self._life(symbol)
        first = timeframe.floor(max(start, listed_at) + timeframe.delta - timedelta(microseconds=1))
        last = timeframe.floor(min(end, delisted_at) + timeframe.delta - timedelta(microseconds=1))
        candles = self._market.candles(symbol, first, last)
        return candles if timeframe is GRID else aggregate(candles, timeframe)
