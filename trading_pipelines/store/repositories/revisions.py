"""Former versions of candles, inputs that came late, and the rows that were computed without them.

Nothing here commits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from trading_pipelines.domain.alternative.series import SIMULATED
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
class LateCandles:
    """Candles of one instrument that open in [first, until) and were stored after what should have read them."""

    instrument_id: int
    symbol: str
    exchange: str
    timeframe: str
    first: datetime
    until: datetime


@dataclass(frozen=True)
class LateRates:
    """Funding rates of one instrument, settled from `first` to `last`, that came late or were corrected."""

    instrument_id: int
    symbol: str
    exchange: str
    first: datetime
    last: datetime


@dataclass(frozen=True)
class LateObservations:
    """Values of one series of a coin, known from `first` to `last`, that were stored later than they are dated."""

    series: str
    coin: str
    simulated: bool
    first: datetime
    last: datetime


@dataclass(frozen=True)
class StaleSpan:
    """Rows of a dataset with `from_ts` <= ts < `until_ts` whose inputs were corrected, or arrived, afterwards."""

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
        with former as (
            select distinct on (v.ts) v.ts, v.open, v.high, v.low, v.close, v.volume
            from ohlcv_corrections r
            cross join lateral unnest(r.ts, r.open, r.high, r.low, r.close, r.volume)
                as v (ts, open, high, low, close, volume)
            where r.instrument_id = %(id)s and r.timeframe = %(timeframe)s and r.replaced_at > %(as_of)s
              and r.first_ts < %(end)s and r.last_ts >= %(start)s and v.ts >= %(start)s and v.ts < %(end)s
            order by v.ts, r.replaced_at, r.correction_id
        )
        select c.ts, coalesce(r.open, c.open) as open, coalesce(r.high, c.high) as high, coalesce(r.low, c.low) as low,
               coalesce(r.close, c.close) as close, coalesce(r.volume, c.volume) as volume
        from {table_name(timeframe)} c left join former r on r.ts = c.ts
        where c.instrument_id = %(id)s and c.ts >= %(start)s and c.ts < %(end)s and c.available_at <= %(as_of)s
        order by c.ts
    """
    arguments = {"id": instrument_id, "timeframe": timeframe.value, "start": start, "end": end, "as_of": as_of}
    return read_frame(connection, query, arguments)


def anything_to_follow(connection: psycopg.Connection[Any], exchange: str) -> bool:
    """Whether a changed input has not been traced, or something that it made stale not been rebuilt."""
    found = connection.execute(
        """
        select exists (
            select from ohlcv_corrections join instruments using (instrument_id) where exchange = %(e)s and not traced
        ) or exists (
            select from late_inputs left join instruments using (instrument_id)
            where not late_inputs.traced and (late_inputs.kind = 'observations' or exchange = %(e)s)
        ) or exists (
            select from stale_spans join instruments using (instrument_id)
            where exchange = %(e)s and verdict = 'to rebuild')
        """,
        {"e": exchange},
    ).fetchone()
    return bool(found and found[0])


def untraced(connection: psycopg.Connection[Any], exchange: str) -> list[Correction]:
    """Corrections whose consequences nobody has looked for yet; from now on they count as traced.

    Candles that lie more than a week apart are corrections of their own, so that what lies between is not suspected.
    """
    with connection.cursor(row_factory=class_row(Correction)) as cursor:
        return cursor.execute(
            """
            with taken as (
                update ohlcv_corrections r set traced = true
                from instruments i
                where i.instrument_id = r.instrument_id and i.exchange = %s and not r.traced
                returning r.instrument_id, i.symbol, i.exchange, r.timeframe, r.ts
            ), replaced as (
                select instrument_id, symbol, exchange, timeframe, unnest(ts) as ts from taken
            ), apart as (
                select *, ts - lag(ts) over series > interval '7 days' as is_apart
                from replaced window series as (partition by instrument_id, timeframe order by ts)
            ), numbered as (
                select *, count(*) filter (where is_apart) over series as number
                from apart window series as (partition by instrument_id, timeframe order by ts)
            )
            select instrument_id, symbol, exchange, timeframe, min(ts) as first, max(ts) as last,
                   count(distinct ts)::int as candles
            from numbered group by 1, 2, 3, 4, number order by 1, 4, 5
            """,
            (exchange,),
        ).fetchall()


def untraced_late(
    connection: psycopg.Connection[Any], exchange: str
) -> tuple[list[LateCandles], list[LateRates], list[LateObservations]]:
    """Late inputs whose consequences nobody has looked for yet; from now on they count as traced.

    Observations concern every exchange of their world, simulated or real, and are taken whichever exchange asks.
    Those of one series and coin, and the rates of one instrument, come as one span.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        taken = cursor.execute(
            """
            update late_inputs late set traced = true
            from late_inputs l left join instruments i using (instrument_id)
            where late.late_id = l.late_id and not late.traced and (l.kind = 'observations' or i.exchange = %s)
            returning late.*, i.symbol, i.exchange
            """,
            (exchange,),
        ).fetchall()

    def owners(kind: str, *names: str) -> list[_Late]:
        return [({n: r[n] for n in names}, r["first_at"], r["last_at"]) for r in taken if r["kind"] == kind]

    candles = owners("candles", "instrument_id", "symbol", "exchange", "timeframe")
    rates = owners("funding", "instrument_id", "symbol", "exchange")
    told = owners("observations", "series", "coin", "simulated")
    return (
        _touching(LateCandles(**owner, first=first, until=until) for owner, first, until in candles),
        [LateRates(**owner, first=first, last=last) for owner, first, last in _hulls(rates)],
        [LateObservations(**owner, first=first, last=last) for owner, first, last in _hulls(told)],
    )


_Late = tuple[dict[str, Any], datetime, datetime]
"""Whose it is, and the span."""


def _touching(late: Iterable[LateCandles]) -> list[LateCandles]:
    """Spans that begin where another one ends as one: candles come page by page."""
    found: list[LateCandles] = []
    for each in sorted(late, key=lambda c: (c.instrument_id, c.timeframe, c.first)):
        last = found[-1] if found else each
        if found and _owner(last) == _owner(each) and each.first <= last.until:
            found[-1] = replace(last, until=max(last.until, each.until))
        else:
            found.append(each)
    return found


def _owner(late: LateCandles) -> tuple[int, str]:
    return late.instrument_id, late.timeframe


def _hulls(spans: Iterable[_Late]) -> list[_Late]:
    """From the first to the last moment of each owner, in the order of the owners."""
    found: dict[tuple[Any, ...], _Late] = {}
    for owner, first, last in spans:
        key = (*owner.values(),)
        _, known_first, known_last = found.get(key, (owner, first, last))
        found[key] = owner, min(first, known_first), max(last, known_last)
    return [found[key] for key in sorted(found)]


def bases(connection: psycopg.Connection[Any], *, simulated: bool) -> dict[int, str]:
    """Base currencies of the followed instruments of the simulated market, or of all real ones, by id."""
    rows = connection.execute(
        "select instrument_id, base from instruments where followed and (exchange = %s) = %s order by instrument_id",
        (SIMULATED, simulated),
    ).fetchall()
    return dict(rows)


def note_stale(
    connection: psycopg.Connection[Any],
    dataset: str,
    instrument_ids: Sequence[int],
    span: tuple[datetime, datetime],
    cause: str,
    verdict: str,
) -> int:
    """Name the rows of a table with ts in `span`, per instrument, from the first to the last; how many there are."""
    query = sql.SQL("""
        insert into stale_spans (dataset, instrument_id, from_ts, until_ts, rows, cause, verdict)
        select %(dataset)s, t.instrument_id, min(t.ts), max(t.ts) + interval '1 microsecond', count(*), %(cause)s,
               %(verdict)s
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


def why_stale(
    connection: psycopg.Connection[Any], dataset: str, instrument_id: int, start: datetime, end: datetime
) -> list[str]:
    """What happened to the inputs of the rows of [start, end), where they wait for being rebuilt; the newest first."""
    rows = connection.execute(
        "select cause from stale_spans where instrument_id = %s and dataset = %s and verdict = 'to rebuild' "
        "and from_ts < %s and until_ts > %s order by stale_id desc",
        (instrument_id, dataset, end, start),
    ).fetchall()
    return [cause for (cause,) in rows]


def superseded_by(
    connection: psycopg.Connection[Any],
    timeframe: Timeframe,
    instrument_id: int,
    start: datetime,
    end: datetime,
    said_at: datetime,
) -> str | None:
    """What has changed, after something was said at `said_at`, in the features, charts or scores of [start, end).

    What was said is kept as it was, and no longer follows from what is stored; None where it has to, as it does where
    the rebuild has changed nothing.
    """
    row = connection.execute(
        "select cause from stale_spans where instrument_id = %s and dataset = any(%s) and from_ts < %s "
        "and until_ts > %s and coalesce(rebuilt_at, 'infinity') > %s and changed is distinct from 0 "
        "order by stale_id limit 1",
        (instrument_id, [f"features_{timeframe}", "technical_signals", "composite_scores"], end, start, said_at),
    ).fetchone()
    return None if row is None else row[0]


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
