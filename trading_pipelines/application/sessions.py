"""Create and find trading sessions."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg

from trading_pipelines.application.candidates import session_strategies
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import instruments, sessions


def paper_session(connection: psycopg.Connection[Any], settings: Settings) -> TradingSession:
    """Return the paper session that the settings name; create it at the first call.

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
        sessions.insert(connection, wanted, clock=None)
        connection.commit()
        return sessions.find(connection, wanted.name) or wanted
    for what in ("mode", "exchange", "timeframe", "start_capital"):
        if getattr(existing, what) != getattr(wanted, what):
            raise UserError(
                f"session {existing.name!r} was created with {what} {getattr(existing, what)}, not "
                f"{getattr(wanted, what)}: choose another TRADING_SESSION__NAME"
            )
    current = replace(wanted, session_id=existing.session_id, status=existing.status)
    if current != existing:
        sessions.update_rules(connection, current)
        connection.commit()
    return current


def live_sessions(connection: psycopg.Connection[Any], settings: Settings) -> list[TradingSession]:
    """Every paper session to be served, the one that the settings name first; it is created at the first call.

    Stopped sessions need nobody any more. Those of another exchange than the settings' wait for a service that
    has its prices.
    """
    default = paper_session(connection, settings)
    served = [
        session
        for session in sessions.of_mode(connection, SessionMode.PAPER)
        if session.exchange == settings.exchange and session.status is not SessionStatus.STOPPED
    ]
    connection.commit()
    return sorted(served, key=lambda session: (session.session_id != default.session_id, session.name))


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
    sessions.insert(connection, session, clock=clock)
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
