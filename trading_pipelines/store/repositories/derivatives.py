"""Open interest and mark prices of perpetual contracts."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.copy import PgType, UpsertCount, upsert

_KEY = {"instrument_id": PgType.INT4, "ts": PgType.TIMESTAMPTZ, "available_at": PgType.TIMESTAMPTZ}
_OPEN_INTEREST = _KEY | dict.fromkeys(("quantity", "value_usd"), PgType.FLOAT8)
_MARK = _KEY | dict.fromkeys(("open", "high", "low", "close"), PgType.FLOAT8)


def upsert_open_interest(cursor: psycopg.Cursor[Any], instrument_id: int, rows: pd.DataFrame) -> UpsertCount:
    """Store values (ts, quantity, value_usd) at instants; they are known from then on."""
    return _upsert(cursor, "open_interest", instrument_id, rows, _OPEN_INTEREST, known_after_hours=0)


def upsert_mark_prices(cursor: psycopg.Cursor[Any], instrument_id: int, rows: pd.DataFrame) -> UpsertCount:
    """Store hourly candles; they are known at their close."""
    return _upsert(cursor, "mark_prices", instrument_id, rows, _MARK, known_after_hours=1)


def _upsert(
    cursor: psycopg.Cursor[Any],
    table: str,
    instrument_id: int,
    rows: pd.DataFrame,
    types: dict[str, PgType],
    known_after_hours: int,
) -> UpsertCount:
    ts = rows["ts"].to_numpy("datetime64[us]")
    known = ts + np.timedelta64(known_after_hours, "h")
    columns = {"instrument_id": np.full(len(rows), instrument_id), "ts": ts, "available_at": known}
    columns |= {name: rows[name].to_numpy("float64") for name in types if name not in _KEY}
    return upsert(cursor, table, ("instrument_id", "ts"), columns, types)


def read_mark_prices(
    connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime
) -> pd.DataFrame:
    """Hours that open in [start, end), ascending: ts, open, high, low, close."""
    statement = """
        select ts, open, high, low, close from mark_prices
        where instrument_id = %(id)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    return read_frame(connection, statement, {"id": instrument_id, "start": start, "end": end})


def read_open_interest(
    connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime
) -> pd.DataFrame:
    """Values at the instants of [start, end), ascending: ts, quantity, value_usd."""
    statement = """
        select ts, quantity, value_usd from open_interest
        where instrument_id = %(id)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    return read_frame(connection, statement, {"id": instrument_id, "start": start, "end": end})
