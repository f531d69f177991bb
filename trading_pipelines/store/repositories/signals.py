"""Signals and decisions: what is waiting for a decision, what was decided, what has expired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class DecisionRow:
    """One decision as stored in `decisions`."""

    session_id: UUID
    instrument_id: int
    timeframe: str
    ts: datetime
    strategy: str
    decided_at: datetime
    outcome: str
    reason: str
    side: str | None
    confidence: float | None
    model_id: str | None
    gates: list[dict[str, Any]]
    setup: dict[str, Any] | None
    factors: dict[str, float]
    run_id: str | None


@dataclass(frozen=True)
class SignalRow:
    """One new signal as stored in `signals`; prices in quote currency, profits as fractions of notional."""

    signal_id: UUID
    session_id: UUID
    instrument_id: int
    timeframe: str
    ts: datetime
    strategy: str
    created_at: datetime
    valid_until: datetime
    side: str
    entry_price: float
    stop_price: float
    tp1_price: float
    tp2_price: float
    tp3_price: float
    atr: float
    leverage: float
    quantity: float
    margin: float
    probability: float
    confidence: float
    risk_reward: float
    gross_profit: float
    cost: float
    net_profit: float
    expected_value: float
    model_id: str | None
    factors: dict[str, float]
    run_id: str | None
    updated_at: datetime


def insert_decisions(cursor: psycopg.Cursor[Any], rows: Sequence[DecisionRow]) -> None:
    """Store decisions; one that is already there stays as it was made."""
    _insert(cursor, "decisions", rows, "on conflict do nothing")


def insert_signals(cursor: psycopg.Cursor[Any], rows: Sequence[SignalRow]) -> None:
    """Store new signals; a second one for the same bar is an error."""
    _insert(cursor, "signals", rows, "")


def pending_bars(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    instrument_ids: Sequence[int],
    timeframe: str,
    strategies: Sequence[str],
    feature_set_id: int,
    available_from: datetime,
    as_of: datetime,
) -> list[datetime]:
    """Open times of the bars that have features but lack some strategy's decision for some symbol, ascending.

    Only bars that became available in (`available_from`, `as_of`] count.
    """
    query = sql.SQL("""
        select distinct f.ts
        from {features} f
        where f.instrument_id = any(%(instruments)s) and f.feature_set_id = %(feature_set)s
          and f.available_at > %(available_from)s and f.available_at <= %(as_of)s
          and f.ts > %(available_from)s::timestamptz - interval '2 days'
          and cardinality(%(strategies)s::text[]) > (
              select count(*) from decisions d
              where d.session_id = %(session)s and d.instrument_id = f.instrument_id
                and d.timeframe = %(timeframe)s and d.ts = f.ts and d.strategy = any(%(strategies)s))
        order by f.ts
    """).format(features=sql.Identifier(f"features_{timeframe}"))
    rows = connection.execute(
        query,
        {
            "instruments": list(instrument_ids),
            "strategies": list(strategies),
            "feature_set": feature_set_id,
            "available_from": available_from,
            "as_of": as_of,
            "session": session_id,
            "timeframe": timeframe,
        },
    )
    return [row[0] for row in rows]


def last_signal_times(connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime) -> dict[int, datetime]:
    """When each instrument last got a signal by `as_of`, by instrument id."""
    rows = connection.execute(
        "select instrument_id, max(created_at) from signals where session_id = %s and created_at <= %s group by 1",
        (session_id, as_of),
    )
    return dict(rows)


def expire(connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime) -> int:
    """Set every signal that is still active past its validity to EXPIRED; how many there were.

    One whose orders may be on the exchange already is left to the order path, which will learn what became of them.
    """
    cursor = connection.execute(
        """
        update signals set status = 'EXPIRED', status_reason = 'not executed before its validity ended', updated_at = %s
        where session_id = %s and status = 'ACTIVE' and valid_until <= %s
          and not exists (select from orders o where o.signal_id = signals.signal_id and o.status <> 'INTENT')
        """,
        (as_of, session_id, as_of),
    )
    return cursor.rowcount


def newest_candle_closes(
    connection: psycopg.Connection[Any], instrument_ids: Sequence[int], timeframe: str, as_of: datetime
) -> dict[int, datetime]:
    """Close time of the newest candle known at `as_of`, by instrument id; none within two days is left out."""
    query = sql.SQL("""
        select instrument_id, max(available_at) from {candles}
        where instrument_id = any(%s) and ts > %s::timestamptz - interval '2 days' and available_at <= %s
        group by instrument_id
    """).format(candles=sql.Identifier(f"ohlcv_{timeframe}"))
    rows = connection.execute(query, (list(instrument_ids), as_of, as_of))
    return dict(rows)


@dataclass(frozen=True)
class ActiveSignal:
    """A signal that waits for execution."""

    signal_id: UUID
    created_at: datetime


def active_signals(connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime) -> list[ActiveSignal]:
    """Signals that are active and still valid at `as_of`, oldest first."""
    with connection.cursor(row_factory=class_row(ActiveSignal)) as cursor:
        return cursor.execute(
            """
            select signal_id, created_at from signals
            where session_id = %s and status = 'ACTIVE' and valid_until > %s
            order by created_at, signal_id
            """,
            (session_id, as_of),
        ).fetchall()


def _insert(
    cursor: psycopg.Cursor[Any],
    table: str,
    rows: Sequence[DecisionRow] | Sequence[SignalRow],
    on_conflict: LiteralString,
) -> None:
    if not rows:
        return
    columns = list(vars(rows[0]))
    statement = sql.SQL("insert into {} ({}) values ({}) {}").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
        sql.SQL(on_conflict),
    )
    cursor.executemany(
        statement, [[Jsonb(v) if isinstance(v, dict | list) else v for v in vars(row).values()] for row in rows]
    )
