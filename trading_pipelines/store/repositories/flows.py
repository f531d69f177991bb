"""Large transactions and flows of exchanges as sources reported them, each once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.onchain.transactions import ExchangeFlow, WhaleTransaction

_INSERT: LiteralString = """
insert into whale_transactions (source, transaction_id, blockchain, coin, ts, available_at, amount, amount_usd,
                                sender_kind, sender, recipient_kind, recipient, direction)
select * from unnest(%(source)s::text[], %(transaction_id)s::text[], %(blockchain)s::text[], %(coin)s::text[],
                     %(ts)s::timestamptz[], %(available_at)s::timestamptz[], %(amount)s::float8[],
                     %(amount_usd)s::float8[], %(sender_kind)s::text[], %(sender)s::text[],
                     %(recipient_kind)s::text[], %(recipient)s::text[], %(direction)s::text[])
on conflict (source, transaction_id) do nothing
"""
_INSERT_FLOWS: LiteralString = """
insert into exchange_flows (source, coin, ts, available_at, inflow, outflow, unit)
select source, coin, ts, available_at, inflow, outflow, unit
from unnest(%(source)s::text[], %(coin)s::text[], %(ts)s::timestamptz[], %(available_at)s::timestamptz[],
            %(inflow)s::float8[], %(outflow)s::float8[], %(unit)s::text[])
    as new (source, coin, ts, available_at, inflow, outflow, unit)
where not exists (
    select from (
        select known.inflow, known.outflow from exchange_flows known
        where (known.source, known.coin, known.ts) = (new.source, new.coin, new.ts)
          and known.available_at <= new.available_at
        order by known.available_at desc limit 1
    ) last where (last.inflow, last.outflow) = (new.inflow, new.outflow)
)
on conflict do nothing
"""
_CLAIM_ALERTS: LiteralString = """
update whale_transactions set alerted_at = %(now)s
where alerted_at is null and amount_usd > %(usd)s and available_at <= %(now)s
  and available_at > %(now)s - %(within)s and ts > %(now)s - %(within)s and (source = %(name)s) = %(simulated)s
returning source, transaction_id, blockchain, coin, ts, amount, amount_usd, sender_kind, sender, recipient_kind,
          recipient, direction
"""


def add_transactions(connection: psycopg.Connection[Any], rows: Sequence[WhaleTransaction]) -> int:
    """Store transactions that are not known yet; returns how many those were."""
    names = [*WhaleTransaction.__dataclass_fields__, "direction"]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return connection.execute(_INSERT, columns).rowcount if rows else 0


def add_flows(connection: psycopg.Connection[Any], rows: Sequence[ExchangeFlow]) -> int:
    """Store what is not known yet, or is known otherwise now; returns how many rows that was."""
    columns = {name: [getattr(row, name) for row in rows] for name in ExchangeFlow.__dataclass_fields__}
    return connection.execute(_INSERT_FLOWS, columns).rowcount if rows else 0


def claim_alerts(
    connection: psycopg.Connection[Any], now: datetime, usd: float, within: Any, *, simulated: bool
) -> list[dict[str, Any]]:
    """Mark the transactions above `usd` of the last while as told of; only those that were not are returned.

    Two callers at once never get the same transaction.
    """
    arguments = {"now": now, "usd": usd, "within": within, "name": SIMULATED, "simulated": simulated}
    with connection.cursor(row_factory=dict_row) as cursor:
        return sorted(cursor.execute(_CLAIM_ALERTS, arguments).fetchall(), key=lambda row: row["ts"])


def read_transactions(
    connection: psycopg.Connection[Any], source: str, start: datetime, end: datetime, known_by: datetime
) -> list[dict[str, Any]]:
    """Transactions of [start, end) that were known by then: coin, direction, ts, available_at, amount_usd."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select coin, direction, ts, available_at, amount_usd from whale_transactions "
            "where source = %s and ts >= %s and ts < %s and available_at <= %s order by ts, transaction_id",
            (source, start, end, known_by),
        ).fetchall()


def read_flows(
    connection: psycopg.Connection[Any], source: str, start: datetime, end: datetime, known_by: datetime
) -> list[dict[str, Any]]:
    """Every version of the flows of [start, end) that was known by then."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select coin, ts, available_at, inflow, outflow, unit from exchange_flows "
            "where source = %s and ts >= %s and ts < %s and available_at <= %s order by ts, available_at, coin",
            (source, start, end, known_by),
        ).fetchall()


def first_transaction(connection: psycopg.Connection[Any], source: str) -> datetime | None:
    """When the oldest transaction of a source happened."""
    row = connection.execute("select min(ts) from whale_transactions where source = %s", (source,)).fetchone()
    return row[0] if row else None
