"""Texts from outside: news and posts, made harmless before anything is done with them.

Belongs here: what a text is, and what is taken of a received one. Does not belong here: where texts come from
(`adapters.alternative`) and what they say (`domain.sentiment`).

A text is data. It is kept as plain text without markup, control characters and invisible directions; whoever shows it
escapes it, whoever reads it treats nothing in it as an instruction.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, Field

_INVISIBLE_BUT_NEEDED = frozenset({"\u200d", "\u200c"})
"""Joiners: emoji and several scripts fall apart without them."""
_HIDDEN = {
    name: re.compile(rf"</{name}\b", re.IGNORECASE | re.ASCII)
    for name in ("script", "style", "template", "noscript", "iframe", "object", "svg", "math")
}
"""Elements that are not read, by the beginning of what ends them."""
_MARKUP = re.compile(r"<!--|<(?P<closing>/?)(?P<name>[a-z][a-z0-9]*)|<[!?/]", re.IGNORECASE | re.ASCII)
_END = re.compile(">")
_COMMENT_END = re.compile("-->")
_BREAKS = frozenset({"p", "br", "div", "li", "tr", "td", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "img"})
_WEB = re.compile(
    r"(?P<address>https?://(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::\d{1,5})?(?:[/?][!$-;=?-Z_a-z~]*)?)(?:#[!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
"""An address without a password and without characters that would have to be written otherwise."""
_LONGEST_ADDRESS = 2_000
RECORDED = "recorded_"
"""Beginning of the names of sources that are recorded history, of which nobody noted when it arrived."""
_FIRST_BLOCK = datetime(2009, 1, 3, tzinfo=UTC)
"""No text about coins is older than the first block of the first of them."""


class TextKind(StrEnum):
    """Where a text appeared."""

    NEWS = "NEWS"
    POST = "POST"


class TextLimits(BaseModel, frozen=True, extra="forbid"):
    """How much of a text is believed."""

    title_characters: int = Field(default=500, ge=50)
    """A longer title is no title; the item is refused."""
    body_characters: int = Field(default=20_000, ge=100)
    """The rest of a longer body is dropped."""
    markup_characters: int = Field(default=400_000, ge=1_000)
    """Received text that is longer, markup included, is refused unread."""
    future_minutes: float = Field(default=15.0, ge=0)
    """How far the clock of a source may be ahead."""


_DEFAULT = TextLimits()


@dataclass(frozen=True)
class TextItem:
    """One text as it is stored; both times are UTC.

    Attributes
    ----------
    source, external_id : str
        Where it comes from, and its name there; together they are the key.
    title, body : str
        Plain text; the body may be empty.
    url : str or None
        An address of the web, never another scheme.
    published_at, available_at : datetime
        What the source states, and when it was fetched.
    """

    source: str
    external_id: str
    kind: TextKind
    title: str
    body: str
    url: str | None
    author: str | None
    published_at: datetime
    available_at: datetime


class UnfitTextError(ValueError):
    """A received text that is not taken; the message is the reason."""


def text_item(
    source: str,
    external_id: str,
    kind: TextKind,
    title: str,
    body: str,
    url: str | None,
    author: str | None,
    published_at: datetime | None,
    available_at: datetime,
    limits: TextLimits = _DEFAULT,
) -> TextItem:
    """Make a stored text of a received one.

    Parameters
    ----------
    title, body : str
        As received, with any markup.

    Raises
    ------
    UnfitTextError
        No name, title or date; a title or markup without end; a date that cannot be.
    """
    if not external_id:
        raise UnfitTextError("has neither id nor link")
    if max(len(title), len(body)) > limits.markup_characters:
        raise UnfitTextError(f"more than {limits.markup_characters:,} characters long")
    plain_title = plain_text(title)
    if not plain_title:
        raise UnfitTextError("has no title")
    if len(plain_title) > limits.title_characters:
        raise UnfitTextError(f"title longer than {limits.title_characters:,} characters")
    return TextItem(
        source,
        external_id[:500],
        kind,
        plain_title,
        plain_text(body)[: limits.body_characters],
        web_address(url),
        (plain_text(author)[:100] or None) if author else None,
        _believable(published_at, available_at, limits),
        available_at,
    )


def plain_text(received: str) -> str:
    """What a reader would see of it: no markup, no scripts, one space between words, no invisible characters.

    References to characters are resolved once; markup that they spell stays text.
    """
    composed = unicodedata.normalize("NFC", "".join(_shown_text(received)))
    return " ".join("".join(_visible(character) for character in composed).split())


def web_address(url: str | None) -> str | None:
    """The address if it is one of the web, without fragment; None for scripts, data and everything else."""
    found = _WEB.fullmatch(url) if url and len(url) <= _LONGEST_ADDRESS else None
    return found["address"] if found else None


def _believable(published_at: datetime | None, available_at: datetime, limits: TextLimits) -> datetime:
    """The stated time; a clock that is a little ahead is taken for ours."""
    if published_at is None:
        raise UnfitTextError("has no date that can be read")
    if published_at > available_at + timedelta(minutes=limits.future_minutes):
        raise UnfitTextError(f"dated in the future ({published_at:%Y-%m-%d %H:%M})")
    if published_at < _FIRST_BLOCK:
        raise UnfitTextError(f"dated before there were coins ({published_at:%Y-%m-%d})")
    return min(published_at, available_at)


def _visible(character: str) -> str:
    """Spaces for everything that separates, nothing for what is not seen: controls, directions, surrogates, private."""
    category = unicodedata.category(character)
    if category in ("Cc", "Zs", "Zl", "Zp"):
        return " "
    return character if category[0] != "C" or character in _INVISIBLE_BUT_NEEDED else ""


def _shown_text(markup: str) -> Iterator[str]:
    """Pieces of text between tags, in one pass: parsers that repair broken markup take quadratic time on hostile one.

    A tag or hidden element that is not closed swallows the rest.
    """
    at = 0
    while (opened := _MARKUP.search(markup, at)) is not None:
        yield html.unescape(markup[at : opened.start()])
        if opened["name"] is None:
            end = (
                _COMMENT_END.search(markup, opened.end()) if opened[0] == "<!--" else _END.search(markup, opened.end())
            )
        else:
            end = _END.search(markup, opened.end())
            name = opened["name"].lower()
            if end is not None and name in _HIDDEN and not opened["closing"]:
                closing = _HIDDEN[name].search(markup, end.end())
                end = closing and _END.search(markup, closing.end())
            if name in _BREAKS:
                yield " "
        if end is None:
            return
        at = end.end()
    yield html.unescape(markup[at:])
