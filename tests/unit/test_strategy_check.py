"""The questions that a strategy is asked: honest ones pass, planted faults are found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import talib

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.strategies.base import Bars, Needs, Signals, Strategy, StrategyInput
from trading_pipelines.domain.strategies.ema_cross import EmaCross
from trading_pipelines.domain.validation.strategy_check import Fault, check_strategy, with_history

START = 473_385 * 3_600_000_000
"""A midnight, UTC."""


def bars(n: int, timeframe: Timeframe = Timeframe.M15, seed: int = 1, symbol: str = "AUSDT") -> Bars:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.004, n)))
    opened = np.concatenate(([100.0], close[:-1]))
    top, bottom = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    return Bars(symbol, START + np.arange(n) * timeframe.microseconds, opened, top, bottom, close, np.ones(n))


def market(n: int = 3_000, warm_up: int = 1_300) -> StrategyInput:
    return StrategyInput(bars(n), Timeframe.M15, warm_up=warm_up)


@dataclass(frozen=True)
class Planted(Strategy):
    """EMA cross whose answer is changed by a fault."""

    name: ClassVar[str] = "planted"

    fault: Callable[[StrategyInput, Signals], Signals]

    @property
    def needs(self) -> Needs:
        return EmaCross().needs

    def signals(self, data: StrategyInput) -> Signals:
        return self.fault(data, EmaCross().signals(data))


def only_if_the_next_bar_agrees(data: StrategyInput, told: Signals) -> Signals:
    later = np.append(data.bars.close[1:], data.bars.close[-1])
    return replace(told, entry=np.where(np.sign(later - data.bars.close) == told.entry, told.entry, 0).astype(np.int8))


def confidence_from_the_whole_sample(data: StrategyInput, told: Signals) -> Signals:
    return replace(told, confidence=np.clip(0.5 * data.bars.close / data.bars.close.mean(), 0.0, 1.0))


def atr_of_the_next_bar(data: StrategyInput, told: Signals) -> Signals:
    return replace(told, atr=np.append(told.atr[1:], told.atr[-1]))


def factor_from_the_future(data: StrategyInput, told: Signals) -> Signals:
    return replace(told, factors={"peak": np.maximum.accumulate(data.bars.high[::-1])[::-1]})


@pytest.mark.parametrize(
    "fault",
    [
        only_if_the_next_bar_agrees,
        confidence_from_the_whole_sample,
        atr_of_the_next_bar,
        factor_from_the_future,
    ],
)
def test_strategy_that_knows_the_future_is_caught(fault: Callable[[StrategyInput, Signals], Signals]) -> None:
    found = check_strategy(Planted(fault), [market()])
    assert Fault.LOOKAHEAD in found.faults
    assert not found.passed


def test_honest_strategy_passes_and_its_decisions_were_among_the_samples() -> None:
    found = check_strategy(EmaCross(), [market(), replace(market(), bars=bars(3_000, seed=2, symbol="BUSDT"))], 20)
    assert found.passed, [str(f) for f in found.findings]
    assert found.lookahead_samples == found.warm_up_samples == 40
    assert found.decisions >= 20


@dataclass(frozen=True)
class Hasty(EmaCross):
    """Asks for less history than its averages remember."""

    name: ClassVar[str] = "hasty"

    @property
    def needs(self) -> Needs:
        return Needs(warm_up=85)


def test_warm_up_that_is_too_short_is_found() -> None:
    found = check_strategy(Hasty(), [market(warm_up=85)])
    assert found.faults == (Fault.WARM_UP,)
    assert "factor ema_slow" in {finding.what for finding in found.findings}


def test_strategy_with_a_memory_is_unstable() -> None:
    dice = np.random.default_rng(3)
    noisy = Planted(lambda _, told: replace(told, confidence=dice.uniform(0.5, 1, len(told.entry))))
    assert Fault.UNSTABLE in check_strategy(noisy, [market()]).faults


def test_strategy_that_fails_on_less_data_is_named_with_its_error() -> None:
    def fragile(data: StrategyInput, told: Signals) -> Signals:
        if len(data.bars) < 3_000:
            raise ValueError("too short for me")
        return told

    found = check_strategy(Planted(fragile), [market()])
    assert found.faults == (Fault.ERROR,)
    assert "ValueError: too short for me" in str(found.findings[0])


@dataclass(frozen=True)
class Trend(Strategy):
    """Follows the hourly average, read where the hour has closed, or where it has opened."""

    name: ClassVar[str] = "trend"

    peeks: bool = False

    @property
    def needs(self) -> Needs:
        return Needs(warm_up=300, higher={Timeframe.H1: 320})

    def signals(self, data: StrategyInput) -> Signals:
        hours = data.higher[Timeframe.H1]
        at = data.latest(Timeframe.H1)
        if self.peeks:
            at = np.searchsorted(hours.ts, data.bars.ts, side="right") - 1
        above = hours.close > talib.EMA(hours.close, 20)
        side = np.where(at < 0, 0, np.where(above[at], 1, -1))
        entry = np.where(np.diff(side, prepend=0) != 0, side, 0).astype(np.int8)
        prices = data.bars
        atr = talib.ATR(prices.high, prices.low, prices.close, 14)
        return Signals(entry, np.full(len(entry), 0.7), np.zeros(len(entry), np.uint8), atr)


@pytest.mark.parametrize(("peeks", "passes"), [(False, True), (True, False)])
def test_longer_bar_read_before_it_has_closed_is_found(peeks: bool, passes: bool) -> None:
    quarters, hours = bars(4_000), bars(1_000, Timeframe.H1)
    # The hours are those of the quarters, so that the newest one is still forming.
    hours = replace(hours, close=quarters.close[3::4], high=quarters.high[3::4], low=quarters.low[3::4])
    data = StrategyInput(quarters, Timeframe.M15, warm_up=1_600, higher={Timeframe.H1: hours})
    assert check_strategy(Trend(peeks), [data]).passed is passes


def test_history_of_one_bar_is_as_long_as_the_strategy_needs() -> None:
    data = with_history(market(), 2_000, EmaCross())
    assert len(data.bars) == EmaCross().needs.warm_up + 1
    assert data.warm_up == EmaCross().needs.warm_up
    assert data.bars.ts[-1] == market().bars.ts[2_000]
