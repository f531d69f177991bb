"""The newest quote per instrument."""

from collections.abc import Mapping
from typing import Any

import psycopg

from trading_pipelines.domain.market.ticker import Ticker

_UPSERT = """
insert into tickers as stored (instrument_id, ts, price, bid, ask, change_24h, quote_volume_24h)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (instrument_id) do update set
    ts = excluded.ts, price = excluded.price, bid = excluded.bid, ask = excluded.ask,
    change_24h = excluded.change_24h, quote_volume_24h = excluded.quote_volume_24h
where excluded.ts >= stored.ts
"""


def save(connection: psycopg.Connection[Any], tickers: Mapping[int, Ticker]) -> None:
    """Store quotes by instrument id; an older quote never replaces a newer one."""
    rows = [
        (instrument_id, t.ts, t.price, t.bid, t.ask, t.change_24h, t.quote_volume_24h)
        for instrument_id, t in sorted(tickers.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT, rows)
