"""What a run is about: which days and which symbols.

Belongs here: daily partitions and what follows from them. Does not belong here: what is done with the span.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg

DAYS = dg.DailyPartitionsDefinition(
    start_date=settings().orchestration.first_day.isoformat(), timezone="UTC", end_offset=1
)
"""UTC days up to and including the one that has begun; every symbol's rows of a day are one partition."""


@dataclass(frozen=True)
class Window:
    """Bars with open time in [start, end); `days` is the number of daily partitions that it touches."""

    start: datetime
    end: datetime
    days: int


def run_window(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, now: datetime) -> Window:
    """The span of the run's partitions, cut off at `now`; a run without partitions is about the day of `now`.

    Checks are not partitioned themselves: they look at what their run has written.
    """
    if context.has_partition_key or context.has_partition_key_range:
        keys = context.partition_key_range
        first, last = _midnight(keys.start), _midnight(keys.end)
    else:
        first = last = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = last + timedelta(days=1)
    return Window(first, min(end, now), (end - first).days)


def traded_symbols(connection: "psycopg.Connection[Any]") -> tuple[str, ...]:
    """The symbols that the settings name, or all stored ones of the exchange."""
    from trading_pipelines.store.repositories import instruments

    return settings().symbols or tuple(sorted(instruments.by_symbol(connection, settings().exchange)))


def _midnight(partition_key: str) -> datetime:
    return datetime.fromisoformat(partition_key).replace(tzinfo=UTC)
