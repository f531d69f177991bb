"""Trade the composite score: long above the strong mark, short below the one to avoid."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading_pipelines.domain.anomaly.measures import recent
from trading_pipelines.domain.signals.policy import SignalPolicy
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Needs, Signals, Strategy, StrategyInput
from trading_pipelines.domain.technical.signal import NORM_BARS, WARM_UP, with_indicators
from trading_pipelines.errors import UserError


@dataclass(frozen=True)
class Composite(Strategy):
    """Propose a side where the score is beyond its mark; leave when it has gone to the other side of neutral.

    The gates ask for agreeing factors and for charts and texts that do not contradict each other. The confidence is
    that of the score, which is lower the more factors are missing, and no calibrated probability.
    """

    name: ClassVar[str] = "composite"
    exit_reason: ClassVar[str] = "SCORE_REVERSAL"

    strong: float = 70.0
    avoid: float = 30.0
    leave: float = 10.0
    """Points beyond neutral, on the other side, at which a position is left."""
    min_confidence: float = 0.65

    def __post_init__(self) -> None:
        if not 0 < self.avoid < 50 < self.strong < 100:
            raise UserError(
                f"composite needs 0 < avoid < 50 < strong < 100, not avoid={self.avoid} and strong={self.strong}"
            )
        if not 0 <= self.leave <= 50 or not 0.5 <= self.min_confidence < 1:
            raise UserError("composite needs leave from 0 to 50 and min_confidence from 0.5 to below 1")

    @property
    def needs(self) -> Needs:
        """Scores carry their own history; the ATR and its norm need candles."""
        return Needs(warm_up=WARM_UP, scores=True)

    def signals(self, data: StrategyInput) -> Signals:
        """Decide at the close of each bar; a bar without a score decides nothing."""
        assert data.scores is not None  # asked for in `needs`
        score, bars = data.scores.score, with_indicators(data.bars, data.timeframe)
        long, short = score > self.strong, score < self.avoid  # comparisons with NaN are false
        leave_long, leave_short = score < 50 - self.leave, score > 50 + self.leave
        with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still: not known
            atr_ratio, anomaly = bars.atr_ratio(NORM_BARS), recent(bars)
        return Signals(
            entry=long.view(np.int8) - short.view(np.int8),
            confidence=np.nan_to_num(data.scores.confidence),
            exit=leave_long.view(np.uint8) * np.uint8(CLOSE_LONG) + leave_short.view(np.uint8) * np.uint8(CLOSE_SHORT),
            atr=bars.atr(),
            atr_ratio=atr_ratio,
            anomaly=anomaly,
        )

    def policy(self, policy: SignalPolicy) -> SignalPolicy:
        """The configured gates, with the confidence that a score has to have."""
        return policy.model_copy(update={"min_confidence": max(policy.min_confidence or 0.0, self.min_confidence)})
