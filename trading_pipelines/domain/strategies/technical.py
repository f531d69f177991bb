"""Trade what the charts say: the trend of 4h and 1d, entered on 15m and 1h."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Needs, Signals, Strategy, StrategyInput
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, WARM_UP, Weights, read_charts
from trading_pipelines.errors import UserError


@dataclass(frozen=True)
class Technical(Strategy):
    """Enter in the direction of the 4h trend when 15m and 1h support it; leave when that trend has turned.

    The confidence is how well the charts agree. It is no probability that was ever calibrated; the gate on the
    expected value takes it for one all the same, so its threshold is the stricter the less the charts agree.
    """

    name: ClassVar[str] = "technical"
    exit_reason: ClassVar[str] = "TREND_REVERSAL"

    min_trend: float = 0.3
    min_setup: float = 0.3
    conflict: float = 0.75

    def __post_init__(self) -> None:
        for name in ("min_trend", "min_setup", "conflict"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"technical needs {name} from 0 to 1, not {getattr(self, name)}")

    @property
    def needs(self) -> Needs:
        """Candles of four timeframes; a value then depends on these alone."""
        return Needs(warm_up=WARM_UP, higher=HIGHER_WARM_UP)

    @property
    def weights(self) -> Weights:
        """How the charts are put together."""
        return Weights(min_trend=self.min_trend, min_setup=self.min_setup, conflict=self.conflict)

    def signals(self, data: StrategyInput) -> Signals:
        """Decide at the close of each bar."""
        reading = read_charts(data, self.weights)
        up, down = reading.direction > 0, reading.direction < 0
        return Signals(
            entry=reading.side,
            confidence=reading.confidence,
            exit=down.view(np.uint8) * np.uint8(CLOSE_LONG) + up.view(np.uint8) * np.uint8(CLOSE_SHORT),
            atr=reading.atr,
            atr_ratio=reading.atr_ratio,
            anomaly=reading.anomaly,
            factors={
                "trend_4h": reading.trend_4h,
                "trend_1d": reading.trend_1d,
                "setup_15m": reading.setup_15m,
                "setup_1h": reading.setup_1h,
            },
        )
