"""Daily parity: what a live session decided and filled, against what its rules decide and fill from the same rows.

Belongs here: deciding a past day again, telling a defect from a late or missing decision, and holding real fills
against modelled ones. Does not belong here: the comparison of whole drivers (`application.research.parity`) and who is
told (`defs.portfolio`).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from statistics import fmean, median
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.features.strategy_inputs import from_microseconds, to_microseconds
from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.signals.candidates import StrategyCandidates, Universe, load_candidates
from trading_pipelines.application.trading.manual import STRATEGY as BY_HAND
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.execution.session import SessionMode, TradingSession
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.parity import DecisionRecord, Records, compare, in_words, significant
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.gates import UNKNOWN_TIME, Verdicts, judge
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy
from trading_pipelines.domain.simulation.single_position import GivenTrade, ModelledFill, PriceBar, model_fills
from trading_pipelines.store.repositories import events, instruments, sessions
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import parity as store
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.parity import LiveDecision, ParityRow, PositionFill, TradedPosition

MOST_DIFFERENCES = 200
"""Differences kept with a report; the counts are of all."""
_PASSED = "all gates passed"
_Key = tuple[datetime, int, str]


class Kind(StrEnum):
    """Why a decision of a session is not the one that a session in time makes from the same rows."""

    LATE = "LATE"
    MISSED = "MISSED"
    DIVERGED = "DIVERGED"


def live_parity(
    connection: psycopg.Connection[Any], exchange: str, day: date, now: datetime, run_id: str | None = None
) -> dict[str, ParityRow]:
    """Compare a day of every paper session of an exchange that had begun by then, by name; commit each."""
    start = _midnight(day)
    found = dict[str, ParityRow]()
    for session in sessions.of_mode(connection, SessionMode.PAPER):
        if session.exchange == exchange and _began_before(connection, session, start + timedelta(days=1)):
            found[session.name] = compare_day(connection, session, start, start + timedelta(days=1), now, run_id)
    return found


def compare_day(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    start: datetime,
    end: datetime,
    now: datetime,
    run_id: str | None = None,
) -> ParityRow:
    """Compare the bars of a session that open in [start, end), store the report, and commit.

    What a person did by hand is nobody's decision to repeat: it is left out, but for the cooldown that it began.

    Decisions that differ although rows, rules and moment were the same leave an alert in the event log.
    """
    found = store.live_decisions(connection, session.session_id, start, end)
    live = [decision for decision in found if decision.strategy != BY_HAND]
    history = _History.of(connection, session, start, end)
    replayed = history.decide_in_time()
    differences = list(_differences(history, live, replayed))
    counts = Counter(kind for kind, *_ in differences)
    own, other = (_records(session, rows) for rows in ((_record(d) for d in live), replayed.values()))
    first = next((d for d in differences if d[0] is Kind.DIVERGED), None)
    fills = _compare_fills(connection, history, start, end)
    row = ParityRow(
        session_id=session.session_id,
        day=start.date(),
        computed_at=now,
        decisions=len(live),
        replayed=len(replayed),
        equal=len(live) - counts[Kind.LATE] - counts[Kind.DIVERGED],
        late=counts[Kind.LATE],
        missed=counts[Kind.MISSED],
        diverged=counts[Kind.DIVERGED],
        fingerprint=own.fingerprint,
        replay_fingerprint=other.fingerprint,
        first_divergence=None if first is None else _plain(*first),
        differences=[_plain(*difference) for difference in differences[:MOST_DIFFERENCES]],
        run_id=run_id,
        **vars(fills),
    )
    store.save_report(connection, row)
    if row.diverged and row.first_divergence is not None:
        events.append_once(
            connection,
            now,
            "parity",
            f"{session.name} {row.day}",
            f"{row.diverged} decisions differ from a replay of the same rows: {row.first_divergence['says']}",
            session_id=session.session_id,
            severity=Severity.CRITICAL,
        )
    connection.commit()
    return row


# Decisions

_Difference = tuple[Kind, datetime, str, str, LiveDecision | None, DecisionRecord | None]


@dataclass(frozen=True)
class _Row:
    """Where a proposal stands, under the rules that were in force."""

    session: TradingSession
    part: StrategyCandidates
    precedence: int
    i: int
    symbol: str


@dataclass(frozen=True)
class _History:
    """What strategies propose in a span from the stored rows, under each version of the session's rules."""

    session: TradingSession
    versions: list[tuple[datetime, TradingSession]]
    rows: list[dict[_Key, _Row]]
    """Proposals by version."""
    signals: list[store.GivenSignal]

    @classmethod
    def of(
        cls, connection: psycopg.Connection[Any], session: TradingSession, start: datetime, end: datetime
    ) -> "_History":
        versions = [
            (version.valid_from, _under(session, version)) for version in store.rules(connection, session.session_id)
        ] or [(start, session)]
        signals = store.given_signals(connection, session.session_id, end + timedelta(days=7))
        return cls(session, versions, [_proposals(connection, under, start, end) for _, under in versions], signals)

    def row(self, key: _Key, decided_at: datetime) -> _Row | None:
        """The proposal of a bar under the rules in force when it was decided."""
        return self.rows[self._version(decided_at)].get(key)

    def decide_in_time(self) -> dict[_Key, DecisionRecord]:
        """Every bar decided at its close; signals on the way start the cooldown of the next."""
        delta = Timeframe(self.session.timeframe).delta
        keys = sorted({key for rows in self.rows for key in rows})
        known = [(key, self.row(key, key[0] + delta)) for key in keys]
        ordered = sorted(
            ((key, row) for key, row in known if row is not None),
            key=lambda item: (item[0][0], item[1].precedence, item[0][1]),
        )
        begins_at = self.session.begins_at
        if begins_at is not None:
            ordered = [item for item in ordered if item[0][0] + delta > begins_at]
        found = dict[_Key, DecisionRecord]()
        if not ordered:
            return found
        first_close = ordered[0][0][0] + delta
        last = {s.instrument_id: to_microseconds(s.created_at) for s in self.signals if s.created_at < first_close}
        by_hand = deque(s for s in self.signals if s.strategy == BY_HAND and s.created_at >= first_close)
        for key, row in ordered:
            closed_at = int(row.part.proposals.closed_at[row.i])
            while by_hand and to_microseconds(by_hand[0].created_at) <= closed_at:
                signal = by_hand.popleft()
                last[signal.instrument_id] = to_microseconds(signal.created_at)
            verdict = _judge(row, closed_at, closed_at, last.get(key[1], UNKNOWN_TIME))
            found[key] = _verdict_record(row, key, verdict)
            if verdict.refusal(0) is None:
                last[key[1]] = closed_at
        return found

    def decide_again(self, live: LiveDecision) -> DecisionRecord | None:
        """A decision as of the moment at which it was made, after the signals that had been given by then."""
        key = (live.ts, live.instrument_id, live.strategy)
        row = self.row(key, live.decided_at)
        if row is None:
            return None
        mine = (live.decided_at, -live.ts.timestamp(), row.precedence)
        given = [
            to_microseconds(signal.created_at)
            for signal in self.signals
            if signal.instrument_id == live.instrument_id
            and (signal.created_at, -signal.ts.timestamp(), self._precedence(signal.strategy)) < mine
        ]
        as_of = to_microseconds(live.decided_at)
        newest = as_of if live.data_lag_minutes is None else as_of - round(live.data_lag_minutes * 60_000_000)
        return _verdict_record(row, key, _judge(row, as_of, newest, max(given, default=UNKNOWN_TIME)))

    def under(self, moment: datetime) -> TradingSession:
        """The session with the rules that were in force then."""
        return self.versions[self._version(moment)][1]

    def _version(self, moment: datetime) -> int:
        return max((i for i, (since, _) in enumerate(self.versions) if since <= moment), default=0)

    def _precedence(self, strategy: str) -> int:
        names = self.session.strategies
        return names.index(strategy) if strategy in names else len(names)


def _proposals(
    connection: psycopg.Connection[Any], session: TradingSession, start: datetime, end: datetime
) -> dict[_Key, _Row]:
    universe = Universe.of(connection, session)
    found = dict[_Key, _Row]()
    for precedence, part in enumerate(load_candidates(connection, universe, start, end)):
        for i, (ts, instrument_id) in enumerate(zip(part.ts.tolist(), part.instrument_id.tolist(), strict=True)):
            symbol = universe.instruments[instrument_id].symbol
            found[from_microseconds(ts), instrument_id, part.name] = _Row(session, part, precedence, i, symbol)
    return found


def _judge(row: _Row, as_of: int, newest_close: int, last_signal: int) -> Verdicts:
    part, session = row.part, row.session
    moments = (np.array([moment], dtype=np.int64) for moment in (as_of, newest_close, last_signal))
    return judge(
        part.proposals.take(slice(row.i, row.i + 1)),
        part.strategy.policy(session.policy),
        session.execution,
        session.direction,
        *moments,
    )


def _verdict_record(row: _Row, key: _Key, verdict: Verdicts) -> DecisionRecord:
    setup, refusal = verdict.setups.row(0), verdict.refusal(0)
    return DecisionRecord(
        ts=key[0],
        symbol=row.symbol,
        strategy=key[2],
        outcome="SIGNAL" if refusal is None else "REJECTED",
        side=None if setup is None else setup.side,
        reason=refusal or _PASSED,
        confidence=None if setup is None else significant(setup.confidence),
    )


def _record(live: LiveDecision) -> DecisionRecord:
    confidence = None if live.confidence is None else significant(live.confidence)
    return DecisionRecord(
        live.ts, live.symbol, live.strategy, live.outcome, live.side, live.reason, confidence=confidence
    )


def _records(session: TradingSession, decisions: Any) -> Records:
    return Records.of(Timeframe(session.timeframe), decisions)


def _differences(
    history: _History, live: Sequence[LiveDecision], replayed: Mapping[_Key, DecisionRecord]
) -> Iterator[_Difference]:
    """Every decision that is not the one in time, by bar and symbol."""
    decided = {(d.ts, d.instrument_id, d.strategy): d for d in live}
    for key in sorted(decided.keys() | replayed.keys()):
        own, other = decided.get(key), replayed.get(key)
        if own is None:
            assert other is not None  # one of the two has the key
            yield Kind.MISSED, key[0], other.symbol, key[2], None, other
        elif other is None or not _same(history, _record(own), other):
            again = history.decide_again(own)
            kind = Kind.LATE if again is not None and _same(history, _record(own), again) else Kind.DIVERGED
            yield kind, key[0], own.symbol, key[2], own, again if kind is Kind.DIVERGED else other


def _same(history: _History, first: DecisionRecord, second: DecisionRecord) -> bool:
    return compare(_records(history.session, [first]), _records(history.session, [second])) is None


def _plain(
    kind: Kind, ts: datetime, symbol: str, strategy: str, live: LiveDecision | None, other: DecisionRecord | None
) -> dict[str, Any]:
    own = "nothing" if live is None else in_words(_record(live))
    theirs = "nothing" if other is None else in_words(other)
    return {
        "kind": kind,
        "ts": ts.isoformat(),
        "symbol": symbol,
        "strategy": strategy,
        "decided_at": None if live is None else live.decided_at.isoformat(),
        "live": own,
        "replayed": theirs,
        "says": f"{symbol} {strategy} bar {ts:%Y-%m-%d %H:%M}: live {own}, replayed {theirs}",
    }


def _under(session: TradingSession, version: store.RulesVersion) -> TradingSession:
    """The session with an earlier version of its rules."""
    return replace(
        session,
        symbols=tuple(version.symbols),
        strategies=tuple(version.strategies),
        direction=Direction(version.direction),
        policy=SignalPolicy.model_validate(version.config["policy"]),
        execution=ExecutionParams.model_validate(version.config["execution"]),
        limits=RiskLimits.model_validate(version.config["limits"]),
        strategy_params=version.config.get("strategy_params", {}),
    )


def _began_before(connection: psycopg.Connection[Any], session: TradingSession, end: datetime) -> bool:
    versions = store.rules(connection, session.session_id)
    return not versions or versions[0].valid_from < end


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


# Fills


@dataclass(frozen=True)
class _FillComparison:
    """Part of the report about fills; prices in bps, positive where the real fill was worse."""

    positions: int
    fills: int
    fills_matched: int
    price_bps_mean: float | None
    price_bps_median: float | None
    price_bps_worst: float | None
    fill_differences: list[dict[str, Any]]


def _compare_fills(
    connection: psycopg.Connection[Any], history: _History, start: datetime, end: datetime
) -> _FillComparison:
    """Let the model live through the same market with the same trades, position by position."""
    session = history.session
    real = defaultdict[Any, list[PositionFill]](list)
    for fill in store.position_fills(connection, session.session_id, start, end):
        real[fill.position_id].append(fill)
    traded = store.traded_positions(connection, session.session_id, start, end)
    bps, differences, matched = list[float](), list[dict[str, Any]](), 0
    for position in traded:
        if position.has_additions or position.strategy == BY_HAND:
            continue  # the model knows one entry per position, at the open after a close
        modelled = [f for f in _model(connection, history, position, end) if f.ts >= start]
        mine, theirs = _by_kind(real[position.position_id]), _by_kind(modelled)
        sides = {fill.kind: fill.side for fill in real[position.position_id]}
        for kind in sorted(mine.keys() | theirs.keys()):
            if kind in mine and kind in theirs:
                matched += 1
                sign = 1.0 if sides[kind] == "BUY" else -1.0
                bps.append(sign * (mine[kind] / theirs[kind] - 1.0) * 10_000)
            else:
                differences.append(
                    {
                        "position_id": str(position.position_id),
                        "symbol": position.symbol,
                        "kind": kind,
                        "only": "live" if kind in mine else "model",
                        "price": mine.get(kind, theirs.get(kind)),
                    }
                )
    return _FillComparison(
        positions=len(traded),
        fills=sum(len(fills) for fills in real.values()),
        fills_matched=matched,
        price_bps_mean=fmean(bps) if bps else None,
        price_bps_median=median(bps) if bps else None,
        price_bps_worst=max(bps) if bps else None,
        fill_differences=differences[:MOST_DIFFERENCES],
    )


def _model(
    connection: psycopg.Connection[Any], history: _History, position: TradedPosition, end: datetime
) -> list[ModelledFill]:
    frame = Timeframe(position.timeframe)
    entered = position.ts + frame.delta
    session = history.under(entered)
    moves = market_events(connection, [position.instrument_id], frame, entered, end)
    bars = [PriceBar(m.ts_open, m.ts_close, m.open, m.high, m.low, m.close) for m in moves]
    stored = instruments.by_symbol(connection, session.exchange)[position.symbol]
    trade = GivenTrade(
        side=PositionSide(position.side),
        quantity=position.quantity,
        leverage=position.leverage,
        stop_price=position.stop_price,
        targets=(position.tp1_price, position.tp2_price, position.tp3_price),
        exit_at=position.exit_sent_at,
    )
    atr = _atr_at_closes(connection, position, frame, entered, end)
    return list(model_fills(trade, bars, atr, stored.instrument, session.execution))


def _atr_at_closes(
    connection: psycopg.Connection[Any], position: TradedPosition, frame: Timeframe, start: datetime, end: datetime
) -> dict[datetime, float]:
    matrix = feature_store.read_features(
        connection, position.instrument_id, current_feature_set(connection), frame, len(registry.NAMES), start, end
    )
    column = registry.NAMES.index("atr_14")
    closes = (matrix.ts + np.timedelta64(frame.minutes, "m")).astype("datetime64[us]").astype(np.int64)
    return {
        from_microseconds(int(closed_at)): float(atr)
        for closed_at, atr in zip(closes.tolist(), matrix.values[:, column].tolist(), strict=True)
    }


def _by_kind(fills: Sequence[PositionFill] | Sequence[ModelledFill]) -> dict[str, float]:
    """Average price by kind; an order that filled in parts is one."""
    value, quantity = defaultdict[str, float](float), defaultdict[str, float](float)
    for fill in fills:
        value[fill.kind] += fill.price * fill.quantity
        quantity[fill.kind] += fill.quantity
    return {kind: value[kind] / quantity[kind] for kind in value}
