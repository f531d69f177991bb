"""What waits for being computed again because its inputs were corrected, or arrived, afterwards."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class StaleData:
    """The stale rows of one table and exchange.

    Attributes
    ----------
    days : int
        Daily partitions that hold them.
    first, last : datetime
        Open times of the first and the last one, UTC.
    causes : list of str
        What happened to their inputs, the newest first, at most five.
    """

    exchange: str
    dataset: str
    symbols: int
    days: int
    first: datetime
    last: datetime
    causes: list[str]


_STALE = """
with waiting as (
    select i.exchange, s.* from stale_spans s join instruments i using (instrument_id) where s.verdict = 'to rebuild'
), days as (
    select exchange, dataset, count(distinct day) as days
    from (select distinct exchange, dataset, from_ts, until_ts from waiting) span
    cross join lateral generate_series(
        date_trunc('day', from_ts, 'UTC'), until_ts - interval '1 microsecond', interval '1 day') as day
    group by 1, 2
), causes as (
    select exchange, dataset, cause, max(stale_id) as newest,
           row_number() over (partition by exchange, dataset order by max(stale_id) desc) as place
    from waiting group by 1, 2, 3
)
select w.exchange, w.dataset, count(distinct w.instrument_id)::int as symbols, d.days::int, min(w.from_ts) as first,
       max(w.until_ts) - interval '1 microsecond' as last,
       (select array_agg(c.cause order by c.newest desc) from causes c
        where c.exchange = w.exchange and c.dataset = w.dataset and c.place <= 5) as causes
from waiting w join days d using (exchange, dataset)
group by 1, 2, d.days order by 1, 2
"""
_UNTRACED = """
select (select coalesce(sum(candles), 0) from ohlcv_corrections where not traced)
       + (select count(*) from late_inputs where not traced)
"""


def stale_data(connection: psycopg.Connection[Any]) -> list[StaleData]:
    """What is named and not rebuilt yet, by exchange and table."""
    with connection.cursor(row_factory=class_row(StaleData)) as cursor:
        return cursor.execute(_STALE).fetchall()


def changes_to_follow(connection: psycopg.Connection[Any]) -> int:
    """Corrected candles and late inputs whose consequences nobody has looked for yet."""
    row = connection.execute(_UNTRACED).fetchone()
    assert row is not None
    return int(row[0])
