"""Signs of life of long-running services."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb


def beat(
    connection: psycopg.Connection[Any],
    service: str,
    at: datetime,
    started_at: datetime,
    detail: Mapping[str, Any],
) -> None:
    """Say that `service`, which was started at `started_at`, is alive at `at`."""
    connection.execute(
        """
        insert into heartbeats (service, ts, started_at, detail) values (%s, %s, %s, %s)
        on conflict (service) do update
        set ts = excluded.ts, started_at = excluded.started_at, detail = excluded.detail
        """,
        (service, at, started_at, Jsonb(dict(detail))),
    )


def last_beat(connection: psycopg.Connection[Any], service: str) -> datetime | None:
    """When a service last said that it is alive, None if it never did."""
    row = connection.execute("select ts from heartbeats where service = %s", (service,)).fetchone()
    return None if row is None else row[0]
