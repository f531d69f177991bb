"""Locks from closed positions and equity marks."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.protections import (
    ClosedTrade,
    Lock,
    LockReason,
    Mark,
    locks_after_closes,
    locks_after_mark,
)

T0 = datetime(2025, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


def closed(hours: float, instrument: int = 1, *, stopped: bool = True) -> ClosedTrade:
    return ClosedTrade(instrument, LONG, T0 + hours * HOUR, stopped)


def test_stop_locks_its_side_and_every_close_its_symbol() -> None:
    limits = RiskLimits(cooldown_minutes=15, stop_lock_hours=4)
    assert locks_after_closes([closed(0), closed(1, 2, stopped=False)], limits) == [
        Lock(LockReason.COOLDOWN, T0, T0 + HOUR / 4, 1),
        Lock(LockReason.STOP, T0, T0 + 4 * HOUR, 1, LONG),
        Lock(LockReason.COOLDOWN, T0 + HOUR, T0 + 1.25 * HOUR, 2),
    ]


@pytest.mark.parametrize("seconds", [0, 30, 299.999])
def test_lock_after_a_close_starts_with_its_five_minutes(seconds: float) -> None:
    trade = ClosedTrade(1, LONG, T0 + timedelta(seconds=seconds), False)
    [lock] = locks_after_closes([trade], RiskLimits())
    assert (lock.starts_at, lock.ends_at) == (T0, T0 + HOUR / 4)


def test_lock_of_zero_length_is_none() -> None:
    limits = RiskLimits(cooldown_minutes=0, stop_lock_hours=0, stop_guard_lock_hours=0, drawdown_lock_hours=0)
    assert locks_after_closes([closed(h / 10, h) for h in range(9)], limits) == []
    assert locks_after_mark(Mark(T0, 60.0, 100.0, 60.0), None, limits) == []


@pytest.mark.parametrize(
    ("hours", "starts"),
    [
        ((0, 1, 2), []),
        ((0, 1, 2, 3), [3]),
        ((0, 1, 2, 3, 3.5), [3, 3.5]),
        ((0, 1, 2, 23.75), [23.75]),
        ((0, 1, 2, 24), []),
        ((0, 2, 2, 2), [2]),
    ],
)
def test_many_stops_within_the_window_lock_everything(hours: tuple[float, ...], starts: list[float]) -> None:
    limits = RiskLimits(stop_guard_stops=4, stop_guard_window_hours=24, stop_guard_lock_hours=4)
    trades = [closed(h, instrument) for instrument, h in enumerate(hours)]
    guard = [lock for lock in locks_after_closes(trades, limits) if lock.reason is LockReason.STOP_GUARD]
    assert [(lock.starts_at, lock.ends_at) for lock in guard] == [(T0 + s * HOUR, T0 + (s + 4) * HOUR) for s in starts]
    assert all(lock.instrument_id is lock.side is None for lock in guard)


def test_targets_and_exits_do_not_count_as_stops() -> None:
    trades = [closed(h / 12, h, stopped=h > 2) for h in range(6)]
    reasons = {lock.reason for lock in locks_after_closes(trades, RiskLimits())}
    assert reasons == {LockReason.COOLDOWN, LockReason.STOP}


def test_loss_of_a_day_locks_until_midnight() -> None:
    [lock] = locks_after_mark(Mark(T0, 95.0, 100.0, 100.0), None, RiskLimits(max_daily_loss=0.05))
    assert (lock.reason, lock.starts_at, lock.ends_at) == (LockReason.DAILY_LOSS, T0, T0 + 12 * HOUR)
    assert lock.numbers == {"loss": pytest.approx(0.05), "limit": 0.05}
    assert locks_after_mark(Mark(T0, 95.1, 100.0, 100.0), None, RiskLimits(max_daily_loss=0.05)) == []


def test_drawdown_locks_again_only_after_its_lock_has_ended() -> None:
    mark = Mark(T0, 70.0, 100.0, 70.0)
    [lock] = locks_after_mark(mark, None, RiskLimits())
    assert (lock.reason, lock.ends_at) == (LockReason.DRAWDOWN, T0 + 24 * HOUR)
    assert locks_after_mark(mark, T0 + HOUR, RiskLimits()) == []
    assert locks_after_mark(mark, T0, RiskLimits()) == [lock]


def test_lock_covers_its_symbol_and_side() -> None:
    one = Lock(LockReason.STOP, T0, T0 + HOUR, 1, LONG)
    assert (one.covers(1, LONG), one.covers(1, SHORT), one.covers(2, LONG)) == (True, False, False)
    assert Lock(LockReason.STOP_GUARD, T0, T0 + HOUR).covers(2, SHORT)
