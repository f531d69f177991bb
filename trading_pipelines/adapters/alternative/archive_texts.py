"""Recorded news and posts in parquet files, as texts dated by when each could be read.

Nobody noted when they were fetched, so a text counts as known since it was published; of a file that names days only,
since its day had ended. Belongs here: files and columns. Does not belong here: numbers
(`adapters.alternative.archive`), storing (`application.alternative.history`), and scores that files bring along, which
are those of other models.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import UnfitItemError, sift
from trading_pipelines.domain.alternative.texts import RECORDED, TextItem, TextKind, TextLimits, text_item

_DAY = timedelta(days=1)
_TITLE_CHARACTERS = 200
"""Of a text without a title so much of its beginning stands for one."""


@dataclass(frozen=True)
class RecordedTexts:
    """What one file holds.

    Attributes
    ----------
    body : str or None
        Column of the text below the title; None where all of it is in `title`.
    precision : datetime.timedelta
        How much later than its stamp a text may have appeared.
    """

    file: str
    source: str
    kind: TextKind
    title: str
    body: str | None = None
    precision: timedelta = timedelta(0)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are read."""
        return ("ts", self.title) if self.body is None else ("ts", self.title, self.body)


def deliver_texts(file: RecordedTexts, frame: pd.DataFrame, limits: TextLimits) -> Delivery[TextItem]:
    """The sound texts of a file, oldest first, and the others with their reasons."""

    def read(row: Any) -> TextItem:
        stamp, title = row[0], str(row[1])
        if pd.isna(stamp):
            raise UnfitItemError("no readable time")
        title, body = _parts(title, row[2] if len(row) > 2 and isinstance(row[2], str) else "")
        name = hashlib.sha256(f"{stamp} {title} {body}".encode(errors="replace")).hexdigest()[:32]
        published = stamp.to_pydatetime() + file.precision
        return text_item(file.source, name, file.kind, title, body, None, None, published, published, limits)

    rows = frame.assign(ts=pd.to_datetime(frame["ts"], utc=True, errors="coerce")).sort_values("ts", kind="stable")
    return sift(_rows(rows, file.columns), read, lambda row: str(row[1])[:100])


def _rows(frame: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*(frame[name] for name in columns), strict=True)


def _parts(title: str, body: str) -> tuple[str, str]:
    """Title and body; the beginning of a long text without a body is its title, and the body begins with it."""
    if body or len(title) <= _TITLE_CHARACTERS:
        return title, body
    return title[:_TITLE_CHARACTERS].rsplit(" ", 1)[0], title


TEXTS = (
    RecordedTexts(
        "text/crypto_news_model_sentiment.parquet", f"{RECORDED}news", TextKind.NEWS, "headline", "description"
    ),
    RecordedTexts("text/bitcoin_news_articles.parquet", f"{RECORDED}articles", TextKind.NEWS, "text"),
    RecordedTexts(
        "text/bitcoin_news_binance.parquet", f"{RECORDED}binance", TextKind.NEWS, "short", "description", _DAY
    ),
    RecordedTexts("text/bitcoin_news_yahoo.parquet", f"{RECORDED}yahoo", TextKind.NEWS, "short", "description", _DAY),
    RecordedTexts("text/bitcoin_reddit_posts.parquet", f"{RECORDED}reddit", TextKind.POST, "text"),
    RecordedTexts("text/reddit_cryptocurrency_posts.parquet", f"{RECORDED}cryptocurrency", TextKind.POST, "title"),
    RecordedTexts("text/bitcoin_tweets.parquet", f"{RECORDED}tweets", TextKind.POST, "text"),
)
"""The files that are known, by their place below the folder."""
