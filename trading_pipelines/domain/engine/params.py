"""How decisions become fills: costs, leverage, ladder and trailing.

Belongs here: the numbers of the execution model. Does not belong here: portfolio limits
(`domain.risk.limits`) and signal thresholds (`domain.signals.policy`).
"""

from pydantic import BaseModel, Field, model_validator


class ExecutionParams(BaseModel, frozen=True, extra="forbid"):
    """Costs and exit ladder of one position; rates are fractions, not percent."""

    taker_fee_rate: float = Field(default=0.00055, ge=0, lt=0.1)
    """Fee on the notional of every fill (5.5 bps)."""
    slippage_rate: float = Field(default=0.0005, ge=0, lt=0.1)
    """Price moves against us by this fraction on every fill (5 bps)."""
    leverage: float = Field(default=5.0, ge=1, le=200)
    """Isolated-margin leverage of a new position."""
    maintenance_margin_rate: float = Field(default=0.005, ge=0, lt=0.5)
    """Margin the exchange keeps before it liquidates, as a fraction of notional."""
    stop_atr: float = Field(default=1.0, gt=0)
    """Stop distance from the reference price, in ATR(14) of the signal timeframe."""
    target_atr: tuple[float, float, float] = (2.0, 3.5, 6.0)
    """Distances of TP1, TP2 and TP3, in ATR."""
    target_weights: tuple[float, float, float] = (0.3, 0.4, 0.3)
    """Share of the quantity that each target closes; they sum to one."""
    trail_atr: float = Field(default=1.5, gt=0)
    """Distance of the trailing stop behind the close once TP1 is filled, in ATR."""
    funding_rate_expected: float = Field(default=0.0001, ge=-0.01, le=0.01)
    """Expected funding per interval, used for expected costs where none is stored."""
    funding_interval_hours: float = Field(default=8.0, gt=0)
    """Interval that `funding_rate_expected` refers to."""
    expected_holding_hours: float = Field(default=4.0, gt=0)
    """Holding time over which a set-up's expected funding is counted."""
    max_holding_hours: float | None = Field(default=None, gt=0)
    """Time limit of a position; without one only stop, targets and emergency exits end it."""

    @model_validator(mode="after")
    def _check_ladder(self) -> "ExecutionParams":
        if not 0 < self.target_atr[0] < self.target_atr[1] < self.target_atr[2]:
            raise ValueError("target_atr must be positive and ascending, for example [2.0, 3.5, 6.0]")
        if any(w <= 0 for w in self.target_weights) or abs(sum(self.target_weights) - 1) > 1e-9:
            raise ValueError("target_weights must be positive and sum to 1, for example [0.3, 0.4, 0.3]")
        return self

    @property
    def round_trip_cost(self) -> float:
        """Fees and slippage of one entry and one exit, as a fraction of notional."""
        return 2 * (self.taker_fee_rate + self.slippage_rate)

    @property
    def expected_funding_cost(self) -> float:
        """Expected funding over the expected holding time, as a fraction of notional, never negative."""
        return abs(self.funding_rate_expected) * self.expected_holding_hours / self.funding_interval_hours
