"""Locks on new entries, the verdicts of the risk rules, and what both are made from. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import kwargs_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.protections import ClosedTrade, Lock, LockReason, Mark
from trading_pipelines.domain.risk.rules import RiskAssessment


@dataclass(frozen=True)
class StoredLock:
    """One row of `risk_locks` with the symbol that it is about."""

    lock_id: int
    symbol: str | None
    lock: Lock


def insert(connection: psycopg.Connection[Any], session_id: UUID, lock: Lock) -> bool:
    """Store a lock; False when it is there already, lifted or not."""
    return (
        connection.execute(
            "insert into risk_locks (session_id, instrument_id, side, reason, numbers, starts_at, ends_at) "
            "values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            (
                session_id,
                lock.instrument_id,
                lock.side,
                lock.reason,
                Jsonb(dict(lock.numbers)),
                lock.starts_at,
                lock.ends_at,
            ),
        ).rowcount
        == 1
    )


def in_force(connection: psycopg.Connection[Any], session_id: UUID, at: datetime) -> list[StoredLock]:
    """Locks that hold at a moment, those that end last first."""
    with connection.cursor(row_factory=kwargs_row(_stored_lock)) as cursor:
        return cursor.execute(
            """
            select l.lock_id, i.symbol, l.reason, l.starts_at, l.ends_at, l.instrument_id, l.side, l.numbers
            from risk_locks l left join instruments i using (instrument_id)
            where l.session_id = %(session)s and l.starts_at <= %(at)s and l.ends_at > %(at)s
              and (l.lifted_at is null or l.lifted_at > %(at)s)
            order by l.ends_at desc, l.lock_id
            """,
            {"session": session_id, "at": at},
        ).fetchall()


def lift(connection: psycopg.Connection[Any], session_id: UUID, at: datetime, lock_id: int | None = None) -> int:
    """End the locks of a session that hold at a moment, or one of them; how many there were."""
    return connection.execute(
        "update risk_locks set lifted_at = %(at)s where session_id = %(session)s and ends_at > %(at)s "
        "and lifted_at is null and (%(lock)s::bigint is null or lock_id = %(lock)s)",
        {"session": session_id, "at": at, "lock": lock_id},
    ).rowcount


def locked_until(
    connection: psycopg.Connection[Any], session_id: UUID, reason: LockReason, at: datetime
) -> datetime | None:
    """When the last lock of a kind that began by a moment ends, lifted or not; None without one."""
    row = connection.execute(
        "select max(ends_at) from risk_locks where session_id = %s and reason = %s and starts_at <= %s",
        (session_id, reason, at),
    ).fetchone()
    return None if row is None else row[0]


def closed_trades(
    connection: psycopg.Connection[Any], session_id: UUID, start: datetime, end: datetime
) -> list[ClosedTrade]:
    """Positions that were closed in (start, end], the first closed first."""
    rows = connection.execute(
        """
        select instrument_id, side, closed_at, close_reason in ('STOP', 'LIQUIDATION') as stopped_out
        from positions
        where session_id = %s and status = 'CLOSED' and closed_at > %s and closed_at <= %s
        order by closed_at, instrument_id
        """,
        (session_id, start, end),
    )
    return [ClosedTrade(instrument, PositionSide(side), at, bool(stopped)) for instrument, side, at, stopped in rows]


def first_loss(
    connection: psycopg.Connection[Any], session_id: UUID, day: datetime, as_of: datetime, loss: float
) -> Mark | None:
    """The first mark of a day up to a moment whose equity is at most 1 - `loss` of that at 00:00 UTC."""
    return _mark(
        connection,
        """
        select e.ts, e.equity, coalesce(e.peak, e.equity), opening.equity
        from equity e, lateral (
            select coalesce((select o.equity from equity o where o.session_id = %(session)s and o.ts <= %(day)s
                             order by o.ts desc limit 1),
                            (select s.start_capital::float8 from sessions s where s.session_id = %(session)s)) as equity
        ) opening
        where e.session_id = %(session)s and e.ts > %(day)s and e.ts <= %(as_of)s
          and e.equity <= opening.equity * (1 - %(loss)s) * (1 + 1e-12)
        order by e.ts limit 1
        """,
        {"session": session_id, "day": day, "as_of": as_of, "loss": loss},
    )


def first_drawdown(
    connection: psycopg.Connection[Any], session_id: UUID, since: datetime | None, as_of: datetime, drawdown: float
) -> Mark | None:
    """The first mark from a moment on whose equity is at most 1 - `drawdown` of its running maximum.

    It says nothing about the day: its equity stands in for that at 00:00 UTC.
    """
    return _mark(
        connection,
        """
        select e.ts, e.equity, coalesce(e.peak, e.equity), e.equity
        from equity e
        where e.session_id = %(session)s and e.ts <= %(as_of)s and (%(since)s::timestamptz is null or e.ts >= %(since)s)
          and e.equity <= coalesce(e.peak, e.equity) * (1 - %(drawdown)s) * (1 + 1e-12)
        order by e.ts limit 1
        """,
        {"session": session_id, "since": since, "as_of": as_of, "drawdown": drawdown},
    )


def save_assessment(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    signal_id: UUID,
    instrument_id: int,
    stage: str,
    at: datetime,
    assessment: RiskAssessment,
) -> None:
    """Keep a verdict with every rule behind it; the same question at the same moment is kept once."""
    connection.execute(
        """
        insert into risk_assessments (session_id, signal_id, instrument_id, stage, assessed_at, outcome, quantity,
                                      margin, reason, rules)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (signal_id, stage, assessed_at) do nothing
        """,
        (
            session_id,
            signal_id,
            instrument_id,
            stage,
            at,
            assessment.outcome,
            assessment.quantity,
            assessment.margin,
            assessment.reason,
            Jsonb([_finite(asdict(result)) for result in assessment.results]),
        ),
    )


def cash(connection: psycopg.Connection[Any], session_id: UUID) -> float:
    """Start capital and the net result of all fills and funding: what is bound as margin included."""
    row = connection.execute(
        """
        select (s.start_capital + coalesce(sum(p.realised_pnl - p.fees - p.funding), 0))::float8
        from sessions s left join positions p using (session_id) where s.session_id = %s group by s.start_capital
        """,
        (session_id,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no session {session_id}")
    return row[0]


def additions(connection: psycopg.Connection[Any], session_id: UUID) -> dict[UUID, int]:
    """How often each open position has been added to."""
    rows: Sequence[tuple[UUID, int]] = connection.execute(
        """
        select o.position_id, count(*) from orders o join positions p using (position_id)
        where p.session_id = %s and p.status = 'OPEN' and o.leg = 'ADD' and o.filled_quantity > 0
        group by o.position_id
        """,
        (session_id,),
    ).fetchall()
    return dict(rows)


def _mark(connection: psycopg.Connection[Any], query: Any, parameters: dict[str, Any]) -> Mark | None:
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else Mark(*row)


def _finite(result: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity: a bound that nothing can reach is none."""
    return {name: None if value in (float("inf"), float("-inf")) else value for name, value in result.items()}


def _stored_lock(**row: Any) -> StoredLock:
    return StoredLock(
        row["lock_id"],
        row["symbol"],
        Lock(
            LockReason(row["reason"]),
            row["starts_at"],
            row["ends_at"],
            row["instrument_id"],
            None if row["side"] is None else PositionSide(row["side"]),
            row["numbers"],
        ),
    )
