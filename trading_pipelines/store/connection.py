"""Connections to the database: where it is, how to open it, and how to read a query into a frame.

Does not belong here: what is read (`repositories`, `read_models`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader

from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.copy import MINUS_INFINITY, PgType, read_columns, to_timestamps
from trading_pipelines.store.embedded import DATABASES, EmbeddedPostgres

Connection = psycopg.Connection[Any]
REQUESTER = "trading_requester"
READER = "trading_reader"

Params = Sequence[Any] | Mapping[str, Any] | None


class DatabaseUnreachableError(UserError, psycopg.OperationalError):
    """No database answers: a user mends it, a service waits and tries again."""


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    """The embedded server that belongs to the settings' data folder."""
    return EmbeddedPostgres(settings.data_dir / "postgres")


def resolve_url(settings: Settings, database: str | None = None) -> str:
    """Address of the database: the one in the settings, else that of the embedded server.

    Raises
    ------
    DatabaseUnreachableError
        The embedded server does not run.
    UserError
        The address in the settings cannot be read.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return _checked(url) if database is None else make_conninfo(_checked(url), dbname=database)
    server = embedded_server(settings)
    if not server.status().running:
        raise DatabaseUnreachableError("the database is not running: run `trading db start`")
    return server.url_of(database or DATABASES[0])


def connect(
    url: str,
    *,
    application_name: str = "trading",
    lock_timeout_s: float = 30.0,
    statement_timeout_s: float = 0.0,
    **options: Any,
) -> Connection:
    """Open a connection in UTC; the caller commits.

    Parameters
    ----------
    lock_timeout_s, statement_timeout_s : float
        How long a statement may wait for a lock, and last; 0 is for ever.

    Raises
    ------
    DatabaseUnreachableError
        The database does not answer.
    """
    session = (
        f"-c timezone=UTC -c lock_timeout={round(lock_timeout_s * 1000)} "
        f"-c statement_timeout={round(statement_timeout_s * 1000)}"
    )
    try:
        return psycopg.connect(
            url,
            application_name=application_name,
            connect_timeout=5,
            options=_with_session_options(url, session),
            **options,
        )
    except psycopg.OperationalError as error:
        where = conninfo_to_dict(url)
        raise DatabaseUnreachableError(
            f"the database at {where.get('host')}:{where.get('port')} does not answer: run `trading db start` or "
            f"check TRADING_DATABASE_URL ({str(error).strip().splitlines()[0]})"
        ) from error


def read_frame(source: Connection | str, query: str, params: Params = None) -> pd.DataFrame:
    """Read a query's rows into a frame, on a connection within its transaction.

    The types of the columns follow from those in the database, whatever the rows hold: integers are ``int64`` (with
    nulls ``float64``), floats ``float64``, timestamps aware in UTC with microseconds, texts ``str``, booleans ``bool``
    (with nulls ``object``); all others are Python objects as psycopg makes them, ``Decimal`` for numeric.
    """
    if isinstance(source, str):
        with connect(source, application_name="read") as connection:
            return read_frame(connection, query, params)
    with source.cursor(row_factory=tuple_row) as cursor:
        columns = _describe(cursor, query, params)
        types = {name: _FIXED[oid] for name, oid in columns if oid in _FIXED}
        if len(types) == len(columns):
            try:
                arrays = read_columns(cursor, query, params, types)
            except ValueError:  # nulls
                pass
            else:
                return _frame(columns, [_widened(values) for values in arrays.values()])
        return _read_rows(source, query, params, columns)


def reader_url(settings: Settings) -> str:
    """Address for readers such as the dashboard: the read-only role, else a read-only connection as ourselves."""
    url = resolve_url(settings)
    read_only = _with_session_options(url, "-c default_transaction_read_only=on")
    return _role_url(settings, READER) or make_conninfo(url, options=read_only)


def requester_url(settings: Settings) -> str:
    """Address for what writes instructions of people and nothing else: that role, else ourselves."""
    return _role_url(settings, REQUESTER) or resolve_url(settings)


def password_file(settings: Settings, role: str) -> Path:
    """Where the embedded server's password of a role is kept, beside its owner's."""
    return embedded_server(settings).root / f"{role.removeprefix('trading_')}-password"


def make_uri(url: str) -> str:
    """The address as a URI, which is the only form that SQLAlchemy takes."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    login = f"{_escaped(parts.pop('user', ''))}:{_escaped(parts.pop('password', ''))}"
    place = f"{_escaped(parts.pop('host', 'localhost'))}:{parts.pop('port', '5432')}"
    path = _escaped(parts.pop("dbname", DATABASES[0]))
    query = urlencode(parts, quote_via=quote)
    return f"postgresql://{login}@{place}/{path}" + (f"?{query}" if query else "")


def _escaped(text: str) -> str:
    return quote(text, safe="")


def _role_url(settings: Settings, role: str) -> str | None:
    """Address for a role of the embedded server; None before the role was made, or with a database of one's own."""
    file = password_file(settings, role)
    if settings.database_url is not None or not file.exists():
        return None
    return make_conninfo(resolve_url(settings), user=role, password=file.read_text().strip())


def _with_session_options(url: str, more: str) -> str:
    return f"{conninfo_to_dict(url).get('options') or ''} {more}".strip()


def _checked(url: str) -> str:
    """The address as it is; psycopg's own message would show it, and the password with it."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise UserError(
            "TRADING_DATABASE_URL: cannot be read, write postgresql://user:password@host:port/database"
        ) from None
    return url


def _describe(cursor: psycopg.Cursor[Any], query: str, params: Params) -> list[tuple[str, int]]:
    """Name and type of the query's columns, without running it."""
    cursor.execute(f"select * from (\n{query}\n) described limit 0".encode(), params)
    return [(column.name, column.type_code) for column in cursor.description or ()]


def _read_rows(source: Connection, query: str, params: Params, columns: Sequence[tuple[str, int]]) -> pd.DataFrame:
    with source.cursor(row_factory=tuple_row) as cursor:
        # Binary rows are made twice as fast, but a type that psycopg does not know would come as bytes.
        binary = all(cursor.adapters.get_loader(oid, Format.BINARY) for _, oid in columns)
        if binary:
            cursor.adapters.register_loader(_TIMESTAMPTZ, Int8BinaryLoader)
        rows = cursor.execute(query.encode(), params, binary=binary).fetchall()
    return _frame(
        columns, [_FROM_VALUES.get(oid, _objects)([row[i] for row in rows]) for i, (_, oid) in enumerate(columns)]
    )


def _frame(columns: Sequence[tuple[str, int]], values: Sequence[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(dict(enumerate(values)), copy=False)
    frame.columns = pd.Index([name for name, _ in columns])
    return frame


def _objects(values: list[Any]) -> "pd.Series":
    return pd.Series(values, dtype=object)


def _texts(values: list[str | None]) -> "pd.Series":
    return pd.Series(values, dtype="str")


def _floats(values: list[float | None]) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def _integers(values: list[int | None]) -> np.ndarray:
    return np.array(values, dtype=np.float64 if None in values else np.int64)


def _booleans(values: list[bool | None]) -> np.ndarray:
    return np.array(values, dtype=object if None in values else np.bool_)


def _instants(values: Sequence[int | None]) -> pd.DatetimeIndex:
    ticks = np.array([MINUS_INFINITY if value is None else value for value in values], dtype=np.int64)
    return _aware(to_timestamps(ticks))


def _widened(values: np.ndarray) -> np.ndarray | pd.DatetimeIndex:
    if values.dtype.kind == "M":
        return _aware(values)
    return values.astype(np.int64) if values.dtype.kind == "i" else values


def _aware(values: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(values.astype("datetime64[us]"), tz="UTC")


_TIMESTAMPTZ = 1184
_FIXED = {
    16: PgType.BOOL,
    21: PgType.INT2,
    23: PgType.INT4,
    20: PgType.INT8,
    701: PgType.FLOAT8,
    _TIMESTAMPTZ: PgType.TIMESTAMPTZ,
}
_FROM_VALUES: Mapping[int, Callable[[list[Any]], Any]] = {
    16: _booleans,
    **dict.fromkeys((20, 21, 23), _integers),
    **dict.fromkeys((700, 701), _floats),
    **dict.fromkeys((19, 25, 1042, 1043), _texts),
    _TIMESTAMPTZ: _instants,
}
"""How the values of a column of that type (by its OID, see `pg_type.dat`) become a column of a frame."""
