"""What texts say: the newest sentiment of every coin, its history, and the texts behind it."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

ALL, SIMULATED = "ALL", "simulated"

# The newest version of the newest instant, and of the one a day before it.
_NEWEST = """
with bounds as (select max(ts) as newest from sentiment where source = %(source)s)
select distinct on (s.coin) s.coin, s.ts, s.score, s.mentions, s.low, s.high, s.scorer,
       s.score - before.score as change_4h, day.score as score_24h
from sentiment s cross join bounds
left join lateral (
    select score from sentiment b where b.coin = s.coin and b.source = s.source and b.ts = s.ts - interval '4 hours'
    order by b.available_at desc limit 1
) before on true
left join lateral (
    select score from sentiment b where b.coin = s.coin and b.source = s.source and b.ts = s.ts - interval '24 hours'
    order by b.available_at desc limit 1
) day on true
where s.source = %(source)s and s.ts > bounds.newest - interval '6 hours'
order by s.coin, s.ts desc, s.available_at desc
"""
_HISTORY = """
select distinct on (source, ts) source, ts, score, mentions, low, high
from sentiment where coin = %(coin)s and (source = 'simulated') = %(is_simulated)s and ts >= %(since)s
order by source, ts, available_at desc
"""
_TEXTS = """
select t.available_at, t.source, t.kind, t.title, t.url, t.language, s.score, s.confidence, s.scorer,
       t.duplicate_of is not null as repeated
from text_mentions m join texts t using (text_id)
left join lateral (
    select score, confidence, scorer from text_scores where text_id = coalesce(t.duplicate_of, t.text_id)
    order by available_at desc limit 1
) s on true
where m.coin = %(coin)s and (t.source = 'simulated') = %(is_simulated)s and t.available_at >= %(since)s
order by t.available_at desc, t.text_id desc limit %(limit)s
"""
_TURNS = """
select ts, subject as coin, message, (payload ->> 'change')::float8 as change
from events where kind = 'sentiment_turn' and (payload ->> 'source' = 'simulated') = %(is_simulated)s
order by event_id desc limit %(limit)s
"""


def newest_sentiment(connection: psycopg.Connection[Any], *, simulated: bool) -> pd.DataFrame:
    """The newest sentiment of every coin that was spoken of lately, with its change over four hours."""
    return read_frame(connection, _NEWEST, {"source": SIMULATED if simulated else ALL})


def sentiment_history(
    connection: psycopg.Connection[Any], coin: str, since: datetime, *, simulated: bool
) -> pd.DataFrame:
    """Sentiment of one coin by source, ascending; a revised instant with its newest version."""
    return read_frame(connection, _HISTORY, {"coin": coin, "since": since, "is_simulated": simulated})


def coin_texts(
    connection: psycopg.Connection[Any], coin: str, since: datetime, limit: int, *, simulated: bool
) -> pd.DataFrame:
    """The newest texts about a coin with their scores; a repetition has that of what it repeats."""
    return read_frame(connection, _TEXTS, {"coin": coin, "since": since, "limit": limit, "is_simulated": simulated})


def sentiment_turns(connection: psycopg.Connection[Any], limit: int, *, simulated: bool) -> pd.DataFrame:
    """The newest alerts, the last one first."""
    return read_frame(connection, _TURNS, {"limit": limit, "is_simulated": simulated})
