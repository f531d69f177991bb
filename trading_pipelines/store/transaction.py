"""Transactions whose end is a point that a crash cannot take back."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg


@contextmanager
def committed(connection: psycopg.Connection[Any]) -> Generator[None]:
    """Run the block as one transaction that is committed when it ends and undone when it raises.

    What the caller left open on the connection is committed first: inside an open transaction the block would
    only be a savepoint, and "committed before it is sent" would not be true.
    """
    connection.commit()
    with connection.transaction():
        yield
