"""Dated numbers besides prices, with every version of a revised one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.domain.alternative.series import SIMULATED, Observation
from trading_pipelines.store.connection import read_frame

_INSERT = """
insert into observations (series, coin, source, ts, available_at, value)
select series, coin, source, ts, available_at, value
from unnest(%(series)s::text[], %(coin)s::text[], %(source)s::text[], %(ts)s::timestamptz[],
            %(available_at)s::timestamptz[], %(value)s::float8[])
    as new (series, coin, source, ts, available_at, value)
where value is distinct from (
    select known.value from observations known
    where (known.series, known.coin, known.source, known.ts) = (new.series, new.coin, new.source, new.ts)
      and known.available_at <= new.available_at
    order by known.available_at desc limit 1
)
on conflict do nothing
"""


def add(connection: psycopg.Connection[Any], rows: Sequence[Observation]) -> int:
    """Store what was not known yet, or is known otherwise now; returns how many rows that was.

    The value that is already the known one at its `available_at` is not stored again, so fetching twice adds nothing.
    A different value for the same time is a revision and stands beside the former one.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in Observation.__dataclass_fields__}
    return connection.execute(_INSERT, columns).rowcount if rows else 0


def read_known(
    connection: psycopg.Connection[Any],
    series: Sequence[str],
    coins: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """Versions that became known in [start, end), in the order they did.

    Start early enough: the value that held at `start` became known before it.

    Returns
    -------
    pandas.DataFrame
        series, coin, source, ts, available_at, value; a revision is a further row with the same ts.
    """
    statement = """
        select series, coin, source, ts, available_at, value from observations
        where series = any(%(series)s) and coin = any(%(coins)s)
          and (source = %(name)s) = %(simulated)s
          and available_at >= %(start)s and available_at < %(end)s
        order by available_at, ts, series, coin, source
    """
    arguments = {
        "series": list(series),
        "coins": list(coins),
        "start": start,
        "end": end,
        "name": SIMULATED,
        "simulated": simulated,
    }
    return read_frame(connection, statement, arguments)
