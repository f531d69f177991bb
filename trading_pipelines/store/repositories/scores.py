"""Composite scores and the inputs behind them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.composite import Scores
from trading_pipelines.domain.scoring.inputs import INPUT_NAMES
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec
from trading_pipelines.store.copy import Array, PgType, UpsertCount, read_columns, upsert

_KEY = ("instrument_id", "bar_minutes", "ts")
_IDENTITY = {
    "instrument_id": PgType.INT4,
    "bar_minutes": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "available_at": PgType.TIMESTAMPTZ,
    "definition_id": PgType.INT4,
}
_SCORES = {
    **_IDENTITY,
    "score": PgType.FLOAT8,
    "confidence": PgType.FLOAT8,
    "coverage": PgType.FLOAT8,
    "known": PgType.INT4,
    "bullish": PgType.INT4,
    "bearish": PgType.INT4,
    "consensus": PgType.INT4,
    "values": PgType.FLOAT8_ARRAY,
    "ages": PgType.FLOAT8_ARRAY,
    "weights": PgType.FLOAT8_ARRAY,
    "contributions": PgType.FLOAT8_ARRAY,
}
_INPUTS = {
    **_IDENTITY,
    "raw": PgType.FLOAT8_ARRAY,
    "mapped": PgType.FLOAT8_ARRAY,
    "ages": PgType.FLOAT8_ARRAY,
}
_FIND = "select definition_id from score_definitions where definition_hash = %s"
_READ = """
select ts, score, confidence, known, bullish, bearish, "values" from composite_scores
where instrument_id = %(id)s and bar_minutes = %(minutes)s and ts >= %(start)s and ts < %(end)s
order by ts
"""


def definition_id(connection: psycopg.Connection[Any], spec: ScoringSpec) -> int:
    """Id of the definition with these numbers, factors and inputs; stored at the first call."""
    name = f"{spec.definition_hash}:{','.join(FACTORS)}:{','.join(INPUT_NAMES)}"
    row = connection.execute(_FIND, (name,)).fetchone()
    if row is None:
        connection.execute(
            "insert into score_definitions (definition_hash, factors, inputs, spec) values (%s, %s, %s, %s) "
            "on conflict do nothing",
            (name, list(FACTORS), list(INPUT_NAMES), Jsonb(spec.model_dump(mode="json"))),
        )
        row = connection.execute(_FIND, (name,)).fetchone()
    assert row is not None
    return int(row[0])


def newest_spec(connection: psycopg.Connection[Any]) -> ScoringSpec | None:
    """The numbers of the definition by which the newest scores were made, None without any."""
    row = connection.execute(
        "select d.spec from composite_scores s join score_definitions d using (definition_id) "
        "order by s.ts desc limit 1"
    ).fetchone()
    return None if row is None else ScoringSpec.model_validate(row[0])


def save(
    connection: psycopg.Connection[Any],
    definition: int,
    timeframe: Timeframe,
    instrument_id: Array,
    ts: Array,
    scores: Scores,
    inputs: Mapping[str, Array],
) -> UpsertCount:
    """Let the scores of these bars be `scores`; the caller commits. Rows that say the same are not written again.

    Parameters
    ----------
    instrument_id, ts : arrays
        Of each score; `ts` is ``datetime64`` in UTC.
    inputs : mapping of arrays
        `raw`, `mapped` and `ages`, each (scores, inputs).
    """
    rows = len(ts)
    if rows == 0:
        return UpsertCount()
    identity = {
        "instrument_id": instrument_id.astype(np.int32),
        "bar_minutes": np.full(rows, timeframe.minutes, np.int32),
        "ts": ts,
        "available_at": ts + np.timedelta64(timeframe.minutes, "m"),
        "definition_id": np.full(rows, definition, np.int32),
    }
    told = {name: getattr(scores, name) for name in _SCORES if name not in _IDENTITY}
    with connection.cursor() as cursor:
        count = upsert(cursor, "composite_scores", _KEY, {**identity, **told}, _SCORES)
        upsert(cursor, "factor_values", _KEY, {**identity, **inputs}, _INPUTS)
    return count


def read(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: Timeframe, start: datetime, end: datetime
) -> dict[str, Array]:
    """Scores of the bars that open in [start, end), ascending: what the columns of the query are named."""
    arguments = {"id": instrument_id, "minutes": timeframe.minutes, "start": start, "end": end}
    types = {name: _SCORES[name] for name in ("ts", "score", "confidence", "known", "bullish", "bearish", "values")}
    with connection.cursor() as cursor:
        return read_columns(cursor, _READ, arguments, types, array_length=len(FACTORS))


@dataclass(frozen=True)
class CalibrationRow:
    """One calibration as stored in `score_calibrations`."""

    made_at: datetime
    exchange: str
    symbols: list[str]
    timeframe: str
    starts_at: datetime
    ends_at: datetime
    weights: list[float]
    report: dict[str, Any]
    run_id: str | None


def save_calibration(connection: psycopg.Connection[Any], row: CalibrationRow) -> None:
    """Keep a calibration; the caller commits. NaN in the report becomes null, times become texts."""
    names = list(CalibrationRow.__dataclass_fields__)
    report = json.loads(json.dumps(row.report, default=str), parse_constant=lambda _: None)
    connection.execute(
        sql.SQL("insert into score_calibrations ({}) values ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(sql.Placeholder() * len(names))
        ),
        [Jsonb(report) if name == "report" else getattr(row, name) for name in names],
    )


def read_inputs(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    definition: int,
    start: datetime,
    end: datetime,
) -> dict[str, Array]:
    """Scores of one definition with the inputs behind them, ascending: ts, score, mapped."""
    query = """
        select ts, s.score, f.mapped from composite_scores s join factor_values f using (instrument_id, bar_minutes, ts)
        where instrument_id = %(id)s and bar_minutes = %(minutes)s and s.definition_id = %(definition)s
          and ts >= %(start)s and ts < %(end)s
        order by ts
    """
    arguments = {"id": instrument_id, "minutes": timeframe.minutes, "definition": definition}
    types = {"ts": PgType.TIMESTAMPTZ, "score": PgType.FLOAT8, "mapped": PgType.FLOAT8_ARRAY}
    with connection.cursor() as cursor:
        span = {"start": start, "end": end}
        return read_columns(cursor, query, arguments | span, types, array_length=len(INPUT_NAMES))


def unscored(
    connection: psycopg.Connection[Any], instrument_ids: Sequence[int], timeframe: Timeframe, bars: Sequence[datetime]
) -> set[datetime]:
    """Those of the bars at which some instrument has a candle and no score yet."""
    rows = connection.execute(
        f"""
        select distinct c.ts from ohlcv_{timeframe} c
        where c.instrument_id = any(%(ids)s) and c.ts = any(%(bars)s) and not exists (
            select from composite_scores s where s.instrument_id = c.instrument_id
              and s.bar_minutes = %(minutes)s and s.ts = c.ts)
        """.encode(),
        {"ids": list(instrument_ids), "bars": list(bars), "minutes": timeframe.minutes},
    )
    return {ts for (ts,) in rows}
