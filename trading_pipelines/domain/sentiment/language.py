"""In which language a text is written.

Belongs here: the decision, and when there is too little text for one. Does not belong here: which scorer reads which
language (`application.alternative.sentiment`).
"""

from functools import cache
from importlib import import_module
from typing import Any

UNKNOWN = "und"
"""ISO 639 code for a text whose language cannot be told."""
ENGLISH = "en"
LEAST_LETTERS = 12
"""A shorter text is names and numbers rather than a language."""
LEAST_PROBABILITY = 0.8
_LANGUAGES = (
    "ar",
    "de",
    "en",
    "es",
    "fr",
    "hi",
    "id",
    "it",
    "ja",
    "ko",
    "nl",
    "pl",
    "pt",
    "ru",
    "th",
    "tr",
    "uk",
    "vi",
    "zh",
)


def detect_language(text: str) -> str:
    """Name the language of a normalised text by its ISO 639-1 code, or `UNKNOWN`.

    The texts of this market are mostly English with coin names in between, so that only a clear answer is taken for
    another language; an unclear one that has English in front is English.
    """
    if sum(c.isalpha() for c in text) < LEAST_LETTERS:
        return UNKNOWN
    # All capitals look like no language to a model of letters.
    code, probability = _identifier().classify(text.lower())
    if probability >= LEAST_PROBABILITY or code == ENGLISH:
        return str(code)
    return UNKNOWN


@cache
def _identifier() -> Any:
    # Its model takes half a second to unpack, which only a process that reads texts should pay.
    module: Any = import_module("py3langid.langid")  # it has no types
    identifier = module.LanguageIdentifier.from_model_file(module.MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(_LANGUAGES))
    return identifier
