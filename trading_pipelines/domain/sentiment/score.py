"""What a reader of texts answers.

Belongs here: the answer and its bounds. Does not belong here: how it is come by (`lexicon.py`, `adapters.scorers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """How a text speaks of what it is about.

    Attributes
    ----------
    score : float
        -1 (bad for its price) to 1 (good).
    confidence : float
        0 (nothing to go by) to 1.
    detail : mapping
        What it rests on, for people; values that JSON knows.
    """

    score: float
    confidence: float
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Hold both to their ranges; NaN is outside of both."""
        if not -1 <= self.score <= 1 or not 0 <= self.confidence <= 1:
            raise ValueError(f"score {self.score} or confidence {self.confidence} out of range")


@dataclass(frozen=True)
class Unscored:
    """A text that could not be scored, and why; one that is not final is tried again another time."""

    reason: str
    final: bool = True
