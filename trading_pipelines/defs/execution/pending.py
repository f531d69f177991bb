"""Which signals of the live sessions wait for execution; asked by the sensor and by the schedule."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trading_pipelines.defs.sessions import waiting_work
from trading_pipelines.domain.execution.session import SessionStatus, TradingSession

if TYPE_CHECKING:
    import psycopg


def waiting_signals(connection: "psycopg.Connection[Any]", now: datetime) -> tuple[str, list[datetime]]:
    """The sessions with active, valid signals, and when those were made; a paused session executes none."""
    from trading_pipelines.store.repositories.signals import active_signals

    def made_at(session: TradingSession) -> list[datetime]:
        if session.status is not SessionStatus.RUNNING:
            return []
        return [signal.created_at for signal in active_signals(connection, session.session_id, now)]

    return waiting_work(connection, made_at)
