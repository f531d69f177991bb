"""Rows that a source sent and that were refused, with the reason."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg.types.json import Jsonb

_INSERT = """
insert into ohlcv_quarantine (source, exchange, symbol, timeframe, ts, reason, payload)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (exchange, symbol, timeframe, reason, md5(payload::text)) do nothing
"""


def add(
    connection: psycopg.Connection[Any],
    source: str,
    exchange: str,
    symbol: str,
    timeframe: str,
    refused: pd.DataFrame,
) -> int:
    """Keep refused rows (as received, with `reason`); one that is kept already is not doubled.

    Returns
    -------
    int
        Rows added.
    """
    rows = [
        (source, exchange, symbol, timeframe, _time(row["ts"]), row.pop("reason"), Jsonb(_payload(row)))
        for row in refused.to_dict("records")
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)
        return cursor.rowcount if rows else 0


def _time(received: Any) -> datetime | None:
    ts = pd.Series([received])
    read = pd.to_datetime(ts, utc=True, errors="coerce").iloc[0]
    return None if pd.isna(read) else read.to_pydatetime()


def _payload(row: dict[Any, Any]) -> dict[str, str]:
    """JSON has neither NaN nor infinity, so values are kept as text."""
    return {str(name): str(value) for name, value in row.items()}
