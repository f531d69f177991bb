"""The numbers of the composite score: weights of the factors and the limits around them.

Belongs here: what a user may set. Does not belong here: which inputs a factor has and how they are mapped
(`domain.scoring.inputs`), and the arithmetic (`domain.scoring.composite`).
"""

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FACTORS = ("technical", "sentiment", "on_chain", "market", "momentum")
"""The factors in the order in which arrays of factors are stored."""


class FactorWeights(BaseModel):
    """Shares of the factors; they sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    technical: float = Field(default=0.40, ge=0, le=1)
    sentiment: float = Field(default=0.20, ge=0, le=1)
    on_chain: float = Field(default=0.20, ge=0, le=1)
    market: float = Field(default=0.10, ge=0, le=1)
    """Market context: Fear & Greed, prediction markets, funding."""
    momentum: float = Field(default=0.10, ge=0, le=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if abs(sum(self.in_order()) - 1) > 1e-9:
            raise ValueError(f"the weights of the factors have to sum to 1, not {sum(self.in_order()):g}")
        return self

    def in_order(self) -> tuple[float, ...]:
        """The weights in the order of `FACTORS`."""
        return tuple(getattr(self, name) for name in FACTORS)


class ScoringSpec(BaseModel):
    """How factors become a score."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: FactorWeights = FactorWeights()
    strong: float = Field(default=70.0, gt=50, lt=100)
    """A score above it is strong."""
    avoid: float = Field(default=30.0, gt=0, lt=50)
    """A score below it is one to avoid, or to sell short."""
    min_coverage: float = Field(default=0.5, gt=0, le=1)
    """Share of the weights whose factors have to be known; with less there is no score."""
    agreement: float = Field(default=0.1, ge=0, lt=1)
    """Size from which a factor has a direction."""
    settling_seconds: int = Field(default=60, ge=0)
    """Age from which an observation or a funding rate counts. What was fetched is stored a moment later, and a score
    must not depend on whether that moment was over."""

    @property
    def definition_hash(self) -> str:
        """SHA-256 over all numbers."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()
