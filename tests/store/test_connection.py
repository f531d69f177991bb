"""Connections: where the database is, what answers when it is not there, and frames with steady types."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import (
    Connection,
    DatabaseUnreachableError,
    connect,
    make_uri,
    read_frame,
    reader_url,
    resolve_url,
)

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def test_types_of_a_frame_do_not_depend_on_its_rows(scratch: Connection) -> None:
    query = """
        select i.a::int2 as small, i.a::int4 as middle, i.a::int8 as large,
               0.5::float4 as single, 0.5::float8 as double, now() as ts, true as yes {text}
        from generate_series(1, %s) i (a)
    """
    text = ", 'x' as text, 'y'::name as name"
    for extra in ("", text):
        filled = read_frame(scratch, query.format(text=extra), (3,))
        empty = read_frame(scratch, query.format(text=extra), (0,))
        assert filled.dtypes.to_dict() == empty.dtypes.to_dict()
        assert filled.dtypes.astype(str).tolist() == [
            "int64", "int64", "int64", "float64", "float64", "datetime64[us, UTC]", "bool",
            *(["str", "str"] if extra else []),
        ]  # fmt: skip
        assert (len(filled), len(empty)) == (3, 0)


def test_nulls_become_the_missing_values_of_pandas(scratch: Connection) -> None:
    frame = read_frame(
        scratch,
        "select * from (values (1, 0.5::float8, 'x', %s::timestamptz, true), (null, null, null, null, null)) "
        "t (number, float, text, ts, flag)",
        (NOON,),
    )
    assert frame.iloc[0].tolist() == [1.0, 0.5, "x", pd.Timestamp(NOON), True]
    assert frame.iloc[1].isna().all()
    assert str(frame["ts"].dtype) == "datetime64[us, UTC]"
    assert str(frame["text"].dtype) == "str"


def test_column_of_numbers_with_a_null_is_read_too(scratch: Connection) -> None:
    frame = read_frame(scratch, "select a from (values (1.5::float8), (null)) t (a)")
    assert np.array_equal(frame["a"], [1.5, np.nan], equal_nan=True)


def test_other_types_are_python_objects(scratch: Connection) -> None:
    frame = read_frame(scratch, """select 1.50::numeric as n, '{"a": [1]}'::jsonb as j, array['x', null] as l""")
    assert frame.iloc[0].tolist() == [Decimal("1.50"), {"a": [1]}, ["x", None]]


def test_columns_of_the_same_name_are_all_there(scratch: Connection) -> None:
    frame = read_frame(scratch, "select 1 as a, 2 as a")
    assert frame.columns.tolist() == ["a", "a"]
    assert frame.iloc[0].tolist() == [1, 2]


def test_connection_reads_its_own_uncommitted_rows_and_an_address_does_not(
    scratch: Connection, shared_database: str
) -> None:
    scratch.execute("insert into funding_rates values (1, %(at)s, 0.1, %(at)s)", {"at": NOON})
    query = "select ts, rate from funding_rates where ts = %(at)s -- the newest"
    assert read_frame(scratch, query, {"at": NOON})["ts"].tolist() == [pd.Timestamp(NOON)]
    assert read_frame(shared_database, query, {"at": NOON}).empty


def test_session_is_in_utc_and_keeps_the_options_of_the_address(shared_database: str) -> None:
    url = make_conninfo(shared_database, options="-c statement_timeout=7s -c default_transaction_read_only=on")
    with connect(url, application_name="test", lock_timeout_s=1.5) as connection:
        shown = {
            name: connection.execute(f"show {name}".encode()).fetchone()
            for name in ("timezone", "lock_timeout", "default_transaction_read_only", "application_name")
        }
    assert shown == {
        "timezone": ("UTC",),
        "lock_timeout": ("1500ms",),
        "default_transaction_read_only": ("on",),
        "application_name": ("test",),
    }


def test_statement_that_takes_too_long_is_cancelled(shared_database: str) -> None:
    with connect(shared_database, statement_timeout_s=0.05) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")


def test_unreachable_database_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnreachableError, match=r"127\.0\.0\.1:1 does not answer") as raised:
        connect("postgresql://someone:hunter2@127.0.0.1:1/trading")
    assert isinstance(raised.value, UserError)
    assert isinstance(raised.value, psycopg.OperationalError)
    assert "hunter2" not in str(raised.value)


def test_embedded_database_that_does_not_run_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trading db start"):
        resolve_url(load_settings(data_dir=tmp_path))


def test_address_that_cannot_be_read_is_refused_without_showing_it() -> None:
    with pytest.raises(UserError, match="TRADING_DATABASE_URL") as raised:
        resolve_url(load_settings(database_url="postgresql//someone hunter2"))
    assert "hunter2" not in str(raised.value)


def test_database_of_ones_own_is_read_without_writing(shared_database: str, tmp_path: Path) -> None:
    settings = load_settings(database_url=shared_database, data_dir=tmp_path)
    assert resolve_url(settings) == shared_database
    assert "dbname=dagster" in resolve_url(settings, "dagster")
    with connect(reader_url(settings)) as reader:
        assert reader.execute("select count(*) from funding_rates").fetchone() == (0,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("truncate funding_rates")


def test_uri_of_an_address_keeps_what_needs_quoting() -> None:
    url = make_conninfo(host="db", port=5432, user="a b", password="p@ss/w:rd", dbname="trading", options="-c x=1")
    assert make_uri(url) == "postgresql://a%20b:p%40ss%2Fw%3Ard@db:5432/trading?options=-c%20x%3D1"
