"""The newest quote per instrument."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.domain.market.ticker import Ticker

_UPSERT = """
insert into tickers as stored (instrument_id, ts, price, bid, ask, change_24h, quote_volume_24h, streamed_at)
values (%s, %s, %s, %s, %s, %s, %s, %s)
on conflict (instrument_id) do update set
    ts = excluded.ts, price = excluded.price, bid = excluded.bid, ask = excluded.ask,
    change_24h = excluded.change_24h, quote_volume_24h = excluded.quote_volume_24h,
    streamed_at = excluded.streamed_at
where excluded.ts >= stored.ts
"""


def save(
    connection: psycopg.Connection[Any],
    tickers: Mapping[int, Ticker],
    streamed_at: Mapping[int, datetime] | None = None,
) -> None:
    """Store quotes by instrument id; an older quote never replaces a newer one.

    `streamed_at` says when those that came over a socket were received.
    """
    received = streamed_at or {}
    rows = [
        (i, t.ts, t.price, t.bid, t.ask, t.change_24h, t.quote_volume_24h, received.get(i))
        for i, t in sorted(tickers.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT, rows)


def streamed_since(
    connection: psycopg.Connection[Any], instrument_ids: Collection[int], since: datetime
) -> dict[int, Ticker]:
    """Quotes that came over a socket at or after that time, by instrument id."""
    rows = connection.execute(
        "select instrument_id, symbol, ts, price, bid, ask, change_24h, quote_volume_24h "
        "from tickers join instruments using (instrument_id) where instrument_id = any(%s) and streamed_at >= %s",
        (list(instrument_ids), since),
    ).fetchall()
    return {row[0]: Ticker(*row[1:]) for row in rows}
