"""Decide: from what the strategies propose at closed bars to stored signals, rejections and exits.

Live and replay call the same functions; they differ only in who passes `as_of`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import psycopg

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.features.strategy_inputs import from_microseconds, to_microseconds
from trading_pipelines.application.models.prediction import explain
from trading_pipelines.application.risk.rules import Stage, assess, keep_assessment
from trading_pipelines.application.signals.candidates import (
    Candidates,
    StrategyCandidates,
    Universe,
    load_candidates,
    session_strategies,
)
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.rules import Proposal
from trading_pipelines.domain.signals.gates import UNKNOWN_TIME, Verdicts, judge
from trading_pipelines.domain.signals.setup import TradeSetup
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import exits as exit_store
from trading_pipelines.store.repositories import instruments as instrument_store
from trading_pipelines.store.repositories import scores as score_store
from trading_pipelines.store.repositories import signals as signal_store
from trading_pipelines.store.repositories.exits import ExitRow

SCORES_DUE = timedelta(minutes=10)
"""How long after its close a bar waits for its score; then it is decided without."""


@dataclass(frozen=True)
class EmissionReport:
    """What came out of a number of bars: how many signals, exits, and rejections counted by reason."""

    bars: int = 0
    signal_ids: tuple[UUID, ...] = ()
    exits: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """Number of proposals that were refused."""
        return self.reasons.total()

    def __add__(self, other: "EmissionReport") -> "EmissionReport":
        return EmissionReport(
            self.bars + other.bars,
            self.signal_ids + other.signal_ids,
            self.exits + other.exits,
            self.reasons + other.reasons,
        )


def pending_bars(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> list[datetime]:
    """Open times of bars that could still give a valid signal and are not decided yet, ascending.

    Bars that had closed when the session began are none of its business, as they are none of a backtest's that begins
    then. Where a strategy reads the composite score, a bar waits for it as long as it can still be expected.
    """
    stored = instrument_store.by_symbol(connection, session.exchange)
    ids = [stored[symbol].instrument_id for symbol in session.symbols if symbol in stored]
    oldest = as_of - timedelta(minutes=session.policy.validity_minutes)
    bars = signal_store.pending_bars(
        connection,
        session.session_id,
        ids,
        session.timeframe,
        session.strategies,
        current_feature_set(connection),
        oldest if session.begins_at is None else max(oldest, session.begins_at),
        as_of,
    )
    if not _reads_scores(session):
        return bars
    frame = Timeframe(session.timeframe)
    unscored = score_store.unscored(connection, ids, frame, bars)
    return [ts for ts in bars if ts not in unscored or as_of - (ts + frame.delta) >= SCORES_DUE]


def bars_to_decide(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> list[datetime]:
    """Open times of the bars that the session should look at now, ascending.

    A paused session opens nothing; it looks at the newest bar as long as a strategy of its holds a position that it may
    want to leave. A stopped one looks at nothing.
    """
    if session.status is SessionStatus.RUNNING:
        return pending_bars(connection, session, as_of)
    if session.status is SessionStatus.STOPPED or not exit_store.held(connection, session.session_id, as_of):
        return []
    newest = Timeframe(session.timeframe).last_closed(as_of)
    return [ts for ts in pending_bars(connection, session, as_of) if ts == newest]


def emit_signals(
    connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime, run_id: str | None = None
) -> EmissionReport:
    """Decide every pending bar, newest first, and commit the decisions, signals and exits.

    Newest first, because after a pause the cooldown should spend its one signal on the freshest set-up. A paused
    session opens nothing but still leaves what its strategies want left; a stopped one decides nothing.

    Raises
    ------
    UserError
        A strategy of the session cannot be built.
    """
    universe = Universe.of(connection, session)
    report = EmissionReport()
    for ts in reversed(bars_to_decide(connection, session, as_of)):
        candidates = load_candidates(connection, universe, ts, ts + universe.timeframe.delta)
        exits = decide_exits(connection, session, universe, candidates, as_of)
        report += EmissionReport(exits=len(exits))
        if session.status is SessionStatus.RUNNING:
            report += decide_bar(connection, session, universe, candidates, as_of, run_id)
        connection.commit()
    return report


def expire_signals(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> int:
    """Expire the active signals whose validity has ended; how many there were."""
    return signal_store.expire(connection, session.session_id, as_of)


def decide_exits(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    candidates: Candidates,
    as_of: datetime,
) -> list[ExitRow]:
    """Store which open positions their strategies want closed at the close of one bar; the caller commits.

    Only the newest closed bar counts: what a strategy wanted hours ago says nothing about the position now.
    """
    newest = universe.timeframe.last_closed(as_of)
    held = exit_store.held(connection, session.session_id, as_of)
    rows = [row for part in candidates for row in _exits(session, part, held, newest, as_of)]
    with connection.cursor() as cursor:
        exit_store.insert(cursor, rows)
    return rows


def decide_bar(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    candidates: Candidates,
    as_of: datetime,
    run_id: str | None = None,
) -> EmissionReport:
    """Decide one bar for all symbols and strategies and store decisions and signals; the caller commits.

    A bar that was not closed at `as_of` is not looked at. Of two strategies that pass for the same symbol the one named
    first in the session gets the signal and starts the cooldown.
    """
    verdicts = list(_decide(connection, session, universe, candidates, as_of, run_id))
    emitted = [v for v in verdicts if v.refusal is None]
    signals = [_signal_row(connection, session, universe, v, as_of) for v in emitted]
    with connection.cursor() as cursor:
        signal_store.insert_decisions(cursor, [v.row for v in verdicts])
        signal_store.insert_signals(cursor, signals)
    return EmissionReport(
        bars=1,
        signal_ids=tuple(signal.signal_id for signal in signals),
        reasons=Counter(v.refusal for v in verdicts if v.refusal is not None),
    )


def _reads_scores(session: TradingSession) -> bool:
    """Whether some strategy wants scores; one that cannot be built is for emission itself to complain about."""
    try:
        return any(strategy.needs.scores for strategy in session_strategies(session).values())
    except UserError:
        return False


@dataclass(frozen=True)
class _Verdict:
    """One symbol's decision with the set-up that it was made about; `refusal` names the gate that said no."""

    row: signal_store.DecisionRow
    setup: TradeSetup | None
    refusal: str | None


def _exits(
    session: TradingSession,
    part: StrategyCandidates,
    held: list[exit_store.HeldPosition],
    newest: datetime,
    as_of: datetime,
) -> Iterator[ExitRow]:
    row_of = {instrument_id: i for i, instrument_id in enumerate(part.instrument_id.tolist())}
    for position in held:
        i = row_of.get(position.instrument_id)
        if i is None or position.strategy != part.name or from_microseconds(int(part.ts[i])) != newest:
            continue
        side = PositionSide(position.side)
        if part.exit_flags(i) & (CLOSE_LONG if side is PositionSide.LONG else CLOSE_SHORT):
            yield ExitRow(
                session_id=session.session_id,
                position_id=position.position_id,
                instrument_id=position.instrument_id,
                timeframe=session.timeframe,
                ts=newest,
                strategy=part.name,
                decided_at=as_of,
                reason=part.strategy.exit_reason,
                confidence=part.confidence_of(i, side.sign),
            )


def _decide(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    candidates: Candidates,
    as_of: datetime,
    run_id: str | None,
) -> Iterator[_Verdict]:
    if not any(len(part) for part in candidates):
        return
    last = signal_store.last_signal_times(connection, session.session_id, as_of)
    last_signals = {key: to_microseconds(moment) for key, moment in last.items()}
    newest = signal_store.newest_candle_closes(connection, list(universe.instruments), universe.timeframe, as_of)
    newest_closes = {key: to_microseconds(moment) for key, moment in newest.items()}
    for part in candidates:
        known = part.closed_by(to_microseconds(as_of))
        verdicts = _judge(session, known, as_of, newest_closes, last_signals)
        for i in range(len(known)):
            refusal = verdicts.refusal(i)
            setup = verdicts.setups.row(i)
            if refusal is None:
                last_signals[int(known.instrument_id[i])] = to_microseconds(as_of)
            yield _Verdict(_decision_row(session, known, i, setup, verdicts, as_of, run_id), setup, refusal)


def _judge(
    session: TradingSession,
    part: StrategyCandidates,
    as_of: datetime,
    newest_closes: Mapping[int, int],
    last_signals: Mapping[int, int],
) -> Verdicts:
    ids = part.instrument_id.tolist()
    closed_at = part.proposals.closed_at.tolist()
    return judge(
        part.proposals,
        part.strategy.policy(session.policy),
        session.execution,
        session.direction,
        np.full(len(ids), to_microseconds(as_of)),
        np.array([newest_closes.get(key, own) for key, own in zip(ids, closed_at, strict=True)], dtype=np.int64),
        np.array([last_signals.get(key, UNKNOWN_TIME) for key in ids], dtype=np.int64),
    )


def _decision_row(
    session: TradingSession,
    part: StrategyCandidates,
    i: int,
    setup: TradeSetup | None,
    verdicts: Verdicts,
    as_of: datetime,
    run_id: str | None,
) -> signal_store.DecisionRow:
    refusal = verdicts.refusal(i)
    return signal_store.DecisionRow(
        session_id=session.session_id,
        instrument_id=int(part.instrument_id[i]),
        timeframe=session.timeframe,
        ts=from_microseconds(int(part.ts[i])),
        strategy=part.name,
        decided_at=as_of,
        outcome="SIGNAL" if refusal is None else "REJECTED",
        reason=refusal or "all gates passed",
        side=None if setup is None else setup.side,
        confidence=None if setup is None else setup.confidence,
        model_id=part.model_id(i),
        gates=[asdict(gate) for gate in verdicts.row(i)],
        setup=None if setup is None else asdict(setup),
        factors=part.factors(i),
        run_id=run_id,
    )


def _signal_row(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    verdict: _Verdict,
    as_of: datetime,
) -> signal_store.SignalRow:
    """The complete trade proposal; its size is that of this moment, the order path asks again.

    What the risk rules say now is kept, but does not keep the signal from being one: it may be executed later.
    """
    decision, setup = verdict.row, verdict.setup
    assert setup is not None  # a gate asks for it
    instrument = universe.instruments[decision.instrument_id]
    proposal = Proposal(
        instrument_id=decision.instrument_id,
        instrument=instrument,
        side=setup.side,
        reference_price=setup.reference_price,
        stop_price=setup.stop_price,
        targets=setup.targets,
        confidence=setup.confidence,
    )
    risk = assess(connection, session, proposal, as_of)
    name = ":".join(
        (instrument.exchange, instrument.symbol, decision.timeframe, decision.strategy, decision.ts.isoformat())
    )
    signal_id = uuid5(session.session_id, name)
    keep_assessment(connection, session, signal_id, proposal, Stage.EMISSION, risk, as_of)
    closed_at = decision.ts + universe.timeframe.delta
    return signal_store.SignalRow(
        signal_id=signal_id,
        session_id=session.session_id,
        instrument_id=decision.instrument_id,
        timeframe=decision.timeframe,
        ts=decision.ts,
        strategy=decision.strategy,
        created_at=decision.decided_at,
        valid_until=closed_at + timedelta(minutes=session.policy.validity_minutes),
        side=setup.side,
        entry_price=setup.reference_price,
        stop_price=setup.stop_price,
        tp1_price=setup.targets[0],
        tp2_price=setup.targets[1],
        tp3_price=setup.targets[2],
        atr=setup.atr,
        leverage=session.execution.leverage,
        quantity=risk.size.quantity,
        margin=risk.size.margin,
        probability=setup.probability,
        confidence=setup.confidence,
        risk_reward=setup.risk_reward,
        gross_profit=setup.gross_profit,
        cost=setup.cost,
        net_profit=setup.net_profit,
        expected_value=setup.expected_value,
        model_id=decision.model_id,
        factors=_factors(connection, decision),
        run_id=decision.run_id,
        updated_at=decision.decided_at,
    )


def _factors(connection: psycopg.Connection[Any], decision: signal_store.DecisionRow) -> dict[str, float]:
    """What moved the decision: a model's strongest contributions, and what the strategy itself names."""
    if decision.model_id is None:
        return decision.factors
    model = explain(connection, decision.model_id, decision.instrument_id, decision.timeframe, decision.ts)
    return {**decision.factors, **model}
