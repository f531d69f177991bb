"""The account as the risk rules see it, from what is stored."""

from datetime import UTC, datetime
from typing import Any

import psycopg

from trading_pipelines.domain.execution.orders import OrderSide, PositionSide
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.risk.rules import Exposure, PortfolioView
from trading_pipelines.store.repositories import equity, orders, positions


def portfolio_view(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> PortfolioView:
    """Marked equity, its peak and its value at 00:00 UTC, and what is bound or about to be.

    A position whose exit is decided no longer counts; an entry counts from its intent on, at the price at which it
    was asked for.
    """
    day = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    marks = equity.summary(connection, session.session_id, as_of, day)
    held = [
        Exposure(p.instrument_id, p.side, float(p.margin))
        for p in positions.open_positions(connection, session.session_id)
        if not p.exit_pending
    ]
    coming = [
        Exposure(
            o.instrument_id,
            PositionSide.LONG if o.side is OrderSide.BUY else PositionSide.SHORT,
            float(o.quantity * (o.requested_price or 0)) / session.execution.leverage,
        )
        for o in orders.entries_under_way(connection, session.session_id)
    ]
    return PortfolioView(marks.equity, marks.peak, marks.day_open, (*held, *coming))
