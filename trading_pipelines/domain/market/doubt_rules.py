"""From when on a candle is worth a second look; the look itself is in `doubts`, for settings load without pandas."""

from pydantic import BaseModel, ConfigDict, Field


class DoubtRules(BaseModel):
    """Sizes from which `doubts.doubtful` names a candle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spike: float = Field(default=0.25, gt=0)
    """Share by which a high, a low or a close must stick out of everything around it."""
    still_bars: int = Field(default=24, ge=2)
    """Bars in a row on which the price does not move at all."""
