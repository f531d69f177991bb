"""On a random walk there is nothing to earn: a strategy loses its costs, and is otherwise even."""

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.policy import SignalPolicy
from trading_pipelines.domain.simulation.backtest import BacktestInput, run_backtest
from trading_pipelines.domain.strategies.base import Bars, Strategy, StrategyInput
from trading_pipelines.domain.strategies.registry import STRATEGIES

SEEDS = range(12)
DAYS = 60
STEPS = 20
"""Steps in a minute. Fills are made at the stop or target itself, while a coarse walk jumps past it: as stops are hit
more often than targets, that would be a gift."""
CAPITAL = 10_000.0
UNFOUNDED = [
    made
    for made in (strategy() for strategy in STRATEGIES.values())
    if not (made.needs.predictions or made.needs.scores)
]
"""The shipped strategies that need prices alone."""


def walk(seed: int, days: int) -> dict[Timeframe, pd.DataFrame]:
    """A fair game in prices: the expected price is the present one, whatever the horizon."""
    dice = np.random.default_rng(seed)
    deviation = 0.0008 / np.sqrt(STEPS)
    steps = dice.normal(-(deviation**2) / 2, deviation, days * 1440 * STEPS)
    price = 100 * np.exp(np.concatenate(([0.0], np.cumsum(steps))))
    frames = dict[Timeframe, pd.DataFrame]()
    for timeframe in (Timeframe.M5, Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1):
        length = timeframe.minutes * STEPS
        inside, close = price[:-1].reshape(-1, length), price[length::length]
        frames[timeframe] = pd.DataFrame(
            {
                "ts": pd.date_range("2024-01-01", periods=len(close), freq=timeframe.delta, tz="UTC", unit="us"),
                "open": inside[:, 0],
                "high": np.maximum(inside.max(axis=1), close),
                "low": np.minimum(inside.min(axis=1), close),
                "close": close,
                "volume": dice.uniform(50, 150, len(close)),
            }
        )
    return frames


def bars(frame: pd.DataFrame) -> Bars:
    prices = (frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume"))
    return Bars("BTCUSDT", pd.DatetimeIndex(frame["ts"]).as_unit("us").asi8, *prices)


def outcome(strategy: Strategy, seed: int) -> tuple[float, float, int]:
    """Result before costs, costs, and number of trades, on fills by the 5-minute bars inside."""
    needs = strategy.needs
    history = max(
        [needs.warm_up * Timeframe.M15.delta, *(count * t.delta for t, count in needs.higher.items())],
        default=Timeframe.D1.delta,
    )
    before = -(-history // Timeframe.D1.delta)
    frames = walk(seed, before + DAYS)
    start = frames[Timeframe.D1]["ts"].iloc[before]
    own = frames[Timeframe.M15]
    seen = StrategyInput(
        bars(own),
        Timeframe.M15,
        warm_up=int((own["ts"] < start).sum()),
        higher={t: bars(frames[t]) for t in needs.higher},
    )
    finer = frames[Timeframe.M5]
    data = BacktestInput.from_frames(
        {"BTCUSDT": own[own["ts"] >= start]},
        Timeframe.M15,
        finer=(Timeframe.M5, {"BTCUSDT": finer[finer["ts"] >= start]}),
        inputs={"BTCUSDT": seen},
    )
    limits = strategy.limits(RiskLimits().without_gates())
    policy = strategy.policy(SignalPolicy().without_gates())
    result = run_backtest(data, strategy, ExecutionParams(), limits, CAPITAL, policy)
    trades = result.trades
    costs = float((trades["fees"] + trades["funding"] + trades["slippage"]).sum())
    net = result.final_equity - CAPITAL
    return net + costs, costs, len(trades)


@pytest.mark.parametrize("strategy", UNFOUNDED, ids=lambda s: s.name)
def test_random_walk_takes_the_costs_and_gives_nothing(strategy: Strategy) -> None:
    results = np.array([outcome(strategy, seed) for seed in SEEDS])
    gross, costs, trades = results.T
    assert trades.sum() > 50 * len(SEEDS)
    error = gross.std(ddof=1) / np.sqrt(len(SEEDS))
    # Before costs nothing, within what so few walks can tell.
    assert abs(gross.mean()) < 3 * error
    # After costs the costs, which are far more than that.
    assert costs.mean() > 3 * error
    assert (gross - costs).mean() == pytest.approx(-costs.mean(), abs=3 * error)
    assert (gross - costs).mean() < 0
