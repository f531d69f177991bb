"""Funding rates that were settled."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.copy import Array, PgType, UpsertCount, read_columns, upsert

_ORDER = ("instrument_id", "ts", "available_at", "rate")

_TYPES = {
    "instrument_id": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "rate": PgType.FLOAT8,
    "available_at": PgType.TIMESTAMPTZ,
}


def upsert_rates(cursor: psycopg.Cursor[Any], instrument_id: int, rates: pd.DataFrame) -> UpsertCount:
    """Store rates (ts, rate); they are known from their settlement on."""
    ts = rates["ts"].to_numpy("datetime64[us]")
    columns = {
        "instrument_id": np.full(len(rates), instrument_id),
        "ts": ts,
        "rate": rates["rate"].to_numpy("float64"),
        "available_at": ts,
    }
    return upsert(cursor, "funding_rates", ("instrument_id", "ts"), columns, _TYPES)


def latest_settlement(connection: psycopg.Connection[Any], instrument_id: int) -> datetime | None:
    """Time of the newest stored rate."""
    row = connection.execute("select max(ts) from funding_rates where instrument_id = %s", (instrument_id,)).fetchone()
    return None if row is None else row[0]


def read_rates(connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime) -> pd.DataFrame:
    """Rates settled in [start, end), ascending: ts, rate."""
    statement = """
        select ts, rate from funding_rates
        where instrument_id = %(id)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    return read_frame(connection, statement, {"id": instrument_id, "start": start, "end": end})


def read_many(
    connection: psycopg.Connection[Any], instrument_ids: Sequence[int], start: datetime, until: datetime
) -> dict[int, dict[str, Array]]:
    """Rates settled from `start` on and known by `until`, ascending: ts, available_at and rate by instrument."""
    query = """
        select instrument_id, ts, available_at, rate from funding_rates
        where instrument_id = any(%(ids)s) and ts >= %(start)s and available_at <= %(until)s
        order by instrument_id, ts
    """
    arguments = {"ids": list(instrument_ids), "start": start, "until": until}
    with connection.cursor() as cursor:
        columns = read_columns(cursor, query, arguments, {name: _TYPES[name] for name in _ORDER})
    owner = columns.pop("instrument_id")
    found: dict[int, dict[str, Array]] = {}
    for instrument_id in instrument_ids:
        first, last = np.searchsorted(owner, [instrument_id, instrument_id + 1])
        found[instrument_id] = {name: values[first:last] for name, values in columns.items()}
    return found
