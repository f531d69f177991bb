"""Risk: what the portfolio's rules say about one more trade, asked by emission and by the order path alike.

Belongs here: bringing what is stored about an account before the rules, keeping their verdicts, and recording the locks
that follow from closed positions and equity marks. Does not belong here: the rules, the sizing and the definitions of
locks and correlations (`domain.risk`), and what becomes of a verdict.
"""

import math
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.domain.risk.correlation import correlations_of_day
from trading_pipelines.domain.risk.protections import (
    Lock,
    LockReason,
    locks_after_closes,
    locks_after_mark,
    longest_lock,
)
from trading_pipelines.domain.risk.rules import PortfolioView, Proposal, RiskAssessment, judge
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import candles, events, risk_locks
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.transaction import committed


class Stage(StrEnum):
    """Who asks: emission for the proposal of a size, the order path for the order."""

    EMISSION = "EMISSION"
    ORDER = "ORDER"


def assess(
    connection: psycopg.Connection[Any], session: TradingSession, proposal: Proposal, as_of: datetime
) -> RiskAssessment:
    """Ask every rule about a trade and size it, by the account as it is stored at `as_of`.

    Locks are brought up to date before, so that nobody trades past one that has not been written yet.
    """
    record_protections(connection, session, as_of)
    portfolio = portfolio_view(connection, session, as_of)
    return judge(
        portfolio,
        proposal,
        session.execution,
        session.limits,
        as_of=as_of,
        locks=[stored.lock for stored in risk_locks.in_force(connection, session.session_id, as_of)],
        correlations=_correlations(connection, session, portfolio, proposal, as_of),
    )


def keep_assessment(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    signal_id: UUID,
    proposal: Proposal,
    stage: Stage,
    assessment: RiskAssessment,
    as_of: datetime,
) -> None:
    """Store a verdict with every rule behind it; the signal itself may follow later in the same transaction."""
    risk_locks.save_assessment(
        connection, session.session_id, signal_id, proposal.instrument_id, stage, as_of, assessment
    )


def record_protections(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> int:
    """Store the locks that closed positions and equity marks up to `as_of` bring about; how many are new.

    A pure derivation from what is stored, so it may be called as often as one likes: after fills were taken over and
    after a mark, to show a lock at once, and before a trade in any case. A lock that a person has lifted stays lifted.
    A lock after a close that would have ended by now is not written any more.
    """
    found = [*_after_closes(connection, session, as_of), *_after_marks(connection, session, as_of)]
    new = [lock for lock in found if risk_locks.insert(connection, session.session_id, lock)]
    for lock in new:
        if lock.reason is not LockReason.COOLDOWN:
            _announce(connection, session, lock, as_of)
    return len(new)


def lift_locks(
    connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime, lock_id: int | None = None
) -> int:
    """End the locks that hold, or one of them, by a person's decision, and commit; how many there were.

    Raises
    ------
    UserError
        The named lock does not hold.
    """
    with committed(connection):
        lifted = risk_locks.lift(connection, session.session_id, as_of, lock_id)
        if lock_id is not None and not lifted:
            raise UserError(f"lock {lock_id} of {session.name} does not hold: `trading risk locks` shows those that do")
        if lifted:
            which = "all locks" if lock_id is None else f"lock {lock_id}"
            events.append(
                connection,
                as_of,
                "risk_lock_lifted",
                "account",
                f"{which} lifted ({lifted})",
                session_id=session.session_id,
                severity=Severity.WARNING,
            )
    return lifted


def _after_closes(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> list[Lock]:
    limits = session.limits
    since = as_of - longest_lock(limits)
    window = timedelta(hours=limits.stop_guard_window_hours)
    closed = risk_locks.closed_trades(connection, session.session_id, since - window, as_of)
    return [lock for lock in locks_after_closes(closed, limits) if lock.ends_at > as_of]


def _after_marks(connection: psycopg.Connection[Any], session: TradingSession, as_of: datetime) -> list[Lock]:
    limits, session_id = session.limits, session.session_id
    day = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    locks = list[Lock]()
    if (mark := risk_locks.first_loss(connection, session_id, day, as_of, limits.max_daily_loss)) is not None:
        found = locks_after_mark(mark, None, limits)
        locks += [lock for lock in found if lock.reason is LockReason.DAILY_LOSS]
    until = risk_locks.locked_until(connection, session_id, LockReason.DRAWDOWN, as_of)
    while until is None or until <= as_of:
        mark = risk_locks.first_drawdown(connection, session_id, until, as_of, limits.max_drawdown_new_trades)
        found = [] if mark is None else locks_after_mark(mark, until, limits)
        if not found:
            break
        locks += found
        until = found[0].ends_at
    return locks


def _announce(connection: psycopg.Connection[Any], session: TradingSession, lock: Lock, as_of: datetime) -> None:
    subject = "account" if lock.instrument_id is None else str(lock.instrument_id)
    scope = "" if lock.side is None else f" for {lock.side}"
    events.append(
        connection,
        as_of,
        "risk_lock",
        subject,
        f"{lock.reason}: no entries{scope} until {lock.ends_at:%Y-%m-%d %H:%M} UTC",
        session_id=session.session_id,
        severity=Severity.WARNING if lock.instrument_id is None else Severity.INFO,
        payload={"reason": lock.reason, "instrument_id": lock.instrument_id, **lock.numbers},
    )


def _correlations(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    portfolio: PortfolioView,
    proposal: Proposal,
    as_of: datetime,
) -> dict[int, float]:
    """Correlations of the proposal's symbol with those in play in its direction, from stored hourly candles."""
    limits = session.limits
    others = sorted(portfolio.same_direction(proposal.instrument_id, proposal.side))
    if limits.max_correlation is None or not others:
        return {}
    ids = [proposal.instrument_id, *others]
    midnight = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=limits.correlation_days, hours=1)
    frames = [candles.read_candles(connection, i, Timeframe.H1, start, midnight) for i in ids]
    hourly = [(pd.DatetimeIndex(f["ts"]).as_unit("us").asi8, f["close"].to_numpy(np.float64)) for f in frames]
    matrix = correlations_of_day(hourly, (midnight - EPOCH).days, limits.correlation_days, limits.correlation_min_hours)
    return {other: float(c) for other, c in zip(others, matrix[0, 1:], strict=True) if not math.isnan(c)}
