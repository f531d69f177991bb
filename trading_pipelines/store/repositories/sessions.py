"""Trading sessions: create, find, move the replay clock, stop."""

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy

_COLUMNS = (
    "session_id, name, mode, status, exchange, symbols, timeframe, strategies, direction, start_capital, begins_at, "
    "config"
)


def insert(
    connection: psycopg.Connection[Any], session: TradingSession, clock: datetime | None, *, purpose: str = "trading"
) -> None:
    """Store a new session; `psycopg.errors.UniqueViolation` when the name is taken."""
    connection.execute(
        f"insert into sessions ({_COLUMNS}, clock, purpose) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            session.session_id,
            session.name,
            session.mode,
            session.status,
            session.exchange,
            list(session.symbols),
            session.timeframe,
            list(session.strategies),
            session.direction,
            session.start_capital,
            session.begins_at,
            Jsonb(_rules(session)),
            clock,
            purpose,
        ),
    )


def find(connection: psycopg.Connection[Any], name: str) -> TradingSession | None:
    """The session of that name, None when there is none."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(f"select {_COLUMNS} from sessions where name = %s", (name,)).fetchone()
    return None if row is None else _session(row)


def of_mode(connection: psycopg.Connection[Any], mode: SessionMode) -> list[TradingSession]:
    """All sessions of a mode that trade, by name; drills do not."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from sessions where mode = %s and purpose = 'trading' order by name", (mode,)
        ).fetchall()
    return [_session(row) for row in rows]


def request_stop(connection: psycopg.Connection[Any], session_id: UUID, at: datetime) -> None:
    """Ask for everything to be closed and the session to be stopped; the first request stays."""
    connection.execute(
        "update sessions set stop_requested_at = coalesce(stop_requested_at, %s) where session_id = %s",
        (at, session_id),
    )


def withdraw_stop(connection: psycopg.Connection[Any], session_id: UUID) -> None:
    """Forget that the session was to be stopped."""
    connection.execute("update sessions set stop_requested_at = null where session_id = %s", (session_id,))


def is_stop_requested(connection: psycopg.Connection[Any], session_id: UUID) -> bool:
    """Whether the session is to be stopped once it is flat."""
    row = connection.execute(
        "select stop_requested_at is not null from sessions where session_id = %s", (session_id,)
    ).fetchone()
    return row is not None and bool(row[0])


def cancel_signals(connection: psycopg.Connection[Any], session_id: UUID, reason: str, at: datetime) -> int:
    """Cancel the signals that nobody has executed; how many there were."""
    return connection.execute(
        "update signals set status = 'CANCELLED', status_reason = %s, updated_at = %s "
        "where session_id = %s and status = 'ACTIVE'",
        (reason, at, session_id),
    ).rowcount


def update_rules(connection: psycopg.Connection[Any], session: TradingSession) -> None:
    """Replace the symbols, strategies and rules of a session by those of `session`."""
    connection.execute(
        "update sessions set symbols = %s, strategies = %s, direction = %s, config = %s where session_id = %s",
        (
            list(session.symbols),
            list(session.strategies),
            session.direction,
            Jsonb(_rules(session)),
            session.session_id,
        ),
    )


def set_status(connection: psycopg.Connection[Any], session_id: UUID, status: SessionStatus) -> None:
    """Start, pause or stop a session."""
    connection.execute(
        "update sessions set status = %s, stopped_at = case when %s = 'STOPPED' then now() end where session_id = %s",
        (status, status, session_id),
    )


def begin(connection: psycopg.Connection[Any], session_id: UUID, at: datetime) -> None:
    """Note when a session was started for the first time; the first note stays."""
    connection.execute(
        "update sessions set begins_at = coalesce(begins_at, %s) where session_id = %s", (at, session_id)
    )


def set_clock(connection: psycopg.Connection[Any], session_id: UUID, clock: datetime) -> None:
    """Note the as-of time that a replay has reached."""
    connection.execute("update sessions set clock = %s where session_id = %s", (clock, session_id))


def clock(connection: psycopg.Connection[Any], session_id: UUID) -> datetime | None:
    """The as-of time that a replay has reached; None for a session on the wall clock."""
    row = connection.execute("select clock from sessions where session_id = %s", (session_id,)).fetchone()
    return None if row is None else row[0]


def set_fingerprint(connection: psycopg.Connection[Any], session_id: UUID, fingerprint: str) -> None:
    """Keep the hash over all decisions and fills of a finished replay."""
    connection.execute("update sessions set fingerprint = %s where session_id = %s", (fingerprint, session_id))


def delete(connection: psycopg.Connection[Any], session_id: UUID) -> None:
    """Remove a session and everything that belongs to it."""
    connection.execute("delete from sessions where session_id = %s", (session_id,))


def _rules(session: TradingSession) -> dict[str, Any]:
    return {
        "policy": session.policy.model_dump(mode="json"),
        "execution": session.execution.model_dump(mode="json"),
        "limits": session.limits.model_dump(mode="json"),
        "venue": session.venue.model_dump(mode="json"),
        "strategy_params": {name: dict(params) for name, params in session.strategy_params.items()},
    }


def _session(row: dict[str, Any]) -> TradingSession:
    return TradingSession(
        session_id=row["session_id"],
        name=row["name"],
        mode=SessionMode(row["mode"]),
        exchange=row["exchange"],
        symbols=tuple(row["symbols"]),
        timeframe=row["timeframe"],
        start_capital=row["start_capital"],
        policy=SignalPolicy.model_validate(row["config"]["policy"]),
        execution=ExecutionParams.model_validate(row["config"]["execution"]),
        limits=RiskLimits.model_validate(row["config"]["limits"]),
        venue=VenueParams.model_validate(row["config"].get("venue", {})),
        strategies=tuple(row["strategies"]),
        strategy_params=row["config"].get("strategy_params", {}),
        direction=Direction(row["direction"]),
        status=SessionStatus(row["status"]),
        begins_at=row["begins_at"],
    )
