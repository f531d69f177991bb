"""The bulk write path against a dictionary as model, and reading back what was written."""

import threading

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.copy import Columns, PgType, UpsertCount, copy_rows, read_arrays, read_columns, upsert

TYPES = {
    "instrument_id": PgType.INT4,
    "ts": PgType.TIMESTAMPTZ,
    "rate": PgType.FLOAT8,
    "available_at": PgType.TIMESTAMPTZ,
}
KEY = ["instrument_id", "ts"]
Rows = dict[tuple[int, int], float]


def _columns(rows: Rows) -> dict[str, np.ndarray]:
    ts = np.array([microsecond for _, microsecond in rows], dtype="datetime64[us]")
    return {
        "instrument_id": np.array([instrument for instrument, _ in rows], dtype="int32"),
        "ts": ts,
        "rate": np.array(list(rows.values()), dtype="float64"),
        "available_at": ts,
    }


def _upsert(connection: Connection, rows: Rows) -> UpsertCount:
    with connection.cursor() as cursor:
        return upsert(cursor, "funding_rates", KEY, _columns(rows), TYPES)


def _stored(connection: Connection) -> Rows:
    with connection.cursor() as cursor:
        read = read_columns(
            cursor, "select instrument_id, ts, rate from funding_rates", None, {n: TYPES[n] for n in [*KEY, "rate"]}
        )
    keys = zip(read["instrument_id"].tolist(), read["ts"].astype("int64").tolist(), strict=True)
    return dict(zip(keys, read["rate"].tolist(), strict=True))


def _same(a: float, b: float) -> bool:
    return a == b or (a != a and b != b)


microseconds = st.integers(-10_000_000_000_000_000, 10_000_000_000_000_000)  # 1653 to 2286
keys = st.tuples(st.integers(1, 3), st.one_of(st.integers(0, 8), microseconds))
rates = st.one_of(st.floats(-1, 1), st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0, -0.0]))
batches = st.lists(st.dictionaries(keys, rates, max_size=20), max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches)
def test_upserts_leave_the_table_and_the_counts_that_a_dictionary_would(
    scratch: Connection, sequence: list[Rows]
) -> None:
    scratch.execute("truncate funding_rates")
    model: Rows = {}
    for batch in sequence:
        expected = UpsertCount(
            inserted=len(batch.keys() - model.keys()),
            updated=sum(k in model and not _same(model[k], v) for k, v in batch.items()),
            unchanged=sum(k in model and _same(model[k], v) for k, v in batch.items()),
        )
        assert _upsert(scratch, batch) == expected
        model |= {k: v for k, v in batch.items() if k not in model or not _same(model[k], v)}
    stored = _stored(scratch)
    assert stored.keys() == model.keys()
    assert all(_same(stored[key], model[key]) for key in model)


def test_repeated_load_writes_nothing(scratch: Connection) -> None:
    rows: Rows = {(1, minute): minute / 7 for minute in range(1_000)}
    assert _upsert(scratch, rows) == UpsertCount(inserted=1_000)
    before = scratch.execute("select sum(ctid::text::point <-> point(0, 0)) from funding_rates").fetchone()
    assert _upsert(scratch, rows) == UpsertCount(unchanged=1_000)
    assert scratch.execute("select sum(ctid::text::point <-> point(0, 0)) from funding_rates").fetchone() == before


def test_batch_with_the_same_key_twice_is_refused(scratch: Connection) -> None:
    columns = {name: np.concatenate([values, values]) for name, values in _columns({(1, 5): 0.1}).items()}
    with scratch.cursor() as cursor, pytest.raises(ValueError, match="occurs twice"):
        upsert(cursor, "funding_rates", KEY, columns, TYPES)


def test_upsert_without_a_transaction_is_refused(database: str) -> None:
    with connect(database, autocommit=True) as connection:
        with pytest.raises(ValueError, match="open a transaction"):
            _upsert(connection, {(1, 5): 0.1})
        with connection.transaction():
            assert _upsert(connection, {(1, 5): 0.1}) == UpsertCount(inserted=1)


def test_upsert_that_fails_leaves_the_callers_transaction_as_it_was(database: str) -> None:
    with connect(database) as connection:
        _upsert(connection, {(1, 5): 0.1})
    with connect(database) as connection, connection.cursor() as cursor:
        columns = _columns({(1, 5): 0.2, (1, 6): 0.3})
        with pytest.raises(psycopg.errors.UndefinedColumn):
            upsert(
                cursor, "funding_rates", KEY, columns | {"nothing": columns["rate"]}, TYPES | {"nothing": TYPES["rate"]}
            )
        connection.rollback()
        assert _stored(connection) == {(1, 5): 0.1}


def test_row_that_another_writer_commits_meanwhile_is_updated(database: str) -> None:
    """The writer sees an empty range, meets the other's uncommitted row, waits, and goes on with what came out."""
    counts: list[UpsertCount] = []

    def write() -> None:
        with connect(database, application_name="late") as late:
            counts.append(_upsert(late, {(1, 5): 0.2, (1, 6): 0.3}))

    with connect(database) as early, connect(database, autocommit=True) as observer:
        _upsert(early, {(1, 5): 0.1})
        writer = threading.Thread(target=write)
        writer.start()
        waiting = "select from pg_stat_activity where application_name = 'late' and wait_event_type = 'Lock'"
        while observer.execute(waiting).rowcount == 0:
            pass
        early.commit()
        writer.join()
        assert counts == [UpsertCount(inserted=1, updated=1)]
        assert _stored(observer) == {(1, 5): 0.2, (1, 6): 0.3}


def test_writers_of_the_same_rows_in_opposite_order_do_not_deadlock(database: str) -> None:
    rows: Rows = {(1, minute): 0.1 for minute in range(5_000)}
    with connect(database) as connection:
        _upsert(connection, rows)
    counts: list[UpsertCount] = []

    def write(batch: Rows) -> None:
        with connect(database) as connection:
            counts.append(_upsert(connection, batch))

    rising = dict.fromkeys(rows, 0.2)
    falling = dict.fromkeys(reversed(rows), 0.3)
    writers = [threading.Thread(target=write, args=(batch,)) for batch in (rising, falling)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert counts == [UpsertCount(updated=5_000)] * 2


def test_row_that_breaks_a_constraint_fails_the_whole_batch(scratch: Connection) -> None:
    columns = {name: np.array([1.0, -1.0]) for name in ("open", "high", "low", "close", "volume")}
    ts = np.array(["2025-01-01T00:00", "2025-01-01T00:05"], dtype="datetime64[us]")
    columns |= {"instrument_id": np.array([1, 1]), "ts": ts, "available_at": ts}
    types = dict.fromkeys(columns, PgType.FLOAT8) | {k: TYPES[k] for k in ("instrument_id", "ts", "available_at")}
    with scratch.cursor() as cursor, pytest.raises(psycopg.errors.CheckViolation):
        copy_rows(cursor, "ohlcv_5m", columns, types)
    scratch.rollback()
    assert scratch.execute("select count(*) from ohlcv_5m").fetchone() == (0,)


EVERY_TYPE: dict[str, tuple[PgType, np.ndarray]] = {
    "a_bool": (PgType.BOOL, np.array([True, False])),
    "a_int2": (PgType.INT2, np.array([-(2**15), 2**15 - 1])),
    "a_int4": (PgType.INT4, np.array([-(2**31), 2**31 - 1])),
    "a_int8": (PgType.INT8, np.array([-(2**63), 2**63 - 1])),
    "a_float8": (PgType.FLOAT8, np.array([np.nan, -np.inf])),
    "a_date": (PgType.DATE, np.array(["1969-12-31", "2025-06-01"], dtype="datetime64[D]")),
    "a_timestamptz": (
        PgType.TIMESTAMPTZ,
        np.array(["1969-12-31T23:59:59.999999", "2025-06-01T00:00:00.000001"], dtype="datetime64[us]"),
    ),
    "a_array": (PgType.FLOAT8_ARRAY, np.array([[1.5, np.nan, -np.inf], [0.0, 1e-300, 3.0]])),
}
EVERY_KIND = {name: kind for name, (kind, _) in EVERY_TYPE.items()}


@pytest.fixture
def every_type(scratch: Connection) -> Connection:
    columns = ", ".join(f"{name} {name.removeprefix('a_').replace('array', 'float8[]')}" for name in EVERY_TYPE)
    scratch.execute(f"create table every_type ({columns}, primary key (a_int4, a_date))".encode())
    return scratch


def test_every_type_comes_back_as_it_went_in(every_type: Connection) -> None:
    columns: Columns = {name: values for name, (_, values) in EVERY_TYPE.items()}
    with every_type.cursor() as cursor:
        count = upsert(cursor, "every_type", ["a_int4", "a_date"], columns, EVERY_KIND)
        again = upsert(cursor, "every_type", ["a_int4", "a_date"], columns, EVERY_KIND)
        read = read_columns(cursor, "select * from every_type order by a_int4", None, EVERY_KIND, array_length=3)
    assert (count, again) == (UpsertCount(inserted=2), UpsertCount(unchanged=2))
    for name, values in columns.items():
        assert np.array_equal(read[name], values, equal_nan=values.dtype.kind == "f"), name
    row = every_type.execute("select a_date::text, a_timestamptz::text from every_type order by a_int4").fetchall()
    assert row == [("1969-12-31", "1969-12-31 23:59:59.999999+00"), ("2025-06-01", "2025-06-01 00:00:00.000001+00")]


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("a_int2", np.array([2**15]), OverflowError),
        ("a_int4", np.array([2**31]), OverflowError),
        ("a_int8", np.array([2**63], dtype="uint64"), OverflowError),
        ("a_int4", np.array([1.0]), TypeError),
        ("a_float8", np.array([None]), TypeError),
        ("a_bool", np.array([1]), TypeError),
        ("a_timestamptz", np.array(["NaT"], dtype="datetime64[us]"), ValueError),
        ("a_timestamptz", np.array([0]), TypeError),
        ("a_array", np.array([[None]]), TypeError),
    ],
)
def test_value_that_the_column_cannot_hold_is_refused(
    every_type: Connection, name: str, values: np.ndarray, error: type[Exception]
) -> None:
    with every_type.cursor() as cursor, pytest.raises(error):
        copy_rows(cursor, "every_type", {name: values}, EVERY_KIND)


def test_columns_of_different_length_are_refused(every_type: Connection) -> None:
    with every_type.cursor() as cursor, pytest.raises(ValueError, match="length"):
        copy_rows(cursor, "every_type", {"a_int4": np.array([1, 2]), "a_int8": np.array([1])}, EVERY_KIND)


def test_empty_batch_is_written_and_an_empty_result_read(scratch: Connection) -> None:
    assert _upsert(scratch, {}) == UpsertCount()
    with scratch.cursor() as cursor:
        assert copy_rows(cursor, "funding_rates", _columns({}), TYPES) == 0
    assert _stored(scratch) == {}


@pytest.mark.parametrize(
    "query",
    [
        "select null::int",
        "select 1::int8",
        "select 1::int2",
        "select a from (values (1), (null), (3)) t (a)",
        "select 1, 2",
    ],
)
def test_column_that_is_not_as_described_is_refused(scratch: Connection, query: str) -> None:
    with scratch.cursor() as cursor, pytest.raises(ValueError, match="nulls"):
        read_columns(cursor, query, None, {"a": PgType.INT4})


def test_infinite_timestamp_is_read_as_missing(scratch: Connection) -> None:
    query = "select * from (values ('infinity'::timestamptz), ('-infinity')) t (a)"
    with scratch.cursor() as cursor:
        assert np.isnat(read_columns(cursor, query, None, {"a": PgType.TIMESTAMPTZ})["a"]).all()


def test_arrays_put_together_by_the_server_are_those_read_row_by_row(scratch: Connection) -> None:
    query = (
        "select i as id, i %% 2 = 0 as even, i::float8 / 7 as share, "
        "'2026-05-04 00:00+00'::timestamptz + i * interval '5 minutes' as ts, '2026-05-04'::date + i as day "
        "from generate_series(1, %(rows)s) i order by i"
    )
    types = {
        "id": PgType.INT4,
        "even": PgType.BOOL,
        "share": PgType.FLOAT8,
        "ts": PgType.TIMESTAMPTZ,
        "day": PgType.DATE,
    }
    with scratch.cursor() as cursor:
        for rows in (0, 1, 1000):
            expected = read_columns(cursor, query, {"rows": rows}, types)
            found = read_arrays(cursor, query, {"rows": rows}, types)
            assert {name: (v.dtype, v.tolist()) for name, v in found.items()} == {
                name: (v.dtype, v.tolist()) for name, v in expected.items()
            }


@pytest.mark.parametrize("value", ["null::float8", "1::int8", "1::float4", "'1'::text"])
def test_arrays_refuse_nulls_and_other_types(scratch: Connection, value: str) -> None:
    with scratch.cursor() as cursor, pytest.raises(ValueError, match="holds nulls"):
        read_arrays(cursor, f"select {value} as v union all select {value}", None, {"v": PgType.INT4})
