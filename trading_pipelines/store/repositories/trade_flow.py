"""Sums of trades per minute, as the collector writes them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.domain.market.trades import MinuteFlow

_UPSERT = """
insert into trade_flow_1m as stored
    (instrument_id, ts, trades, volume, buy_volume, quote_volume, last_price, last_ts, is_whole)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict (instrument_id, ts) do update set
    trades = excluded.trades, volume = excluded.volume, buy_volume = excluded.buy_volume,
    quote_volume = excluded.quote_volume, last_price = excluded.last_price, last_ts = excluded.last_ts,
    is_whole = excluded.is_whole
"""


def save(connection: psycopg.Connection[Any], flows: Mapping[tuple[int, datetime], MinuteFlow]) -> None:
    """Store sums by instrument id and minute; they replace what is stored, so a repeated write changes nothing."""
    rows = [
        (instrument_id, f.ts, f.trades, f.volume, f.buy_volume, f.quote_volume, f.last_price, f.last_ts, f.is_whole)
        for (instrument_id, _), f in sorted(flows.items(), key=lambda item: item[0])
    ]
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT, rows)


def read_since(connection: psycopg.Connection[Any], start: datetime) -> dict[tuple[int, datetime], MinuteFlow]:
    """Sums of all instruments from the minute `start` on."""
    rows = connection.execute(
        "select instrument_id, ts, trades, volume, buy_volume, quote_volume, last_price, last_ts, is_whole "
        "from trade_flow_1m where ts >= %s",
        (start,),
    ).fetchall()
    return {(row[0], row[1]): MinuteFlow(*row[1:]) for row in rows}


def forget(connection: psycopg.Connection[Any], before: datetime) -> int:
    """Remove minutes before that time; how many rows went."""
    return connection.execute("delete from trade_flow_1m where ts < %s", (before,)).rowcount
