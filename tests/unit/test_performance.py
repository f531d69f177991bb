"""Performance figures against numbers worked out by hand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.portfolio.performance import ClosedPosition, ClosedPositions, max_drawdown, measure

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


def test_ratios_agree_with_empyrical() -> None:
    returns = np.array([0.012, -0.007, 0.0031, 0.0, -0.021, 0.0154, 0.0042, -0.0009])
    result = measure(*_days(list(100 * np.cumprod(1 + returns))), [], 100.0)
    # empyrical-reloaded 0.7.1: sharpe_ratio and sortino_ratio with annualization=365, max_drawdown of daily returns.
    assert result.sharpe == pytest.approx(1.2249498302204902)
    assert result.sortino == pytest.approx(1.7683683402116377)
    assert result.max_drawdown == pytest.approx(0.024839344300000028)


def test_figures_of_two_years_agree_with_quantstats_and_ffn() -> None:
    k = np.arange(730)
    returns = 0.0008 + 0.02 * np.sin(1.7 * k) * np.cos(0.31 * k * k % 7)
    times = pd.date_range("2024-01-02", periods=730, freq="D", tz="UTC", unit="us")
    result = measure(times, 1000 * np.cumprod(1 + returns), [], 1000.0)
    # What quantstats-lumi 1.1.5 and ffn 1.4.1 say of these returns with 365 periods a year.
    assert result.sharpe == pytest.approx(1.025837142405062, rel=1e-12)
    assert result.sortino == pytest.approx(1.5118501083673588, rel=1e-12)
    assert result.max_drawdown == pytest.approx(0.23509327051758666, rel=1e-12)
    # In quantstats' Calmar ratio a year has 365.25 days, and the time begins when the first day ends.
    theirs = ((1 + result.total_return) ** (365.25 / 729) - 1) / result.max_drawdown
    assert theirs == pytest.approx(0.8471824200056368, rel=1e-12)
    assert result.calmar == pytest.approx(theirs, rel=0.003)


def test_midnights_without_a_mark_of_their_own_take_the_one_before() -> None:
    times = pd.DatetimeIndex([START + timedelta(hours=h) for h in (23, 47, 71)])
    result = measure(times, np.array([110.0, 104.5, 200.0]), [], 100.0)
    returns = np.array([0.10, -0.05])
    assert result.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))


def test_arrays_and_single_positions_measure_alike() -> None:
    positions = [_position(100, (0, 5)), _position(-50, (3, 9)), _position(20, (30, 31))]
    curve = _days([100.0, 120.0, 90.0])
    assert measure(*curve, ClosedPositions.of(positions), 100.0) == measure(*curve, positions, 100.0)


def test_lost_account_has_no_returns_after_its_loss() -> None:
    result = measure(*_days([50.0, 0.0, -1.0]), [], 100.0)
    returns = np.array([-0.5, -1.0])
    assert result.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365))
    assert result.calmar is None
    assert result.total_return == pytest.approx(-1.01)


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
