"""Former versions of candles, and the rows that were computed from them. Nothing here commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.repositories.candles import table_name


@dataclass(frozen=True)
class Correction:
    """Candles of one instrument and timeframe that were replaced, from the first to the last open time."""

    instrument_id: int
    symbol: str
    exchange: str
    timeframe: str
    first: datetime
    last: datetime
    candles: int


@dataclass(frozen=True)
class StaleSpan:
    """Rows of a dataset with `from_ts` <= ts < `until_ts` whose inputs have been corrected."""

    stale_id: int
    dataset: str
    instrument_id: int
    symbol: str
    exchange: str
    from_ts: datetime
    until_ts: datetime
    rows: int
    cause: str


def as_known(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    as_of: datetime,
) -> pd.DataFrame:
    """Candles that open in [start, end) as they were known at `as_of`: ts, open, high, low, close, volume.

    A candle that was corrected later appears in the version that it had then.
    """
    query = f"""
        select c.ts, coalesce(r.open, c.open) as open, coalesce(r.high, c.high) as high, coalesce(r.low, c.low) as low,
               coalesce(r.close, c.close) as close, coalesce(r.volume, c.volume) as volume
        from {table_name(timeframe)} c
        left join lateral (
            select v.* from ohlcv_revisions v
            where v.instrument_id = c.instrument_id and v.timeframe = %(timeframe)s and v.ts = c.ts
              and v.replaced_at > %(as_of)s
            order by v.replaced_at, v.revision_id limit 1) r on true
        where c.instrument_id = %(id)s and c.ts >= %(start)s and c.ts < %(end)s and c.available_at <= %(as_of)s
        order by c.ts
    """
    arguments = {"id": instrument_id, "timeframe": timeframe.value, "start": start, "end": end, "as_of": as_of}
    return read_frame(connection, query, arguments)


def anything_to_follow(connection: psycopg.Connection[Any], exchange: str) -> bool:
    """Whether a correction has not been traced, or something that it made stale not been rebuilt."""
    found = connection.execute(
        """
        select exists (
            select from ohlcv_revisions join instruments using (instrument_id) where exchange = %(e)s and not traced
        ) or exists (
            select from stale_spans join instruments using (instrument_id)
            where exchange = %(e)s and verdict = 'to rebuild')
        """,
        {"e": exchange},
    ).fetchone()
    return bool(found and found[0])


def untraced(connection: psycopg.Connection[Any], exchange: str) -> list[Correction]:
    """Corrections whose consequences nobody has looked for yet; from now on they count as traced."""
    with connection.cursor(row_factory=class_row(Correction)) as cursor:
        return cursor.execute(
            """
            with taken as (
                update ohlcv_revisions r set traced = true
                from instruments i
                where i.instrument_id = r.instrument_id and i.exchange = %s and not r.traced
                returning r.instrument_id, i.symbol, i.exchange, r.timeframe, r.ts
            )
            select instrument_id, symbol, exchange, timeframe, min(ts) as first, max(ts) as last,
                   count(*)::int as candles
            from taken group by 1, 2, 3, 4 order by 1, 4
            """,
            (exchange,),
        ).fetchall()


def note_stale(
    connection: psycopg.Connection[Any],
    dataset: str,
    instrument_ids: Sequence[int],
    span: tuple[datetime, datetime],
    cause: str,
    verdict: str,
) -> int:
    """Name the rows of a table with ts in `span`, per instrument; how many there are."""
    query = sql.SQL("""
        insert into stale_spans (dataset, instrument_id, from_ts, until_ts, rows, cause, verdict)
        select %(dataset)s, t.instrument_id, %(start)s, %(end)s, count(*), %(cause)s, %(verdict)s
        from {table} t
        where t.instrument_id = any(%(ids)s) and t.ts >= %(start)s and t.ts < %(end)s
        group by t.instrument_id
        returning rows
    """).format(table=sql.Identifier(dataset))
    found = connection.execute(
        query,
        {
            "dataset": dataset,
            "ids": list(instrument_ids),
            "start": span[0],
            "end": span[1],
            "cause": cause,
            "verdict": verdict,
        },
    ).fetchall()
    return sum(rows for (rows,) in found)


def to_rebuild(connection: psycopg.Connection[Any], exchange: str) -> list[StaleSpan]:
    """Spans that wait for being rebuilt, oldest first."""
    with connection.cursor(row_factory=class_row(StaleSpan)) as cursor:
        return cursor.execute(
            """
            select s.stale_id, s.dataset, s.instrument_id, i.symbol, i.exchange, s.from_ts, s.until_ts, s.rows, s.cause
            from stale_spans s join instruments i using (instrument_id)
            where s.verdict = 'to rebuild' and i.exchange = %s order by s.stale_id
            """,
            (exchange,),
        ).fetchall()


def mark_rebuilt(connection: psycopg.Connection[Any], stale_id: int, changed: int) -> None:
    """Note that a span was computed again, and how many of its rows came out differently."""
    connection.execute(
        "update stale_spans set verdict = 'rebuilt', changed = %s, rebuilt_at = now() where stale_id = %s",
        (changed, stale_id),
    )
