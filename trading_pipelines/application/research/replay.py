"""Replay: move the as-of clock over stored candles through the code that the live loop runs.

Features and predictions are built by the functions that the schedules call; decisions, risk, orders, fills and
expiry by those that the sensors and the fast service call. Only the clock differs, and the account: a replay
trades in a session of its own.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import psycopg

from trading_pipelines.adapters.exchanges.paper import MarketEvent, PaperExchange
from trading_pipelines.application.analysis.scoring import bring_up_to_date
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.models.prediction import predict
from trading_pipelines.application.models.training import train_many
from trading_pipelines.application.research.fingerprint import session_fingerprint
from trading_pipelines.application.signals import emission
from trading_pipelines.application.signals.candidates import Candidates, Universe, load_candidates, session_strategies
from trading_pipelines.application.signals.sessions import new_session, start_replay
from trading_pipelines.application.trading import execution, monitor
from trading_pipelines.application.trading.performance import session_performance
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.portfolio.performance import Performance
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import candles, instruments, sessions
from trading_pipelines.store.repositories import exits as exit_store
from trading_pipelines.store.repositories.exits import ExitRow

CHUNK = timedelta(days=1)


@dataclass(frozen=True)
class ReplayProgress:
    """How far the clock has come."""

    stage: str
    clock: datetime
    done: int
    total: int


@dataclass(frozen=True)
class ReplayReport:
    """What a replay ended with; two replays of the same input have the same fingerprint."""

    session: TradingSession
    bars: int
    signals: int
    executed: int
    reasons: dict[str, int]
    performance: Performance
    fingerprint: str


def replay(
    connection: psycopg.Connection[Any],
    settings: Settings,
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    *,
    train_until: datetime | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] = MappingProxyType({}),
    on_progress: Callable[[ReplayProgress], None] = lambda _: None,
) -> ReplayReport:
    """Replay the bars that open in [start, end) into a session of its own.

    Parameters
    ----------
    train_until : datetime, optional
        Train one version per symbol that reads nothing later than this and is in production from then on. Without
        it each bar is judged by the version that was in production at its close.
    name : str, optional
        Name of the session; a replay of the same name is replaced.
    changes : mapping, optional
        Fields of the session that differ from the settings, for example its strategies, direction or limits.

    Raises
    ------
    UserError
        Unknown symbol or strategy, no candles in the range, or `train_until` after `start`.
    """
    if train_until is not None and train_until > start:
        raise UserError(f"--train-until {train_until:%Y-%m-%d} is after --from {start:%Y-%m-%d}: that would peek")
    _check_candles(connection, exchange, symbols, Timeframe(timeframe), start, end)
    session = new_session(
        connection,
        settings,
        name or f"replay-{exchange}-{timeframe}-{start:%Y%m%d}-{end:%Y%m%d}",
        SessionMode.REPLAY,
        **{"exchange": exchange, "symbols": tuple(symbols), "timeframe": timeframe, **changes},
    )
    if train_until is not None:
        on_progress(ReplayProgress("training", train_until, 0, 0))
        train_many(connection, exchange, symbols, timeframe, train_until, settings.training, force=True)
    needs = [strategy.needs for strategy in session_strategies(session).values()]
    if any(need.features or need.predictions for need in needs):
        on_progress(ReplayProgress("features", start, 0, 0))
        build_features(connection, exchange, symbols, timeframe, start, end)
    if any(need.predictions for need in needs):
        on_progress(ReplayProgress("predictions", start, 0, 0))
        predict(connection, exchange, symbols, timeframe, start, end)
    on_progress(ReplayProgress("scores", start, 0, 0))
    asked = any(need.scores for need in needs)
    bring_up_to_date(connection, exchange, symbols, timeframe, start, end, settings.scoring, asked=asked)
    start_replay(connection, session, start)
    run = _Run.open(connection, session)
    run.advance_clock(start, end, on_progress)
    return run.finish(end)


@dataclass
class _Run:
    """The state of one replay: where its parts are and what has come out so far."""

    connection: psycopg.Connection[Any]
    session: TradingSession
    exchange: PaperExchange
    universe: Universe
    bars: int = 0
    emitted: emission.EmissionReport = field(default_factory=emission.EmissionReport)
    executed: int = 0

    @classmethod
    def open(cls, connection: psycopg.Connection[Any], session: TradingSession) -> "_Run":
        # A replay can be repeated, so its commits need not wait for the disk.
        connection.execute("set synchronous_commit = off")
        connection.commit()
        exchange = PaperExchange(connection, session.session_id, session.execution)
        return cls(connection, session, exchange, Universe.of(connection, session))

    def advance_clock(self, start: datetime, end: datetime, on_progress: Callable[[ReplayProgress], None]) -> None:
        total = int((end - start) / self.universe.timeframe.delta)
        moment = start
        while moment < end:
            upto = min(moment + CHUNK, end)
            self._replay_chunk(moment, upto)
            on_progress(ReplayProgress("replaying", upto, self.bars, total))
            moment = upto

    def _replay_chunk(self, start: datetime, end: datetime) -> None:
        events = market_events(self.connection, self.universe.instruments, self.universe.timeframe, start, end)
        candidates = load_candidates(self.connection, self.universe, start, end)
        moves: dict[datetime, list[MarketEvent]] = defaultdict(list)
        for event in events:
            moves[self.universe.timeframe.floor(event.ts_open)].append(event)
        self.connection.commit()
        delta = self.universe.timeframe.delta
        ts = start
        while ts < end:
            self._replay_bar(ts, ts + delta, moves[ts], candidates.at(ts))
            ts += delta
        sessions.set_clock(self.connection, self.session.session_id, end)
        self.connection.commit()

    def _replay_bar(self, ts: datetime, as_of: datetime, moved: Sequence[MarketEvent], candidates: Candidates) -> None:
        """One bar in the order of the execution model: fills, then the close, exits, then new set-ups."""
        self.bars += 1
        if moved and self.exchange.advance(moved):
            execution.synchronise(self.connection, self.session, self.exchange, as_of)
        exits = emission.decide_exits(self.connection, self.session, self.universe, candidates, as_of)
        self._manage(ts, as_of, candidates, exits)
        emission.expire_signals(self.connection, self.session, as_of)
        self.emitted += (report := emission.decide_bar(self.connection, self.session, self.universe, candidates, as_of))
        self.connection.commit()
        if report.signal_ids:
            quotes = {instrument_id: close for instrument_id, (close, _) in candidates.closes.items()}
            outcome = execution.execute_signals(
                self.connection, self.session, self.exchange, as_of, quotes=quotes, kill=None
            )
            self.executed += len(outcome.executed)

    def _manage(self, ts: datetime, as_of: datetime, candidates: Candidates, exits: Sequence[ExitRow]) -> None:
        closes = {i: monitor.BarClose(ts, as_of, close, atr) for i, (close, atr) in candidates.closes.items()}
        wanted = [monitor.ExitDecision(row.instrument_id, row.reason) for row in exits]
        monitor.manage_at_close(self.connection, self.session, self.exchange, closes, as_of, exits=wanted)
        if exits:
            with self.connection.cursor() as cursor:
                exit_store.mark_handled(cursor, [row.position_id for row in exits], "sent", as_of)

    def finish(self, end: datetime) -> ReplayReport:
        emission.expire_signals(self.connection, self.session, end)
        sessions.set_status(self.connection, self.session.session_id, SessionStatus.STOPPED)
        fingerprint = session_fingerprint(self.connection, self.session.session_id)
        sessions.set_fingerprint(self.connection, self.session.session_id, fingerprint)
        self.connection.commit()
        return ReplayReport(
            session=self.session,
            bars=self.bars,
            signals=len(self.emitted.signal_ids),
            executed=self.executed,
            reasons=dict(Counter(self.emitted.reasons).most_common()),
            performance=session_performance(self.connection, self.session.session_id),
            fingerprint=fingerprint,
        )


def _check_candles(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> None:
    stored = instruments.by_symbol(connection, exchange)
    for symbol in symbols:
        if symbol not in stored:
            known = ", ".join(sorted(stored)) or "none"
            raise UserError(f"{symbol} is not stored for {exchange} (stored: {known}): run `trading ingest` first")
        found = candles.count(connection, stored[symbol].instrument_id, timeframe, start, end)
        if found == 0:
            raise UserError(
                f"no {timeframe} candles of {symbol} on {exchange} between {start:%Y-%m-%d} and {end:%Y-%m-%d}: "
                "run `trading ingest` for that range first"
            )
