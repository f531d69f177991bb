"""Write and read many rows at once: binary COPY encoded by numpy, and an upsert that counts truthfully.

Only fixed-width types are encoded here, because then a whole batch is one structured array and its bytes are the COPY
stream (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"). Rows with text or JSON are few;
their repositories use `executemany`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from enum import Enum
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

_HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
_TRAILER = b"\xff\xff"
_ROWS_PER_WRITE = 20_000
_EPOCH = np.datetime64("2000-01-01", "us")  # the zero of PostgreSQL's dates and timestamps
_FLOAT8_OID = 701
_PLUS_INFINITY = np.iinfo(np.int64).max
MINUS_INFINITY = np.iinfo(np.int64).min
_ARRAY_HEADER = 20
_MOST_GROUPS = 1_000  # one index probe each


class PgType(Enum):
    """Column types that can be encoded, with the layout of their values."""

    BOOL = "?"
    INT2 = ">i2"
    INT4 = ">i4"
    INT8 = ">i8"
    FLOAT8 = ">f8"
    DATE = "date"
    TIMESTAMPTZ = "timestamptz"
    FLOAT8_ARRAY = "float8[]"


_OIDS = {
    PgType.BOOL: 16,
    PgType.INT2: 21,
    PgType.INT4: 23,
    PgType.INT8: 20,
    PgType.FLOAT8: _FLOAT8_OID,
    PgType.DATE: 1082,
    PgType.TIMESTAMPTZ: 1184,
}


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


Array = npt.NDArray[Any]
Columns = Mapping[str, Array]
Types = Mapping[str, PgType]


def copy_rows(cursor: psycopg.Cursor[Any], table: str, columns: Columns, types: Types) -> int:
    """Append rows to `table`; a key that is already there fails the whole batch. Returns the number of rows.

    Arrays are one-dimensional and equally long, but two-dimensional (rows x length) for `FLOAT8_ARRAY`. Timestamps are
    ``datetime64`` in UTC.

    Raises
    ------
    TypeError, ValueError, OverflowError
        Values that the column's type cannot hold, missing ones (NaT, None) among them; NaN is a value.
    """
    rows = _row_count(columns)
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(sql.Identifier(table), _names(columns))
    with cursor.copy(statement) as copy:
        copy.write(_HEADER)
        for start in range(0, rows, _ROWS_PER_WRITE):
            chunk = {name: values[start : start + _ROWS_PER_WRITE] for name, values in columns.items()}
            copy.write(_encode(chunk, types))
        copy.write(_TRAILER)
    return rows


def upsert(cursor: psycopg.Cursor[Any], table: str, key: Sequence[str], columns: Columns, types: Types) -> UpsertCount:
    """Insert rows or, where the key exists with other values, replace them, inside the caller's transaction.

    Rows that are there with the same values are not written again, so a repeated load costs no storage. Rows are
    written in the order of their keys, so that two writers of the same rows wait for each other instead of failing.

    Raises
    ------
    ValueError
        A key occurs twice, or the connection is in autocommit mode and no transaction is open.
    """
    rows = _row_count(columns)
    if rows == 0:
        return UpsertCount()
    connection = cursor.connection
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise ValueError("an upsert takes several statements: open a transaction for it")
    columns = _in_key_order(table, key, columns)
    if not _is_occupied(cursor, table, key, columns, types) and _try_copy(cursor, table, columns, types):
        return UpsertCount(inserted=rows)
    merge = _Merge(table, key, columns, types)
    merge.stage(cursor)
    # A row counts as updated or inserted by the statement that wrote it. Where everything has changed the first is all.
    updated = merge.update_changed(cursor)
    inserted = merge.insert_missing(cursor) if updated < rows else 0
    if updated + inserted < rows:
        updated += merge.update_changed(cursor)  # rows that another writer has inserted in between
    merge.end(cursor)
    return UpsertCount(inserted, updated, rows - inserted - updated)


def read_columns(
    cursor: psycopg.Cursor[Any],
    query: str,
    params: Sequence[Any] | Mapping[str, Any] | None,
    types: Types,
    array_length: int = 0,
) -> dict[str, Array]:
    """Read the columns of a query as arrays, several times faster than rows.

    Parameters
    ----------
    types : mapping
        Name and type of each column of the query, in its order.
    array_length : int
        Length of the arrays of a `FLOAT8_ARRAY` column, which comes back with the shape (rows, length).

    Raises
    ------
    ValueError
        A column holds nulls, or is not of the type or length given.
    """
    buffer = bytearray()
    with cursor.copy(f"copy (\n{query}\n) to stdout (format binary)".encode(), params) as copy:
        for block in copy:
            buffer += block
    layout = _row_layout({name: _layout(kind, array_length) for name, kind in types.items()})
    rows, rest = divmod(len(buffer) - len(_HEADER) - len(_TRAILER), layout.itemsize)
    records = np.frombuffer(buffer, dtype=layout, count=rows, offset=len(_HEADER)) if rest == 0 else None
    if records is None or not _has_layout(records):
        raise ValueError("a column holds nulls, or is not of the type or length given")
    return {name: _decoded(records[f"{name}:value"], kind) for name, kind in types.items()}


def read_arrays(
    cursor: psycopg.Cursor[Any], query: str, params: Sequence[Any] | Mapping[str, Any] | None, types: Types
) -> dict[str, Array]:
    """Read the columns of a query as arrays which the server has already put together.

    Takes half the work of `read_columns`, for nothing is done row by row on this side. The server holds the whole
    answer in memory, some 12 bytes per value: for some million rows, and not for columns of arrays.

    Raises
    ------
    ValueError
        A column holds nulls, or is not of the type given.
    """
    columns = ", ".join(f'array_agg("{name}")' for name in types)
    cursor.execute(f"select {columns} from (\n{query}\n) as found".encode(), params, binary=True)
    result = cursor.pgresult
    if result is None:
        raise ValueError("the query gives no rows")
    values = {name: result.get_value(0, i) for i, name in enumerate(types)}
    return {name: _decoded(_elements(values[name], kind), kind) for name, kind in types.items()}


def to_timestamps(ticks: npt.NDArray[np.int64]) -> npt.NDArray[np.datetime64]:
    """PostgreSQL's timestamps, in microseconds since 2000, as ``datetime64[us]``; both infinities become NaT."""
    timestamps = _EPOCH + ticks.astype("timedelta64[us]")
    timestamps[(ticks == MINUS_INFINITY) | (ticks == _PLUS_INFINITY)] = np.datetime64("NaT")
    return timestamps


class _Merge:
    """The statements of one upsert that meets stored rows."""

    def __init__(self, table: str, key: Sequence[str], columns: Columns, types: Types) -> None:
        self._columns, self._types = columns, types
        self._staging = f"staging_{table}"
        self._values = [name for name in columns if name not in key]
        self._names = {
            "table": sql.Identifier(table),
            "staging": sql.Identifier(self._staging),
            "columns": _names(columns),
            "key": _names(key),
            "match": _pairs("t.{c} = s.{c}", key, " and "),
        }
        conditions, self._bounds = _nearby(key, columns, types)
        self._names["near"] = sql.SQL(" and ").join(conditions)

    def stage(self, cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute(sql.SQL("drop table if exists pg_temp.{staging}").format(**self._names))
        cursor.execute(
            sql.SQL("create temp table {staging} on commit drop as select {columns} from {table} limit 0").format(
                **self._names
            )
        )
        copy_rows(cursor, self._staging, self._columns, self._types)
        # A table that has just been filled has no statistics: taken for empty, each of its rows would be compared
        # with each of the batch.
        cursor.execute("set local enable_nestloop = off")

    def end(self, cursor: psycopg.Cursor[Any]) -> None:
        """Let later statements of the transaction be planned as usual."""
        cursor.execute("set local enable_nestloop to default")

    def insert_missing(self, cursor: psycopg.Cursor[Any]) -> int:
        """Insert what is not there; `on conflict` catches rows that another writer has inserted meanwhile."""
        cursor.execute(
            sql.SQL(
                "insert into {table} ({columns}) select {columns} from {staging} s "
                "where not exists (select from {table} t where {match} and {near}) on conflict ({key}) do nothing"
            ).format(**self._names),
            self._bounds,
        )
        return cursor.rowcount

    def update_changed(self, cursor: psycopg.Cursor[Any]) -> int:
        if not self._values:
            return 0
        cursor.execute(
            sql.SQL(
                "update {table} t set {set} from {staging} s "
                "where {match} and {near} and ({stored}) is distinct from ({given})"
            ).format(
                set=_pairs("{c} = s.{c}", self._values, ", "),
                stored=_pairs("t.{c}", self._values, ", "),
                given=_pairs("s.{c}", self._values, ", "),
                **self._names,
            ),
            self._bounds,
        )
        return cursor.rowcount


def _nearby(key: Sequence[str], columns: Columns, types: Types) -> tuple[list[sql.Composed], list[Any]]:
    """Constant bounds, which let the planner leave out most of a large table, and chunks of a hypertable.

    Only the last part of the key is a range: TimescaleDB fails on an update of compressed rows with two of them. A
    leading part with very many values is left out.
    """
    *leading, last = key
    conditions: list[sql.Composed] = []
    bounds: list[Any] = []
    for name in leading:
        values = _scalars(np.unique(columns[name]), types[name])
        if len(values) <= _MOST_GROUPS:
            single = len(values) == 1
            conditions.append(sql.SQL("t.{} = %s" if single else "t.{} = any(%s)").format(sql.Identifier(name)))
            bounds.append(values[0] if single else values)
    conditions.append(sql.SQL("t.{} between %s and %s").format(sql.Identifier(last)))
    bounds += _scalars(np.array([columns[last].min(), columns[last].max()]), types[last])
    return conditions, bounds


def _is_occupied(cursor: psycopg.Cursor[Any], table: str, key: Sequence[str], columns: Columns, types: Types) -> bool:
    """Whether a stored row lies in the range of the batch: the same leading key, the last part in between.

    Most batches continue a series or fill a gap. They need no comparison, so this saves them the staging table.
    """
    conditions, bounds = _nearby(key, columns, types)
    if len(conditions) < len(key):
        return True
    found = cursor.execute(
        sql.SQL("select from {} t where {} limit 1").format(sql.Identifier(table), sql.SQL(" and ").join(conditions)),
        bounds,
    )
    return found.rowcount > 0


def _try_copy(cursor: psycopg.Cursor[Any], table: str, columns: Columns, types: Types) -> bool:
    """Append the batch; False when another writer was faster with one of its keys."""
    try:
        with cursor.connection.transaction():
            copy_rows(cursor, table, columns, types)
    except psycopg.errors.UniqueViolation:
        return False
    return True


def _in_key_order(table: str, key: Sequence[str], columns: Columns) -> Columns:
    if _rises([columns[name] for name in key]):
        return columns
    order = np.lexsort([columns[name] for name in reversed(key)])
    ordered = {name: values[order] for name, values in columns.items()}
    if not _rises([ordered[name] for name in key]):
        raise ValueError(f"{table}: a key ({', '.join(key)}) occurs twice in one batch")
    return ordered


def _rises(arrays: Sequence[Array]) -> bool:
    """Whether each row's key is greater than the one before."""
    greater = np.zeros(len(arrays[0]) - 1, dtype=bool)
    equal = np.ones_like(greater)
    for values in arrays:
        greater |= equal & (values[1:] > values[:-1])
        equal &= values[1:] == values[:-1]
    return bool(greater.all())


def _row_count(columns: Columns) -> int:
    counts = {len(values) for values in columns.values()}
    if len(counts) != 1:
        raise ValueError("the columns differ in length")
    return counts.pop()


def _names(names: Sequence[str] | Columns) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _pairs(pattern: LiteralString, names: Sequence[str], joiner: LiteralString) -> sql.Composed:
    return sql.SQL(joiner).join(sql.SQL(pattern).format(c=sql.Identifier(name)) for name in names)


def _scalars(values: Array, kind: PgType) -> list[Any]:
    """Array values as query parameters."""
    if kind is PgType.TIMESTAMPTZ:
        return [value.replace(tzinfo=UTC) for value in values.astype("datetime64[us]").tolist()]
    return values.astype("datetime64[D]").tolist() if kind is PgType.DATE else values.tolist()


def _encode(columns: Columns, types: Types) -> bytes:
    """The rows as a COPY stream: per row the number of fields, per field its length and its bytes."""
    arrays = {name: _encoded(values, types[name]) for name, values in columns.items()}
    records = np.empty(_row_count(columns), dtype=_row_layout({name: array.dtype for name, array in arrays.items()}))
    records["fields"] = len(arrays)
    for name, values in arrays.items():
        records[f"{name}:length"] = values.dtype.itemsize
        records[f"{name}:value"] = values
    return records.tobytes()


def _encoded(values: Array, kind: PgType) -> Array:
    if kind is PgType.FLOAT8_ARRAY:
        return _float_arrays(values)
    if kind in (PgType.TIMESTAMPTZ, PgType.DATE):
        _require("M", values, kind)
        if np.isnat(values).any():
            raise ValueError(f"{kind.value}: a value is missing (NaT)")
        ticks = values.astype("datetime64[us]") - _EPOCH
        return ticks.astype(">i8") if kind is PgType.TIMESTAMPTZ else ticks.astype("timedelta64[D]").astype(">i4")
    _require({PgType.BOOL: "b", PgType.FLOAT8: "fiu"}.get(kind, "iu"), values, kind)
    encoded = values.astype(kind.value)
    if kind is not PgType.FLOAT8 and not np.array_equal(encoded, values):
        raise OverflowError(f"{kind.name}: a value is out of range")
    return encoded


def _require(kinds: str, values: Array, kind: PgType) -> None:
    if values.dtype.kind not in kinds:
        raise TypeError(f"{kind.name}: {values.dtype} values cannot be stored in it")


def _float_arrays(values: Array) -> Array:
    """One-dimensional arrays without nulls: dimensions, flags, type, length, lower bound, then (size, value) pairs."""
    _require("fiu", values, PgType.FLOAT8_ARRAY)
    rows, length = values.shape
    records = np.empty(rows, dtype=_array_layout(length))
    records["header"] = (1, 0, _FLOAT8_OID, length, 1)
    records["elements"]["size"] = 8
    records["elements"]["value"] = values
    return records


def _row_layout(fields: Mapping[str, Any]) -> np.dtype[Any]:
    layout: list[Any] = [("fields", ">i2")]
    for name, dtype in fields.items():
        layout += [(f"{name}:length", ">i4"), (f"{name}:value", dtype)]
    return np.dtype(layout)


def _array_layout(length: int) -> np.dtype[Any]:
    element = np.dtype([("size", ">i4"), ("value", ">f8")])
    return np.dtype([("header", ">i4", (5,)), ("elements", element, (length,))])


def _layout(kind: PgType, array_length: int) -> np.dtype[Any]:
    if kind is PgType.FLOAT8_ARRAY:
        return _array_layout(array_length)
    return np.dtype({PgType.TIMESTAMPTZ: ">i8", PgType.DATE: ">i4"}.get(kind, kind.value))


def _elements(array: bytes | None, kind: PgType) -> Array:
    """Values of a one-dimensional array in PostgreSQL's binary form; an aggregate of no rows is null."""
    dtype = _layout(kind, 0)
    if array is None:
        return np.empty(0, dtype)
    element = np.dtype([("size", ">i4"), ("value", dtype)])
    dimensions, has_nulls, oid, length, _ = np.frombuffer(array, ">i4", count=_ARRAY_HEADER // 4).tolist()
    if dimensions != 1 or has_nulls or oid != _OIDS[kind] or len(array) != _ARRAY_HEADER + length * element.itemsize:
        raise ValueError("a column holds nulls, or is not of the type or length given")
    elements = np.frombuffer(array, element, offset=_ARRAY_HEADER)
    if not (elements["size"] == dtype.itemsize).all():
        raise ValueError("a column holds nulls, or is not of the type or length given")
    return elements["value"]


def _has_layout(records: Array) -> bool:
    """Whether each field of each row has the length of its type: then all offsets are right, by induction."""
    names: tuple[str, ...] = records.dtype.names or ()
    fields = [name.removesuffix(":value") for name in names if name.endswith(":value")]
    if not (records["fields"] == len(fields)).all():
        return False
    for name in fields:
        values = records[f"{name}:value"]
        if not (records[f"{name}:length"] == values.dtype.itemsize).all():
            return False
        if values.dtype.names and not (values["elements"]["size"] == 8).all():
            return False
    return True


def _decoded(values: Array, kind: PgType) -> Array:
    if kind is PgType.TIMESTAMPTZ:
        return to_timestamps(values.astype(np.int64))
    if kind is PgType.DATE:
        return _EPOCH.astype("datetime64[D]") + values.astype("timedelta64[D]")
    if kind is PgType.FLOAT8_ARRAY:
        return values["elements"]["value"].astype(np.float64)
    return values.astype(values.dtype.newbyteorder("="))
