"""Continuous aggregates of TimescaleDB, compared with the platform's own derivation."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

_DIFFERENCES = """
select i.symbol, d.ts
from {table} d
join instruments i using (instrument_id)
join {aggregate} a on a.instrument_id = d.instrument_id and a.ts = d.ts
where i.exchange = %s and d.ts >= %s and d.ts < %s
  and ((d.open, d.high, d.low, d.close) is distinct from (a.open, a.high, a.low, a.close)
       or abs(d.volume - a.volume) > 1e-9 * greatest(1, d.volume))
order by d.ts, i.symbol
"""


def differing_buckets(
    connection: psycopg.Connection[Any], table: str, exchange: str, start: datetime, end: datetime
) -> list[str] | None:
    """Symbol and time of the derived candles in [start, end) whose aggregate differs; None on plain PostgreSQL."""
    aggregate = f"{table}_aggregate"
    if connection.execute("select to_regclass(%s)", (aggregate,)).fetchone() == (None,):
        return None
    query = sql.SQL(_DIFFERENCES).format(table=sql.Identifier(table), aggregate=sql.Identifier(aggregate))
    return [f"{symbol} {ts:%Y-%m-%d %H:%M}" for symbol, ts in connection.execute(query, (exchange, start, end))]
