"""How each source of alternative data did when it was asked last, and what it sent that was refused."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, LiteralString

import psycopg

PAYLOAD_CHARACTERS = 2_000
"""How much of a refused item is kept."""
_UNSTORABLE = str.maketrans({0: None} | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"))
"""PostgreSQL stores neither NUL nor halves of characters."""
_SUCCEEDED: LiteralString = """
insert into source_states as known
    (source, status, detail, last_attempt_at, last_success_at, newest_item_at, items, quarantined)
values (%(source)s, 'OK', '', %(at)s, %(at)s, %(newest)s, %(items)s, %(refused)s)
on conflict (source) do update set
    status = 'OK', detail = '', last_attempt_at = excluded.last_attempt_at, consecutive_failures = 0,
    last_success_at = greatest(known.last_success_at, excluded.last_success_at),
    newest_item_at = greatest(known.newest_item_at, excluded.newest_item_at),
    items = known.items + excluded.items, quarantined = known.quarantined + excluded.quarantined
"""
_FAILED: LiteralString = """
insert into source_states as known (source, status, detail, last_attempt_at, consecutive_failures, quarantined)
values (%(source)s, %(status)s, %(detail)s, %(at)s, %(failures)s, %(refused)s)
on conflict (source) do update set
    status = excluded.status, detail = excluded.detail, last_attempt_at = excluded.last_attempt_at,
    quarantined = known.quarantined + excluded.quarantined,
    consecutive_failures = case excluded.consecutive_failures when 0 then 0 else known.consecutive_failures + 1 end
"""
_REFUSED: LiteralString = """
insert into quarantined_items (source, item, reason, payload, seen_at)
select %(source)s, item, reason, payload, %(at)s
from unnest(%(item)s::text[], %(reason)s::text[], %(payload)s::text[]) as refused (item, reason, payload)
on conflict (source, reason, md5(payload)) do nothing
"""


def record_success(
    connection: psycopg.Connection[Any], source: str, at: datetime, newest: datetime | None, items: int, refused: int
) -> None:
    """Note that a source answered; `items` and `refused` are what was new in it."""
    row = {"source": source, "at": at, "newest": newest, "items": items, "refused": refused}
    connection.execute(_SUCCEEDED, row)


def record_failure(
    connection: psycopg.Connection[Any], source: str, at: datetime, detail: str, refused: int = 0
) -> None:
    """Note that a source did not answer, or not with what it documents; `refused` of its answers are kept."""
    row = {"source": source, "status": "FAILING", "detail": detail.translate(_UNSTORABLE), "at": at}
    connection.execute(_FAILED, {**row, "failures": 1, "refused": refused})


def record_not_configured(connection: psycopg.Connection[Any], source: str, at: datetime, detail: str) -> None:
    """Note that a source lacks a setting; `detail` names it."""
    connection.execute(
        _FAILED, {"source": source, "status": "NOT_CONFIGURED", "detail": detail, "at": at, "failures": 0, "refused": 0}
    )


def last_success(connection: psycopg.Connection[Any], source: str) -> datetime | None:
    """When a source answered last; None if it never did."""
    row = connection.execute("select last_success_at from source_states where source = %s", (source,)).fetchone()
    return row[0] if row else None


def quarantine(
    connection: psycopg.Connection[Any], source: str, at: datetime, refused: Iterable[tuple[str, str, str]]
) -> int:
    """Keep refused items (name, reason, as received), each once; returns how many are new."""
    rows = [tuple(part.translate(_UNSTORABLE)[:PAYLOAD_CHARACTERS] for part in row) for row in refused]
    if not rows:
        return 0
    items, reasons, payloads = (list(column) for column in zip(*rows, strict=True))
    columns = {"source": source, "at": at, "item": items, "reason": reasons, "payload": payloads}
    return connection.execute(_REFUSED, columns).rowcount
