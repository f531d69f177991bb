"""News feeds, by RSS or Atom.

Belongs here: a feed's entries as texts. Does not belong here: which feeds there are (the settings), and what the texts
say (`domain.sentiment`).

A feed is read by feedparser, from bytes and never from an address of its own. Its parser stops entities that grow
(expat's limit); feeds that declare any are refused before, for news need none.
"""

import calendar
import io
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import sift
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError
from trading_pipelines.domain.alternative.texts import TextItem, TextKind, TextLimits, text_item

ENTRIES = 500
"""No feed has more that matter; the rest of one without end is not read."""
_EMPTY_ELEMENT = re.compile(rb"<(dc:description|content:encoded)\s*/>")
"""Sent by CoinDesk beside a filled description, which feedparser would replace by it."""


class RssSource:
    """One feed."""

    def __init__(self, name: str, url: str, client: HttpClient, limits: TextLimits) -> None:
        self.name = name
        self._url = url
        self._client = client
        self._limits = limits

    def fetch(self, since: datetime, until: datetime) -> Delivery[TextItem]:
        """All entries that the feed has now; those that are known are stored only once."""
        import feedparser  # slow to import, rarely needed

        answer = self._client.get_bytes(self._url, headers={"Accept": "application/rss+xml, application/xml;q=0.9"})
        if b"<!ENTITY" in answer.body.replace(b"\0", b"").upper():
            raise UnusableAnswerError(f"{self.name}: the feed declares entities, which news do not need", answer.body)
        body = io.BytesIO(_EMPTY_ELEMENT.sub(b"", answer.body))
        feed: Any = feedparser.parse(body, sanitize_html=False, resolve_relative_uris=False)
        if not feed.get("version") and not feed["entries"]:
            raise UnusableAnswerError(f"{self.name}: the answer is no feed", answer.body)

        def read(entry: Any) -> TextItem:
            link = entry.get("link")
            return text_item(
                self.name,
                str(entry.get("id") or link or ""),
                TextKind.NEWS,
                str(entry.get("title") or ""),
                _body(entry),
                link,
                entry.get("author"),
                _published(entry),
                answer.fetched_at,
                self._limits,
            )

        return sift(feed["entries"][:ENTRIES], read, lambda entry: entry.get("id") or entry.get("link"),
                    unchanged=answer.unchanged)  # fmt: skip


def _body(entry: Mapping[str, Any]) -> str:
    """The summary, or the content where there is none."""
    contents = entry.get("content") or [{}]
    return str(entry.get("summary") or contents[0].get("value") or "")


def _published(entry: dict[str, Any]) -> datetime | None:
    """The stated time, which feedparser gives in UTC; None where it cannot be read."""
    # `dict.get`, for feedparser's own warns of a name that it would look up instead.
    stated = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
    try:
        return datetime.fromtimestamp(calendar.timegm(stated), UTC) if stated else None
    except (ValueError, OverflowError):
        return None
