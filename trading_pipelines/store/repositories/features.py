"""Feature sets and the stored feature rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.store.copy import PgType, UpsertCount, read_columns, upsert

_TYPES = {
    "instrument_id": PgType.INT4,
    "feature_set_id": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "available_at": PgType.TIMESTAMPTZ,
    "values": PgType.FLOAT8_ARRAY,
}


def feature_set_id(connection: psycopg.Connection[Any], definition_hash: str, names: Sequence[str]) -> int:
    """Id of the feature set with that definition; stored at the first call."""
    find = "select feature_set_id from feature_sets where definition_hash = %s"
    row = connection.execute(find, (definition_hash,)).fetchone()
    if row is None:
        connection.execute(
            "insert into feature_sets (definition_hash, names) values (%s, %s) on conflict do nothing",
            (definition_hash, list(names)),
        )
        row = connection.execute(find, (definition_hash,)).fetchone()
    assert row is not None
    return int(row[0])


def upsert_features(
    cursor: psycopg.Cursor[Any], instrument_id: int, set_id: int, timeframe: str, matrix: FeatureMatrix
) -> UpsertCount:
    """Store feature rows; rows that are there with the same values stay untouched."""
    rows = len(matrix.ts)
    columns = {
        "instrument_id": np.full(rows, instrument_id, dtype=np.int32),
        "feature_set_id": np.full(rows, set_id, dtype=np.int32),
        "ts": matrix.ts,
        "available_at": matrix.available_at,
        "values": matrix.values,
    }
    key = ["instrument_id", "feature_set_id", "ts"]
    return upsert(cursor, f"features_{timeframe}", key, columns, _TYPES)


@dataclass(frozen=True)
class Build:
    """Rows of [start, end) that were computed together, and the hash of their definition and inputs."""

    start: datetime
    end: datetime
    inputs_hash: str


def record_build(cursor: psycopg.Cursor[Any], instrument_id: int, set_id: int, timeframe: str, build: Build) -> None:
    """Remember what a stretch of rows was computed from, in place of the last build that began where it does."""
    cursor.execute(
        "insert into feature_builds (instrument_id, timeframe, from_ts, until_ts, feature_set_id, inputs_hash) "
        "values (%s, %s, %s, %s, %s, %s) on conflict (instrument_id, timeframe, from_ts) do update set "
        "until_ts = excluded.until_ts, feature_set_id = excluded.feature_set_id, inputs_hash = excluded.inputs_hash, "
        "built_at = excluded.built_at",
        (instrument_id, timeframe, build.start, build.end, set_id, build.inputs_hash),
    )


def newest_build(
    connection: psycopg.Connection[Any], instrument_id: int, set_id: int, timeframe: str, ts: datetime
) -> Build | None:
    """The build that the row of a bar is from, None where it was not remembered."""
    row = connection.execute(
        "select from_ts, until_ts, inputs_hash from feature_builds where instrument_id = %s and feature_set_id = %s "
        "and timeframe = %s and from_ts <= %s and until_ts > %s order by built_at desc limit 1",
        (instrument_id, set_id, timeframe, ts, ts),
    ).fetchone()
    return None if row is None else Build(*row)


def read_features(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    set_id: int,
    timeframe: str,
    width: int,
    start: datetime,
    end: datetime,
    as_of: datetime | None = None,
) -> FeatureMatrix:
    """Feature rows whose bar opens in [start, end) and, with `as_of`, that were available by then."""
    query = f"""
        select ts, available_at, "values" from features_{timeframe}
        where instrument_id = %(instrument)s and feature_set_id = %(set)s and ts >= %(start)s and ts < %(end)s
          and (%(as_of)s::timestamptz is null or available_at <= %(as_of)s::timestamptz)
        order by ts
    """
    arguments = {"instrument": instrument_id, "set": set_id, "start": start, "end": end, "as_of": as_of}
    types = {name: _TYPES[name] for name in ("ts", "available_at", "values")}
    with connection.cursor() as cursor:
        columns = read_columns(cursor, query, arguments, types, array_length=width)
    return FeatureMatrix(columns["ts"], columns["available_at"], columns["values"])
