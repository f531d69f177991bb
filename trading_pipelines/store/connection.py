"""Connections to the database: where it is, how to open it, and how to read much at once."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.embedded import EmbeddedPostgres

Connection = psycopg.Connection[Any]


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    """The embedded server that belongs to the settings' data folder."""
    return EmbeddedPostgres(settings.data_dir / "postgres")


def resolve_url(settings: Settings, database: str | None = None) -> str:
    """Address of the database: the one in the settings, else that of the embedded server.

    Raises
    ------
    UserError
        The embedded server has never been started in this data folder.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return url if database is None else make_conninfo(url, dbname=database)
    return embedded_server(settings).url_of(database or "trading")


def connect(url: str, *, application_name: str = "trading", **options: Any) -> Connection:
    """Open a connection in UTC; `UserError` when the database does not answer.

    The caller commits. Statements wait at most 30 s for a lock.
    """
    try:
        return psycopg.connect(
            url,
            application_name=application_name,
            connect_timeout=5,
            options=_with_session_options(url, "-c timezone=UTC -c lock_timeout=30s"),
            **options,
        )
    except psycopg.OperationalError as error:
        where = conninfo_to_dict(url)
        raise UserError(
            f"the database at {where.get('host')}:{where.get('port')} does not answer: run `trading db start` or "
            f"check TRADING_DATABASE_URL ({str(error).strip().splitlines()[0]})"
        ) from error


def read_frame(
    source: Connection | str, sql: str, params: Sequence[Any] | Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Read a query's rows into a frame; timestamps are aware and in UTC.

    Parameters
    ----------
    source : connection or URL
        With a connection the query sees that connection's transaction. With a URL the rows travel as Arrow batches,
        several times faster from some ten thousand rows on.
    """
    if isinstance(source, str):
        return _read_arrow(source, sql, params)
    with source.cursor() as cursor:
        cursor.execute(sql, params)
        columns = [(c.name, c.type_code) for c in cursor.description or ()]
        rows = cursor.fetchall()
    frame = pd.DataFrame(rows, columns=[name for name, _ in columns])
    for name, type_code in columns:
        if type_code == _TIMESTAMPTZ:
            frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
        elif type_code in _FLOATS:
            frame[name] = frame[name].astype("float64")
    return frame


def reader_url(settings: Settings) -> str:
    """Address for readers such as the dashboard: the read-only role, else a read-only connection as ourselves."""
    url = resolve_url(settings)
    password = _reader_password_file(settings)
    if settings.database_url is None and password.exists():
        return make_conninfo(url, user="trading_reader", password=password.read_text().strip())
    return make_conninfo(url, options=_with_session_options(url, "-c default_transaction_read_only=on"))


def _reader_password_file(settings: Settings) -> Path:
    return settings.data_dir / "postgres" / "reader-password"


def _with_session_options(url: str, more: str) -> str:
    return f"{conninfo_to_dict(url).get('options') or ''} {more}".strip()


def _read_arrow(url: str, sql: str, params: Sequence[Any] | Mapping[str, Any] | None) -> pd.DataFrame:
    from adbc_driver_postgresql import dbapi

    with psycopg.connect(url) as client:
        statement = psycopg.ClientCursor(client).mogrify(sql, params)
    with closing(dbapi.connect(make_uri(url))) as connection, connection.cursor() as cursor:
        cursor.execute("set timezone to 'UTC'")
        cursor.execute(statement)
        return cursor.fetch_arrow_table().to_pandas()


def make_uri(url: str) -> str:
    """The address as a URI, which is the only form that the Arrow driver takes."""
    from urllib.parse import quote, urlencode

    parts = conninfo_to_dict(url)
    login = f"{quote(str(parts.pop('user', '')))}:{quote(str(parts.pop('password', '')))}"
    place = f"{parts.pop('host', 'localhost')}:{parts.pop('port', 5432)}/{parts.pop('dbname', 'trading')}"
    query = urlencode({k: v for k, v in parts.items() if v is not None}, quote_via=quote)
    return f"postgresql://{login}@{place}" + (f"?{query}" if query else "")


_TIMESTAMPTZ = 1184
_FLOATS = frozenset({700, 701})
