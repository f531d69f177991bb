"""Prices and bars for all sessions of the fast service, asked for once however many sessions need them.

Belongs here: what comes from the market data source and its tables. Does not belong here: what a session does with it
(`services.desk`).
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from trading_pipelines.adapters.exchanges.paper import FundingEvent
from trading_pipelines.adapters.sources import MarketDataSource, choose_timeframe
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.market_data.market_events import funding_events
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import candles, instruments, tickers
from trading_pipelines.store.transaction import committed


class Market:
    """The instruments that any session watches; `quotes` are the newest prices by instrument id."""

    def __init__(self, connection: Connection, settings: Settings, source: MarketDataSource) -> None:
        self._connection = connection
        self._settings = settings
        self._source = source
        self.ids: dict[str, int] = {}
        self.quotes: dict[int, Ticker] = {}
        self.base = Timeframe.M5

    def watch(self, symbols: Collection[str]) -> None:
        """Follow these symbols from now on; one that is not stored yet is left out."""
        stored = instruments.by_symbol(self._connection, self._settings.exchange)
        self._connection.commit()
        wanted = {symbol: stored[symbol].instrument_id for symbol in sorted(symbols) if symbol in stored}
        if wanted != self.ids:
            self.base = choose_timeframe(self._source, list(wanted), self._settings.base_timeframe)
            self.ids = wanted

    def refresh(self) -> None:
        """Take the newest prices from the collector, and ask for those that it does not have fresh; they are stored.

        Raises
        ------
        SourceError
            The source does not answer: there are no current prices but those of the collector.
        """
        self.quotes = {}
        self.quotes = self._streamed()
        missing = [symbol for symbol, instrument_id in self.ids.items() if instrument_id not in self.quotes]
        if not missing:
            return
        asked_for = {self.ids[t.symbol]: t for t in self._source.tickers(missing) if t.symbol in self.ids}
        with committed(self._connection):
            tickers.save(self._connection, asked_for)
        self.quotes |= asked_for

    def _streamed(self) -> dict[int, Ticker]:
        since = self._source.now() - timedelta(seconds=self._settings.collector.fresh_seconds)
        found = tickers.streamed_since(self._connection, self.ids.values(), since)
        self._connection.commit()
        return found

    def ingest(self, start: datetime, end: datetime) -> None:
        """Fetch the bars of [start, end) that are not stored yet.

        Raises
        ------
        SourceError
            Some could not be fetched.
        """
        self._connection.commit()
        report = ingest(self._connection, self._source, list(self.ids), self.base, start, end)
        if report.errors:
            raise SourceError(report.errors[0])

    def closes(self, instrument_ids: Collection[int], frame: Timeframe, ts: datetime) -> dict[int, float]:
        """Closes of the bars that opened at `ts`, by instrument id, of those that are stored."""
        found = candles.latest_bars(self._connection, list(instrument_ids), frame, ts + frame.delta)
        self._connection.commit()
        newest = zip(found["instrument_id"], found["ts"], found["close"], strict=True)
        return {int(instrument_id): float(close) for instrument_id, opened, close in newest if opened == ts}

    def funding(self, now: datetime) -> Mapping[int, tuple[FundingEvent, ...]]:
        """Settlements of the last day by instrument id; an exchange knows which of them it has booked."""
        since = now - timedelta(days=1)
        found = {i: tuple(funding_events(self._connection, i, since, now)) for i in self.ids.values()}
        self._connection.commit()
        return found
