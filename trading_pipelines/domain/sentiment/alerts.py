"""When a sentiment has turned so fast that a person should know.

Belongs here: the rule. Does not belong here: writing and delivering the alert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from trading_pipelines.domain.sentiment.aggregate import Sentiment


class SentimentAlertSpec(BaseModel):
    """What counts as a turn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    change: float = Field(default=0.3, gt=0, le=2)
    """Difference from which on it is one."""
    hours: float = Field(default=4.0, gt=0)
    """Time within which it happened; also how long one alert of a direction keeps the next back."""
    least_mentions: int = Field(default=3, ge=1)
    """With fewer texts a turn is the opinion of one."""


@dataclass(frozen=True)
class Turn:
    """A sentiment that moved from `before` at `since` to `score` at `ts`."""

    ts: datetime
    score: float
    since: datetime
    before: float
    mentions: int

    @property
    def change(self) -> float:
        """Difference, positive for better."""
        return self.score - self.before


def find_turn(history: Sequence[Sentiment], spec: SentimentAlertSpec) -> Turn | None:
    """Whether the newest value lies more than `change` away from one of the last `hours`.

    Parameters
    ----------
    history : sequence of Sentiment
        Of one coin, ascending; what is older than the window does not matter.
    """
    if not history or history[-1].mentions < spec.least_mentions:
        return None
    newest = history[-1]
    window = [s for s in history if newest.ts - timedelta(hours=spec.hours) <= s.ts < newest.ts]
    if not window:
        return None
    other = max(window, key=lambda s: (abs(newest.score - s.score), s.ts))
    if abs(newest.score - other.score) <= spec.change:
        return None
    return Turn(newest.ts, newest.score, other.ts, other.score, newest.mentions)
