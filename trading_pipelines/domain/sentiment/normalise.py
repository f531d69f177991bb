"""Bring a text into the form in which it is read and compared.

Belongs here: characters. Does not belong here: markup of feeds, which their adapters remove on arrival.
"""

import hashlib
import re
import unicodedata

READ_LENGTH = 4_000
"""Characters of a text that are read; what follows says little that the beginning does not."""

_ENTITY = re.compile(r"&(amp|lt|gt|quot|apos|nbsp|#39);")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " ", "#39": "'"}
_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_HANDLE = re.compile(r"(?<![\w@])@\w{2,30}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SPACE = re.compile(r"\s+")
_NOT_A_WORD = re.compile(r"[^\w$%.]+")
_LOOSE_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b4": "'", "`": "'"})


def normalise(text: str, limit: int = READ_LENGTH) -> str:
    """Make one line of plain characters: compatible forms joined, invisible ones and control characters gone.

    Invisible characters matter beyond looks: a zero-width joiner inside "Bit‍coin" would hide the coin from the
    linker, and a change of writing direction shows a reader something else than what was scored.

    Returns
    -------
    str
        At most `limit` characters; empty where nothing readable is left.
    """
    joined = unicodedata.normalize("NFKC", _repaired(text[: 4 * limit])).translate(_QUOTES)
    visible = _CONTROL.sub(" ", joined if joined.isascii() else "".join(c for c in joined if _is_kept(c)))
    plain = _ENTITY.sub(lambda found: _ENTITIES[found[1]], visible)
    return _SPACE.sub(" ", plain).strip()[:limit]


def without_addresses(text: str) -> str:
    """Drop web addresses and @handles: a coin's name in them is no mention of it."""
    return _SPACE.sub(" ", _HANDLE.sub(" ", _URL.sub(" ", text))).strip()


def canonical(text: str) -> str:
    """Lower-case words and numbers alone, for comparing what two texts say."""
    words = _NOT_A_WORD.sub(" ", without_addresses(normalise(text)).casefold())
    return _SPACE.sub(" ", _LOOSE_POINT.sub(" ", words)).strip()


def text_hash(text: str) -> str:
    """SHA-256 of the normal form, in hexadecimal: the key under which a score is remembered."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()


def _repaired(text: str) -> str:
    """Undo UTF-8 that was read as Latin-1, which turns a dash into three characters of which two are invisible."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _is_kept(character: str) -> bool:
    """Everything but format characters, surrogates and unassigned ones."""
    return unicodedata.category(character) not in {"Cf", "Cs", "Cn", "Co"}
