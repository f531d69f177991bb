"""Portfolio limits: what may be open at once, how much one trade may risk, and what locks new entries for a time.

Belongs here: the numbers of the risk rules, in backtest, replay and live alike. Does not belong here: the rules
(`domain.risk.rules`), the locks (`domain.risk.protections`), and thresholds of signals (`domain.signals.policy`).
"""

from pydantic import BaseModel, Field, model_validator


class RiskLimits(BaseModel, frozen=True, extra="forbid"):
    """Caps and rules asked before each order; fractions are of marked equity unless named otherwise.

    Null turns a rule off where it is allowed, and so does a lock of zero length.
    """

    risk_per_trade: float = Field(default=0.01, gt=0, le=0.2)
    """Equity lost if a full-confidence position is stopped out, costs included."""
    confidence_floor: float = Field(default=0.52, ge=0, lt=1)
    """Confidence at which the size scaling starts (c_min of the execution model)."""
    min_confidence_scale: float = Field(default=0.25, gt=0, le=1)
    """Lower clip of the size scaling by confidence."""
    max_margin_per_trade: float = Field(default=0.20, gt=0, le=1)
    max_margin_per_symbol: float = Field(default=0.30, gt=0, le=1)
    max_margin_per_direction: float = Field(default=0.60, gt=0, le=1)
    require_free_margin: bool = True
    """Cash that nothing binds covers margin and entry fee of each new order; what it does not cover is cut off."""
    max_open_positions: int = Field(default=5, ge=1)
    liquidation_buffer: float = Field(default=1.5, ge=1)
    """Liquidation distance must be at least this multiple of the stop distance."""
    max_drawdown_new_trades: float = Field(default=0.30, gt=0, le=1)
    """Drawdown of marked equity from its running maximum at which no new trade is opened."""
    max_drawdown_close_all: float = Field(default=0.35, gt=0, le=1)
    """Drawdown at which every position is closed."""
    max_daily_loss: float = Field(default=0.05, gt=0, le=1)
    """Loss since 00:00 UTC, as a fraction of that day's opening equity, that locks entries until the next 00:00 UTC."""
    drawdown_lock_hours: float = Field(default=24.0, ge=0)
    """No new trade for so long once `max_drawdown_new_trades` was reached, even if the equity recovers sooner."""
    min_risk_reward: float | None = Field(default=2.0, gt=0)
    """Weighted target distance over stop distance, at least."""
    max_correlation: float | None = Field(default=0.9, gt=0, le=1)
    """Refuse a trade whose symbol moves with one that is open in the same direction, from this correlation on."""
    correlation_days: int = Field(default=30, ge=2, le=365)
    """Hourly returns of so many days before the last 00:00 UTC are compared."""
    correlation_min_hours: int = Field(default=240, ge=24)
    """Hours that both symbols must have; with fewer the correlation is unknown, and nothing is refused for it."""
    cooldown_minutes: float = Field(default=15.0, ge=0)
    """No entry in a symbol for so long after its position was closed, however it was closed."""
    stop_lock_hours: float = Field(default=4.0, ge=0)
    """No entry in a symbol and direction for so long after its position was stopped out or liquidated."""
    reentry: bool = False
    """Let an entry through while the stop lock holds, at `reentry_scale` of its size."""
    reentry_scale: float = Field(default=0.5, gt=0, le=1)
    stop_guard_stops: int | None = Field(default=4, ge=2, le=16)
    """As many positions stopped out within `stop_guard_window_hours` lock all entries."""
    stop_guard_window_hours: float = Field(default=24.0, gt=0)
    stop_guard_lock_hours: float = Field(default=4.0, ge=0)
    pyramiding: bool = False
    """Add to a position that is in profit instead of refusing a second signal of its side."""
    pyramid_min_profit: float = Field(default=0.03, ge=0)
    """Price move in favour of a position, as a fraction of its entry, above which it may be added to."""
    max_additions: int = Field(default=1, ge=1, le=10)
    """Additions that one position may have."""

    @model_validator(mode="after")
    def _check_order(self) -> "RiskLimits":
        if self.max_drawdown_close_all < self.max_drawdown_new_trades:
            raise ValueError("max_drawdown_close_all must not be below max_drawdown_new_trades")
        return self

    def without_gates(self) -> "RiskLimits":
        """Sizes, caps and number of positions as they are; no rule that says yes or no, no lock, no additions."""
        return self.model_copy(
            update={
                "require_free_margin": False,
                "max_drawdown_new_trades": 1.0,
                "max_drawdown_close_all": 1.0,
                "max_daily_loss": 1.0,
                "drawdown_lock_hours": 0.0,
                "min_risk_reward": None,
                "max_correlation": None,
                "cooldown_minutes": 0.0,
                "stop_lock_hours": 0.0,
                "reentry": False,
                "stop_guard_stops": None,
                "pyramiding": False,
            }
        )
