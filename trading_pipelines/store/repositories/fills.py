"""Fills and funding as the platform has taken them over, and up to where it has. Nothing here commits."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.execution.orders import FillReport, FundingReport


@dataclass(frozen=True)
class Cursor:
    """The newest numbers that have been taken over from the exchange."""

    fill_sequence: int = 0
    funding_sequence: int = 0


def read_cursor(connection: psycopg.Connection[Any], session_id: UUID) -> Cursor:
    """Up to where a session has been synchronised."""
    with connection.cursor(row_factory=class_row(Cursor)) as cursor:
        found = cursor.execute(
            "select fill_sequence, funding_sequence from exchange_cursors where session_id = %s", (session_id,)
        ).fetchone()
    return found or Cursor()


def move_cursor(connection: psycopg.Connection[Any], session_id: UUID, to: Cursor) -> None:
    """Note up to where a session has been synchronised; never back."""
    connection.execute(
        """
        insert into exchange_cursors as stored (session_id, fill_sequence, funding_sequence) values (%s, %s, %s)
        on conflict (session_id) do update
        set fill_sequence = greatest(stored.fill_sequence, excluded.fill_sequence),
            funding_sequence = greatest(stored.funding_sequence, excluded.funding_sequence)
        """,
        (session_id, to.fill_sequence, to.funding_sequence),
    )


def insert_fill(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    position_id: UUID | None,
    client_order_id: str,
    fill: FillReport,
) -> bool:
    """Store a fill; False when it was there already."""
    return (
        connection.execute(
            "insert into fills (fill_id, client_order_id, session_id, position_id, instrument_id, ts, kind, side, "
            "quantity, price, reference_price, fee, realised_pnl, sequence, source) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (fill_id) do nothing",
            (
                fill.fill_id,
                client_order_id,
                session_id,
                position_id,
                fill.instrument_id,
                fill.ts,
                fill.kind,
                fill.side,
                fill.quantity,
                fill.price,
                fill.reference_price,
                fill.fee,
                fill.realised_pnl,
                fill.sequence,
                fill.source,
            ),
        ).rowcount
        == 1
    )


def is_stored(connection: psycopg.Connection[Any], fill_id: str) -> bool:
    """Whether a fill has been taken over."""
    return connection.execute("select from fills where fill_id = %s", (fill_id,)).rowcount > 0


def insert_funding(
    connection: psycopg.Connection[Any], session_id: UUID, position_id: UUID, payment: FundingReport
) -> bool:
    """Store a funding payment; False when it was there already."""
    return (
        connection.execute(
            "insert into funding_payments (session_id, position_id, ts, rate, amount) values (%s, %s, %s, %s, %s) "
            "on conflict (position_id, ts) do nothing",
            (session_id, position_id, payment.ts, payment.rate, payment.amount),
        ).rowcount
        == 1
    )
