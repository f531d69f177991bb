"""A driver that gets one rule wrong is found, by the first decision or fill that the mistake changes.

Each mistake is one that a second implementation of the execution model has made somewhere. The driver is compared with
the backtest; without a mistake nothing is found.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from random_markets import Market, RandomStrategy, random_market
from single_position_driver import CAPITAL, Driver, Step, drive

from trading_pipelines.application.features.strategy_inputs import from_microseconds
from trading_pipelines.domain.engine.lifecycle import EventKind, PositionState, step_bar, step_close, step_inside
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.parity import DecisionRecord, Divergence, FillRecord, Records, compare, significant
from trading_pipelines.domain.risk.rules import PortfolioView
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import Signals
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS

LIMITS = BENCHMARK_LIMITS.model_copy(update={"liquidation_buffer": 1.0})
"""Liquidation may come close to the stop, and before it when an entry fills far from its reference."""
SEEDS = range(4)


class StopLast(Driver):
    """Lets the favourable half of a bar pass before the other, so that a target is filled before the stop."""

    def bar(self, state: PositionState, opened: float, high: float, low: float, funding: float) -> Step:
        up, down = (high, opened) if state.side is PositionSide.LONG else (opened, low)
        left, events = step_bar(state, opened, up, down, funding, self.execution)
        if not left.is_open:
            return left, events
        left, more = step_inside(left, opened, high, low, self.execution)
        return left, events + more

    def inside(self, state: PositionState, opened: float, high: float, low: float) -> Step:
        up, down = (high, opened) if state.side is PositionSide.LONG else (opened, low)
        left, events = step_inside(state, opened, up, down, self.execution)
        if not left.is_open:
            return left, events
        left, more = step_inside(left, opened, high, low, self.execution)
        return left, events + more


class StopsAtTheirLevel(Driver):
    """Fills a stop at its level, also where the bar opens beyond it."""

    def bar(self, state: PositionState, opened: float, high: float, low: float, funding: float) -> Step:
        sign = state.side.sign
        if not state.exit_pending and sign * (opened - state.stop_price) < 0:
            opened = state.stop_price
        return step_bar(state, opened, high, low, funding, self.execution)


class NeverTrails(Driver):
    """Leaves the stop where it was after the first target."""

    def trailed(self, symbol: int, close: float, atr: float) -> PositionState:
        return self.held[symbol]


class TrailsBeforeTheTarget(Driver):
    """Moves the stop from the first close on."""

    def trailed(self, symbol: int, close: float, atr: float) -> PositionState:
        held = self.held[symbol]
        moved = step_close(replace(held, tp1_filled=True), close, atr, self.execution, self.steps[symbol][3])
        return replace(moved, tp1_filled=held.tp1_filled)


class NeverLiquidates(Driver):
    """Waits for the stop however far the price has gone."""

    def inside(self, state: PositionState, opened: float, high: float, low: float) -> Step:
        left, events = step_inside(self._far(state), opened, high, low, self.execution)
        return replace(left, liquidation_price=state.liquidation_price), events

    def bar(self, state: PositionState, opened: float, high: float, low: float, funding: float) -> Step:
        left, events = step_bar(self._far(state), opened, high, low, funding, self.execution)
        return replace(left, liquidation_price=state.liquidation_price), events

    def _far(self, state: PositionState) -> PositionState:
        return replace(state, liquidation_price=0.0 if state.side is PositionSide.LONG else np.inf)


class PaysNoFunding(Driver):
    """Forgets funding, which shows in the equity only, and so in the size of the next entry."""

    def bar(self, state: PositionState, opened: float, high: float, low: float, funding: float) -> Step:
        return super().bar(state, opened, high, low, 0.0)


class AsksInOrderOfTheirNames(Driver):
    """Lets the candidates of one close queue by symbol."""

    def precedence(self, told: dict[int, tuple[Signals, int, float]]) -> list[int]:
        return sorted(told)


class ForgetsWhatItHasJustAccepted(Driver):
    """Counts open positions for the caps, and not what was accepted at the same close."""

    def view(self) -> PortfolioView:
        waiting, self.waiting = self.waiting, {}
        try:
            return super().view()
        finally:
            self.waiting = waiting


def driven(market: Market, data: BacktestInput, seed: int, execution: ExecutionParams, kind: type[Driver]) -> Records:
    driver = drive(market, data, RandomStrategy(seed), execution, LIMITS, kind)
    return Records.of(
        market.timeframe,
        (
            _decision(data.symbols[s], closes_at, side.name, confidence, taken, market)
            for closes_at, s, side, confidence, taken in driver.asked
        ),
        (
            FillRecord(
                from_microseconds(int(data.market.open_time[i])),
                data.symbols[s],
                e.kind.name,
                "BUY" if (side is PositionSide.LONG) == (e.kind is EventKind.ENTRY) else "SELL",
                significant(e.quantity),
                significant(e.reference_price),
            )
            for i, s, side, e in driver.log
            if e.kind is not EventKind.FUNDING
        ),
    )


def backtested(market: Market, data: BacktestInput, seed: int, execution: ExecutionParams) -> Records:
    result = run_backtest(data, RandomStrategy(seed), execution, LIMITS, CAPITAL)
    asked = result.candidates
    moments = pd.DatetimeIndex(asked["decided_at"]).as_unit("us").asi8.tolist()
    columns = (asked[name].tolist() for name in ("symbol", "side", "confidence", "quantity"))
    return Records.of(
        market.timeframe,
        (
            _decision(symbol, closes_at, side, confidence, quantity > 0, market)
            for closes_at, symbol, side, confidence, quantity in zip(moments, *columns, strict=True)
        ),
        _fills(result),
    )


def _decision(symbol: str, closes_at: int, side: str, confidence: float, taken: bool, market: Market) -> DecisionRecord:
    ts = from_microseconds(closes_at) - market.timeframe.delta
    return DecisionRecord(ts, symbol, "random", "SIGNAL", side, "asked", significant(confidence), taken)


def _fills(result: BacktestResult) -> Sequence[FillRecord]:
    fills = result.fills[result.fills["kind"] != "FUNDING"]
    long = (result.trades["side"] == "LONG").to_numpy()[fills["trade"].to_numpy()]
    buys = (long == (fills["kind"] == "ENTRY").to_numpy()).tolist()
    moments = pd.DatetimeIndex(fills["ts"]).to_pydatetime().tolist()
    columns = (fills[name].tolist() for name in ("symbol", "kind", "quantity", "reference_price"))
    return [
        FillRecord(ts, symbol, kind, "BUY" if buy else "SELL", significant(quantity), significant(price))
        for ts, buy, symbol, kind, quantity, price in zip(moments, buys, *columns, strict=True)
    ]


def first_divergence(kind: type[Driver], leverage: float = 20.0) -> Divergence | None:
    """Of the first seed whose market shows a mistake; everything before it is checked to be equal."""
    execution = ExecutionParams(leverage=leverage)
    for seed in SEEDS:
        market = random_market(seed, symbols=6, bars=400, wild=True, funding=True)
        data = market.prepared()
        own, expected = driven(market, data, seed, execution, kind), backtested(market, data, seed, execution)
        assert len(expected.fills) > 100
        found = compare(own, expected)
        if found is not None:
            before = [
                (
                    [f for f in r.fills if f.ts < found.at],
                    [d for d in r.decisions if d.ts + market.timeframe.delta < found.at],
                )
                for r in (own, expected)
            ]
            assert before[0] == before[1]
            assert own.fingerprint != expected.fingerprint
            return found
        assert own.fingerprint == expected.fingerprint
    return None


def test_driver_without_a_mistake_is_equal() -> None:
    assert first_divergence(Driver) is None


@pytest.mark.parametrize(
    ("kind", "what", "field", "own", "expected"),
    [
        (StopLast, "fill", "kind", ("TP1", "TP2", "TP3"), ("STOP", "LIQUIDATION")),
        (StopsAtTheirLevel, "fill", "reference_price", ("STOP",), ("STOP",)),
        (NeverTrails, "fill", "reference_price", ("STOP",), ("STOP",)),
        (TrailsBeforeTheTarget, "fill", "missing", ("STOP",), ()),
        (NeverLiquidates, "fill", "kind", ("STOP",), ("LIQUIDATION",)),
        (PaysNoFunding, "fill", "quantity", ("ENTRY",), ("ENTRY",)),
    ],
)
def test_mistake_in_the_life_of_a_position_is_found_in_the_first_fill_that_it_changes(
    kind: type[Driver], what: str, field: str, own: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    found = first_divergence(kind, 50.0 if kind is NeverLiquidates else 20.0)
    assert found is not None
    assert (found.what, found.field) == (what, field), str(found)
    assert isinstance(found.first, FillRecord) if own else found.first is None
    assert isinstance(found.second, FillRecord) if expected else found.second is None
    assert found.first is None or found.first.kind in own
    assert found.second is None or found.second.kind in expected


@pytest.mark.parametrize("kind", [AsksInOrderOfTheirNames, ForgetsWhatItHasJustAccepted])
def test_mistake_in_the_portfolio_is_found_in_the_first_decision_that_it_changes(kind: type[Driver]) -> None:
    found = first_divergence(kind)
    assert found is not None
    assert (found.what, found.field) == ("decision", "taken"), str(found)
    assert found.first is not None
    assert found.second is not None
