"""The account as the risk rules see it, from what is stored."""

from datetime import UTC, datetime
from typing import Any

import psycopg

from trading_pipelines.domain.execution.orders import OrderSide, PositionSide
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.risk.rules import Exposure, PortfolioView
from trading_pipelines.store.repositories import equity, orders, positions, risk_locks
from trading_pipelines.store.repositories import exits as exit_decisions


def portfolio_view(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> PortfolioView:
    """Marked equity, its peak and its value at 00:00 UTC, what is bound or about to be, and what is free.

    A position whose exit is decided no longer counts, but its margin is not back yet; an entry counts from its intent
    on, at the price at which it was asked for.
    """
    day = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    marks = equity.summary(connection, session.session_id, as_of, day)
    open_positions = positions.open_positions(connection, session.session_id)
    # Decided is enough: whether the exit was sent before the entries are judged is a matter of who looks first.
    decided = {row.position_id for row in exit_decisions.pending(connection, session.session_id)}
    leaving = {p.position_id for p in open_positions if p.exit_pending or p.position_id in decided}
    additions = risk_locks.additions(connection, session.session_id)
    held = [
        Exposure(p.instrument_id, p.side, float(p.margin), float(p.entry_price), additions.get(p.position_id, 0))
        for p in open_positions
        if p.position_id not in leaving
    ]
    coming = [
        Exposure(
            o.instrument_id,
            PositionSide.LONG if o.side is OrderSide.BUY else PositionSide.SHORT,
            float((o.quantity - o.filled_quantity) * (o.requested_price or 0)) / session.execution.leverage,
        )
        for o in orders.entries_under_way(connection, session.session_id)
    ]
    fee = session.execution.leverage * session.execution.taker_fee_rate
    bound = sum(float(p.margin) for p in open_positions) + sum(e.margin * (1 + fee) for e in coming)
    return PortfolioView(
        equity=marks.equity,
        peak_equity=marks.peak,
        day_open_equity=marks.day_open,
        exposures=(*held, *coming),
        free_cash=risk_locks.cash(connection, session.session_id) - bound,
        leaving=frozenset(p.instrument_id for p in open_positions if p.position_id in leaving),
    )
