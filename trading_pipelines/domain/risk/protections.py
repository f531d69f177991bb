"""Locks that keep new entries away for a time: after a stop, after many stops, after a loss of the account.

Belongs here: what is derived from closed positions and equity marks, purely and again and again the same. Does not
belong here: where locks are stored, and the backtest's own book-keeping of them (`domain.engine.kernel`), which follows
the same definitions.

- A position that was *stopped out* ended by its stop before any target had filled, or by liquidation.
- COOLDOWN: the symbol, from a position's close on.
- STOP: the symbol and side, from a stop-out on.
- STOP_GUARD: everything, from a stop-out on that is the N-th within the window up to it.
- What follows from a close begins with the five minutes (UTC) in which it lies: a bar does not say when in it a stop
  was hit, a tick does, and both should give the same lock.
- DAILY_LOSS: everything, from the first mark of a UTC day that has lost too much until the next 00:00 UTC.
- DRAWDOWN: everything, for a fixed time from the first mark on that is too far below the running maximum; while it
  holds no further one begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.sizing import pack_limits

GRID = timedelta(microseconds=kernel.LOCK_GRID)


class LockReason(StrEnum):
    """Why entries are locked."""

    DRAWDOWN = "DRAWDOWN"
    DAILY_LOSS = "DAILY_LOSS"
    STOP_GUARD = "STOP_GUARD"
    STOP = "STOP"
    COOLDOWN = "COOLDOWN"


@dataclass(frozen=True)
class Lock:
    """Entries are refused in [starts_at, ends_at); without an instrument all, without a side both."""

    reason: LockReason
    starts_at: datetime
    ends_at: datetime
    instrument_id: int | None = None
    side: PositionSide | None = None
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    def covers(self, instrument_id: int, side: PositionSide) -> bool:
        """Whether an entry of that symbol and side is meant."""
        return self.instrument_id in (None, instrument_id) and self.side in (None, side)


@dataclass(frozen=True)
class ClosedTrade:
    """What the locks need to know of a closed position."""

    instrument_id: int
    side: PositionSide
    closed_at: datetime
    stopped_out: bool


@dataclass(frozen=True)
class Mark:
    """The marked equity of one moment, its running maximum, and the equity at 00:00 UTC of its day."""

    ts: datetime
    equity: float
    peak: float
    day_open: float


def longest_lock(limits: RiskLimits) -> timedelta:
    """How long before now a position may have been closed whose locks still hold."""
    return GRID + max(
        timedelta(minutes=limits.cooldown_minutes),
        timedelta(hours=limits.stop_lock_hours),
        timedelta(hours=limits.stop_guard_lock_hours),
    )


def locks_after_closes(closed: Sequence[ClosedTrade], limits: RiskLimits) -> list[Lock]:
    """Locks that closed positions bring about; a lock of zero length is none.

    Parameters
    ----------
    closed : sequence of ClosedTrade
        All positions closed in a span of time, in any order. The stop guard counts only those given, so the span
        begins a guard's window before the first close whose locks are wanted.
    """
    locks = list[Lock]()
    closed = [replace(trade, closed_at=_on_grid(trade.closed_at)) for trade in closed]
    cooldown, stop_lock = timedelta(minutes=limits.cooldown_minutes), timedelta(hours=limits.stop_lock_hours)
    for trade in closed:
        if cooldown:
            locks.append(Lock(LockReason.COOLDOWN, trade.closed_at, trade.closed_at + cooldown, trade.instrument_id))
        if trade.stopped_out and stop_lock:
            locks.append(
                Lock(LockReason.STOP, trade.closed_at, trade.closed_at + stop_lock, trade.instrument_id, trade.side)
            )
    return [*locks, *_guard([trade.closed_at for trade in closed if trade.stopped_out], limits)]


def locks_after_mark(mark: Mark, drawdown_locked_until: datetime | None, limits: RiskLimits) -> list[Lock]:
    """Locks that one equity mark brings about, given until when the drawdown has locked entries already.

    Every mark of a day that has lost too much gives that day's lock; only the first begins it.
    """
    locks = list[Lock]()
    packed = pack_limits(limits)
    lost = float(kernel.loss_from(mark.day_open, mark.equity))
    if kernel.refuses(kernel.DAILY_LOSS, lost, packed):
        midnight = mark.ts.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        numbers = {"loss": lost, "limit": limits.max_daily_loss}
        locks.append(Lock(LockReason.DAILY_LOSS, mark.ts, midnight, numbers=numbers))
    drawdown = float(kernel.loss_from(mark.peak, mark.equity))
    length = timedelta(hours=limits.drawdown_lock_hours)
    free = drawdown_locked_until is None or mark.ts >= drawdown_locked_until
    if length and free and kernel.refuses(kernel.DRAWDOWN, drawdown, packed):
        numbers = {"drawdown": drawdown, "limit": limits.max_drawdown_new_trades}
        locks.append(Lock(LockReason.DRAWDOWN, mark.ts, mark.ts + length, numbers=numbers))
    return locks


def _on_grid(moment: datetime) -> datetime:
    """Beginning of the five minutes that contain a moment."""
    return moment - (moment - EPOCH) % GRID


def _guard(stops: Sequence[datetime], limits: RiskLimits) -> list[Lock]:
    """One lock per moment at which enough stops lie within the window up to it."""
    wanted, length = limits.stop_guard_stops, timedelta(hours=limits.stop_guard_lock_hours)
    if wanted is None or not length:
        return []
    window = timedelta(hours=limits.stop_guard_window_hours)
    locks = list[Lock]()
    for moment in sorted(set(stops)):
        recent = sum(moment - window < stop <= moment for stop in stops)
        if recent >= wanted:
            numbers = {"stops": float(recent), "window_hours": limits.stop_guard_window_hours}
            locks.append(Lock(LockReason.STOP_GUARD, moment, moment + length, numbers=numbers))
    return locks
