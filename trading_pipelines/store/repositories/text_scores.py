"""What was read out of texts: language, repetitions, coins, scores, and the sentiment made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.alternative.texts import RECORDED
from trading_pipelines.domain.sentiment.entities import Mention
from trading_pipelines.domain.sentiment.score import Score
from trading_pipelines.store.connection import read_frame

_UNSCORED = """
select text_id, source, external_id, title, body, language, published_at, available_at
from texts t
where available_at >= %(start)s and available_at <= %(end)s and (source = %(simulated)s) = %(is_simulated)s
  and fingerprint is not null and duplicate_of is null and (language = any(%(languages)s)) = %(spoken)s
  and exists (select from text_mentions m where m.text_id = t.text_id)
  and not exists (select from text_scores s where s.text_id = t.text_id and s.scorer = %(scorer)s)
  and not exists (select from quarantined_items q
                  where q.source = t.source and q.item = t.external_id and q.reason like %(refused)s)
order by available_at, text_id limit %(limit)s
"""
_SCORED = """
select m.coin, t.source, t.published_at, s.available_at as known_at, s.score, s.confidence,
       m.confidence / case when m.coin = 'MARKET' then 1
            else (select count(*) from text_mentions o where o.text_id = t.text_id and o.coin <> 'MARKET') end as share
from texts t join text_scores s using (text_id) join text_mentions m using (text_id)
where s.scorer = any(%(scorers)s) and t.published_at >= %(start)s and t.published_at <= %(end)s
  and (t.source = %(simulated)s) = %(is_simulated)s and t.duplicate_of is null
"""
_INSERT_SENTIMENT = """
insert into sentiment (coin, source, ts, available_at, scorer, score, mentions, weight, low, high)
select new.coin, new.source, new.ts,
       case when known.ts is null then new.available_at else greatest(%(now)s, new.ts) end,
       %(scorer)s, new.score, new.mentions, new.weight, new.low, new.high
from unnest(%(coin)s::text[], %(source)s::text[], %(ts)s::timestamptz[], %(available_at)s::timestamptz[],
            %(score)s::float8[], %(mentions)s::int[], %(weight)s::float8[], %(low)s::float8[], %(high)s::float8[])
    as new (coin, source, ts, available_at, score, mentions, weight, low, high)
left join lateral (
    select * from sentiment s where (s.coin, s.source, s.ts) = (new.coin, new.source, new.ts)
    order by s.available_at desc limit 1
) known on true
where known.ts is null
   or abs(known.score - new.score) > 1e-9 or known.mentions <> new.mentions or known.scorer <> %(scorer)s
on conflict do nothing
returning coin, source, ts, available_at, score
"""


@dataclass(frozen=True)
class StoredText:
    """A text as the pipeline reads it; both times are UTC."""

    text_id: int
    source: str
    external_id: str
    title: str
    body: str
    language: str | None
    published_at: datetime
    available_at: datetime

    @property
    def is_recorded(self) -> bool:
        """Whether it is history of which nobody noted when it arrived, or simulated; otherwise it was fetched live."""
        return self.source == SIMULATED or self.source.startswith(RECORDED)


def unread(connection: psycopg.Connection[Any], limit: int) -> list[StoredText]:
    """Texts that nothing was read out of yet, in the order in which they became known."""
    with connection.cursor(row_factory=class_row(StoredText)) as cursor:
        return cursor.execute(
            "select text_id, source, external_id, title, body, language, published_at, available_at from texts "
            "where fingerprint is null order by available_at, text_id limit %s",
            (limit,),
        ).fetchall()


def originals(
    connection: psycopg.Connection[Any], start: datetime, end: datetime, *, simulated: bool
) -> list[tuple[int, datetime, str, str, int, list[str]]]:
    """Texts of [start, end] that repeat no other, in the order in which they became known.

    Returns
    -------
    list of tuple
        id, available_at, title, body, fingerprint and coins.
    """
    return connection.execute(
        "select text_id, available_at, title, body, fingerprint, "
        "array(select coin from text_mentions m where m.text_id = t.text_id) from texts t "
        "where available_at between %s and %s and (source = %s) = %s and fingerprint is not null "
        "and duplicate_of is null order by available_at, text_id",
        (start, end, SIMULATED, simulated),
    ).fetchall()


@dataclass(frozen=True)
class Reading:
    """What was read out of a text."""

    text_id: int
    language: str
    fingerprint: int
    duplicate_of: int | None
    mentions: tuple[Mention, ...]


def save_readings(connection: psycopg.Connection[Any], readings: Sequence[Reading]) -> None:
    """Note what was read out of texts."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "update texts set language = %s, fingerprint = %s, duplicate_of = %s where text_id = %s",
            [(r.language, r.fingerprint, r.duplicate_of, r.text_id) for r in readings],
        )
        cursor.executemany(
            "insert into text_mentions (text_id, coin, confidence) values (%s, %s, %s) on conflict do nothing",
            [(r.text_id, mention.coin, mention.confidence) for r in readings for mention in r.mentions],
        )


def unscored(
    connection: psycopg.Connection[Any],
    scorer: str,
    languages: Sequence[str],
    start: datetime,
    end: datetime,
    limit: int,
    *,
    spoken: bool,
    simulated: bool,
) -> list[StoredText]:
    """Texts known in [start, end] that speak of coins, repeat no other and have no score of `scorer`.

    Parameters
    ----------
    spoken : bool
        Texts in one of the `languages`, or those in all others.
    """
    with connection.cursor(row_factory=class_row(StoredText)) as cursor:
        return cursor.execute(
            _UNSCORED,
            {
                "scorer": scorer,
                "languages": list(languages),
                "spoken": spoken,
                "start": start,
                "end": end,
                "limit": limit,
                "simulated": SIMULATED,
                "is_simulated": simulated,
                "refused": f"{scorer}: %",
            },
        ).fetchall()


def save_scores(
    connection: psycopg.Connection[Any], scorer: str, scores: Sequence[tuple[int, Score, datetime]]
) -> None:
    """Store scores of texts, each with the time from which it could be known."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into text_scores (text_id, scorer, score, confidence, available_at, detail) "
            "values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
            [(i, scorer, s.score, s.confidence, at, Jsonb(dict(s.detail))) for i, s, at in scores],
        )


def scored_mentions(
    connection: psycopg.Connection[Any], scorers: Sequence[str], start: datetime, end: datetime, *, simulated: bool
) -> pd.DataFrame:
    """Every mention of a coin in a scored text that was published in [start, end] and repeats no other.

    Returns
    -------
    pandas.DataFrame
        coin, source, published_at, known_at, score, confidence, share.
    """
    arguments = {
        "scorers": list(scorers),
        "start": start,
        "end": end,
        "simulated": SIMULATED,
        "is_simulated": simulated,
    }
    return read_frame(connection, _SCORED, arguments)


def first_known(connection: psycopg.Connection[Any], scorers: Sequence[str], *, simulated: bool) -> datetime | None:
    """From when on there is any score."""
    row = connection.execute(
        "select min(s.available_at) from text_scores s join texts t using (text_id) "
        "where s.scorer = any(%s) and (t.source = %s) = %s",
        (list(scorers), SIMULATED, simulated),
    ).fetchone()
    return row[0] if row else None


def newest(connection: psycopg.Connection[Any], source: str) -> datetime | None:
    """Newest instant with a sentiment of a source."""
    row = connection.execute("select max(ts) from sentiment where source = %s", (source,)).fetchone()
    return row[0] if row else None


def save_sentiment(
    connection: psycopg.Connection[Any], scorer: str, rows: Mapping[str, Sequence[Any]], now: datetime
) -> list[tuple[str, str, datetime, datetime, float]]:
    """Store what is new or otherwise now; what replaces a stored value is known from `now` on.

    Returns
    -------
    list of tuple
        coin, source, ts, available_at and score of the stored rows.
    """
    if not rows["coin"]:
        return []
    return connection.execute(_INSERT_SENTIMENT, {**rows, "scorer": scorer, "now": now}).fetchall()


def stored_at(
    connection: psycopg.Connection[Any], instant: datetime, *, simulated: bool
) -> dict[str, list[tuple[str, str, float, int]]]:
    """What holds for an instant, the newest versions: coin, source, score and mentions, by scorer."""
    rows = connection.execute(
        "select distinct on (coin, source) scorer, coin, source, score, mentions from sentiment "
        "where ts = %s and (source = %s) = %s order by coin, source, available_at desc",
        (instant, SIMULATED, simulated),
    ).fetchall()
    found: dict[str, list[tuple[str, str, float, int]]] = {}
    for scorer, *row in rows:
        found.setdefault(scorer, []).append((row[0], row[1], row[2], row[3]))
    return found


def history(
    connection: psycopg.Connection[Any], source: str, start: datetime, end: datetime, coins: Sequence[str] | None = None
) -> pd.DataFrame:
    """Stored sentiment of [start, end), the newest version of each instant: coin, ts, score, mentions, weight."""
    return read_frame(
        connection,
        "select distinct on (coin, ts) coin, ts, score, mentions, weight from sentiment "
        "where source = %(source)s and ts >= %(start)s and ts < %(end)s "
        "and (%(coins)s::text[] is null or coin = any(%(coins)s)) order by coin, ts, available_at desc",
        {"source": source, "start": start, "end": end, "coins": None if coins is None else list(coins)},
    )


def alerted_since(connection: psycopg.Connection[Any], kind: str, coin: str, direction: str, since: datetime) -> bool:
    """Whether such a turn of a coin is among the events since then."""
    row = connection.execute(
        "select exists (select from events where kind = %s and subject = %s and payload ->> 'direction' = %s "
        "and ts > %s)",
        (kind, coin, direction, since),
    ).fetchone()
    return bool(row and row[0])


def as_times(column: "pd.Series[Any]") -> "np.ndarray[Any, np.dtype[np.datetime64]]":
    """A column of times as the domain takes them: UTC without saying so."""
    return column.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
