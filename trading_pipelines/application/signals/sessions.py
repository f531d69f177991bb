"""Create and find trading sessions."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg

from trading_pipelines.application.signals.candidates import session_strategies
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import instruments, sessions
from trading_pipelines.store.transaction import committed


def paper_session(
    connection: psycopg.Connection[Any], settings: Settings, now: datetime | None = None
) -> TradingSession:
    """Return the paper session that the settings name; create it at the first call, which begins it.

    Changed thresholds and limits are taken over. Another exchange, timeframe or capital would make the
    session's history meaningless and asks for another name.

    Raises
    ------
    UserError
        The session of that name was created for something else.
    """
    wanted = new_session(connection, settings, settings.session.name, SessionMode.PAPER)
    existing = sessions.find(connection, wanted.name)
    if existing is None:
        begun = wanted if now is None else replace(wanted, begins_at=_beginning(wanted, now))
        sessions.insert(connection, begun, clock=None)
        connection.commit()
        return sessions.find(connection, wanted.name) or wanted
    for what in ("mode", "exchange", "timeframe", "start_capital"):
        if getattr(existing, what) != getattr(wanted, what):
            raise UserError(
                f"session {existing.name!r} was created with {what} {getattr(existing, what)}, not "
                f"{getattr(wanted, what)}: choose another TRADING_SESSION__NAME"
            )
    current = replace(wanted, session_id=existing.session_id, status=existing.status, begins_at=existing.begins_at)
    if current != existing:
        sessions.update_rules(connection, current)
        connection.commit()
    return current


def live_sessions(
    connection: psycopg.Connection[Any], settings: Settings, now: datetime | None = None
) -> list[TradingSession]:
    """Every paper session to be served, the one that the settings name first; it is created at the first call.

    Stopped sessions need nobody any more. Those of another exchange than the settings' wait for a service that
    has its prices.
    """
    default = paper_session(connection, settings, now)
    served = [
        session
        for session in sessions.of_mode(connection, SessionMode.PAPER)
        if session.exchange == settings.exchange and session.status is not SessionStatus.STOPPED
    ]
    connection.commit()
    return sorted(served, key=lambda session: (session.session_id != default.session_id, session.name))


def find_session(connection: psycopg.Connection[Any], name: str) -> TradingSession:
    """The session of that name.

    Raises
    ------
    UserError
        There is none.
    """
    session = sessions.find(connection, name)
    connection.commit()
    if session is None:
        raise UserError(f"there is no session {name!r}: `trading session list` shows those that there are")
    return session


def create_session(
    connection: psycopg.Connection[Any],
    settings: Settings,
    name: str,
    *,
    start_at: datetime | None = None,
    **changes: Any,
) -> TradingSession:
    """Create a paper session with an account of its own; without `start_at` it is paused until it is started.

    `changes` replace what the settings say, for example ``strategies=("ema_cross",)``; the rules of a session stay as
    they were when it was created.

    Raises
    ------
    UserError
        The name is taken, a strategy cannot be built, or a symbol is not stored.
    """
    status = SessionStatus.PAUSED if start_at is None else SessionStatus.RUNNING
    session = new_session(connection, settings, name, SessionMode.PAPER, status=status, **changes)
    if start_at is not None:
        session = replace(session, begins_at=_beginning(session, start_at))
    session_strategies(session)
    stored = instruments.by_symbol(connection, session.exchange)
    if unknown := [symbol for symbol in session.symbols if symbol not in stored]:
        known = ", ".join(sorted(stored)) or "none"
        raise UserError(f"{', '.join(unknown)} not stored for {session.exchange} (stored: {known})")
    try:
        sessions.insert(connection, session, clock=None)
    except psycopg.errors.UniqueViolation as error:
        connection.rollback()
        raise UserError(f"there is a session {name!r} already: choose another name") from error
    connection.commit()
    return session


def start_session(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> str:
    """Let a session open positions; what became of it, in words. The first start is its beginning."""
    sessions.withdraw_stop(connection, session.session_id)
    sessions.begin(connection, session.session_id, _beginning(session, as_of))
    return _change_status(connection, session, SessionStatus.RUNNING, "running")


def _beginning(session: TradingSession, now: datetime) -> datetime:
    """Open time of the newest closed bar: it is the first that a live session decides, and it is still fresh."""
    return Timeframe(session.timeframe).last_closed(now)


def pause_session(connection: psycopg.Connection[Any], session: TradingSession) -> str:
    """Let a session open nothing more; what is open is managed as before."""
    return _change_status(connection, session, SessionStatus.PAUSED, "paused: open positions are still managed")


def stop_session(
    connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime, *, flatten: bool
) -> str:
    """Stop a session for good; its results stay.

    With `flatten` it opens nothing from now on, and the fast service stops it once everything is closed.

    Raises
    ------
    UserError
        Something is open and `flatten` was not asked for.
    """
    if session.status is SessionStatus.STOPPED:
        return "stopped already"
    try:
        with committed(connection):
            sessions.set_status(connection, session.session_id, SessionStatus.STOPPED)
            sessions.cancel_signals(connection, session.session_id, "the session was stopped", as_of)
        return "stopped"
    except psycopg.errors.CheckViolation as error:
        if not flatten:
            raise UserError(
                f"session {session.name!r} has open positions or entries: stop it with flattening, or close them first"
            ) from error
    with committed(connection):
        sessions.request_stop(connection, session.session_id, as_of)
        if session.status is SessionStatus.RUNNING:
            sessions.set_status(connection, session.session_id, SessionStatus.PAUSED)
        sessions.cancel_signals(connection, session.session_id, "the session is being stopped", as_of)
    return "closing everything, then stopped"


def _change_status(
    connection: psycopg.Connection[Any], session: TradingSession, status: SessionStatus, outcome: str
) -> str:
    try:
        with committed(connection):
            sessions.set_status(connection, session.session_id, status)
    except psycopg.errors.CheckViolation as error:
        raise UserError(f"session {session.name!r} is {session.status}: create a new one") from error
    return outcome


def start_replay(connection: psycopg.Connection[Any], session: TradingSession, clock: datetime) -> None:
    """Store an empty replay session whose clock stands at `clock`; one of the same name is replaced.

    Raises
    ------
    UserError
        The name belongs to a session that is no replay.
    """
    existing = sessions.find(connection, session.name)
    if existing is not None and existing.mode is not SessionMode.REPLAY:
        raise UserError(f"session {session.name!r} is a {existing.mode} session: choose another name for the replay")
    if existing is not None:
        sessions.delete(connection, existing.session_id)
    sessions.insert(connection, replace(session, begins_at=clock), clock=clock)
    connection.commit()


def _limits(session: TradingSession) -> RiskLimits:
    """The configured limits, as the strategies of the session ask for them."""
    limits = session.limits
    for strategy in session_strategies(session).values():
        limits = strategy.limits(limits)
    return limits


def new_session(
    connection: psycopg.Connection[Any], settings: Settings, name: str, mode: SessionMode, **changes: Any
) -> TradingSession:
    """Build a session from the settings without storing it."""
    session = TradingSession(
        session_id=uuid4(),
        name=name,
        mode=mode,
        exchange=settings.exchange,
        symbols=settings.symbols,
        timeframe=settings.signal_timeframe,
        start_capital=Decimal(repr(settings.session.capital)),
        policy=settings.signals,
        execution=settings.execution,
        venue=settings.paper,
        limits=settings.risk,
        strategies=settings.session.strategies,
        strategy_params=settings.session.strategy_params,
        direction=settings.session.direction,
    )
    session = replace(session, **changes)
    if "limits" not in changes:
        session = replace(session, limits=_limits(session))
    if session.symbols:
        return session
    stored = instruments.by_symbol(connection, session.exchange)
    return replace(session, symbols=tuple(sorted(stored)))
