"""The typed functions that paper exchange, order path and monitor call, driven bar by bar.

This is the live path in miniature: one position at a time, portfolio rules, sizing, life cycle. What it does at a place
that a test breaks on purpose is a method of its own.
"""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from random_markets import Market, RandomStrategy

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    LifecycleEvent,
    PositionState,
    add_to_position,
    gap_at_open,
    ladder_quantities,
    open_position,
    rounded_price,
    spread_addition,
    step_bar,
    step_close,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.risk.correlation import correlations_of_day
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.protections import (
    ClosedTrade,
    Lock,
    LockReason,
    Mark,
    locks_after_closes,
    locks_after_mark,
)
from trading_pipelines.domain.risk.rules import Exposure, PortfolioView, Proposal, judge, may_add, must_close_all
from trading_pipelines.domain.signals.setup import TradeSetup, build_setup
from trading_pipelines.domain.simulation.backtest import BacktestInput
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Signals

CAPITAL = 10_000.0
DAY = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Step = tuple[PositionState, tuple[LifecycleEvent, ...]]


@dataclass(frozen=True)
class Waiting:
    """An order that fills at the next open: an entry, or an addition to what is held."""

    setup: TradeSetup
    quantity: float
    margin: float


@dataclass
class Driver:
    """One account; symbols are known by their index."""

    execution: ExecutionParams
    limits: RiskLimits
    steps: list[tuple[float, float, float, float]]
    closes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]
    cash: float = CAPITAL
    peak: float = CAPITAL
    day: int = -1
    day_open: float = CAPITAL
    equity: list[float] = field(default_factory=lambda: [CAPITAL])
    waiting: dict[int, Waiting] = field(default_factory=dict)
    held: dict[int, PositionState] = field(default_factory=dict)
    additions: dict[int, int] = field(default_factory=dict)
    prices: dict[int, float] = field(default_factory=dict)
    log: list[tuple[int, int, PositionSide, LifecycleEvent]] = field(default_factory=list)
    asked: list[tuple[int, int, PositionSide, float, bool]] = field(default_factory=list)
    closed: list[ClosedTrade] = field(default_factory=list)
    account_locks: list[Lock] = field(default_factory=list)

    def market(self, i: int, now: int, symbol: int, bar: tuple[float, float, float, float], funding: float) -> None:
        opened, high, low, close = bar
        if symbol in self.held and symbol in self.waiting:
            state, events = self.add(symbol, opened, high, low, funding)
        elif symbol in self.held:
            state, events = self.bar(self.held[symbol], opened, high, low, funding)
        elif symbol in self.waiting:
            state, events = self.enter(symbol, opened, high, low)
        else:
            return
        self.prices[symbol] = close
        for event in events:
            self.cash += event.pnl - event.fee
            self.log.append((i, symbol, state.side, event))
        self.held[symbol] = state
        if not state.is_open:
            kind = events[-1].kind
            stopped = kind is EventKind.LIQUIDATION or (kind is EventKind.STOP and not state.tp1_filled)
            self.closed.append(ClosedTrade(symbol, state.side, moment(now), stopped))
            del self.held[symbol]

    def bar(self, state: PositionState, opened: float, high: float, low: float, funding: float) -> Step:
        return step_bar(state, opened, high, low, funding, self.execution)

    def inside(self, state: PositionState, opened: float, high: float, low: float) -> Step:
        return step_inside(state, opened, high, low, self.execution)

    def trailed(self, symbol: int, close: float, atr: float) -> PositionState:
        return step_close(self.held[symbol], close, atr, self.execution, self.steps[symbol][3])

    def precedence(self, told: dict[int, tuple[Signals, int, float]]) -> list[int]:
        return sorted(told, key=lambda s: (-told[s][0].confidence[told[s][1]], s))

    def enter(self, symbol: int, opened: float, high: float, low: float) -> Step:
        order, (step, _, _, price_step) = self.waiting.pop(symbol), self.steps[symbol]
        setup, self.additions[symbol] = order.setup, 0
        parts = ladder_quantities(order.quantity, self.execution.target_weights, step)
        stop, *targets = (rounded_price(price, price_step) for price in (setup.stop_price, *setup.targets))
        one, two, three = targets
        state, events = open_position(
            setup.side, order.quantity, opened, stop, (one, two, three), parts, self.execution
        )
        if state.is_open:
            state, more = self.inside(state, opened, high, low)
            events += more
        return state, events

    def add(self, symbol: int, opened: float, high: float, low: float, funding: float) -> Step:
        order, (step, _, _, price_step) = self.waiting.pop(symbol), self.steps[symbol]
        state, events = gap_at_open(self.held[symbol], opened, funding, self.execution)
        if not state.is_open:
            return state, events
        self.additions[symbol] += 1
        stop = rounded_price(order.setup.stop_price, price_step)
        expected = spread_addition(state.target_quantities, order.quantity, self.execution.target_weights, step)
        state, more = add_to_position(state, order.quantity, opened, stop, self.execution, step)
        assert state.target_quantities == expected
        events += more
        if state.is_open:
            state, more = self.inside(state, opened, high, low)
            events += more
        return state, events

    def close(self, closes_at: int, told: dict[int, tuple[Signals, int, float]]) -> None:
        for symbol, (signals, k, close) in told.items():
            if symbol in self.held and not math.isnan(signals.atr[k]):
                self.held[symbol] = self.trailed(symbol, close, float(signals.atr[k]))
        marks = [state.unrealised_pnl(self.prices[symbol]) for symbol, state in sorted(self.held.items())]
        equity = self.cash + sum(marks)
        self.peak = max(self.peak, equity)
        if closes_at // DAY != self.day:
            self.day = closes_at // DAY
            self.day_open = equity if closes_at % DAY == 0 else self.equity[-1]
        self.equity.append(equity)
        drawdown = [lock.ends_at for lock in self.account_locks if lock.reason is LockReason.DRAWDOWN]
        mark = Mark(moment(closes_at), equity, self.peak, self.day_open)
        self.account_locks += locks_after_mark(mark, max(drawdown, default=None), self.limits)
        if must_close_all(self.view(), self.limits):
            self.waiting.clear()
            self.held = {s: replace(state, exit_pending=True) for s, state in self.held.items()}
        for symbol, (signals, k, _) in told.items():
            state = self.held.get(symbol)
            if state and signals.exit[k] & (CLOSE_LONG if state.side is PositionSide.LONG else CLOSE_SHORT):
                self.held[symbol] = replace(state, exit_pending=True)
                self.waiting.pop(symbol, None)
        for symbol in self.precedence(told):
            signals, k, close = told[symbol]
            if signals.entry[k] and not math.isnan(signals.atr[k]):
                self.ask(closes_at, symbol, signals, k, close)

    def ask(self, closes_at: int, symbol: int, signals: Signals, k: int, close: float) -> None:
        side = PositionSide.LONG if signals.entry[k] > 0 else PositionSide.SHORT
        confidence = float(signals.confidence[k])
        setup = build_setup(side, close, float(signals.atr[k]), confidence, confidence, self.execution)
        step, smallest, notional, price_step = (Decimal(repr(number)) for number in self.steps[symbol])
        venue = Instrument("test", str(symbol), "", "", MarketKind.SPOT, price_step, step, smallest, notional)
        proposal = Proposal(symbol, venue, side, close, setup.stop_price, setup.targets, confidence)
        matrix = correlations_of_day(
            self.closes, closes_at // DAY, self.limits.correlation_days, self.limits.correlation_min_hours
        )
        known = {other: float(c) for other, c in enumerate(matrix[symbol]) if not math.isnan(c)}
        locks = [*locks_after_closes(self.closed, self.limits), *self.account_locks]
        verdict = judge(
            self.view(), proposal, self.execution, self.limits, as_of=moment(closes_at), locks=locks, correlations=known
        )
        self.asked.append((closes_at, symbol, side, confidence, verdict.quantity > 0))
        if verdict.quantity:
            assert symbol not in self.held or may_add(self.view(), proposal, self.limits)
            self.waiting[symbol] = Waiting(setup, verdict.quantity, verdict.margin)

    def view(self) -> PortfolioView:
        """Positions with a decided exit count as gone, but their margin is not back; else it is by what is left."""
        exposures, free = list[Exposure](), self.cash
        fees = self.execution.leverage * self.execution.taker_fee_rate
        for s in sorted(self.held.keys() | self.waiting.keys()):
            if s in self.held:
                p = self.held[s]
                margin = p.entry_margin * (p.quantity / p.quantity_initial)
                free -= margin
                if not p.exit_pending:
                    exposures.append(Exposure(s, p.side, margin, p.entry_price, self.additions[s]))
            if s in self.waiting:
                order = self.waiting[s]
                free -= order.margin
                free -= order.margin * fees
                exposures.append(Exposure(s, order.setup.side, order.margin))
        leaving = frozenset(s for s, p in self.held.items() if p.exit_pending)
        return PortfolioView(self.equity[-1], self.peak, self.day_open, exposures, free, leaving)


def moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def drive(
    market: Market,
    data: BacktestInput,
    strategy: RandomStrategy,
    execution: ExecutionParams,
    limits: RiskLimits,
    kind: type[Driver] = Driver,
) -> Driver:
    closes = [(seen.bars.ts, seen.bars.close) for seen in data.inputs]
    driver = kind(execution, limits, [tuple(row) for row in data.market.venue.tolist()], closes)
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
                driver.market(i, ts, s, bar, float(due[s, i]))
        told = {
            s: (signals[s], position[s][i], float(data.market.close[s, i]))
            for s in range(len(data.symbols))
            if i in position[s]
        }
        driver.close(ts + market.grid.minutes * 60_000_000, told)
    return driver
