"""Candles, funding and quotes from a source into the database.

What is fetched is what is wanted minus what is covered. Each page is one transaction: its valid
candles, its refused rows and its coverage are stored together or not at all, so an ingestion may be
stopped anywhere, or run twice at once, and a later one completes it. Longer timeframes and gaps
follow in one transaction for all symbols; what they were derived from is kept as coverage as well.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg.pq import TransactionStatus

from trading_pipelines.adapters.sources.base import CandlePage, MarketDataSource
from trading_pipelines.adapters.sources.factory import choose_instruments, choose_timeframe, split_vanished
from trading_pipelines.domain.market.candles import split_valid
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles as candle_store
from trading_pipelines.store.repositories import funding as funding_store
from trading_pipelines.store.repositories import gaps, instruments, quarantine, status, tickers
from trading_pipelines.store.repositories.candles import Span
from trading_pipelines.store.repositories.instruments import StoredInstrument

FUNDING = "funding"
Connection = psycopg.Connection[Any]
log = structlog.get_logger(__name__)
_TICK = timedelta(microseconds=1)
_ONE_ANSWER = gaps.Proof()


@dataclass(frozen=True)
class IngestProgress:
    """How far an ingestion has come; `fraction` is of the candles wanted, over all symbols."""

    stage: str
    """`candles`, `funding` or `derive`."""
    symbol: str
    fraction: float
    rows: int
    """Candles stored so far: new and changed ones."""
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace so far; None at the beginning."""
        return self.seconds * (1 - self.fraction) / self.fraction if self.fraction > 0 else None


@dataclass
class SymbolReport:
    """What was done for one symbol."""

    symbol: str
    candles: UpsertCount = field(default_factory=UpsertCount)
    quarantined: int = 0
    funding: UpsertCount = field(default_factory=UpsertCount)
    missing_bars: int = 0
    """Bars in known gaps that touch the span asked for."""
    errors: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class IngestReport:
    """What was done; with `errors` the caller reports a failure, though everything else is stored."""

    symbols: tuple[SymbolReport, ...]
    derived: dict[Timeframe, int]
    """Candles of longer timeframes that are new or changed."""
    seconds: float
    vanished: tuple[str, ...] = ()
    """Symbols that are stored and that the source lists no more; the others are not held up by them."""

    @property
    def inserted(self) -> int:
        """Candles that are new."""
        return sum(symbol.candles.inserted for symbol in self.symbols)

    @property
    def corrected(self) -> int:
        """Stored candles that the source has changed since."""
        return sum(symbol.candles.updated for symbol in self.symbols)

    @property
    def quarantined(self) -> int:
        """Rows refused for the first time."""
        return sum(symbol.quarantined for symbol in self.symbols)

    @property
    def errors(self) -> tuple[str, ...]:
        """One line per failure, each naming its symbol."""
        return tuple(f"{symbol.symbol}: {error}" for symbol in self.symbols for error in symbol.errors)


def ingest(
    connection: Connection,
    source: MarketDataSource,
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    *,
    refetch: bool = False,
    follow: bool = True,
    proof: gaps.Proof = _ONE_ANSWER,
    on_progress: Callable[[IngestProgress], None] | None = None,
) -> IngestReport:
    """Store what `source` has for bars that open in [start, end) and is not stored yet.

    Parameters
    ----------
    connection : psycopg.Connection
        Outside of a transaction: pages are committed one by one.
    symbols : sequence of str
        Empty means all that the source offers in `timeframe`.
    refetch : bool
        Ask again for what is covered already: corrections overwrite, and gaps that remain are known to be absent
        at the source.
    follow : bool
        Whether the symbols may be traded from now on; False leaves them as they are.
    proof : gaps.Proof
        How often a refetch must have found nothing before a gap is known to be absent.

    Raises
    ------
    UserError
        The source does not know a symbol or has no such timeframe of it; nothing was stored.
    """
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        raise RuntimeError("ingest commits page by page: its connection must not be inside a transaction")
    chosen, vanished = choose_listed(connection, source, symbols, timeframe)
    choose_timeframe(source, [instrument.symbol for instrument in chosen], timeframe)
    with connection.transaction():
        instruments.save(connection, chosen, followed=follow)
        known = instruments.by_symbol(connection, source.exchange, everything=True)
    stored = [known[instrument.symbol] for instrument in chosen]
    unstated = frozenset(i.symbol for i in chosen if i.funding_interval_minutes is None)
    wanted = (timeframe.floor(start), min(end, source.now()))
    bars = (wanted[0], min(timeframe.floor(end + timeframe.delta - _TICK), timeframe.floor(source.now())))
    progress = _Progress(on_progress, len(stored))
    job = _Job(connection, source, timeframe, wanted, bars, refetch, proof, unstated, progress)
    reports = [_ingest_symbol(job, instrument) for instrument in stored]
    _record_vanished(job, vanished)
    derived = _derive(job, stored, reports) if bars[0] < bars[1] else {}
    return IngestReport(tuple(reports), derived, job.progress.seconds, tuple(vanished))


def ingest_everything(
    connection: Connection,
    source: MarketDataSource,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    refetch: bool = False,
    on_progress: Callable[[Timeframe, IngestProgress], None] | None = None,
) -> dict[Timeframe, IngestReport]:
    """Store every timeframe that the source has of each symbol, the longest first; see `ingest`.

    What the source has of a longer timeframe and what is derived from a shorter one are the same candles; where they
    are not, the one from the shorter stays, for it can be traced to its parts.
    """
    chosen = [instrument.symbol for instrument in choose_instruments(source, symbols)]
    offered = {symbol: source.timeframes(symbol) for symbol in chosen}
    reports: dict[Timeframe, IngestReport] = {}
    for timeframe in sorted({t for found in offered.values() for t in found}, key=lambda t: -t.minutes):
        having = [symbol for symbol in chosen if timeframe in offered[symbol]]
        listener = None if on_progress is None else partial(on_progress, timeframe)
        reports[timeframe] = ingest(
            connection, source, having, timeframe, start, end, refetch=refetch, on_progress=listener
        )
    return reports


def choose_listed(
    connection: Connection, source: MarketDataSource, symbols: Sequence[str], timeframe: Timeframe | None = None
) -> tuple[list[Instrument], list[str]]:
    """As `choose_instruments`, and apart from them the symbols that are stored and that the source lists no more.

    A venue may delist any pair, and the others are not held up by that.

    Raises
    ------
    UserError
        A symbol is neither listed nor stored: it may be mistyped.
    """
    with connection.transaction():
        stored = instruments.by_symbol(connection, source.exchange, everything=True)
    listed, vanished = split_vanished(source, symbols, stored)
    return choose_instruments(source, listed, timeframe) if listed or not symbols else [], vanished


def update_tickers(connection: Connection, source: MarketDataSource, symbols: Sequence[str]) -> int:
    """Store the newest quotes and commit; how many there were. Symbols that are not stored are left out."""
    with connection.transaction():
        stored = instruments.by_symbol(connection, source.exchange)
    quotes = source.tickers([symbol for symbol in symbols or stored if symbol in stored])
    with connection.transaction():
        tickers.save(connection, {stored[ticker.symbol].instrument_id: ticker for ticker in quotes})
    return len(quotes)


class _Progress:
    """Tells the caller how far all symbols together are."""

    def __init__(self, listener: Callable[[IngestProgress], None] | None, symbols: int) -> None:
        self._listener = listener
        self._began = time.monotonic()
        self._symbols = symbols
        self._finished = 0
        self.rows = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def tell(self, stage: str, symbol: str = "", share: float = 0.0) -> None:
        """`share` is how much of the current symbol's candles is done."""
        if self._listener is not None:
            fraction = (self._finished + share) / self._symbols if self._symbols else 1.0
            self._listener(IngestProgress(stage, symbol, min(fraction, 1.0), self.rows, self.seconds))

    def finish_symbol(self) -> None:
        self._finished += 1


@dataclass(frozen=True)
class _Job:
    """What all steps of one call share."""

    connection: Connection
    source: MarketDataSource
    timeframe: Timeframe
    wanted: Span
    bars: Span
    """The same from the open of the first bar to the close of the last one that is closed."""
    refetch: bool
    proof: gaps.Proof
    unstated: frozenset[str]
    """Symbols of which the source does not say how often they settle."""
    progress: _Progress


def _ingest_symbol(job: _Job, stored: StoredInstrument) -> SymbolReport:
    report = SymbolReport(stored.instrument.symbol)
    with _failures_recorded(job, report, f"candles {job.timeframe}"):
        _ingest_candles(job, stored, report)
    job.progress.finish_symbol()
    if stored.instrument.kind is MarketKind.PERPETUAL:
        with _failures_recorded(job, report, FUNDING):
            _ingest_funding(job, stored, report)
    return report


@contextmanager
def _failures_recorded(job: _Job, report: SymbolReport, dataset: str) -> Iterator[None]:
    """Let one symbol fail alone when its source does not deliver; anything else stops the ingestion."""
    try:
        yield
    except UserError as error:
        log.warning("source did not deliver", symbol=report.symbol, dataset=dataset, error=str(error))
        report.errors.append(f"{dataset}: {error}")
        with job.connection.transaction():
            status.record_error(job.connection, _delivery(job, report, dataset), str(error))


def _record_vanished(job: _Job, symbols: Sequence[str]) -> None:
    for symbol in symbols:
        log.warning("symbol is not listed any more", exchange=job.source.exchange, symbol=symbol)
        delivery = _delivery(job, SymbolReport(symbol), f"candles {job.timeframe}")
        with job.connection.transaction():
            status.record_error(job.connection, delivery, f"{job.source.exchange} lists it no more")


def _ingest_candles(job: _Job, stored: StoredInstrument, report: SymbolReport) -> None:
    began = time.monotonic()
    spans = _missing(job, stored, job.timeframe, job.bars)
    total, done = sum((end - start for start, end in spans), timedelta()), timedelta()
    for start, end in spans:
        for page in job.source.candles(stored.instrument, job.timeframe, start, end):
            with job.connection.transaction():
                _store_page(job, stored, report, page)
            done += page.end - page.start
            job.progress.tell("candles", report.symbol, done / total)
    seconds = time.monotonic() - began
    rows = report.candles.inserted + report.candles.updated
    with job.connection.transaction():
        newest = candle_store.latest_candle_ts(job.connection, stored.instrument_id, job.timeframe)
        delivery = _delivery(job, report, f"candles {job.timeframe}")
        status.record_success(job.connection, delivery, newest, rows, rows / seconds if rows else None)


def _store_page(job: _Job, stored: StoredInstrument, report: SymbolReport, page: CandlePage) -> None:
    connection, source, timeframe = job.connection, job.source, job.timeframe
    candle_store.lock_coverage(connection, stored.instrument_id, timeframe, source.name)
    if not job.refetch and not candle_store.missing_spans(
        connection, stored.instrument_id, timeframe, source.name, page.start, page.end
    ):
        return  # somebody else has stored it since we asked
    split = split_valid(page.candles, timeframe, source.now())
    good = split.good[split.good["ts"].between(page.start, page.end, inclusive="left")]
    with connection.cursor() as cursor:
        count = candle_store.upsert_candles(cursor, stored.instrument_id, timeframe, good)
    if job.refetch and (
        marked := gaps.substituted_times(connection, stored.instrument_id, timeframe, page.start, page.end)
    ):
        delivered = set(good["ts"])
        gaps.forget_substitutes(connection, stored.instrument_id, timeframe, [ts for ts in marked if ts in delivered])
    report.quarantined += quarantine.add(connection, source.name, source.exchange, report.symbol, timeframe, split.bad)
    candle_store.extend_coverage(connection, stored.instrument_id, timeframe, source.name, (page.start, page.end))
    report.candles += count
    job.progress.rows += count.inserted + count.updated


def _ingest_funding(job: _Job, stored: StoredInstrument, report: SymbolReport) -> None:
    connection, source = job.connection, job.source
    settled: list[datetime] = []
    interval = timedelta(minutes=stored.instrument.funding_interval_minutes or 0)
    with connection.transaction():
        newest_settled = funding_store.latest_settlement(connection, stored.instrument_id)
    for start, end in _missing(job, stored, FUNDING, job.wanted):
        if newest_settled is not None and newest_settled < start and end <= newest_settled + interval:
            continue  # nothing is due yet
        rates = source.funding(stored.instrument, start, end)
        if rates.empty:
            continue
        newest = rates["ts"].max().to_pydatetime()
        settled.append(newest)
        with connection.transaction(), connection.cursor() as cursor:
            candle_store.lock_coverage(connection, stored.instrument_id, FUNDING, source.name)
            report.funding += funding_store.upsert_rates(cursor, stored.instrument_id, rates)
            # A settlement appears some time after it is due, so nothing after the newest one counts as answered.
            candle_store.extend_coverage(
                connection, stored.instrument_id, FUNDING, source.name, (start, newest + _TICK)
            )
            if report.symbol in job.unstated:
                instruments.observe_funding_interval(connection, stored.instrument_id)
    rows = report.funding.inserted + report.funding.updated
    with connection.transaction():
        status.record_success(connection, _delivery(job, report, FUNDING), max(settled, default=None), rows, None)


def _missing(job: _Job, stored: StoredInstrument, dataset: str, span: Span) -> list[Span]:
    if span[0] >= span[1]:
        return []
    if job.refetch:
        return [span]
    with job.connection.transaction():
        return candle_store.missing_spans(job.connection, stored.instrument_id, dataset, job.source.name, *span)


def _derive(job: _Job, stored: Sequence[StoredInstrument], reports: Sequence[SymbolReport]) -> dict[Timeframe, int]:
    """Bring longer timeframes and known gaps up to date, also after a run that was stopped before it came to this."""
    connection, base = job.connection, job.timeframe
    ids = sorted(instrument.instrument_id for instrument in stored)
    job.progress.tell("derive")
    derived: dict[Timeframe, int] = {}
    with connection.transaction():
        for instrument_id in ids:
            candle_store.lock_coverage(connection, instrument_id, candle_store.derived_from(base), job.source.name)
        span = candle_store.underived_span(connection, ids, base, job.source.name, *job.bars)
        span = job.bars if job.refetch else span
        if span is not None:
            derived = candle_store.derive(connection, ids, base, *span)
            candle_store.mark_derived(connection, ids, base, job.source.name, span)
            gaps.record_gaps(connection, ids, base, *span)
        if job.refetch:
            answered = [i.instrument_id for i, r in zip(stored, reports, strict=True) if not r.errors]
            gaps.confirm_absent(connection, answered, base, *job.bars, job.proof)
        missing = gaps.missing_bars(connection, ids, base, *job.bars)
    for instrument, report in zip(stored, reports, strict=True):
        report.missing_bars = missing.get(instrument.instrument_id, 0)
    return derived


def _delivery(job: _Job, report: SymbolReport, dataset: str) -> status.Delivery:
    return status.Delivery(job.source.name, job.source.exchange, report.symbol, dataset)
