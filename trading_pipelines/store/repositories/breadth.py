"""The breadth of each exchange's majors, per timeframe."""

from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.domain.features.breadth import BreadthRows
from trading_pipelines.domain.features.context import Breadth
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.copy import PgType, read_columns

_TYPES = {
    "available_at": PgType.TIMESTAMPTZ,
    "above_ema": PgType.FLOAT8,
    "rising": PgType.FLOAT8,
    "mean_return": PgType.FLOAT8,
}
_REPLACE = """
with computed as (
    select * from unnest(%(ts)s::timestamp[], %(available_at)s::timestamp[], %(members)s::int[],
                         %(above_ema)s::float8[], %(rising)s::float8[], %(mean_return)s::float8[])
        as row (ts, available_at, members, above_ema, rising, mean_return)
), gone as (
    delete from market_breadth
    where exchange = %(exchange)s and timeframe = %(timeframe)s and ts >= %(start)s and ts < %(end)s
      and ts not in (select ts at time zone 'UTC' from computed)
)
insert into market_breadth as stored (exchange, timeframe, ts, available_at, members, above_ema, rising, mean_return)
select %(exchange)s, %(timeframe)s, ts at time zone 'UTC', available_at at time zone 'UTC', members, above_ema, rising,
       mean_return
from computed
on conflict (exchange, timeframe, ts) do update set
    members = excluded.members, above_ema = excluded.above_ema, rising = excluded.rising,
    mean_return = excluded.mean_return
where (stored.members, stored.above_ema, stored.rising, stored.mean_return)
    is distinct from (excluded.members, excluded.above_ema, excluded.rising, excluded.mean_return)
"""


def replace(
    connection: psycopg.Connection[Any],
    exchange: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    rows: BreadthRows,
) -> int:
    """Let the breadth of the bars that open in [start, end) be `rows`; returns how many were new or different.

    Two writers of the same series wait for each other until the transaction ends.
    """
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"breadth {exchange} {timeframe}",))
    columns = {
        "ts": rows.ts,
        "available_at": rows.series.available_at,
        "members": rows.members,
        "above_ema": rows.series.above_ema,
        "rising": rows.series.rising,
        "mean_return": rows.series.mean_return,
    }
    arguments = {"exchange": exchange, "timeframe": timeframe.value, "start": start, "end": end}
    lists = {name: values.tolist() for name, values in columns.items()}
    return connection.execute(_REPLACE, {**arguments, **lists}).rowcount


def read(
    connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe, start: datetime, end: datetime
) -> Breadth:
    """The breadth of the bars that open in [start, end), ascending."""
    query = """
        select available_at, above_ema, rising, mean_return from market_breadth
        where exchange = %(exchange)s and timeframe = %(timeframe)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    arguments = {"exchange": exchange, "timeframe": timeframe.value, "start": start, "end": end}
    with connection.cursor() as cursor:
        columns = read_columns(cursor, query, arguments, _TYPES)
    return Breadth(**columns)
