"""Tell a person when an open position or the account deserves a look.

Each condition is told once when it begins, however often it is looked at, and again only after it was over.

Belongs here: what is looked at and how a condition is told once. Does not belong here: when one begins
(`domain.risk.alerts`), and anything that acts on it.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.risk.alerts import (
    Alert,
    AlertThresholds,
    Level,
    WatchedPosition,
    account_alerts,
    position_alerts,
)
from trading_pipelines.store.repositories import events, positions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed

_TEXTS = {
    "margin_ratio": "margin and unrealised result are below {threshold:.0%} of the margin",
    "near_liquidation": "less than {threshold:.0%} of the way to liquidation is left",
    "near_stop": "less than {threshold:g} R are left to the stop",
    "daily_loss": "the day's loss has reached {threshold:.1%}",
    "drawdown": "the drawdown has reached {threshold:.1%}",
}

Told = dict[tuple[str, str], Level]
"""Level of the conditions that hold, by subject and kind."""


def tell_alerts(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    thresholds: AlertThresholds,
    told: Told,
    as_of: datetime,
) -> Told:
    """Write an event for each condition that has begun or become worse since `told`; the conditions that hold now."""
    with committed(connection):
        held = positions.open_positions(connection, session.session_id)
        view = portfolio_view(connection, session, as_of)
    found = [(f"{p.symbol} {p.position_id}", p.symbol, alert) for p, alert in _of_positions(held, thresholds)]
    account = account_alerts(view.daily_loss, view.drawdown, session.limits, thresholds)
    found += [(session.name, session.name, alert) for alert in account]
    now: Told = {(key, alert.kind): alert.level for key, _, alert in found}
    fresh = [(subject, alert) for key, subject, alert in found if told.get((key, alert.kind)) is not alert.level]
    if fresh:
        with committed(connection):
            for subject, alert in fresh:
                _tell(connection, session, subject, alert, as_of)
    return now


def _of_positions(held: list[OpenPosition], thresholds: AlertThresholds) -> Iterator[tuple[OpenPosition, Alert]]:
    for position in held:
        for alert in position_alerts(_watched(position), thresholds):
            yield position, alert


def _watched(position: OpenPosition) -> WatchedPosition:
    return WatchedPosition(
        side=position.side,
        quantity=float(position.quantity_open),
        entry_price=float(position.entry_price),
        margin=float(position.margin),
        liquidation_price=float(position.liquidation_price),
        mark_price=float(position.mark_price),
        stop_price=None if position.stop_price is None else float(position.stop_price),
        initial_stop_price=None if position.initial_stop_price is None else float(position.initial_stop_price),
    )


def _tell(
    connection: psycopg.Connection[Any], session: TradingSession, subject: str, alert: Alert, as_of: datetime
) -> None:
    events.append(
        connection,
        as_of,
        "risk_alert",
        subject,
        _TEXTS[alert.kind].format(threshold=alert.threshold),
        session_id=session.session_id,
        severity=Severity.CRITICAL if alert.level is Level.CRITICAL else Severity.WARNING,
        payload={"alert": alert.kind, "value": alert.value, "threshold": alert.threshold},
    )
