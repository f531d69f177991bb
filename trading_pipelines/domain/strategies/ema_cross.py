"""The benchmark strategy of the execution model: two exponential averages that cross."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import talib

from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.policy import SignalPolicy
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Needs, Signals, Strategy, StrategyInput
from trading_pipelines.errors import UserError

BENCHMARK_LIMITS = RiskLimits().without_gates()
"""Sizes and caps as ever; no rule that refuses, no lock."""


@dataclass(frozen=True)
class EmaCross(Strategy):
    """Long when the fast average goes from at or below to above the slow one, short the mirror.

    While a position of the symbol is open only the opposite signal counts, and it closes it.
    """

    name: ClassVar[str] = "ema_cross"

    fast: int = 20
    slow: int = 80
    atr_period: int = 14
    confidence: float = 0.65

    def __post_init__(self) -> None:
        if not 2 <= self.fast < self.slow:
            raise UserError(f"ema_cross needs 2 <= fast < slow, not fast={self.fast} and slow={self.slow}")
        if self.atr_period < 2 or not 0 <= self.confidence <= 1:
            raise UserError("ema_cross needs atr_period >= 2 and a confidence from 0 to 1")

    @property
    def needs(self) -> Needs:
        """A start value keeps less than 1e-14 of its weight after 16 lengths of the slow average."""
        return Needs(warm_up=16 * max(self.slow, 2 * self.atr_period))

    def signals(self, data: StrategyInput) -> Signals:
        """Decide at the close of each bar; averages and ATR are TA-Lib's."""
        bars = data.bars
        fast, slow = talib.EMA(bars.close, self.fast), talib.EMA(bars.close, self.slow)
        spread = fast - slow
        up, down = np.zeros(len(bars), np.bool_), np.zeros(len(bars), np.bool_)
        # Comparisons with the NaN of the warm-up are false.
        up[1:] = (spread[1:] > 0) & (spread[:-1] <= 0)
        down[1:] = (spread[1:] < 0) & (spread[:-1] >= 0)
        return Signals(
            entry=up.view(np.int8) - down.view(np.int8),
            confidence=np.broadcast_to(self.confidence, len(bars)),
            exit=up.view(np.uint8) * np.uint8(CLOSE_SHORT) + down.view(np.uint8) * np.uint8(CLOSE_LONG),
            atr=talib.ATR(bars.high, bars.low, bars.close, self.atr_period),
            factors={"ema_fast": fast, "ema_slow": slow},
        )

    def policy(self, policy: SignalPolicy) -> SignalPolicy:
        """No gates: the benchmark measures the engine, not the thresholds."""
        return policy.without_gates()

    def limits(self, limits: RiskLimits) -> RiskLimits:
        """Sizes and caps as configured; no rule that refuses, no lock."""
        return limits.without_gates()
