"""Decide: from the predictions of closed bars to stored signals and stored rejections.

Live and replay call the same functions; they differ only in who passes `as_of`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import psycopg

from trading_pipelines.application.features import current_feature_set
from trading_pipelines.application.portfolio import portfolio_view
from trading_pipelines.application.prediction import explain
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.rules import PortfolioView, size_trade
from trading_pipelines.domain.signals.gates import Candidate, Gate, evaluate_gates, first_refusal
from trading_pipelines.domain.signals.setup import TradeSetup, build_setup
from trading_pipelines.store.repositories import instruments as instrument_store
from trading_pipelines.store.repositories import signals as signal_store
from trading_pipelines.store.repositories.signals import CandidateRow


@dataclass(frozen=True)
class EmissionReport:
    """What came out of a number of bars: how many signals, and rejections counted by reason."""

    bars: int = 0
    signal_ids: tuple[UUID, ...] = ()
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def rejected(self) -> int:
        """Number of set-ups that were refused."""
        return self.reasons.total()

    def __add__(self, other: "EmissionReport") -> "EmissionReport":
        return EmissionReport(self.bars + other.bars, self.signal_ids + other.signal_ids, self.reasons + other.reasons)


@dataclass(frozen=True)
class Universe:
    """The session's instruments by their stored id, and the feature set that decisions read."""

    instruments: dict[int, Instrument]
    timeframe: Timeframe
    feature_set_id: int

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], session: TradingSession) -> "Universe":
        """Look the session's symbols up; a symbol that is not stored yet is left out."""
        stored = instrument_store.by_symbol(connection, session.exchange)
        return cls(
            {stored[s].instrument_id: stored[s].instrument for s in session.symbols if s in stored},
            Timeframe(session.timeframe),
            current_feature_set(connection),
        )


def pending_bars(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> list[datetime]:
    """Open times of bars that could still give a valid signal and are not decided yet, ascending."""
    universe = Universe.of(connection, session)
    validity = timedelta(minutes=session.policy.validity_minutes)
    return signal_store.pending_bars(
        connection,
        session.session_id,
        list(universe.instruments),
        session.timeframe,
        universe.feature_set_id,
        as_of - validity,
        as_of,
    )


def emit_signals(
    connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime, run_id: str | None = None
) -> EmissionReport:
    """Decide every pending bar, newest first, and commit the decisions and signals.

    Newest first, because after a pause the cooldown should spend its one signal on the freshest set-up. A paused
    or stopped session decides nothing.
    """
    if session.status is not SessionStatus.RUNNING:
        return EmissionReport()
    universe = Universe.of(connection, session)
    report = EmissionReport()
    for ts in reversed(pending_bars(connection, session, as_of)):
        candidates = load_candidates(connection, universe, ts, ts + universe.timeframe.delta)
        report += decide_bar(connection, session, universe, candidates, as_of, run_id)
        connection.commit()
    return report


def expire_signals(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> int:
    """Expire the active signals whose validity has ended; how many there were."""
    return signal_store.expire(connection, session.session_id, as_of)


def load_candidates(
    connection: psycopg.Connection[Any], universe: Universe, start: datetime, end: datetime
) -> list[CandidateRow]:
    """What decisions read about the bars with open time in [start, end), by time and instrument."""
    return signal_store.read_candidates(
        connection, list(universe.instruments), universe.timeframe, universe.feature_set_id, start, end
    )


def decide_bar(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    candidates: Sequence[CandidateRow],
    as_of: datetime,
    run_id: str | None = None,
) -> EmissionReport:
    """Decide one bar for all symbols and store decisions and signals; the caller commits.

    Rows of `candidates` that were not available at `as_of` are not looked at.
    """
    known = [row for row in candidates if row.available_at <= as_of]
    verdicts = list(_decide(connection, session, universe, known, as_of, run_id))
    emitted = [v for v in verdicts if v.refusal is None and v.setup is not None]
    portfolio = portfolio_view(connection, session, as_of) if emitted else None
    signals = [_signal_row(connection, session, universe, v, portfolio) for v in emitted if portfolio is not None]
    with connection.cursor() as cursor:
        signal_store.insert_decisions(cursor, [v.row for v in verdicts])
        signal_store.insert_signals(cursor, signals)
    return EmissionReport(
        bars=1,
        signal_ids=tuple(signal.signal_id for signal in signals),
        reasons=Counter(v.refusal for v in verdicts if v.refusal is not None),
    )


@dataclass(frozen=True)
class _Verdict:
    """One symbol's decision with the set-up that it was made about; `refusal` names the gate that said no."""

    row: signal_store.DecisionRow
    setup: TradeSetup | None
    refusal: str | None


def _decide(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    candidates: Sequence[CandidateRow],
    as_of: datetime,
    run_id: str | None,
) -> Iterator[_Verdict]:
    if not candidates:
        return
    last_signals = signal_store.last_signal_times(connection, session.session_id, as_of)
    newest = signal_store.newest_candle_closes(connection, list(universe.instruments), universe.timeframe, as_of)
    for row in candidates:
        candidate = Candidate(
            bar_closed_at=row.available_at,
            newest_candle_closed_at=newest.get(row.instrument_id, row.available_at),
            model_as_of=row.model_as_of,
            atr_ratio=row.atr_ratio,
            setup=_setup(row, session),
            last_signal_at=last_signals.get(row.instrument_id),
        )
        gates = evaluate_gates(candidate, session.policy, as_of)
        refusal = first_refusal(gates)
        yield _Verdict(
            _decision_row(session, row, candidate.setup, gates, refusal, as_of, run_id), candidate.setup, refusal
        )


def _decision_row(
    session: TradingSession,
    row: CandidateRow,
    setup: TradeSetup | None,
    gates: tuple[Gate, ...],
    refusal: str | None,
    as_of: datetime,
    run_id: str | None,
) -> signal_store.DecisionRow:
    return signal_store.DecisionRow(
        session_id=session.session_id,
        instrument_id=row.instrument_id,
        timeframe=session.timeframe,
        ts=row.ts,
        decided_at=as_of,
        outcome="SIGNAL" if refusal is None else "REJECTED",
        reason=refusal or "all gates passed",
        side=None if setup is None else setup.side,
        confidence=None if setup is None else setup.confidence,
        model_id=row.model_id,
        gates=[asdict(gate) for gate in gates],
        setup=None if setup is None else asdict(setup),
        run_id=run_id,
    )


def _setup(row: CandidateRow, session: TradingSession) -> TradeSetup | None:
    """The set-up of the side that the model expects, None without a prediction or an ATR."""
    if row.side is None or row.probability is None or row.confidence is None or not row.atr > 0:
        return None
    side = PositionSide(row.side)
    probability = row.probability if side is PositionSide.LONG else 1 - row.probability
    return build_setup(side, row.close, row.atr, probability, row.confidence, session.execution)


def _signal_row(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    universe: Universe,
    verdict: _Verdict,
    portfolio: PortfolioView,
) -> signal_store.SignalRow:
    """The complete trade proposal; its size is that of this moment, the order path sizes again."""
    decision, setup = verdict.row, verdict.setup
    assert setup is not None
    instrument = universe.instruments[decision.instrument_id]
    size = size_trade(
        portfolio,
        decision.instrument_id,
        instrument,
        setup.side,
        setup.reference_price,
        setup.stop_price,
        setup.confidence,
        session.execution,
        session.limits,
    )
    name = f"{instrument.exchange}:{instrument.symbol}:{decision.timeframe}:{decision.ts.isoformat()}"
    closed_at = decision.ts + universe.timeframe.delta
    return signal_store.SignalRow(
        signal_id=uuid5(session.session_id, name),
        session_id=session.session_id,
        instrument_id=decision.instrument_id,
        timeframe=decision.timeframe,
        ts=decision.ts,
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
        quantity=size.quantity,
        margin=size.margin,
        probability=setup.probability,
        confidence=setup.confidence,
        risk_reward=setup.risk_reward,
        gross_profit=setup.gross_profit,
        cost=setup.cost,
        net_profit=setup.net_profit,
        expected_value=setup.expected_value,
        model_id=str(decision.model_id),
        factors=explain(connection, str(decision.model_id), decision.instrument_id, decision.timeframe, decision.ts),
        run_id=decision.run_id,
        updated_at=decision.decided_at,
    )
