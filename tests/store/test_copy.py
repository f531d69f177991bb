"""The bulk write path against a dictionary as model."""

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trading_pipelines.store.connection import Connection, read_frame
from trading_pipelines.store.copy import PgType, UpsertCount, copy_rows, read_columns, upsert

TYPES = {
    "instrument_id": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "rate": PgType.FLOAT8,
    "available_at": PgType.TIMESTAMPTZ,
}
KEY = ["instrument_id", "ts"]
Rows = dict[tuple[int, int], float]


def _columns(rows: Rows) -> dict[str, np.ndarray]:
    ts = np.array([minute for _, minute in rows], dtype="int64").astype("datetime64[m]").astype("datetime64[us]")
    return {
        "instrument_id": np.array([instrument for instrument, _ in rows], dtype="int32"),
        "ts": ts,
        "rate": np.array(list(rows.values()), dtype="float64"),
        "available_at": ts,
    }


@pytest.fixture
def clean(connection: Connection) -> Connection:
    return connection


keys = st.tuples(st.integers(1, 3), st.integers(-1_000_000, 30_000_000))
rates = st.one_of(st.floats(-1, 1), st.sampled_from([float("nan"), float("inf"), 0.0]))
batches = st.lists(st.dictionaries(keys, rates, max_size=20), max_size=5)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_upserts_leave_the_table_and_the_counts_that_a_dictionary_would(
    clean: Connection, sequence: list[Rows]
) -> None:
    clean.execute("truncate funding_rates")
    model: Rows = {}
    for batch in sequence:
        expected = UpsertCount(
            inserted=len(batch.keys() - model.keys()),
            updated=sum(k in model and not _same(model[k], v) for k, v in batch.items()),
            unchanged=sum(k in model and _same(model[k], v) for k, v in batch.items()),
        )
        with clean.cursor() as cursor:
            assert upsert(cursor, "funding_rates", KEY, _columns(batch), TYPES) == expected
        model |= batch
    stored = {(i, int(ts.timestamp() // 60)): rate for i, ts, rate in clean.execute(
        "select instrument_id, ts, rate from funding_rates").fetchall()}  # fmt: skip
    assert stored.keys() == model.keys()
    assert all(_same(stored[key], model[key]) for key in model)
    clean.rollback()


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


def test_arrays_and_microseconds_come_back_as_they_went_in(connection: Connection) -> None:
    values = np.array([[1.5, np.nan, -np.inf], [0.0, 1e-300, 3.0]])
    ts = np.array(["1969-12-31T23:59:59.999999", "2025-06-01T00:00:00.000001"], dtype="datetime64[us]")
    columns = {
        "instrument_id": np.array([1, 2]),
        "feature_set_id": np.array([1, 1]),
        "ts": ts,
        "available_at": ts,
        "values": values,
    }
    types = TYPES | {"feature_set_id": PgType.INT4, "values": PgType.FLOAT8_ARRAY}
    types.pop("rate")
    with connection.cursor() as cursor:
        assert copy_rows(cursor, "features_15m", columns, types) == 2
    frame = read_frame(connection, 'select ts, "values" from features_15m order by ts')
    assert np.array_equal(np.array(frame["values"].tolist()), values, equal_nan=True)
    assert frame["ts"].dt.tz_convert(None).to_numpy().astype("datetime64[us]").tolist() == ts.tolist()
    query = 'select ts, "values" from features_15m where instrument_id > %(id)s order by ts'
    with connection.cursor() as cursor:
        wanted = {"ts": PgType.TIMESTAMPTZ, "values": PgType.FLOAT8_ARRAY}
        read = read_columns(cursor, query, {"id": 0}, wanted, array_length=3)
    assert read["ts"].tolist() == ts.tolist()
    assert np.array_equal(read["values"], values, equal_nan=True)


def test_both_ways_of_reading_give_the_same_frame(connection: Connection, database: str) -> None:
    with connection.cursor() as cursor:
        copy_rows(cursor, "funding_rates", _columns({(1, 5): 0.5, (2, 6): float("nan")}), TYPES)
    connection.commit()
    query = "select * from funding_rates where instrument_id = any(%s) order by instrument_id"
    slow, fast = read_frame(connection, query, ([1, 2],)), read_frame(database, query, ([1, 2],))
    assert slow["ts"].tolist() == fast["ts"].tolist()
    assert slow["ts"].dtype == fast["ts"].dtype
    assert np.array_equal(slow["rate"], fast["rate"], equal_nan=True)


def test_row_that_breaks_a_constraint_fails_the_whole_batch(connection: Connection) -> None:
    columns = {name: np.array([1.0, -1.0]) for name in ("open", "high", "low", "close", "volume")}
    ts = np.array(["2025-01-01T00:00", "2025-01-01T00:05"], dtype="datetime64[us]")
    columns |= {"instrument_id": np.array([1, 1]), "ts": ts, "available_at": ts}
    types = dict.fromkeys(columns, PgType.FLOAT8) | {k: TYPES[k] for k in ("instrument_id", "ts", "available_at")}
    with connection.cursor() as cursor, pytest.raises(psycopg.errors.CheckViolation):
        copy_rows(cursor, "ohlcv_5m", columns, types)
    connection.rollback()
    assert connection.execute("select count(*) from ohlcv_5m").fetchone() == (0,)
