"""Open interest and mark prices of perpetuals, from a source into the database.

What is fetched is what is wanted minus what is covered, as with funding; each symbol's answer is one transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import structlog

from trading_pipelines.adapters.sources.base import MarketDataSource
from trading_pipelines.application.market_data.ingestion import choose_listed
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles as coverage
from trading_pipelines.store.repositories import derivatives, instruments, status
from trading_pipelines.store.transaction import committed

MARK = "mark 1h"
OPEN_INTEREST = "open interest"
Fetch = Callable[[Instrument, datetime, datetime], pd.DataFrame]
Write = Callable[[psycopg.Cursor[Any], int, pd.DataFrame], UpsertCount]
_TICK = timedelta(microseconds=1)
log = structlog.get_logger(__name__)


@dataclass
class DerivativesReport:
    """What was stored, over all symbols; an error names its symbol and dataset."""

    open_interest: UpsertCount = field(default_factory=UpsertCount)
    mark_prices: UpsertCount = field(default_factory=UpsertCount)
    errors: list[str] = field(default_factory=list[str])


def ingest_derivatives(
    connection: psycopg.Connection[Any],
    source: MarketDataSource,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    refetch: bool = False,
) -> DerivativesReport:
    """Store open interest and mark prices of the perpetuals among `symbols` in [start, end) as far as they are missing.

    Parameters
    ----------
    symbols : sequence of str
        Empty means all that the source offers.
    refetch : bool
        Ask again for what is covered already; corrections overwrite.

    Raises
    ------
    UserError
        The source does not know a symbol; one that only fails to deliver is named in the report.
    """
    listed, _ = choose_listed(connection, source, symbols)
    chosen = [instrument for instrument in listed if instrument.kind is MarketKind.PERPETUAL]
    with committed(connection):
        instruments.save(connection, chosen)
        stored = instruments.by_symbol(connection, source.exchange)
    report = DerivativesReport()
    for instrument in chosen:
        job = _Job(connection, source, stored[instrument.symbol].instrument_id, instrument, (start, end), refetch)
        try:
            report.mark_prices += job.run(MARK, source.mark_prices, derivatives.upsert_mark_prices)
            report.open_interest += job.run(OPEN_INTEREST, job.valued_interest, derivatives.upsert_open_interest)
        except UserError as error:
            log.warning("source did not deliver", symbol=instrument.symbol, error=str(error))
            report.errors.append(f"{instrument.symbol}: {error}")
    return report


@dataclass(frozen=True)
class _Job:
    """One symbol's share of a call."""

    connection: psycopg.Connection[Any]
    source: MarketDataSource
    instrument_id: int
    instrument: Instrument
    span: coverage.Span
    refetch: bool

    def run(self, dataset: str, fetch: Fetch, write: Write) -> UpsertCount:
        delivery = status.Delivery(self.source.name, self.source.exchange, self.instrument.symbol, dataset)
        count, newest = UpsertCount(), None
        try:
            for start, end in self._missing(dataset):
                rows = fetch(self.instrument, start, min(end, self.source.now() + _TICK))
                if not rows.empty:
                    newest = rows["ts"].max().to_pydatetime()
                    count += self._store(dataset, rows, write, (start, newest + _TICK))
        except UserError as error:
            with committed(self.connection):
                status.record_error(self.connection, delivery, str(error))
            raise
        with committed(self.connection):
            status.record_success(self.connection, delivery, newest, count.inserted + count.updated, None)
        return count

    def valued_interest(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Open interest whose value follows from the mark price of the hour where the venue states none."""
        rows = self.source.open_interest(instrument, start, end)
        if rows.empty or not rows["value_usd"].isna().any():
            return rows.dropna(subset=["quantity"])
        with committed(self.connection):
            since = start - timedelta(hours=1)
            marks = derivatives.read_mark_prices(self.connection, self.instrument_id, since, end)
        marks = marks.assign(ts=marks["ts"] + pd.Timedelta(hours=1))[["ts", "close"]]
        priced = rows.merge(marks, on="ts", how="left")
        value = np.where(priced["value_usd"].isna(), priced["quantity"] * priced["close"], priced["value_usd"])
        return rows.assign(value_usd=value).dropna().reset_index(drop=True)

    def _missing(self, dataset: str) -> list[coverage.Span]:
        start, end = self.span
        if start >= end or self.refetch:
            return [(start, end)] if start < end else []
        with committed(self.connection):
            return coverage.missing_spans(self.connection, self.instrument_id, dataset, self.source.name, start, end)

    def _store(self, dataset: str, rows: pd.DataFrame, write: Write, answered: coverage.Span) -> UpsertCount:
        with committed(self.connection), self.connection.cursor() as cursor:
            coverage.lock_coverage(self.connection, self.instrument_id, dataset, self.source.name)
            count = write(cursor, self.instrument_id, rows)
            # A value appears some time after its hour, so nothing after the newest one counts as answered.
            coverage.extend_coverage(self.connection, self.instrument_id, dataset, self.source.name, answered)
        return count
