"""Portfolio limits: what may be open at once and how much one trade may risk."""

from pydantic import BaseModel, Field, model_validator


class RiskLimits(BaseModel, frozen=True, extra="forbid"):
    """Caps checked before each order; fractions are of marked equity unless named otherwise."""

    risk_per_trade: float = Field(default=0.01, gt=0, le=0.2)
    """Equity lost if a full-confidence position is stopped out, costs included."""
    confidence_floor: float = Field(default=0.52, ge=0, lt=1)
    """Confidence at which the size scaling starts (c_min of the execution model)."""
    min_confidence_scale: float = Field(default=0.25, gt=0, le=1)
    """Lower clip of the size scaling by confidence."""
    max_margin_per_trade: float = Field(default=0.20, gt=0, le=1)
    max_margin_per_symbol: float = Field(default=0.30, gt=0, le=1)
    max_margin_per_direction: float = Field(default=0.60, gt=0, le=1)
    max_open_positions: int = Field(default=5, ge=1)
    liquidation_buffer: float = Field(default=1.5, ge=1)
    """Liquidation distance must be at least this multiple of the stop distance."""
    max_drawdown_new_trades: float = Field(default=0.30, gt=0, le=1)
    """Drawdown of marked equity from its running maximum at which no new trade is opened."""
    max_drawdown_close_all: float = Field(default=0.35, gt=0, le=1)
    """Drawdown at which every position is closed."""
    max_daily_loss: float = Field(default=0.05, gt=0, le=1)
    """Loss since 00:00 UTC, as a fraction of that day's opening equity, that stops new trades."""

    @model_validator(mode="after")
    def _check_order(self) -> "RiskLimits":
        if self.max_drawdown_close_all < self.max_drawdown_new_trades:
            raise ValueError("max_drawdown_close_all must not be below max_drawdown_new_trades")
        return self
