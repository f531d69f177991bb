"""Dated numbers besides prices, with every version of a revised one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql

from trading_pipelines.domain.alternative.series import SIMULATED, Observation
from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.copy import Array, PgType, read_arrays

_SERIES_TYPES = {
    "owner": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "available_at": PgType.TIMESTAMPTZ,
    "value": PgType.FLOAT8,
}

_INSERT = """
with new as (
    select * from unnest(%(series)s::text[], %(coin)s::text[], %(source)s::text[], %(ts)s::timestamptz[],
                         %(available_at)s::timestamptz[], %(value)s::float8[]) with ordinality
        as received (series, coin, source, ts, available_at, value, n)
), known as (
    select distinct on (new.n) new.n, stored.value
    from new join observations stored using (series, coin, source, ts)
    where stored.available_at <= new.available_at
    order by new.n, stored.available_at desc
)
insert into observations (series, coin, source, ts, available_at, value)
select new.series, new.coin, new.source, new.ts, new.available_at, new.value
from new left join known using (n)
where known.value is distinct from new.value
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


def read_spoken(
    connection: psycopg.Connection[Any], series: Sequence[str], sources: Sequence[str], start: datetime, end: datetime
) -> list[Observation]:
    """Every version of the values that speak of [start, end) and were known by its end, in the order of time."""
    rows = connection.execute(
        "select series, coin, source, ts, available_at, value from observations where series = any(%s) "
        "and source = any(%s) and ts >= %s and ts < %s and available_at <= %s order by ts, available_at, series, coin",
        (list(series), list(sources), start, end, end),
    ).fetchall()
    return [Observation(*row) for row in rows]


def read_series(
    connection: psycopg.Connection[Any],
    since: Mapping[str, datetime],
    coins: Sequence[str],
    until: datetime,
    *,
    simulated: bool,
) -> dict[tuple[str, str], dict[str, Array]]:
    """Versions of several series that became known from `since` on, by `until` at the latest, as arrays.

    Parameters
    ----------
    since : mapping of datetime
        By series.

    Returns
    -------
    dict of dict
        By series and coin: ts, available_at, value, ascending in `available_at`; what has no rows is left out.
    """
    statement = sql.SQL("""
        select ((wanted.n - 1) * cardinality(%(coins)s::text[]) + owner.n - 1)::int as owner,
               known.ts, known.available_at, known.value
        from unnest(%(series)s::text[], %(since)s::timestamptz[]) with ordinality as wanted (name, since, n)
        cross join unnest(%(coins)s::text[]) with ordinality as owner (name, n)
        cross join lateral (
            select ts, available_at, value from observations
            where series = wanted.name and coin = owner.name and source {same} %(simulated)s
              and available_at >= wanted.since and available_at <= %(until)s
        ) known
        order by 1, known.available_at, known.ts
    """).format(same=sql.SQL("=" if simulated else "<>"))
    arguments = {
        "series": list(since),
        "since": list(since.values()),
        "coins": list(coins),
        "until": until,
        "simulated": SIMULATED,
    }
    with connection.cursor() as cursor:
        found = read_arrays(cursor, statement.as_string(connection), arguments, _SERIES_TYPES)
    owners = [(name, coin) for name in since for coin in coins]
    owner = found.pop("owner")
    edges = np.flatnonzero(np.diff(owner, prepend=-1, append=len(owners)))
    return {owners[owner[a]]: {name: v[a:b] for name, v in found.items()} for a, b in pairwise(edges.tolist())}


def any_known(connection: psycopg.Connection[Any], start: datetime, end: datetime, *, simulated: bool) -> bool:
    """Whether anything that belongs to that market became known in [start, end)."""
    row = connection.execute(
        "select exists (select from observations "
        "where (source = %s) = %s and available_at >= %s and available_at < %s)",
        (SIMULATED, simulated, start, end),
    ).fetchone()
    return bool(row and row[0])
