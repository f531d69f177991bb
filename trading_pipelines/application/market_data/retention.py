"""Keep the short timeframes only as long as the settings say."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories import retention


def apply_retention(
    connection: psycopg.Connection[Any], days: Mapping[Timeframe, int], now: datetime
) -> dict[Timeframe, int]:
    """Remove what is older than its days and commit per timeframe; how many rows, or chunks on TimescaleDB, went.

    What was derived from the removed candles stays, so a market keeps its history in the longer timeframes.
    """
    removed: dict[Timeframe, int] = {}
    for timeframe, kept in days.items():
        cutoff = Timeframe.D1.floor(now) - timedelta(days=kept)
        with connection.transaction():
            removed[timeframe] = retention.forget(connection, timeframe, cutoff)
    return removed
