"""Gaps: covered time for which no candle exists."""

from collections.abc import Sequence
from datetime import datetime
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
    verdict = case when known.verdict = 'repaired' then 'open' else known.verdict end
where known.verdict = 'repaired' or (known.gap_end, known.bars) is distinct from (excluded.gap_end, excluded.bars)
"""


def record_gaps(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> None:
    """Bring the known gaps that touch [start, end) up to date: new ones open, filled ones repaired."""
    arguments = {
        "ids": list(instrument_ids),
        "timeframe": timeframe.value,
        "length": timeframe.delta,
        "start": start,
        "end": end,
    }
    connection.execute(sql.SQL(_RECORD).format(table=sql.Identifier(table_name(timeframe))), arguments)


def confirm_absent(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> None:
    """Note that the source was asked again for [start, end) and has nothing for the gaps inside."""
    connection.execute(
        """
        update ohlcv_gaps set verdict = 'absent', checked_at = now()
        where instrument_id = any(%s) and timeframe = %s and verdict <> 'repaired' and gap_start >= %s and gap_end <= %s
        """,
        (list(instrument_ids), timeframe.value, start, end),
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
