"""Performance figures against numbers worked out by hand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.portfolio.performance import ClosedPosition, max_drawdown, measure

START = datetime(2025, 1, 1, tzinfo=UTC)


def _position(net: float, hours: tuple[float, float] = (0, 1)) -> ClosedPosition:
    opened, closed = (START + timedelta(hours=h) for h in hours)
    return ClosedPosition(opened, closed, net + 3, 2, 1, 0.5, initial_risk=50)


def _days(equity: list[float]) -> tuple[pd.DatetimeIndex, np.ndarray]:
    times = pd.date_range(START + timedelta(days=1), periods=len(equity), freq="1D")
    return times, np.array(equity)


def test_ratios_are_annualised_from_daily_marks() -> None:
    result = measure(*_days([110.0, 104.5, 114.95]), [], 100.0)
    returns = np.array([0.10, -0.05, 0.10])
    assert result.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))
    assert result.sortino == pytest.approx(returns.mean() / math.sqrt(0.05**2 / 3) * math.sqrt(365))
    assert result.max_drawdown == pytest.approx(0.05)
    assert result.total_return == pytest.approx(0.1495)
    assert result.calmar == pytest.approx((1.1495 ** (365 / 3) - 1) / 0.05)


def test_intraday_marks_count_for_drawdown_and_midnights_for_returns() -> None:
    times = pd.DatetimeIndex([START + timedelta(hours=h) for h in (6, 12, 24, 36, 48)])
    result = measure(times, np.array([80.0, 120.0, 110.0, 60.0, 121.0]), [], 100.0)
    assert result.max_drawdown == pytest.approx(0.5)
    assert result.sharpe is None  # two days of exactly +10 %: no deviation


def test_trades_are_counted_after_all_costs() -> None:
    result = measure(*_days([100.0, 100.0]), [_position(100), _position(-50), _position(0)], 100.0)
    assert (result.trades, result.net_pnl) == (3, 50)
    assert result.win_rate == pytest.approx(1 / 3)
    assert result.profit_factor == pytest.approx(2.0)
    assert result.average_r == pytest.approx((2 - 1 + 0) / 3)
    assert (result.fees, result.funding, result.slippage) == (6, 3, 1.5)


def test_exposure_counts_overlapping_positions_once() -> None:
    positions = [_position(1, (24, 36)), _position(1, (30, 42)), _position(1, (60, 66))]
    result = measure(*_days([100.0, 100.0, 100.0]), positions, 100.0)
    assert result.exposure == pytest.approx((18 + 6) / 72)


def test_session_without_trades_has_no_ratios() -> None:
    result = measure(*_days([100.0, 100.0, 100.0]), [], 100.0)
    assert (result.sharpe, result.sortino, result.calmar, result.win_rate, result.profit_factor) == (None,) * 5
    assert measure(pd.DatetimeIndex([], tz="UTC"), np.empty(0), [], 100.0).total_return == 0


def test_drawdown_is_the_deepest_fall_not_the_last() -> None:
    assert max_drawdown(np.array([1.0, 2.0, 1.0, 4.0, 3.0])) == pytest.approx(0.5)
