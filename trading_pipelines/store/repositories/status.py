"""What each source last delivered, or why it did not, per symbol and dataset."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg


@dataclass(frozen=True)
class Delivery:
    """A dataset of one symbol as one source delivers it."""

    source: str
    exchange: str
    symbol: str
    dataset: str
    """`candles <timeframe>`, `funding`, `open interest`, `mark 1h`, `stream tickers` or `stream trades`."""


def record_success(
    connection: psycopg.Connection[Any],
    delivery: Delivery,
    last_ts: datetime | None,
    rows: int,
    rows_per_second: float | None,
) -> None:
    """Note a completed delivery: newest stored time, rows written by it and its speed, if it wrote any."""
    connection.execute(
        """
        insert into source_status as s (source, exchange, symbol, dataset, last_ts, last_success_at, rows_written,
                                        rows_per_second)
        values (%(source)s, %(exchange)s, %(symbol)s, %(dataset)s, %(last_ts)s, now(), %(rows)s, %(speed)s)
        on conflict (source, exchange, symbol, dataset) do update set
            last_ts = greatest(s.last_ts, excluded.last_ts), last_success_at = excluded.last_success_at,
            last_error = null, failures_in_a_row = 0, rows_written = s.rows_written + excluded.rows_written,
            rows_per_second = coalesce(excluded.rows_per_second, s.rows_per_second)
        """,
        {**vars(delivery), "last_ts": last_ts, "rows": rows, "speed": rows_per_second},
    )


def record_error(connection: psycopg.Connection[Any], delivery: Delivery, error: str) -> None:
    """Note that a delivery failed and why, and count it; what was stored before stays known."""
    connection.execute(
        """
        insert into source_status as s (source, exchange, symbol, dataset, last_error, last_error_at, failures,
                                        failures_in_a_row)
        values (%(source)s, %(exchange)s, %(symbol)s, %(dataset)s, %(error)s, now(), 1, 1)
        on conflict (source, exchange, symbol, dataset) do update set
            last_error = excluded.last_error, last_error_at = excluded.last_error_at, failures = s.failures + 1,
            failures_in_a_row = s.failures_in_a_row + 1
        """,
        {**vars(delivery), "error": error},
    )
