"""The books of the paper exchange: load an account under its lock, store what an operation changed."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row, kwargs_row

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import FillKind, Leg, OrderSide, OrderType, PositionSide
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import (
    MarketEvent,
    PaperFill,
    PaperFunding,
    PaperMarket,
    PaperOrder,
    PaperOrderStatus,
    PaperPosition,
)
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind

_ORDER = (
    "client_order_id, exchange_order_id, instrument_id, bracket_id, leg, side, type, reduce_only, quantity, "
    "trigger_price, leverage, status, created_at, updated_at, weight, effective_at, replaces, is_triggered, reason, "
    "filled_quantity, average_price, fee"
)
_POSITION = (
    "instrument_id, bracket_id, side, quantity_initial, quantity, entry_price, entry_margin, leverage, "
    "liquidation_price, tp1_filled, opened_at, funded_to"
)
_FILL = "sequence, client_order_id, instrument_id, ts, kind, side, quantity, price, reference_price, fee, realised_pnl"
_FUNDING = "sequence, instrument_id, ts, rate, amount"
_INSTRUMENT = (
    "exchange, symbol, base, quote, kind, price_step, quantity_step, min_quantity, min_notional, "
    "funding_interval_minutes, max_leverage"
)
_IS_WORKING = "status in ('HELD', 'OPEN')"


def open_account(connection: psycopg.Connection[Any], session_id: UUID) -> None:
    """Give a session its account with the start capital; one that exists stays as it is."""
    connection.execute(
        "insert into paper_accounts (session_id, cash) select session_id, start_capital from sessions "
        "where session_id = %s on conflict do nothing",
        (session_id,),
    )


def load(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    params: ExecutionParams,
    *,
    lock: bool,
) -> PaperAccount | None:
    """Read an account with its working orders, open positions and markets; None before it is opened.

    With `lock` no one else changes the account until the transaction ends.
    """
    row = connection.execute(
        "select a.cash, a.sequence, s.config ->> 'venue' from paper_accounts a join sessions s using (session_id) "
        f"where a.session_id = %s{' for update of a' if lock else ''}",
        (session_id,),
    ).fetchone()
    if row is None:
        return None
    return PaperAccount(
        cash=row[0],
        sequence=row[1],
        params=params,
        venue=_venue(row[2]),
        orders={o.client_order_id: o for o in _working_orders(connection, session_id)},
        positions={p.instrument_id: p for p in _positions(connection, session_id)},
        markets={m.instrument_id: m for m in markets(connection, session_id)},
    )


def save(connection: psycopg.Connection[Any], session_id: UUID, account: PaperAccount) -> None:
    """Store what `account.changes` names."""
    changes = account.changes
    with connection.cursor() as cursor:
        if changes.fills or changes.funding or changes.orders:
            cursor.execute(
                "update paper_accounts set cash = %s, sequence = %s where session_id = %s",
                (account.cash, account.sequence, session_id),
            )
        for order in changes.orders.values():
            cursor.execute(_UPSERT_ORDER, {**vars(order), "session_id": session_id})
        for instrument_id in changes.positions:
            _save_position(cursor, session_id, instrument_id, account.positions.get(instrument_id))
        for fill in changes.fills:
            cursor.execute(_INSERT_FILL, {**vars(fill), "session_id": session_id})
        for payment in changes.funding:
            cursor.execute(_INSERT_FUNDING, {**vars(payment), "session_id": session_id})
    move_markets(connection, session_id, list(changes.markets.values()))


def pass_idle(connection: psycopg.Connection[Any], session_id: UUID, events: Sequence[MarketEvent]) -> bool:
    """Move the markets on if the account has neither working orders nor positions; False if it has any."""
    newest = {event.instrument_id: event for event in sorted(events, key=lambda event: event.ts_close)}
    rows = sorted(newest.items())
    parameters = {
        "session": session_id,
        "instruments": [instrument_id for instrument_id, _ in rows],
        "closes": [event.ts_close for _, event in rows],
        "prices": [event.close for _, event in rows],
    }
    row = connection.execute(_PASS_IDLE, parameters).fetchone()
    return row is not None and row[0]


def move_markets(connection: psycopg.Connection[Any], session_id: UUID, moved: Sequence[PaperMarket]) -> None:
    """Store how far markets have been applied."""
    if moved:
        connection.execute(
            _MOVE_MARKETS,
            {
                "session": session_id,
                "instruments": [m.instrument_id for m in moved],
                "closes": [m.advanced_to for m in moved],
                "prices": [m.last_price for m in moved],
            },
        )


def markets(connection: psycopg.Connection[Any], session_id: UUID) -> list[PaperMarket]:
    """Every market that has been applied, by instrument."""
    with connection.cursor(row_factory=class_row(PaperMarket)) as cursor:
        return cursor.execute(
            "select m.instrument_id, m.advanced_to, m.last_price, i.quantity_step "
            "from paper_markets m join instruments i using (instrument_id) where m.session_id = %s "
            "order by m.instrument_id",
            (session_id,),
        ).fetchall()


def find_orders(
    connection: psycopg.Connection[Any], session_id: UUID, client_order_ids: Sequence[str]
) -> dict[str, PaperOrder]:
    """Orders by client order id, whatever became of them."""
    with connection.cursor(row_factory=kwargs_row(_order)) as cursor:
        rows = cursor.execute(
            f"select {_ORDER} from paper_orders where session_id = %s and client_order_id = any(%s)",
            (session_id, list(client_order_ids)),
        ).fetchall()
    return {order.client_order_id: order for order in rows}


def find_instrument(connection: psycopg.Connection[Any], instrument_id: int) -> Instrument | None:
    """What the exchange lists under that id and trades."""
    with connection.cursor(row_factory=kwargs_row(_instrument)) as cursor:
        return cursor.execute(
            f"select {_INSTRUMENT} from instruments where instrument_id = %s and status = 'trading'",
            (instrument_id,),
        ).fetchone()


def fills(connection: psycopg.Connection[Any], session_id: UUID, since: int) -> list[PaperFill]:
    """Fills with a sequence above `since`, ascending."""
    with connection.cursor(row_factory=kwargs_row(_fill)) as cursor:
        return cursor.execute(
            f"select {_FILL} from paper_fills where session_id = %s and sequence > %s order by sequence",
            (session_id, since),
        ).fetchall()


def funding(connection: psycopg.Connection[Any], session_id: UUID, since: int) -> list[PaperFunding]:
    """Funding payments with a sequence above `since`, ascending."""
    with connection.cursor(row_factory=class_row(PaperFunding)) as cursor:
        return cursor.execute(
            f"select {_FUNDING} from paper_funding where session_id = %s and sequence > %s order by sequence",
            (session_id, since),
        ).fetchall()


def _working_orders(connection: psycopg.Connection[Any], session_id: UUID) -> list[PaperOrder]:
    with connection.cursor(row_factory=kwargs_row(_order)) as cursor:
        return cursor.execute(
            f"select {_ORDER} from paper_orders where session_id = %s and {_IS_WORKING} order by exchange_order_id",
            (session_id,),
        ).fetchall()


def _positions(connection: psycopg.Connection[Any], session_id: UUID) -> list[PaperPosition]:
    with connection.cursor(row_factory=kwargs_row(_position)) as cursor:
        return cursor.execute(
            f"select {_POSITION} from paper_positions where session_id = %s order by instrument_id", (session_id,)
        ).fetchall()


def _save_position(
    cursor: psycopg.Cursor[Any], session_id: UUID, instrument_id: int, position: PaperPosition | None
) -> None:
    if position is None:
        cursor.execute(
            "delete from paper_positions where session_id = %s and instrument_id = %s", (session_id, instrument_id)
        )
    else:
        cursor.execute(_UPSERT_POSITION, {**vars(position), "session_id": session_id})


@lru_cache(maxsize=16)
def _venue(config: str | None) -> VenueParams:
    """The session's rules of the exchange; a session from before there were any has the defaults."""
    return VenueParams() if config is None else VenueParams.model_validate_json(config)


def _instrument(**row: Any) -> Instrument:
    row["kind"] = MarketKind(row["kind"])
    return Instrument(**row)


def _order(**row: Any) -> PaperOrder:
    row["leg"], row["side"] = Leg(row["leg"]), OrderSide(row["side"])
    row["type"], row["status"] = OrderType(row["type"]), PaperOrderStatus(row["status"])
    return PaperOrder(**row)


def _position(**row: Any) -> PaperPosition:
    row["side"] = PositionSide(row["side"])
    return PaperPosition(**row)


def _fill(**row: Any) -> PaperFill:
    row["kind"], row["side"] = FillKind(row["kind"]), OrderSide(row["side"])
    return PaperFill(**row)


def _insert(table: LiteralString, columns: LiteralString) -> LiteralString:
    placeholders: list[LiteralString] = [f"%({name.strip()})s" for name in columns.split(",")]
    return f"insert into {table} (session_id, {columns}) values (%(session_id)s, {', '.join(placeholders)})"


_UPSERT_ORDER = (
    _insert("paper_orders", _ORDER)
    + """
    on conflict (session_id, client_order_id) do update
    set bracket_id = excluded.bracket_id, quantity = excluded.quantity, trigger_price = excluded.trigger_price,
        status = excluded.status, effective_at = excluded.effective_at, replaces = excluded.replaces,
        is_triggered = excluded.is_triggered, reason = excluded.reason, filled_quantity = excluded.filled_quantity,
        average_price = excluded.average_price, fee = excluded.fee, updated_at = excluded.updated_at
    """
)
_UPSERT_POSITION = (
    _insert("paper_positions", _POSITION)
    + """
    on conflict (session_id, instrument_id) do update
    set bracket_id = excluded.bracket_id, side = excluded.side, quantity_initial = excluded.quantity_initial,
        quantity = excluded.quantity, entry_price = excluded.entry_price, entry_margin = excluded.entry_margin,
        leverage = excluded.leverage, liquidation_price = excluded.liquidation_price,
        tp1_filled = excluded.tp1_filled, opened_at = excluded.opened_at, funded_to = excluded.funded_to
    """
)
_INSERT_FILL = _insert("paper_fills", _FILL)
_INSERT_FUNDING = _insert("paper_funding", _FUNDING)
_MOVE_MARKETS = """
    insert into paper_markets as stored (session_id, instrument_id, advanced_to, last_price)
    select %(session)s, * from unnest(%(instruments)s::int[], %(closes)s::timestamptz[], %(prices)s::float8[])
    on conflict (session_id, instrument_id) do update
    set advanced_to = excluded.advanced_to, last_price = excluded.last_price
    where stored.advanced_to < excluded.advanced_to
"""
_PASS_IDLE = f"""
    with account as (
        select exists (select from paper_accounts where session_id = %(session)s)
           and not exists (select from paper_orders where session_id = %(session)s and {_IS_WORKING})
           and not exists (select from paper_positions where session_id = %(session)s) as idle
    ), moved as (
        insert into paper_markets as stored (session_id, instrument_id, advanced_to, last_price)
        select %(session)s, * from unnest(%(instruments)s::int[], %(closes)s::timestamptz[], %(prices)s::float8[])
        where (select idle from account)
        on conflict (session_id, instrument_id) do update
        set advanced_to = excluded.advanced_to, last_price = excluded.last_price
        where stored.advanced_to < excluded.advanced_to
    )
    select idle from account
"""
