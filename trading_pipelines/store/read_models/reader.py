"""The read-only connection of the pages, and one error for every way in which it can fail."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg

from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.connection import Connection, connect, reader_url

_STATEMENT_TIMEOUT = "20s"
"""A page that asks too much gives up, so that readers never hold back trading."""


class DatabaseUnavailableError(UserError):
    """The database cannot be reached, refuses the reader, or has no tables yet."""


@contextmanager
def read_only(settings: Settings) -> Generator[Connection]:
    """Open a connection that cannot write and gives up on a statement that takes too long.

    Raises
    ------
    DatabaseUnavailableError
        No server answers, it went away meanwhile, or the schema is not there.
    """
    try:
        opened = connect(reader_url(settings), application_name="dashboard")
    except UserError as error:
        raise DatabaseUnavailableError(str(error)) from error
    try:
        with opened:
            opened.read_only = True
            opened.execute(f"set statement_timeout = '{_STATEMENT_TIMEOUT}'")
            yield opened
    except psycopg.errors.QueryCanceled as error:
        raise DatabaseUnavailableError(f"a question took longer than {_STATEMENT_TIMEOUT}") from error
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise DatabaseUnavailableError("the tables are missing or old: run `trading db migrate`") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseUnavailableError("the reader may not read: run `trading db migrate`") from error
    except psycopg.OperationalError as error:
        cause = str(error).strip().splitlines()[0]
        raise DatabaseUnavailableError(f"the database went away: run `trading db start` ({cause})") from error
