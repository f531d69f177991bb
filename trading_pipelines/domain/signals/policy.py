"""What a set-up must offer before it becomes a signal."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Profile(StrEnum):
    """Named sets of thresholds; `SignalPolicy.for_profile` gives the numbers."""

    STANDARD = "standard"
    ACTIVE = "active"


class Direction(StrEnum):
    """Sides that a session may open."""

    LONG = "LONG"
    SHORT = "SHORT"
    BOTH = "BOTH"


class SignalPolicy(BaseModel):
    """Thresholds of the emission gates; profits are fractions of notional, and null turns a gate off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_confidence: float | None = Field(default=0.52, ge=0.5, lt=1)
    """Calibrated probability of the signal's side, at least."""
    min_net_profit: float | None = Field(default=0.02, ge=0)
    """Expected profit of the whole ladder after costs."""
    min_risk_reward: float | None = Field(default=2.0, gt=0)
    """Weighted target distance over stop distance (R:R of at least 1:2)."""
    min_expected_value: float | None = Field(default=0.0)
    """Probability-weighted net result, as a fraction of notional."""
    cooldown_minutes: int = Field(default=240, ge=0)
    """At most one signal per symbol in this time."""
    validity_minutes: int = Field(default=240, gt=0)
    """A signal that was not executed by then expires."""
    max_atr_ratio: float | None = Field(default=3.0, gt=1)
    """Block while ATR is above this multiple of its own one-week median."""
    max_anomaly: float | None = Field(default=1.0, gt=0)
    """Block after a price or volume spike, a pump, a dump or a wash-trading look: its measure, an anomaly from 1 on."""
    max_novelty: float | None = Field(default=0.2, gt=0, le=1)
    """Block while more than this share of the features lies beyond what the model has learnt from."""
    min_consensus: int | None = Field(default=3, ge=1, le=5)
    """Factors of the composite score that have to agree with the side, where so many are known."""
    max_conflict: float | None = Field(default=0.2, ge=0, le=1)
    """Block while charts and texts contradict each other, both with more than this."""
    max_data_lag_minutes: int = Field(default=20, gt=0)
    """Age of the newest candle at the moment of decision, measured from its close."""
    max_model_age_days: int | None = Field(default=120, gt=0)
    """A model version older than this no longer gives signals."""
    max_entry_drift_r: float | None = Field(default=0.5, gt=0)
    """Cancel instead of entering when price has left the reference by this share of the stop distance."""

    def without_gates(self) -> "SignalPolicy":
        """No gate by profit, confidence, volatility, novelty, score, age, cooldown or drift; data has to be fresh."""
        return self.model_copy(
            update={
                "min_confidence": None,
                "min_net_profit": None,
                "min_risk_reward": None,
                "min_expected_value": None,
                "cooldown_minutes": 0,
                "max_atr_ratio": None,
                "max_anomaly": None,
                "max_novelty": None,
                "min_consensus": None,
                "max_conflict": None,
                "max_model_age_days": None,
                "max_entry_drift_r": None,
            }
        )

    @classmethod
    def for_profile(cls, profile: Profile) -> "SignalPolicy":
        """Thresholds of a named profile: `active` trades smaller moves than `standard`."""
        if profile is Profile.ACTIVE:
            return cls(min_net_profit=0.005)
        return cls()
