"""Candles: writing, deriving longer timeframes, reading, and which spans were asked for and answered.

The SQL here is the only place where bars add up to longer ones in the database.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql
from psycopg.types.range import Range

from trading_pipelines.domain.market.candles import CANDLE_COLUMNS
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.copy import PgType, UpsertCount, read_arrays, read_columns, upsert

_CANDLE_TYPES = {"ts": PgType.TIMESTAMPTZ, **dict.fromkeys(CANDLE_COLUMNS[1:], PgType.FLOAT8)}
_TYPES = {"instrument_id": PgType.INT4, **_CANDLE_TYPES, "available_at": PgType.TIMESTAMPTZ}

_TICK = timedelta(microseconds=1)
_BARS_AT_ONCE = 1_000_000

Span = tuple[datetime, datetime]


def table_name(timeframe: Timeframe) -> str:
    """The table of a timeframe."""
    return f"ohlcv_{timeframe}"


def upsert_candles(
    cursor: psycopg.Cursor[Any], instrument_id: int, timeframe: Timeframe, candles: pd.DataFrame
) -> UpsertCount:
    """Store valid candles; one that differs from what is stored overwrites it and counts as updated."""
    ts = candles["ts"].to_numpy("datetime64[us]")
    columns = {
        "instrument_id": np.full(len(candles), instrument_id),
        "ts": ts,
        **{name: candles[name].to_numpy("float64") for name in CANDLE_COLUMNS[1:]},
        "available_at": ts + np.timedelta64(timeframe.minutes, "m"),
    }
    return upsert(cursor, table_name(timeframe), ("instrument_id", "ts"), columns, _TYPES)


def derive(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    base: Timeframe,
    start: datetime,
    end: datetime,
) -> dict[Timeframe, int]:
    """Bring every longer timeframe up to date with the base candles that open in [start, end).

    A bucket exists as soon as the whole of it is covered: asked for and answered. It is then made of the
    bars that exist, whatever the source lacks; without any bar there is no bucket. What has not
    changed is not written. All happens in one statement, in which each timeframe adds up the one before it.

    Returns
    -------
    dict
        Rows inserted or changed, per timeframe.
    """
    targets = base.longer()
    if not targets:
        return {}
    steps = [
        sql.SQL(_DERIVE).format(
            rolled=sql.Identifier(f"rolled_{target}"),
            written=sql.Identifier(f"written_{target}"),
            previous=sql.Identifier("bars" if previous is base else f"rolled_{previous}"),
            table=sql.Identifier(table_name(target)),
            length=sql.Literal(target.delta),
        )
        for previous, target in pairwise((base, *targets))
    ]
    counts = sql.SQL(", ").join(
        sql.SQL("(select count(*) from {})").format(sql.Identifier(f"written_{target}")) for target in targets
    )
    statement = sql.SQL("{} {} select {}").format(
        sql.SQL(_BARS).format(base=sql.Identifier(table_name(base))), sql.SQL("").join(steps), counts
    )
    # Every bucket that the span touches is built from all of its bars, for the longest one aligns with all others.
    longest = targets[-1]
    arguments = {
        "ids": list(instrument_ids),
        "timeframe": base.value,
        "start": longest.floor(start),
        "end": longest.floor(end - _TICK) + longest.delta,
    }
    row = connection.execute(statement, arguments).fetchone()
    return dict(zip(targets, row or (), strict=True))


_BARS = """
with asked as (
    select instrument_id, range_agg(covered) as covered
    from ohlcv_coverage
    where instrument_id = any(%(ids)s) and timeframe = %(timeframe)s
    group by 1
), bars as (
    select instrument_id, ts, open, high, low, close, volume
    from {base}
    where instrument_id = any(%(ids)s) and ts >= %(start)s and ts < %(end)s
)
"""
# The cast to numeric keeps 15 digits. It removes the noise of binary addition from volumes, which are decimal numbers
# at every venue, so that a derived candle equals the venue's own to the last bit. Where somebody else has added them up
# and kept the noise, that is no correction.
_DERIVE = """
, {rolled} as materialized (
    select instrument_id, date_bin({length}, ts, 'epoch') as ts, (array_agg(open order by ts))[1] as open,
           max(high) as high, min(low) as low, (array_agg(close order by ts))[count(*)] as close,
           sum(volume order by ts)::numeric::float8 as volume
    from {previous}
    group by 1, 2
), {written} as (
    insert into {table} as stored (instrument_id, ts, open, high, low, close, volume, available_at)
    select bucket.*, bucket.ts + {length}
    from {rolled} bucket join asked using (instrument_id)
    where asked.covered @> tstzrange(bucket.ts, bucket.ts + {length})
    on conflict (instrument_id, ts) do update set
        open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
        volume = excluded.volume
    where (stored.open, stored.high, stored.low, stored.close)
        is distinct from (excluded.open, excluded.high, excluded.low, excluded.close)
        or abs(stored.volume - excluded.volume) > 1e-12 * excluded.volume
    returning 1
)
"""


def read_candles(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    """Candles that open in [start, end), ascending: ts, open, high, low, close, volume.

    A million bars are read at once; more of them in several queries.
    """
    query = f"""
        select ts, open, high, low, close, volume from {table_name(timeframe)}
        where instrument_id = %(id)s and ts >= %(start)s and ts < %(end)s order by ts
    """
    parts: list[dict[str, Any]] = []
    with connection.cursor() as cursor:
        for first, last in _parts(connection, instrument_id, timeframe, start, end):
            span = {"id": instrument_id, "start": first, "end": last}
            parts.append(read_arrays(cursor, query, span, _CANDLE_TYPES))
    columns = {
        name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name]
        for name in _CANDLE_TYPES
    }
    return pd.DataFrame({**columns, "ts": pd.DatetimeIndex(columns["ts"], tz="UTC")}, copy=False)


def read_filled(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    """The same without a hole between the first and the last candle, and what each row is.

    Nothing of it is stored; who asks for made-up rows sees which ones they are.

    Returns
    -------
    pandas.DataFrame
        A candle's columns, `filled` (the row stands for a missing candle: the price before it, without volume) and
        `exchange` (whose candle it is where another exchange's stands in, else empty).
    """
    candles = read_candles(connection, instrument_id, timeframe, start, end).set_index("ts")
    rows = connection.execute(
        "select ts, exchange from ohlcv_substitutes "
        "where instrument_id = %s and timeframe = %s and ts >= %s and ts < %s",
        (instrument_id, timeframe.value, start, end),
    ).fetchall()
    whole = candles
    if len(candles) > 1:
        grid = pd.date_range(candles.index[0], candles.index[-1], freq=timeframe.delta, name="ts").as_unit("us")
        whole = candles.reindex(grid)
    filled = whole["close"].isna()
    close = whole["close"].ffill()
    whole = whole.assign(**{name: whole[name].fillna(close) for name in CANDLE_COLUMNS[1:5]})
    whole = whole.assign(volume=whole["volume"].fillna(0.0), filled=filled, exchange="")
    for ts, exchange in rows:
        if ts in whole.index:
            whole.loc[ts, "exchange"] = exchange
    return whole.reset_index()


def _parts(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: Timeframe, start: datetime, end: datetime
) -> list[Span]:
    """The span, as far as candles are stored, in pieces of at most a million bars; at least one."""
    step = _BARS_AT_ONCE * timeframe.delta
    if end - start <= step:
        return [(start, end)]
    statement = sql.SQL("select min(ts), max(ts) from {} where instrument_id = %s").format(
        sql.Identifier(table_name(timeframe))
    )
    row = connection.execute(statement, (instrument_id,)).fetchone()
    if row is None or row[0] is None:
        return [(start, start)]
    start, end = max(start, row[0]), min(end, row[1] + timeframe.delta)
    count = max(1, -((start - end) // step))
    return [(start + i * step, min(end, start + (i + 1) * step)) for i in range(count)]


def read_many(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> dict[int, dict[str, Any]]:
    """Candles of several instruments that open in [start, end), ascending, as arrays by column; in one query."""
    query = f"""
        select instrument_id, ts, open, high, low, close, volume from {table_name(timeframe)}
        where instrument_id = any(%(ids)s) and ts >= %(start)s and ts < %(end)s order by instrument_id, ts
    """
    arguments = {"ids": list(instrument_ids), "start": start, "end": end}
    with connection.cursor() as cursor:
        columns = read_columns(cursor, query, arguments, {"instrument_id": PgType.INT4, **_CANDLE_TYPES})
    owner = columns.pop("instrument_id")
    found: dict[int, dict[str, Any]] = {}
    for instrument_id in instrument_ids:
        first, last = np.searchsorted(owner, [instrument_id, instrument_id + 1])
        found[instrument_id] = {name: values[first:last] for name, values in columns.items()}
    return found


def read_with_history(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    bars: int,
) -> dict[int, dict[str, Any]]:
    """As `read_many`, with at least `bars` candles before `start` where so many are stored.

    An outage leaves holes of a day and more: so many candles may lie further back than so many times their length.
    """
    first = start - bars * timeframe.delta
    found = read_many(connection, instrument_ids, timeframe, first, end)
    opened = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "us")
    short = [i for i, columns in found.items() if np.searchsorted(columns["ts"], opened) < bars]
    since = _first_of(connection, short, timeframe, start, bars) if short and bars else {}
    for instrument_id, oldest in since.items():
        if oldest < first:
            found |= read_many(connection, [instrument_id], timeframe, oldest, end)
    return found


def _first_of(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    before: datetime,
    bars: int,
) -> dict[int, datetime]:
    """Open time of the oldest of the newest `bars` candles before a moment, by instrument."""
    query = sql.SQL(
        """
        select wanted.id, (
            select min(ts) from (
                select ts from {} where instrument_id = wanted.id and ts < %(before)s order by ts desc limit %(bars)s
            ) newest
        ) from unnest(%(ids)s::int[]) as wanted (id)
        """
    ).format(sql.Identifier(table_name(timeframe)))
    rows = connection.execute(query, {"ids": list(instrument_ids), "before": before, "bars": bars}).fetchall()
    return {instrument_id: oldest for instrument_id, oldest in rows if oldest is not None}


def read_closes(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> dict[int, dict[str, Any]]:
    """Open times and closes of several instruments' candles that open in [start, end), ascending, as arrays."""
    query = f"""
        select instrument_id, ts, close from {table_name(timeframe)}
        where instrument_id = any(%(ids)s) and ts >= %(start)s and ts < %(end)s order by instrument_id, ts
    """
    arguments = {"ids": list(instrument_ids), "start": start, "end": end}
    types = {"instrument_id": PgType.INT4, "ts": PgType.TIMESTAMPTZ, "close": PgType.FLOAT8}
    with connection.cursor() as cursor:
        columns = read_arrays(cursor, query, arguments, types)
    owner = columns.pop("instrument_id")
    found: dict[int, dict[str, Any]] = {}
    for instrument_id in instrument_ids:
        first, last = np.searchsorted(owner, [instrument_id, instrument_id + 1])
        found[instrument_id] = {name: values[first:last] for name, values in columns.items()}
    return found


def latest_bars(
    connection: psycopg.Connection[Any], instrument_ids: Sequence[int], timeframe: Timeframe, as_of: datetime
) -> pd.DataFrame:
    """The newest candle per instrument that was closed at `as_of`: instrument_id and a candle's columns."""
    statement = f"""
        select bar.* from unnest(%(ids)s::int[]) as wanted (instrument_id)
        cross join lateral (
            select instrument_id, ts, open, high, low, close, volume from {table_name(timeframe)}
            where instrument_id = wanted.instrument_id and ts <= %(newest)s order by ts desc limit 1
        ) bar
    """
    newest = as_of - timeframe.delta
    return read_frame(connection, statement, {"ids": list(instrument_ids), "newest": newest})


def latest_candle_ts(connection: psycopg.Connection[Any], instrument_id: int, timeframe: Timeframe) -> datetime | None:
    """Open time of the newest stored candle."""
    statement = sql.SQL("select max(ts) from {} where instrument_id = %s").format(sql.Identifier(table_name(timeframe)))
    return _scalar(connection, statement, (instrument_id,))


def count(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> int:
    """How many candles open in [start, end)."""
    statement = sql.SQL("select count(*) from {} where instrument_id = %s and ts >= %s and ts < %s").format(
        sql.Identifier(table_name(timeframe))
    )
    return _scalar(connection, statement, (instrument_id, start, end))


def missing_spans(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: str,
    source: str,
    start: datetime,
    end: datetime,
) -> list[Span]:
    """Parts of [start, end) that `source` was not asked for yet, ascending.

    `timeframe` is a candle timeframe or the name of another dataset whose coverage is kept, as `funding`.
    """
    rows = connection.execute(
        """
        select unnest(tstzmultirange(tstzrange(%(start)s, %(end)s)) - coalesce(
            (select covered from ohlcv_coverage
             where instrument_id = %(id)s and timeframe = %(timeframe)s and source = %(source)s),
            '{}'))
        """,
        {"id": instrument_id, "timeframe": timeframe, "source": source, "start": start, "end": end},
    ).fetchall()
    return [(span.lower, span.upper) for (span,) in rows]


def lock_coverage(connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, source: str) -> None:
    """Keep other writers of this series waiting until the transaction ends."""
    key = (instrument_id, timeframe, source)
    connection.execute(
        "insert into ohlcv_coverage (instrument_id, timeframe, source) values (%s, %s, %s) on conflict do nothing",
        key,
    )
    connection.execute(
        "select from ohlcv_coverage where instrument_id = %s and timeframe = %s and source = %s for update",
        key,
    )


def extend_coverage(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, source: str, span: Span
) -> None:
    """Note that the source has answered for `span`; the row must exist (`lock_coverage`)."""
    connection.execute(
        """
        update ohlcv_coverage set covered = covered + tstzmultirange(%s)
        where instrument_id = %s and timeframe = %s and source = %s
        """,
        (Range(*span), instrument_id, timeframe, source),
    )


def underived_span(
    connection: psycopg.Connection[Any],
    instrument_ids: Sequence[int],
    base: Timeframe,
    source: str,
    start: datetime,
    end: datetime,
) -> Span | None:
    """Smallest span that holds all of [start, end) that is covered but was not derived from yet."""
    row = connection.execute(
        """
        select min(lower(span)), max(upper(span))
        from ohlcv_coverage fetched
        join ohlcv_coverage derived using (instrument_id, source),
        unnest(fetched.covered * tstzmultirange(tstzrange(%(start)s, %(end)s)) - derived.covered) as span
        where instrument_id = any(%(ids)s) and source = %(source)s
          and fetched.timeframe = %(base)s and derived.timeframe = %(derived)s
        """,
        {
            "ids": list(instrument_ids),
            "source": source,
            "base": base.value,
            "derived": derived_from(base),
            "start": start,
            "end": end,
        },
    ).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def mark_derived(
    connection: psycopg.Connection[Any], instrument_ids: Sequence[int], base: Timeframe, source: str, span: Span
) -> None:
    """Note that everything covered in `span` was derived from."""
    connection.execute(
        """
        update ohlcv_coverage derived
        set covered = derived.covered + fetched.covered * tstzmultirange(%(span)s)
        from ohlcv_coverage fetched
        where derived.instrument_id = any(%(ids)s) and derived.timeframe = %(derived)s and derived.source = %(source)s
          and fetched.instrument_id = derived.instrument_id and fetched.source = derived.source
          and fetched.timeframe = %(base)s
        """,
        {
            "ids": list(instrument_ids),
            "source": source,
            "base": base.value,
            "derived": derived_from(base),
            "span": Range(*span),
        },
    )


def derived_from(base: Timeframe) -> str:
    """Name under which the coverage table keeps what the longer timeframes were derived from."""
    return f"derived from {base}"


def _scalar(connection: psycopg.Connection[Any], statement: sql.Composed, arguments: tuple[Any, ...]) -> Any:
    row = connection.execute(statement, arguments).fetchone()
    return None if row is None else row[0]
