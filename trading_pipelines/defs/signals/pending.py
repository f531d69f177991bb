"""What the live session has not decided yet; asked by the sensor and by the schedule."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg


def undecided_bars(connection: "psycopg.Connection[Any]", now: datetime) -> tuple[TradingSession, list[datetime]]:
    """The live session and the open times of its undecided bars; a paused session has none."""
    from trading_pipelines.application.emission import pending_bars
    from trading_pipelines.application.sessions import paper_session

    session = paper_session(connection, settings())
    running = session.status is SessionStatus.RUNNING
    return session, pending_bars(connection, session, now) if running else []
