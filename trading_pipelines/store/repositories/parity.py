"""What the comparison of drivers reads of a session, and the daily reports that come of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.parity import DecisionRecord, significant


@dataclass(frozen=True)
class StoredFill:
    """One fill of a session, in the order of the exchange."""

    ts: datetime
    symbol: str
    kind: str
    side: str
    quantity: Decimal
    reference_price: Decimal


_DECISIONS = """
select d.ts, i.symbol, d.strategy, d.outcome, d.side, d.reason, d.confidence::numeric,
       exists (select from orders o where o.signal_id = s.signal_id and o.leg = 'ENTRY') as taken
from decisions d
join instruments i using (instrument_id)
left join signals s using (session_id, instrument_id, timeframe, ts, strategy)
where d.session_id = %s and d.ts >= %s and d.ts < %s
order by d.ts, i.symbol, d.strategy
"""
_FILLS = """
select f.ts, i.symbol, f.kind, f.side, f.quantity, f.reference_price
from fills f join instruments i using (instrument_id)
where f.session_id = %s and f.ts >= %s and f.ts < %s
order by f.sequence
"""


def decisions(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[DecisionRecord]:
    """Decisions about the bars that open in [start, end)."""
    with connection.cursor(row_factory=class_row(DecisionRecord)) as cursor:
        found = cursor.execute(_DECISIONS, (session_id, start, end)).fetchall()
    return [replace(d, confidence=None if d.confidence is None else significant(d.confidence)) for d in found]


def fills(connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime) -> list[StoredFill]:
    """Fills of [start, end) as they happened on the exchange."""
    with connection.cursor(row_factory=class_row(StoredFill)) as cursor:
        return cursor.execute(_FILLS, (session_id, start, end)).fetchall()


@dataclass(frozen=True)
class RulesVersion:
    """The rules of a session from a moment on."""

    valid_from: datetime
    symbols: list[str]
    strategies: list[str]
    direction: str
    config: dict[str, Any]


def rules(connection: psycopg.Connection[Any], session_id: UUID) -> list[RulesVersion]:
    """Every version of a session's rules, ascending."""
    with connection.cursor(row_factory=class_row(RulesVersion)) as cursor:
        return cursor.execute(
            "select valid_from, symbols, strategies, direction, config from session_rules "
            "where session_id = %s order by valid_from",
            (session_id,),
        ).fetchall()


@dataclass(frozen=True)
class LiveDecision:
    """A decision with the moment at which it was made.

    Attributes
    ----------
    data_lag_minutes : float or None
        Age of the newest candle at that moment, as the gate saw it.
    """

    instrument_id: int
    ts: datetime
    symbol: str
    strategy: str
    outcome: str
    side: str | None
    reason: str
    confidence: float | None
    decided_at: datetime
    data_lag_minutes: float | None


def live_decisions(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[LiveDecision]:
    """Decisions about the bars that open in [start, end), with when they were made."""
    with connection.cursor(row_factory=class_row(LiveDecision)) as cursor:
        return cursor.execute(
            """
            select d.instrument_id, d.ts, i.symbol, d.strategy, d.outcome, d.side, d.reason, d.confidence, d.decided_at,
                   (jsonb_path_query_first(d.gates, '$[*] ? (@.name == "data_lag_minutes")') ->> 'value')::float8
                       as data_lag_minutes
            from decisions d join instruments i using (instrument_id)
            where d.session_id = %s and d.ts >= %s and d.ts < %s
            order by d.ts, i.symbol, d.strategy
            """,
            (session_id, start, end),
        ).fetchall()


@dataclass(frozen=True)
class GivenSignal:
    """When a session gave a signal for which bar."""

    instrument_id: int
    created_at: datetime
    ts: datetime
    strategy: str


def given_signals(connection: psycopg.Connection[Any], session_id: UUID, until: datetime) -> list[GivenSignal]:
    """All signals of a session up to a moment, ascending."""
    with connection.cursor(row_factory=class_row(GivenSignal)) as cursor:
        return cursor.execute(
            "select instrument_id, created_at, ts, strategy from signals where session_id = %s and created_at <= %s "
            "order by created_at",
            (session_id, until),
        ).fetchall()


@dataclass(frozen=True)
class TradedPosition:
    """A position with what the model needs to live through the same market.

    Attributes
    ----------
    ts : datetime
        Open time of the bar of the signal; the model enters at the open after its close.
    exit_sent_at : datetime or None
        When the first exit at the market was asked for.
    """

    position_id: UUID
    instrument_id: int
    symbol: str
    strategy: str
    side: str
    quantity: float
    leverage: float
    timeframe: str
    ts: datetime
    stop_price: float
    tp1_price: float
    tp2_price: float
    tp3_price: float
    exit_sent_at: datetime | None
    has_additions: bool


def traded_positions(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[TradedPosition]:
    """Positions from signals that had fills in [start, end)."""
    with connection.cursor(row_factory=class_row(TradedPosition)) as cursor:
        return cursor.execute(
            """
            select p.position_id, p.instrument_id, i.symbol, s.strategy, p.side,
                   p.quantity_initial::float8 as quantity, p.leverage::float8 as leverage, s.timeframe, s.ts,
                   s.stop_price, s.tp1_price, s.tp2_price, s.tp3_price,
                   (select min(o.created_at) from orders o where o.position_id = p.position_id and o.leg = 'EXIT'
                      and o.status not in ('REJECTED', 'CANCELLED')) as exit_sent_at,
                   exists (select from orders o where o.position_id = p.position_id and o.leg = 'ADD') as has_additions
            from positions p join signals s using (signal_id) join instruments i on i.instrument_id = p.instrument_id
            where p.session_id = %(session)s and exists (
                select from fills f where f.position_id = p.position_id and f.ts >= %(start)s and f.ts < %(end)s)
            order by p.opened_at, i.symbol
            """,
            {"session": session_id, "start": start, "end": end},
        ).fetchall()


@dataclass(frozen=True)
class PositionFill:
    """A real fill of a position."""

    position_id: UUID
    ts: datetime
    kind: str
    side: str
    quantity: float
    price: float


def position_fills(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[PositionFill]:
    """Real fills of [start, end) in their order."""
    with connection.cursor(row_factory=class_row(PositionFill)) as cursor:
        return cursor.execute(
            """
            select position_id, ts, kind, side, quantity::float8 as quantity, price::float8 as price
            from fills where session_id = %s and ts >= %s and ts < %s and position_id is not null order by sequence
            """,
            (session_id, start, end),
        ).fetchall()


@dataclass(frozen=True)
class ParityRow:
    """One stored report; the numbers are those of the table."""

    session_id: UUID
    day: date
    computed_at: datetime
    decisions: int
    replayed: int
    equal: int
    late: int
    missed: int
    diverged: int
    fingerprint: str
    replay_fingerprint: str
    first_divergence: Mapping[str, Any] | None
    differences: list[dict[str, Any]]
    positions: int
    fills: int
    fills_matched: int
    price_bps_mean: float | None
    price_bps_median: float | None
    price_bps_worst: float | None
    fill_differences: list[dict[str, Any]]
    run_id: str | None


def save_report(connection: psycopg.Connection[Any], row: ParityRow) -> None:
    """Store the report of one session and day; a repeated one replaces it."""
    values = vars(row) | {
        "first_divergence": None if row.first_divergence is None else Jsonb(row.first_divergence),
        "differences": Jsonb(row.differences),
        "fill_differences": Jsonb(row.fill_differences),
    }
    columns = ", ".join(values)
    given = ", ".join(f"%({name})s" for name in values)
    changed = ", ".join(f"{name} = excluded.{name}" for name in values if name not in ("session_id", "day"))
    connection.execute(
        f"insert into parity_reports ({columns}) values ({given}) "
        f"on conflict (session_id, day) do update set {changed}".encode(),
        values,
    )
