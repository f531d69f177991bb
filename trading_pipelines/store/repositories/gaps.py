"""Gaps: covered time for which no candle exists, and candles of other exchanges that stand in for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories.candles import table_name

# Each bar is compared with its successor; the end of the coverage stands in for the successor of the last one.
# Before its first candle a symbol was not listed: no gap. A neighbour on either side of the span is looked at
# too, because a gap may reach beyond it.
_RECORD = """
with asked as (
    select instrument_id, range_agg(covered) as covered
    from ohlcv_coverage where instrument_id = any(%(ids)s) and timeframe = %(timeframe)s
    group by 1
), edges as (
    select asked.*,
           coalesce((select max(ts) from {table} c where c.instrument_id = asked.instrument_id and ts < %(start)s),
                    %(start)s) as first,
           coalesce((select min(ts) from {table} c where c.instrument_id = asked.instrument_id and ts >= %(end)s),
                    'infinity') as last
    from asked
), bars as (
    select instrument_id, covered, ts, ts + %(length)s as closed,
           lead(ts, 1, upper(covered)) over (partition by instrument_id order by ts) as next
    from edges join {table} using (instrument_id)
    where ts between first and last
), found as (
    select instrument_id, lower(gap) as gap_start, upper(gap) as gap_end,
           (extract(epoch from upper(gap) - lower(gap)) / extract(epoch from %(length)s))::int as bars
    from bars, unnest(covered * tstzmultirange(tstzrange(closed, next))) as gap
    where ts < %(end)s and closed < next
), repaired as (
    update ohlcv_gaps g set verdict = 'repaired', checked_at = now()
    where instrument_id = any(%(ids)s) and timeframe = %(timeframe)s and verdict <> 'repaired'
      and gap_start < %(end)s and gap_end > %(start)s
      and not exists (
          select from found where found.instrument_id = g.instrument_id and found.gap_start = g.gap_start)
)
insert into ohlcv_gaps as known (instrument_id, timeframe, gap_start, gap_end, bars)
select instrument_id, %(timeframe)s, gap_start, gap_end, bars from found
on conflict (instrument_id, timeframe, gap_start) do update set
    gap_end = excluded.gap_end, bars = excluded.bars,
    verdict = case when {is_new} then 'open' else known.verdict end,
    detected_at = case when {is_new} then now() else known.detected_at end,
    asked = case when {is_new} then 0 else known.asked end,
    repaired_from = case when {is_new} then null else known.repaired_from end
where known.verdict = 'repaired' or (known.gap_end, known.bars) is distinct from (excluded.gap_end, excluded.bars)
"""
# What is missing again, or farther than before, has not been asked about: no proof of absence covers it.
_IS_NEW = "(known.verdict = 'repaired' or excluded.gap_end > known.gap_end)"


def record_gaps(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> None:
    """Bring the known gaps that touch [start, end) up to date: new and grown ones open, filled ones repaired."""
    arguments = {
        "ids": list(instrument_ids),
        "timeframe": timeframe.value,
        "length": timeframe.delta,
        "start": start,
        "end": end,
    }
    table = sql.Identifier(table_name(timeframe))
    connection.execute(sql.SQL(_RECORD).format(table=table, is_new=sql.SQL(_IS_NEW)), arguments)


@dataclass(frozen=True)
class Proof:
    """What it takes to believe that a source has nothing: so many questions, the last one so long after the find."""

    times: int = 1
    after: timedelta = timedelta(0)


def confirm_absent(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    proof: Proof,
) -> None:
    """Note that the source was asked again for [start, end) and has nothing for the gaps inside."""
    connection.execute(
        """
        update ohlcv_gaps set checked_at = now(), asked = asked + 1,
            verdict = case when asked + 1 >= %s and now() - detected_at >= %s then 'absent' else verdict end
        where instrument_id = any(%s) and timeframe = %s and verdict <> 'repaired' and gap_start >= %s and gap_end <= %s
        """,
        (proof.times, proof.after, list(instrument_ids), timeframe.value, start, end),
    )


@dataclass(frozen=True)
class OpenGap:
    """A hole that the source has not been proven to have itself."""

    instrument_id: int
    symbol: str
    start: datetime
    end: datetime


def open_gaps(
    connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe, pause: timedelta, limit: int
) -> list[OpenGap]:
    """Open gaps that were not asked about within `pause`, those that waited longest first."""
    rows = connection.execute(
        """
        select instrument_id, symbol, gap_start, gap_end from ohlcv_gaps join instruments using (instrument_id)
        where exchange = %s and timeframe = %s and verdict = 'open' and (checked_at is null or checked_at <= now() - %s)
        order by checked_at nulls first, gap_start limit %s
        """,
        (exchange, timeframe.value, pause, limit),
    ).fetchall()
    return [OpenGap(*row) for row in rows]


def is_open(connection: psycopg.Connection[Any], gap: OpenGap, timeframe: Timeframe) -> bool:
    """Whether any of it is still missing."""
    row = connection.execute(
        "select exists (select from ohlcv_gaps where instrument_id = %s and timeframe = %s and verdict <> 'repaired' "
        "and gap_start < %s and gap_end > %s)",
        (gap.instrument_id, timeframe.value, gap.end, gap.start),
    ).fetchone()
    return row is not None and row[0]


def mark_substituted(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    times: Sequence[datetime],
    exchange: str,
) -> None:
    """Note that the candles of these times are another exchange's."""
    connection.execute(
        "insert into ohlcv_substitutes (instrument_id, timeframe, ts, exchange) "
        "select %s, %s, ts, %s from unnest(%s::timestamptz[]) as ts "
        "on conflict (instrument_id, timeframe, ts) do update set exchange = excluded.exchange, stored_at = now()",
        (instrument_id, timeframe.value, exchange, list(times)),
    )
    connection.execute(
        "update ohlcv_gaps set repaired_from = %s where instrument_id = %s and timeframe = %s "
        "and gap_start <= %s and gap_end > %s",
        (exchange, instrument_id, timeframe.value, min(times), max(times)),
    )


def substituted_times(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: Timeframe, start: datetime, end: datetime
) -> list[datetime]:
    """Times of [start, end) at which another exchange's candle stands in."""
    rows = connection.execute(
        "select ts from ohlcv_substitutes where instrument_id = %s and timeframe = %s and ts >= %s and ts < %s",
        (instrument_id, timeframe.value, start, end),
    ).fetchall()
    return [ts for (ts,) in rows]


def forget_substitutes(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: Timeframe, times: Sequence[datetime]
) -> None:
    """Take the marks from candles that the own exchange has delivered after all."""
    connection.execute(
        "delete from ohlcv_substitutes where instrument_id = %s and timeframe = %s and ts = any(%s)",
        (instrument_id, timeframe.value, list(times)),
    )


def missing_bars(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> dict[int, int]:
    """Bars per instrument in known gaps that touch [start, end); an instrument without one is left out."""
    rows = connection.execute(
        """
        select instrument_id, sum(bars)::int from ohlcv_gaps
        where instrument_id = any(%s) and timeframe = %s and verdict <> 'repaired' and gap_start < %s and gap_end > %s
        group by 1
        """,
        (list(instrument_ids), timeframe.value, end, start),
    ).fetchall()
    return dict(rows)
