"""The benchmark strategy of the execution model: two exponential averages that cross."""

from dataclasses import dataclass

import numpy as np
import talib

from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Bars, Signals

BENCHMARK_LIMITS = RiskLimits(max_drawdown_new_trades=1, max_drawdown_close_all=1, max_daily_loss=1)
"""Sizes and caps as ever; no gate by drawdown or daily loss."""


@dataclass(frozen=True)
class EmaCross:
    """Long when the fast average goes from at or below to above the slow one, short the mirror.

    While a position of the symbol is open only the opposite signal counts, and it closes it.
    """

    fast: int = 20
    slow: int = 80
    atr_period: int = 14
    confidence: float = 0.65

    @property
    def name(self) -> str:
        """Name under which results are stored."""
        return "ema_cross"

    def signals(self, bars: Bars) -> Signals:
        """Decide at the close of each bar; averages and ATR are TA-Lib's."""
        spread = talib.EMA(bars.close, self.fast) - talib.EMA(bars.close, self.slow)
        up, down = np.zeros(len(bars), np.bool_), np.zeros(len(bars), np.bool_)
        # Comparisons with the NaN of the warm-up are false.
        up[1:] = (spread[1:] > 0) & (spread[:-1] <= 0)
        down[1:] = (spread[1:] < 0) & (spread[:-1] >= 0)
        return Signals(
            entry=up.view(np.int8) - down.view(np.int8),
            confidence=np.full(len(bars), self.confidence),
            exit=up.view(np.uint8) * np.uint8(CLOSE_SHORT) + down.view(np.uint8) * np.uint8(CLOSE_LONG),
            atr=talib.ATR(bars.high, bars.low, bars.close, self.atr_period),
        )
