"""What every scorer offers; which texts are scored and when belongs to `application.sentiment`.

A text comes from outside. It is data for a scorer: whatever it says, it can change its own score within its bounds and
nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

from trading_pipelines.domain.sentiment.lexicon import VERSION, score_text
from trading_pipelines.domain.sentiment.score import Score, Unscored
from trading_pipelines.errors import UserError


class ScorerUnavailableError(UserError):
    """The scorer as a whole cannot work now, for example its model is missing; the message says what to do."""


class Scorer(Protocol):
    """Reads normalised texts."""

    @property
    def name(self) -> str:
        """Name and version: two scorers that may answer differently have different names."""
        ...

    def score(self, texts: Sequence[str]) -> list[Score | Unscored]:
        """One answer per text, in their order; a text that cannot be scored costs no other.

        Raises
        ------
        ScorerUnavailableError
            Nothing can be scored.
        """
        ...


class LexiconScorer:
    """Weighted words; needs neither model nor network."""

    name = f"lexicon-{VERSION}"

    def score(self, texts: Sequence[str]) -> list[Score | Unscored]:
        """Score each text by its words."""
        return [score_text(text) for text in texts]
