"""The typed functions that paper exchange, order path and monitor call, driven bar by bar, against the backtest.

This is the live path in miniature: one position at a time, portfolio rules, sizing, life cycle. It must give the
numbers of the compiled portfolio loop.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from random_markets import Market, RandomStrategy, random_market

from trading_pipelines.domain.engine.lifecycle import (
    LifecycleEvent,
    PositionState,
    ladder_quantities,
    open_position,
    step_bar,
    step_close,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.rules import Exposure, PortfolioView, evaluate_rules, first_refusal, must_close_all
from trading_pipelines.domain.risk.sizing import decide_size
from trading_pipelines.domain.signals.setup import TradeSetup, build_setup
from trading_pipelines.domain.simulation.backtest import BacktestInput, run_backtest
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Signals
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS

CAPITAL = 10_000.0
TIGHT = RiskLimits(max_drawdown_new_trades=0.05, max_drawdown_close_all=0.06, max_open_positions=3)
DAY = 86_400_000_000


@dataclass
class Driver:
    """One account; symbols are known by their index."""

    execution: ExecutionParams
    limits: RiskLimits
    steps: list[tuple[float, float, float]]
    cash: float = CAPITAL
    peak: float = CAPITAL
    day: int = -1
    day_open: float = CAPITAL
    equity: list[float] = field(default_factory=lambda: [CAPITAL])
    waiting: dict[int, tuple[TradeSetup, float, float]] = field(default_factory=dict)
    held: dict[int, PositionState] = field(default_factory=dict)
    prices: dict[int, float] = field(default_factory=dict)
    log: list[tuple[int, int, LifecycleEvent]] = field(default_factory=list)

    def market(self, i: int, symbol: int, bar: tuple[float, float, float, float], funding: float) -> None:
        opened, high, low, close = bar
        if symbol in self.held:
            state, events = step_bar(self.held[symbol], opened, high, low, funding, self.execution)
        elif symbol in self.waiting:
            setup, quantity, _ = self.waiting.pop(symbol)
            parts = ladder_quantities(quantity, self.execution.target_weights, self.steps[symbol][0])
            state, events = open_position(
                setup.side, quantity, opened, setup.stop_price, setup.targets, parts, self.execution
            )
            if state.is_open:
                state, more = step_inside(state, opened, high, low, self.execution)
                events += more
        else:
            return
        self.prices[symbol] = close
        for event in events:
            self.cash += event.pnl - event.fee
            self.log.append((i, symbol, event))
        self.held[symbol] = state
        if not state.is_open:
            del self.held[symbol]

    def close(self, closes_at: int, told: dict[int, tuple[Signals, int, float]]) -> None:
        for symbol, (signals, k, close) in told.items():
            if symbol in self.held and not math.isnan(signals.atr[k]):
                self.held[symbol] = step_close(self.held[symbol], close, float(signals.atr[k]), self.execution)
        marks = [state.unrealised_pnl(self.prices[symbol]) for symbol, state in sorted(self.held.items())]
        equity = self.cash + sum(marks)
        self.peak = max(self.peak, equity)
        if closes_at // DAY != self.day:
            self.day = closes_at // DAY
            self.day_open = equity if closes_at % DAY == 0 else self.equity[-1]
        self.equity.append(equity)
        if must_close_all(self.view(), self.limits):
            self.waiting.clear()
            self.held = {s: replace(state, exit_pending=True) for s, state in self.held.items()}
        for symbol, (signals, k, _) in told.items():
            state = self.held.get(symbol)
            if state and signals.exit[k] & (CLOSE_LONG if state.side is PositionSide.LONG else CLOSE_SHORT):
                self.held[symbol] = replace(state, exit_pending=True)
        order = sorted(told, key=lambda s: (-told[s][0].confidence[told[s][1]], s))
        for symbol in order:
            signals, k, close = told[symbol]
            if signals.entry[k] and not math.isnan(signals.atr[k]):
                self.ask(symbol, signals, k, close)

    def ask(self, symbol: int, signals: Signals, k: int, close: float) -> None:
        side = PositionSide.LONG if signals.entry[k] > 0 else PositionSide.SHORT
        confidence = float(signals.confidence[k])
        setup = build_setup(side, close, float(signals.atr[k]), confidence, confidence, self.execution)
        view = self.view()
        if symbol in self.held or first_refusal(evaluate_rules(view, symbol, self.limits)):
            return
        step, smallest, notional = self.steps[symbol]
        size = decide_size(
            reference_price=setup.reference_price,
            stop_price=setup.stop_price,
            confidence=setup.confidence,
            equity=view.equity,
            symbol_margin=view.symbol_margin(symbol),
            direction_margin=view.direction_margin(side),
            execution=self.execution,
            limits=self.limits,
            quantity_step=step,
            min_quantity=smallest,
            min_notional=notional,
        )
        if size.quantity:
            self.waiting[symbol] = setup, size.quantity, size.margin

    def view(self) -> PortfolioView:
        """Positions with a decided exit count as gone; the margin of the others by what is left of them."""
        exposures = {
            symbol: Exposure(symbol, p.side, p.entry_margin * (p.quantity / p.quantity_initial))
            for symbol, p in self.held.items()
            if not p.exit_pending
        }
        exposures |= {s: Exposure(s, setup.side, margin) for s, (setup, _, margin) in self.waiting.items()}
        by_symbol = [exposures[s] for s in sorted(exposures)]
        return PortfolioView(self.equity[-1], self.peak, self.day_open, by_symbol)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limits", [BENCHMARK_LIMITS, TIGHT])
def test_driving_positions_one_by_one_gives_the_backtest(seed: int, limits: RiskLimits) -> None:
    market = random_market(seed, symbols=6, bars=400, wild=seed % 2 == 0, steps=seed % 4 < 2, funding=True)
    execution, strategy = ExecutionParams(leverage=(5.0, 20.0)[seed % 2]), RandomStrategy(seed)
    data = market.prepared()
    result = run_backtest(data, strategy, execution, limits, CAPITAL)
    driver = drive(market, data, strategy, execution, limits)
    fills = result.fills
    columns = ["kind", "quantity", "reference_price", "price", "fee", "pnl"]
    theirs = [
        (data.symbols[s], data.market.open_time[i], e.kind.name, e.quantity, e.reference_price, e.price, e.fee, e.pnl)
        for i, s, e in driver.log
    ]
    ours = zip(fills["symbol"], pd.DatetimeIndex(fills["ts"]).asi8, *(fills[c] for c in columns), strict=True)
    assert list(ours) == theirs
    assert result.equity.tolist() == driver.equity[1:]
    assert len(theirs) > 20


def drive(
    market: Market, data: BacktestInput, strategy: RandomStrategy, execution: ExecutionParams, limits: RiskLimits
) -> Driver:
    driver = Driver(execution, limits, [tuple(row) for row in data.market.venue.tolist()])
    signals = [strategy.signals(seen) for seen in data.inputs]
    position = [
        {i: k for k, i in enumerate(np.searchsorted(data.market.open_time, seen.bars.ts).tolist())}
        for seen in data.inputs
    ]
    due = np.zeros(data.market.close.shape)
    start = data.market.funding_start
    for s in range(len(data.symbols)):
        np.add.at(
            due[s], data.market.funding_bar[start[s] : start[s + 1]], data.market.funding_price[start[s] : start[s + 1]]
        )
    for i, ts in enumerate(data.market.open_time.tolist()):
        for s in range(len(data.symbols)):
            if i in position[s]:
                bar = tuple(
                    float(a[s, i]) for a in (data.market.open, data.market.high, data.market.low, data.market.close)
                )
                driver.market(i, s, bar, float(due[s, i]))
        told = {
            s: (signals[s], position[s][i], float(data.market.close[s, i]))
            for s in range(len(data.symbols))
            if i in position[s]
        }
        driver.close(ts + market.grid.minutes * 60_000_000, told)
    return driver
