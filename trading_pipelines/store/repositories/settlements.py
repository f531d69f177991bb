"""Funding as it was settled: the rate and the mark price that it was paid on, where that is stored."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

# The hour of mark prices that opens with the settlement; settlements are stamped some milliseconds late.
_READ = """
select f.ts, f.rate, m.open as mark
from funding_rates f
left join mark_prices m
    on m.instrument_id = f.instrument_id and m.ts = date_trunc('hour', f.ts, 'UTC') and f.ts < m.ts + interval '1 min'
where f.instrument_id = %(id)s and f.ts >= %(start)s and f.ts < %(end)s
order by f.ts
"""


def read_settlements(
    connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime
) -> pd.DataFrame:
    """Settlements of [start, end), ascending: ts, rate, and mark, NaN where no mark price is stored."""
    return read_frame(connection, _READ, {"id": instrument_id, "start": start, "end": end})
