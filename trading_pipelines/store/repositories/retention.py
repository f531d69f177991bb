"""Forget candles of the short timeframes that nobody needs any more."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories.candles import table_name


def forget(connection: psycopg.Connection[Any], timeframe: Timeframe, before: datetime) -> int:
    """Remove candles that open before that time, with their coverage, gaps and marks; how many rows or chunks went.

    On TimescaleDB whole chunks are dropped, which costs nothing, so up to a week more may stay; elsewhere rows are
    deleted. What was derived from them stays. A later ingestion of the time before would fetch it again.
    """
    table = table_name(timeframe)
    if _is_hypertable(connection, table):
        chunks = connection.execute("select drop_chunks(%s::regclass, older_than => %s)", (table, before)).fetchall()
        removed = len(chunks)
    else:
        removed = connection.execute(
            sql.SQL("delete from {} where ts < %s").format(sql.Identifier(table)), (before,)
        ).rowcount
    connection.execute(
        "update ohlcv_coverage set covered = covered * tstzmultirange(tstzrange(%s, null)) where timeframe = %s",
        (before, timeframe.value),
    )
    connection.execute("delete from ohlcv_gaps where timeframe = %s and gap_end <= %s", (timeframe.value, before))
    connection.execute("delete from ohlcv_substitutes where timeframe = %s and ts < %s", (timeframe.value, before))
    return removed


def _is_hypertable(connection: psycopg.Connection[Any], table: str) -> bool:
    if connection.execute("select to_regclass('timescaledb_information.hypertables')").fetchone() == (None,):
        return False
    return (
        connection.execute(
            "select from timescaledb_information.hypertables where hypertable_name = %s", (table,)
        ).rowcount
        > 0
    )
