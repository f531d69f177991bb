"""The first fill: from an empty database to models, a replayed stretch of days and a paper session.

Belongs here: in which order the steps of the lineage run when the platform starts, and what of them is done already.
Does not belong here: the steps themselves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog

from trading_pipelines.adapters.alternative.factory import open_sources
from trading_pipelines.adapters.scorers.base import ScorerUnavailableError
from trading_pipelines.adapters.sources import MarketDataSource, choose_timeframe
from trading_pipelines.application.alternative.alternative_data import OVERLAP, TEXTS, collect
from trading_pipelines.application.alternative.flows import update_flows
from trading_pipelines.application.alternative.odds import update_odds
from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
from trading_pipelines.application.analysis.market import find_anomalies, rank_universe, read_technical_signals
from trading_pipelines.application.analysis.scoring import score_range
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import IngestProgress, choose_listed, ingest, update_tickers
from trading_pipelines.application.market_data.universe import watch_universe
from trading_pipelines.application.models.prediction import predict
from trading_pipelines.application.models.training import TrainingProgress, train
from trading_pipelines.application.research.replay import ReplayProgress, replay
from trading_pipelines.application.signals.sessions import paper_session
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.execution.session import SessionStatus
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import candles, instruments, sessions, source_states

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class FillProgress:
    """How far a step is; `fraction` is 1.0 when it is done."""

    step: str
    fraction: float
    detail: str = ""


@dataclass
class FillReport:
    """What the fill did; `problems` are lines for a person, none of which kept it from going on."""

    candles: int = 0
    collected: int = 0
    trained: list[str] = field(default_factory=list[str])
    replayed: bool = False
    problems: list[str] = field(default_factory=list[str])


OnProgress = Callable[[FillProgress], None]


def first_fill(
    connection: psycopg.Connection[Any], settings: Settings, source: MarketDataSource, on_progress: OnProgress
) -> FillReport:
    """Bring the database to the point from which schedules and sensors go on; a repeated call does what is missing.

    The newest days are replayed with models that were trained on what lies before them, so that what the pages
    show was decided as it would have been then. The clock is the source's own.

    Raises
    ------
    UserError
        Unknown symbols or timeframes, or a source from which nothing could be had.
    """
    fill = _Fill(connection, settings, source, on_progress)
    fill.ingest()
    fill.collect()
    if fill.is_replayed():
        fill.catch_up()
    else:
        fill.train()
        fill.replay()
    fill.look_around()
    paper_session(connection, settings, source.now())
    return fill.report


@dataclass
class _Fill:
    connection: psycopg.Connection[Any]
    settings: Settings
    source: MarketDataSource
    on_progress: OnProgress
    report: FillReport = field(default_factory=FillReport)

    def __post_init__(self) -> None:
        listed, vanished = choose_listed(self.connection, self.source, self.settings.symbols)
        self.symbols: Sequence[str] = [instrument.symbol for instrument in listed]
        self.report.problems += [f"{symbol}: {self.source.exchange} lists it no more" for symbol in vanished]
        self.base = choose_timeframe(self.source, self.symbols, self.settings.base_timeframe)
        self.signal = Timeframe(self.settings.signal_timeframe)
        # Midnight, so that a fill which was interrupted finds its checkpoints.
        newest = self.source.now()
        self.split = Timeframe.D1.floor(newest - timedelta(days=self.settings.fill.replay_days))
        self.end = self.signal.floor(newest)

    def ingest(self) -> None:
        def tell(progress: IngestProgress) -> None:
            self.on_progress(FillProgress("candles", min(progress.fraction, 0.99), progress.symbol))

        start = self.source.now() - timedelta(days=self.settings.fill.history_days)
        outcome = ingest(
            self.connection, self.source, self.symbols, self.base, start, self.source.now(), on_progress=tell
        )
        self.report.candles = outcome.inserted
        self.report.problems += outcome.errors
        update_tickers(self.connection, self.source, self.symbols)
        if not self._symbols_with_candles():
            raise UserError("; ".join(outcome.errors) or f"{self.source.name} {self.source.exchange} has no candles")
        self.on_progress(FillProgress("candles", 1.0, f"{outcome.inserted:,} new"))

    def collect(self) -> None:
        """What is known besides prices, as far back as its sources go; none of them has to answer."""
        asked = [(dataset, source) for dataset, found in open_sources(self.settings).items() for source in found]
        now, fill = self.source.now(), self.settings.fill
        start = now - timedelta(days=fill.history_days)
        for number, (dataset, source) in enumerate(asked):
            self.on_progress(FillProgress("sources", number / len(asked), source.name))
            last = source_states.last_success(self.connection, source.name)
            first = max(start, now - timedelta(days=fill.text_days)) if dataset in TEXTS else start
            outcome = collect(self.connection, source, first if last is None else last - OVERLAP, now)
            self.report.collected += outcome.new
            if outcome.status == "FAILING":
                self.report.problems.append(outcome.detail)
        update_flows(self.connection, self.settings, start, now)
        update_odds(self.connection, self.settings, start, now)
        self.on_progress(FillProgress("sources", 0.99, "reading texts"))
        self._read_texts(now)
        self.on_progress(FillProgress("sources", 1.0, f"{self.report.collected:,} new"))

    def _read_texts(self, now: datetime) -> None:
        """What the texts say; a scorer that lacks something is left to the schedule."""
        chosen = self.settings.sentiment
        try:
            update_sentiment(
                self.connection,
                open_readers(chosen),
                now,
                simulated=self.source.exchange == SIMULATED,
                coins=[split_symbol(symbol)[0] for symbol in self.symbols],
                spec=chosen.aggregation,
                alerts=chosen.alerts,
            )
        except ScorerUnavailableError as error:
            self.report.problems.append(str(error))

    def is_replayed(self) -> bool:
        session = sessions.find(self.connection, self.settings.fill.replay_name)
        self.connection.commit()
        return (
            session is not None
            and session.status is SessionStatus.STOPPED
            and (session.exchange, session.timeframe) == (self.source.exchange, self.signal)
            and set(self.symbols) <= set(session.symbols)
        )

    def train(self) -> None:
        """One version per symbol; one that cannot be trained is left to a later training."""
        for number, symbol in enumerate(self.symbols):
            done = number / len(self.symbols)

            def tell(progress: TrainingProgress, done: float = done) -> None:
                share = progress.done / (progress.total + 1) / len(self.symbols)
                self.on_progress(FillProgress("models", done + share, progress.symbol))

            self.on_progress(FillProgress("models", done, symbol))
            try:
                outcome = train(
                    self.connection,
                    self.source.exchange,
                    symbol,
                    self.signal,
                    self.split,
                    self.settings.training,
                    on_progress=tell,
                )
            except UserError as error:
                self.connection.rollback()
                log.warning("no model was trained", symbol=symbol, reason=str(error))
                self.report.problems.append(str(error))
                continue
            log.info("model trained", symbol=symbol, model_id=outcome.model_id, verdict=outcome.verdict)
            self.report.trained.append(symbol)
        self.on_progress(FillProgress("models", 1.0, f"{len(self.report.trained)} of {len(self.symbols)} symbols"))

    def replay(self) -> None:
        def tell(progress: ReplayProgress) -> None:
            share = progress.done / progress.total if progress.total else 0.0
            self.on_progress(FillProgress("replay", min(share, 0.99), f"{progress.stage} {progress.clock:%Y-%m-%d}"))

        outcome = replay(
            self.connection,
            self.settings,
            self.source.exchange,
            self._symbols_with_candles(),
            self.signal,
            self.split,
            self.end,
            name=self.settings.fill.replay_name,
            on_progress=tell,
        )
        self.report.replayed = True
        self.on_progress(FillProgress("replay", 1.0, f"{outcome.signals} signals, {outcome.executed} executed"))

    def catch_up(self) -> None:
        """Features, predictions and scores of the newest days, for what was missed while the platform was down."""
        for number, symbol in enumerate(self.symbols):
            self.on_progress(FillProgress("features", number / len(self.symbols), symbol))
            build_features(self.connection, self.source.exchange, [symbol], self.signal, self.split, self.end)
            predict(self.connection, self.source.exchange, [symbol], self.signal, self.split, self.end)
        self.on_progress(FillProgress("features", 1.0))
        found, spec = self._symbols_with_candles(), self.settings.scoring
        score_range(self.connection, self.source.exchange, found, self.signal, self.split, self.end, spec)

    def look_around(self) -> None:
        """What the newest day's charts say, its anomalies and ranking, and who belongs to the universe."""
        connection, settings, found = self.connection, self.settings, self._symbols_with_candles()
        exchange, since = self.source.exchange, self.end - timedelta(days=1)
        steps: dict[str, Callable[[], object]] = {
            "charts": lambda: read_technical_signals(
                connection,
                exchange,
                found,
                since,
                self.end,
                capital=settings.session.capital,
                execution=settings.execution,
                limits=settings.risk,
            ),
            "anomalies": lambda: find_anomalies(
                connection, exchange, found, self.signal, since, self.end, self.source.now()
            ),
            "universe": lambda: watch_universe(connection, self.source, settings.universe),
            "ranking": lambda: rank_universe(connection, exchange, found, since, self.end),
        }
        for number, (step, look) in enumerate(steps.items()):
            self.on_progress(FillProgress("overview", number / len(steps), step))
            try:
                look()
            except UserError as error:
                connection.rollback()
                self.report.problems.append(str(error))
        self.on_progress(FillProgress("overview", 1.0))

    def _symbols_with_candles(self) -> list[str]:
        stored = instruments.by_symbol(self.connection, self.source.exchange)
        found = [
            symbol
            for symbol in self.symbols
            if symbol in stored
            and candles.count(self.connection, stored[symbol].instrument_id, self.signal, self.split, self.end)
        ]
        self.connection.commit()
        return found
