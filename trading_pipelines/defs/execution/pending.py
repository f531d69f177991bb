"""Which signals of the live session wait for execution; asked by the sensor and by the schedule."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg


def waiting_signals(connection: "psycopg.Connection[Any]", now: datetime) -> tuple[TradingSession, list[datetime]]:
    """The live session and when its active, valid signals were made; a paused session executes none."""
    from trading_pipelines.application.sessions import paper_session
    from trading_pipelines.store.repositories.signals import active_signals

    session = paper_session(connection, settings())
    if session.status is not SessionStatus.RUNNING:
        return session, []
    return session, [signal.created_at for signal in active_signals(connection, session.session_id, now)]
