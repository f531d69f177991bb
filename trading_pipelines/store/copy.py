"""Write and read many rows at once: binary COPY encoded by numpy, and one upsert from a staging table.

Only fixed-width types are encoded here, because then a whole batch is one structured array and its bytes are the COPY
stream (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"). Rows with text or JSON are few;
their repositories use `executemany`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

_HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
_TRAILER = b"\xff\xff"
_ROWS_PER_WRITE = 20_000
_EPOCH_US = 946_684_800_000_000  # 2000-01-01, the zero of PostgreSQL's timestamps
_FLOAT8_OID = 701


class PgType(Enum):
    """Column types that can be encoded, with their big-endian layout."""

    INT4 = ">i4"
    INT8 = ">i8"
    FLOAT8 = ">f8"
    TIMESTAMPTZ = "timestamptz"
    FLOAT8_ARRAY = "float8[]"


@dataclass(frozen=True)
class UpsertCount:
    """How many rows were new, how many replaced other values, how many were there already."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0

    def __add__(self, other: "UpsertCount") -> "UpsertCount":
        return UpsertCount(
            self.inserted + other.inserted, self.updated + other.updated, self.unchanged + other.unchanged
        )


Columns = Mapping[str, npt.NDArray[Any]]
Types = Mapping[str, PgType]


def copy_rows(cursor: psycopg.Cursor[Any], table: str, columns: Columns, types: Types) -> int:
    """Append rows to `table`; a key that is already there fails the whole batch. Returns the number of rows.

    Arrays are one-dimensional and equally long, but two-dimensional (rows x length) for `FLOAT8_ARRAY`. Timestamps are
    ``datetime64`` in UTC.
    """
    rows = len(next(iter(columns.values())))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as copy:
        copy.write(_HEADER)
        for start in range(0, rows, _ROWS_PER_WRITE):
            chunk = {name: values[start : start + _ROWS_PER_WRITE] for name, values in columns.items()}
            copy.write(_encode(chunk, types))
        copy.write(_TRAILER)
    return rows


def upsert(cursor: psycopg.Cursor[Any], table: str, key: Sequence[str], columns: Columns, types: Types) -> UpsertCount:
    """Insert rows or, where the key exists with other values, replace them; keys in `columns` are distinct.

    Rows that are there with the same values are not written again, so a repeated load costs no storage.
    """
    rows = len(next(iter(columns.values())))
    if rows == 0:
        return UpsertCount()
    names = {
        "table": sql.Identifier(table),
        "staging": sql.Identifier(f"staging_{table}"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        "key": sql.SQL(", ").join(map(sql.Identifier, key)),
    }
    values = [name for name in columns if name not in key]
    _stage(cursor, table, columns, types, names)
    # Insert first and update the rest: a row counts as inserted or updated by the statement that wrote it.
    cursor.execute(
        sql.SQL(
            "insert into {table} ({columns}) select {columns} from {staging} order by {key} "
            "on conflict ({key}) do nothing"
        ).format(**names)
    )
    inserted = cursor.rowcount
    updated = _update_changed(cursor, key, values, names) if inserted < rows and values else 0
    return UpsertCount(inserted, updated, rows - inserted - updated)


def read_columns(
    cursor: psycopg.Cursor[Any],
    query: str,
    params: Mapping[str, Any],
    types: Types,
    array_length: int = 0,
) -> dict[str, npt.NDArray[Any]]:
    """Read the columns of a query as arrays, several times faster than rows.

    Parameters
    ----------
    types : mapping
        Name and type of each column of the query, in its order; none may contain nulls.
    array_length : int
        Length of the arrays of a `FLOAT8_ARRAY` column, which comes back with the shape (rows, length).
    """
    layout: list[Any] = [("fields", ">i2")]
    for name, kind in types.items():
        layout.append((f"{name}:length", ">i4"))
        layout.append((f"{name}:value", _layout(kind, array_length)))
    statement = sql.SQL("copy ({}) to stdout (format binary)").format(sql.SQL(query))
    with cursor.copy(statement, params) as copy:
        stream = b"".join(copy)
    records = np.frombuffer(stream[len(_HEADER) : -len(_TRAILER)], dtype=layout)
    return {name: _decoded(records[f"{name}:value"], kind) for name, kind in types.items()}


def _stage(
    cursor: psycopg.Cursor[Any],
    table: str,
    columns: Columns,
    types: Types,
    names: Mapping[str, sql.Composable],
) -> None:
    cursor.execute(sql.SQL("drop table if exists pg_temp.{staging}").format(**names))
    cursor.execute(
        sql.SQL("create temp table {staging} on commit drop as select {columns} from {table} limit 0").format(**names)
    )
    copy_rows(cursor, f"staging_{table}", columns, types)


def _update_changed(
    cursor: psycopg.Cursor[Any],
    key: Sequence[str],
    values: Sequence[str],
    names: Mapping[str, sql.Composable],
) -> int:
    def pairs(pattern: str, columns: Sequence[str], joiner: str) -> sql.Composed:
        return sql.SQL(joiner).join(sql.SQL(pattern).format(c=sql.Identifier(column)) for column in columns)

    cursor.execute(
        sql.SQL("update {table} t set {set} from {staging} s where {match} and {differs}").format(
            set=pairs("{c} = s.{c}", values, ", "),
            match=pairs("t.{c} = s.{c}", key, " and "),
            differs=sql.SQL("({} is distinct from {})").format(
                sql.SQL("({})").format(pairs("t.{c}", values, ", ")),
                sql.SQL("({})").format(pairs("s.{c}", values, ", ")),
            ),
            **names,
        )
    )
    return cursor.rowcount


def _encode(columns: Columns, types: Types) -> bytes:
    """The rows as a COPY stream: per row the number of fields, per field its length and its bytes."""
    arrays = {name: _values(values, types[name]) for name, values in columns.items()}
    layout: list[Any] = [("fields", ">i2")]
    for name, values in arrays.items():
        layout.append((f"{name}:length", ">i4"))
        layout.append((f"{name}:value", values.dtype))
    records = np.empty(len(next(iter(arrays.values()))), dtype=layout)
    records["fields"] = len(arrays)
    for name, values in arrays.items():
        records[f"{name}:length"] = values.dtype.itemsize
        records[f"{name}:value"] = values
    return records.tobytes()


def _values(values: npt.NDArray[Any], kind: PgType) -> npt.NDArray[Any]:
    if kind is PgType.TIMESTAMPTZ:
        return (values.astype("datetime64[us]").astype(np.int64) - _EPOCH_US).astype(">i8")
    if kind is PgType.FLOAT8_ARRAY:
        return _float_arrays(values)
    return values.astype(kind.value)


def _float_arrays(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One-dimensional arrays without nulls: dimensions, flags, type, length, lower bound, then (size, value) pairs."""
    rows, length = values.shape
    records = np.empty(rows, dtype=_array_layout(length))
    records["header"] = (1, 0, _FLOAT8_OID, length, 1)
    records["elements"]["size"] = 8
    records["elements"]["value"] = values
    return records


def _array_layout(length: int) -> np.dtype[Any]:
    element = np.dtype([("size", ">i4"), ("value", ">f8")])
    return np.dtype([("header", ">i4", (5,)), ("elements", element, (length,))])


def _layout(kind: PgType, array_length: int) -> Any:
    if kind is PgType.FLOAT8_ARRAY:
        return _array_layout(array_length)
    return ">i8" if kind is PgType.TIMESTAMPTZ else kind.value


def _decoded(values: npt.NDArray[Any], kind: PgType) -> npt.NDArray[Any]:
    if kind is PgType.TIMESTAMPTZ:
        return (values.astype(np.int64) + _EPOCH_US).astype("datetime64[us]")
    if kind is PgType.FLOAT8_ARRAY:
        return values["elements"]["value"].astype(np.float64)
    return values.astype(np.dtype(kind.value).newbyteorder("="))
