"""Funding rates that were settled."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.copy import PgType, UpsertCount, upsert

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


def read_rates(connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime) -> pd.DataFrame:
    """Rates settled in [start, end), ascending: ts, rate."""
    statement = """
        select ts, rate from funding_rates
        where instrument_id = %(id)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    return read_frame(connection, statement, {"id": instrument_id, "start": start, "end": end})
