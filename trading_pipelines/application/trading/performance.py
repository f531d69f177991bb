"""The performance of a stored session."""

from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.portfolio.performance import ClosedPosition, Performance, measure
from trading_pipelines.store.connection import read_frame

_CLOSED = """
    select opened_at, closed_at, realised_pnl::float8 as realised_pnl, fees::float8 as fees,
           funding::float8 as funding, slippage::float8 as slippage,
           r.initial_risk
    from positions p join position_risk r using (position_id)
    where p.session_id = %s and p.status = 'CLOSED' order by p.opened_at
"""


def session_performance(connection: psycopg.Connection[Any], session_id: UUID) -> Performance:
    """Measure a session from its equity marks and its closed positions."""
    capital = connection.execute(
        "select start_capital::float8 from sessions where session_id = %s", (session_id,)
    ).fetchone()
    if capital is None:
        raise LookupError(f"no session {session_id}")
    equity = read_frame(connection, "select ts, equity from equity where session_id = %s order by ts", (session_id,))
    with connection.cursor(row_factory=class_row(ClosedPosition)) as cursor:
        closed = cursor.execute(_CLOSED, (session_id,)).fetchall()
    return measure(pd.DatetimeIndex(equity["ts"]), equity["equity"].to_numpy(), closed, capital[0])
