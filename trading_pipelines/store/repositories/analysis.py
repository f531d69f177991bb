"""What was found out about the market: technical signals, daily rankings, anomalies.

A row is given as a mapping of its table's columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from trading_pipelines.store.copy import Array, PgType, read_columns

Row = Mapping[str, Any]
_CHARTS = {
    "instrument_id": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "available_at": PgType.TIMESTAMPTZ,
    **dict.fromkeys(("trend_4h", "trend_1d", "setup_15m", "setup_1h"), PgType.FLOAT8),
}
_KEYS = {
    "technical_signals": ("instrument_id", "ts"),
    "screener_rankings": ("instrument_id", "ts"),
    "anomalies": ("instrument_id", "timeframe", "ts", "kind"),
}
_REPLACE = """
with computed as materialized (
    select * from jsonb_populate_recordset(null::{table}, %(rows)s)
), gone as (
    delete from {table} stored
    where {scope} and not exists (select from computed where ({computed_key}) = ({stored_key}))
)
insert into {table} as stored select * from computed
on conflict ({key}) do update set ({columns}) = row({new})
where ({old}) is distinct from ({new})
returning {stored_key}, xmax = 0 as is_new
"""


@dataclass(frozen=True)
class Replaced:
    """Keys of the rows that were not there before, and how many others were changed."""

    new: list[tuple[Any, ...]]
    changed: int


def replace_technical_signals(
    connection: psycopg.Connection[Any], ids: Sequence[int], start: datetime, end: datetime, rows: Sequence[Row]
) -> Replaced:
    """Let the signals of these instruments of [start, end) be `rows`."""
    return _replace(connection, "technical_signals", ids, start, end, rows)


def replace_rankings(
    connection: psycopg.Connection[Any], ids: Sequence[int], start: datetime, end: datetime, rows: Sequence[Row]
) -> Replaced:
    """Let the rankings of these instruments of [start, end) be `rows`."""
    return _replace(connection, "screener_rankings", ids, start, end, rows)


def replace_anomalies(
    connection: psycopg.Connection[Any],
    ids: Sequence[int],
    timeframe: str,
    start: datetime,
    end: datetime,
    rows: Sequence[Row],
) -> Replaced:
    """Let the anomalies of these instruments and this timeframe of [start, end) be `rows`."""
    return _replace(connection, "anomalies", ids, start, end, rows, timeframe)


def _replace(
    connection: psycopg.Connection[Any],
    table: str,
    ids: Sequence[int],
    start: datetime,
    end: datetime,
    rows: Sequence[Row],
    timeframe: str | None = None,
) -> Replaced:
    """Delete what is no longer found, write what is new or different; two writers wait for each other."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"analysis {table}",))
    key = _KEYS[table]
    found = connection.execute(
        "select column_name::text from information_schema.columns "
        "where table_schema = 'public' and table_name = %s order by ordinal_position",
        (table,),
    ).fetchall()
    others = [name for (name,) in found if name not in key]
    scope = "stored.instrument_id = any(%(ids)s) and stored.ts >= %(start)s and stored.ts < %(end)s"
    statement = sql.SQL(_REPLACE).format(
        table=sql.Identifier(table),
        scope=sql.SQL(scope if timeframe is None else scope + " and stored.timeframe = %(timeframe)s"),
        key=_list(key),
        columns=_list(others),
        old=_list(others, "stored"),
        new=_list(others, "excluded"),
        stored_key=_list(key, "stored"),
        computed_key=_list(key, "computed"),
    )
    arguments = {"ids": list(ids), "start": start, "end": end, "timeframe": timeframe}
    written = connection.execute(statement, {**arguments, "rows": Jsonb([dict(row) for row in rows])}).fetchall()
    new = [tuple(row[:-1]) for row in written if row[-1]]
    return Replaced(new, len(written) - len(new))


def _list(names: Sequence[str], table: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(name) if table is None else sql.Identifier(table, name) for name in names)


def read_charts(
    connection: psycopg.Connection[Any], ids: Sequence[int], start: datetime, end: datetime
) -> dict[int, dict[str, Array]]:
    """What the charts of these instruments said at the closes of the bars of [start, end), as arrays by instrument."""
    query = """
        select instrument_id, ts, available_at, trend_4h, trend_1d, setup_15m, setup_1h from technical_signals
        where instrument_id = any(%(ids)s) and ts >= %(start)s and ts < %(end)s order by instrument_id, ts
    """
    with connection.cursor() as cursor:
        columns = read_columns(cursor, query, {"ids": list(ids), "start": start, "end": end}, _CHARTS)
    owner = columns.pop("instrument_id")
    found: dict[int, dict[str, Array]] = {}
    for instrument_id in ids:
        first, last = np.searchsorted(owner, [instrument_id, instrument_id + 1])
        found[instrument_id] = {name: values[first:last] for name, values in columns.items()}
    return found
