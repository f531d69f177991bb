"""Follow the models: the side that the version in production expects, with its calibrated probability."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Needs, Signals, Strategy, StrategyInput
from trading_pipelines.errors import UserError


@dataclass(frozen=True)
class ModelSignals(Strategy):
    """Propose at every close what the prediction says; the gates decide what becomes a signal.

    A position is left when the probability of its own side falls below `exit_confidence`: the model has then turned
    round and expects the other side with more than 1 - `exit_confidence`.
    """

    name: ClassVar[str] = "model_signals"
    exit_reason: ClassVar[str] = "MODEL_REVERSAL"

    exit_confidence: float = 0.40

    def __post_init__(self) -> None:
        if not 0 <= self.exit_confidence <= 0.5:
            raise UserError(f"model_signals needs an exit_confidence from 0 to 0.5, not {self.exit_confidence}")

    @property
    def needs(self) -> Needs:
        """Stored features and predictions; they carry their own history."""
        return Needs(features=("atr_14", "atr_ratio", "anomaly_16"), predictions=True)

    def signals(self, data: StrategyInput) -> Signals:
        """Decide at the close of each bar; a bar without a prediction decides nothing."""
        assert data.predictions is not None  # asked for in `needs`
        up = data.predictions.probability  # comparisons with NaN are false
        long, short = up >= 0.5, up < 0.5
        confidence = np.maximum(up, 1.0 - up)
        leave_long, leave_short = up < self.exit_confidence, 1.0 - up < self.exit_confidence
        return Signals(
            entry=long.view(np.int8) - short.view(np.int8),
            confidence=confidence,
            exit=leave_long.view(np.uint8) * np.uint8(CLOSE_LONG) + leave_short.view(np.uint8) * np.uint8(CLOSE_SHORT),
            atr=data.features["atr_14"],
            probability=confidence,
            atr_ratio=data.features["atr_ratio"],
            anomaly=data.features["anomaly_16"],
        )
