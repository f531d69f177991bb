"""What the live sessions have not decided yet; asked by the sensor and by the schedule."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from trading_pipelines.defs.sessions import waiting_work

if TYPE_CHECKING:
    import psycopg


def undecided_bars(connection: "psycopg.Connection[Any]", now: datetime) -> tuple[str, list[datetime]]:
    """The sessions with undecided bars, and the open times of those bars."""
    from trading_pipelines.application.signals.emission import bars_to_decide

    return waiting_work(connection, lambda session: bars_to_decide(connection, session, now))
