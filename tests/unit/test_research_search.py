"""The walk-forward search: windows, combinations, the choice, and the stitched result."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.portfolio.performance import daily_returns
from trading_pipelines.domain.research.history import MarketHistory
from trading_pipelines.domain.research.search import (
    Objective,
    Run,
    combinations,
    side_by_side,
    stitch,
    walk_forward,
    windows,
)
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import StrategyInput
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS, EmaCross

START = datetime(2025, 1, 1, tzinfo=UTC)
HOUR = Timeframe.H1
BARS = 24 * 100
WARM_UP = EmaCross(fast=10, slow=30).needs.warm_up
CAPITAL = 10_000.0


def walk(bars: int, seed: int) -> pd.DataFrame:
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.006 * dice.standard_normal(bars)))
    opened = np.concatenate(([100.0], close[:-1]))
    wicks = 0.002 * np.abs(dice.standard_normal((2, bars)))
    first = START - WARM_UP * HOUR.delta
    return pd.DataFrame(
        {
            "ts": pd.date_range(first, periods=bars, freq="1h", unit="us"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wicks[0]),
            "low": np.minimum(opened, close) * (1 - wicks[1]),
            "close": close,
            "volume": 1.0,
        }
    )


def history(*symbols: str) -> MarketHistory:
    inputs, funding = dict[str, StrategyInput](), dict[str, pd.DataFrame]()
    for seed, symbol in enumerate(symbols):
        frame = walk(BARS + WARM_UP, seed)
        bars = BacktestInput.from_frames({symbol: frame}, HOUR).inputs[0].bars
        inputs[symbol] = StrategyInput(bars, HOUR, WARM_UP)
        ts = pd.date_range(START, periods=300, freq="8h", unit="us")
        funding[symbol] = pd.DataFrame({"ts": ts, "rate": 1e-4})
    made = {s: Instrument("bybit", s, s[:3], "USDT", MarketKind.PERPETUAL) for s in symbols}
    return MarketHistory(HOUR, inputs, funding, made)


def microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def runner(market: MarketHistory) -> Run:
    def run(params: Mapping[str, Any], start: datetime, end: datetime, capital: float) -> BacktestResult:
        data = market.between(microseconds(start), microseconds(end))
        assert data is not None
        return run_backtest(data, EmaCross(**params), ExecutionParams(), BENCHMARK_LIMITS, capital)

    return run


def test_small_space_is_tried_whole_and_in_order() -> None:
    assert combinations({"a": [1, 2], "b": "xyz"}, 10, 0) == [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]


def test_large_space_is_drawn_from_without_repetition_and_the_same_again() -> None:
    space = {name: range(100) for name in "abc"}
    drawn = combinations(space, 50, 3)
    assert len({tuple(one.values()) for one in drawn}) == 50
    assert drawn == combinations(space, 50, 3)
    assert drawn != combinations(space, 50, 4)


@pytest.mark.parametrize("space", [{}, {"a": []}])
def test_space_without_values_is_refused(space: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="values"):
        combinations(space, 5, 0)


def test_windows_follow_each_other_to_the_end_and_are_whole_days() -> None:
    end = START + timedelta(days=100)
    parts = windows(START, end, 5, 3.0, HOUR.delta)
    assert parts[-1].end == end
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert {part.end - part.start for part in parts} == {timedelta(days=12)}
    assert {part.start - part.train_start for part in parts} == {timedelta(days=36)}
    assert parts[0].train_start >= START


def test_span_that_is_too_short_for_its_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        windows(START, START + timedelta(hours=3), 5, 3.0, HOUR.delta)


def test_part_of_a_history_is_what_a_backtest_of_that_part_sees() -> None:
    market = history("BTCUSDT", "ETHUSDT")
    first, last = START + timedelta(days=30), START + timedelta(days=40)
    part = market.between(microseconds(first), microseconds(last))
    assert part is not None
    assert len(part.market.open_time) == 240
    assert part.market.open_time[0] == microseconds(first)
    assert [len(seen.bars) for seen in part.inputs] == [240 + WARM_UP] * 2
    assert all(seen.warm_up == WARM_UP for seen in part.inputs)
    assert len(part.market.funding_bar) == 2 * 30
    assert market.between(0, 10) is None


def test_nothing_after_a_window_reaches_its_choice() -> None:
    """What is chosen for a window is the same when everything after its start is another market."""
    tried = [{"fast": fast, "slow": 30} for fast in (3, 6, 10)]
    parts = windows(START, START + timedelta(days=100), 4, 3.0, HOUR.delta)
    market = history("BTCUSDT")
    honest, _ = walk_forward(runner(market), tried, parts, Objective.SHARPE, CAPITAL)

    seen = market.inputs["BTCUSDT"]
    later = seen.bars.ts >= microseconds(parts[2].start)
    prices = {
        name: np.concatenate((getattr(seen.bars, name)[~later], getattr(seen.bars, name)[later][::-1]))
        for name in ("open", "high", "low", "close")
    }
    other = replace(market, inputs={"BTCUSDT": replace(seen, bars=replace(seen.bars, **prices))})
    changed, _ = walk_forward(runner(other), tried, parts, Objective.SHARPE, CAPITAL)
    assert [trial.in_sample[:3] for trial in honest] == [trial.in_sample[:3] for trial in changed]
    assert [trial.in_sample[3] for trial in honest] != [trial.in_sample[3] for trial in changed]


def test_each_window_is_traded_with_its_best_and_the_capital_is_carried_on() -> None:
    tried = [{"fast": fast, "slow": 30} for fast in (3, 6, 10)]
    parts = windows(START, START + timedelta(days=100), 4, 3.0, HOUR.delta)
    run = runner(history("BTCUSDT", "ETHUSDT"))
    done = list[int]()
    trials, folds = walk_forward(run, tried, parts, Objective.TOTAL_RETURN, CAPITAL, done.append)
    assert done == [1, 2, 3]
    capital = CAPITAL
    for k, fold in enumerate(folds):
        assert trials[fold.chosen].in_sample[k] == max(trial.in_sample[k] or 0 for trial in trials)
        assert fold.result.start_capital == capital
        capital = fold.result.final_equity
    stitched = stitch(folds)
    assert stitched.equity[-1] == capital
    assert stitched.times.is_monotonic_increasing
    assert stitched.times[-1] == pd.Timestamp(parts[-1].end)
    assert len(stitched.trades) == sum(len(fold.result.trades) for fold in folds)
    assert stitched.fills["trade"].max() == len(stitched.trades) - 1
    assert stitched.performance.end_equity == capital
    assert side_by_side(trials).shape == (len(trials[0].returns), 3)


def test_trial_without_a_figure_is_chosen_last() -> None:
    """A combination that never trades has no Sharpe ratio, and any other is preferred to it."""
    never = {"fast": 29, "slow": 30, "confidence": 0.0}
    market = history("BTCUSDT")

    def run(params: Mapping[str, Any], start: datetime, end: datetime, capital: float) -> BacktestResult:
        if params["confidence"] == 0.0:
            end = start + timedelta(hours=2)
        return runner(market)(params, start, end, capital)

    parts = windows(START, START + timedelta(days=100), 2, 3.0, HOUR.delta)
    tried = [never, {"fast": 5, "slow": 30, "confidence": 0.6}]
    trials, folds = walk_forward(run, tried, parts, Objective.SHARPE, CAPITAL)
    assert trials[0].in_sample == (None, None)
    assert [fold.chosen for fold in folds] == [1, 1]


def test_daily_returns_compound_to_the_return() -> None:
    market = history("BTCUSDT")
    result = runner(market)({"slow": 30}, START, START + timedelta(days=100), CAPITAL)
    returns = daily_returns(pd.DatetimeIndex(result.equity_curve.index), result.equity, CAPITAL)
    assert len(returns) == 100
    assert CAPITAL * np.prod(1 + returns) == pytest.approx(result.final_equity, rel=1e-12)
