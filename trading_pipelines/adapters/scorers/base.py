"""What every scorer offers; which texts are scored and when belongs to `application.alternative.sentiment`.

A text comes from outside. It is data for a scorer: whatever it says, it can change its own score within its bounds and
nothing else.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from trading_pipelines.domain.sentiment.lexicon import VERSION, score_text
from trading_pipelines.domain.sentiment.normalise import text_hash
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


class RememberingScorer:
    """Asks another scorer about each text once, however often it comes.

    Parameters
    ----------
    scorer : Scorer
        Who is asked.
    size : int
        Texts that are remembered; the one that was asked about longest ago is forgotten first.
    """

    def __init__(self, scorer: Scorer, size: int = 20_000) -> None:
        self._scorer = scorer
        self._size = size
        self._known: OrderedDict[str, Score] = OrderedDict()

    @property
    def name(self) -> str:
        """That of the scorer who is asked."""
        return self._scorer.name

    def score(self, texts: Sequence[str]) -> list[Score | Unscored]:
        """Answer from memory, and ask about the rest."""
        keys = [text_hash(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        asked = dict(zip(new, self._scorer.score(list(new.values())), strict=True)) if new else {}
        found = [asked[key] if key in asked else self._known[key] for key in keys]
        self._known |= {key: answer for key, answer in asked.items() if isinstance(answer, Score)}
        for key in keys:
            if key in self._known:
                self._known.move_to_end(key)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return found
