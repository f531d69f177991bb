"""Positions of the platform, derived from its fills. Nothing here commits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import kwargs_row

from trading_pipelines.domain.execution.orders import PositionSide, trade_of


@dataclass(frozen=True)
class NewPosition:
    """What is known of a position when its entry fills."""

    position_id: UUID
    session_id: UUID
    instrument_id: int
    signal_id: UUID | None
    side: PositionSide
    quantity_initial: Decimal
    entry_price: Decimal
    entry_margin: Decimal
    leverage: Decimal
    stop_price: Decimal | None
    liquidation_price: Decimal
    mark_price: Decimal
    opened_at: datetime


@dataclass(frozen=True)
class OpenPosition:
    """An open position with what managing it needs.

    `target_filled` says that its stop trails, `exit_pending` that exits for all that is open are under way.
    """

    position_id: UUID
    instrument_id: int
    symbol: str
    signal_id: UUID | None
    side: PositionSide
    quantity_initial: Decimal
    quantity_open: Decimal
    quantity_protected: Decimal
    entry_price: Decimal
    entry_margin: Decimal
    stop_price: Decimal | None
    initial_stop_price: Decimal | None
    liquidation_price: Decimal
    mark_price: Decimal
    leverage: Decimal
    price_step: Decimal
    quantity_step: Decimal
    opened_at: datetime
    target_filled: bool
    exit_pending: bool

    @property
    def trade(self) -> str:
        """What the client order ids of its orders begin with, unless an addition brought them."""
        return trade_of(self.signal_id or self.position_id)

    @property
    def margin(self) -> Decimal:
        """Entry margin times what is left of the position."""
        return self.entry_margin * self.quantity_open / self.quantity_initial


@dataclass(frozen=True)
class PositionResult:
    """Where a position stands after its fills were added up."""

    signal_id: UUID | None
    symbol: str
    is_closed: bool
    close_kind: str | None


def insert(connection: psycopg.Connection[Any], position: NewPosition) -> None:
    """Store a new position; one that is there stays."""
    connection.execute(
        """
        insert into positions (position_id, session_id, instrument_id, signal_id, side, quantity_initial,
                               quantity_open, entry_price, entry_margin, leverage, stop_price, initial_stop_price,
                               liquidation_price, mark_price, opened_at, updated_at)
        values (%(position_id)s, %(session_id)s, %(instrument_id)s, %(signal_id)s, %(side)s, %(quantity_initial)s,
                %(quantity_initial)s, %(entry_price)s, %(entry_margin)s, %(leverage)s, %(stop_price)s,
                %(stop_price)s, %(liquidation_price)s, %(mark_price)s, %(opened_at)s, %(opened_at)s)
        on conflict (position_id) do nothing
        """,
        vars(position),
    )


def refresh(connection: psycopg.Connection[Any], position_id: UUID, at: datetime) -> PositionResult:
    """Add the fills and funding of a position up again; the same fills always give the same row."""
    with connection.cursor(row_factory=kwargs_row(PositionResult)) as cursor:
        result = cursor.execute(_REFRESH, {"position": position_id, "at": at}).fetchone()
    if result is None:
        raise LookupError(f"there is no position {position_id}")
    return result


def open_position_id(connection: psycopg.Connection[Any], session_id: UUID, instrument_id: int) -> UUID | None:
    """The open position of an instrument."""
    row = connection.execute(
        "select position_id from positions where session_id = %s and instrument_id = %s and status = 'OPEN'",
        (session_id, instrument_id),
    ).fetchone()
    return None if row is None else row[0]


def signal_of(connection: psycopg.Connection[Any], position_id: UUID) -> UUID | None:
    """The signal that a position was opened for, None for one that came from outside."""
    row = connection.execute("select signal_id from positions where position_id = %s", (position_id,)).fetchone()
    return None if row is None else row[0]


def position_id_at(
    connection: psycopg.Connection[Any], session_id: UUID, instrument_id: int, at: datetime
) -> UUID | None:
    """The position of an instrument that was open just before `at`."""
    row = connection.execute(
        "select position_id from positions where session_id = %s and instrument_id = %s and opened_at < %s "
        "order by opened_at desc limit 1",
        (session_id, instrument_id, at),
    ).fetchone()
    return None if row is None else row[0]


def open_positions(connection: psycopg.Connection[Any], session_id: UUID) -> list[OpenPosition]:
    """All open positions by symbol."""
    with connection.cursor(row_factory=kwargs_row(_open_position)) as cursor:
        return cursor.execute(_OPEN, (session_id,)).fetchall()


def set_protection(
    connection: psycopg.Connection[Any], position_id: UUID, quantity: Decimal, stop_price: Decimal | None
) -> None:
    """Note how much of a position a working stop covers, and where that stop is."""
    connection.execute(
        "update positions set quantity_protected = %(quantity)s, stop_price = coalesce(%(stop)s, stop_price) "
        "where position_id = %(position)s "
        "and (quantity_protected, stop_price) is distinct from (%(quantity)s, coalesce(%(stop)s, stop_price))",
        {"position": position_id, "quantity": quantity, "stop": stop_price},
    )


def record_protection(connection: psycopg.Connection[Any], session_id: UUID, at: datetime) -> None:
    """Note for every open position how much of it is protected now; the same answer again extends its row."""
    connection.execute(_RECORD_PROTECTION, {"session": session_id, "at": at})


def mark(connection: psycopg.Connection[Any], session_id: UUID, prices: Mapping[int, float], at: datetime) -> None:
    """Value the open positions of a session at prices by instrument id."""
    connection.execute(
        """
        update positions p
        set mark_price = m.price, updated_at = %s,
            unrealised_pnl = case p.side when 'LONG' then 1 else -1 end * p.quantity_open * (m.price - p.entry_price)
        from unnest(%s::int[], %s::numeric[]) as m (instrument_id, price)
        where p.session_id = %s and p.status = 'OPEN' and p.instrument_id = m.instrument_id
        """,
        (at, list(prices), [Decimal(repr(float(price))) for price in prices.values()], session_id),
    )


def _open_position(**row: Any) -> OpenPosition:
    row["side"] = PositionSide(row["side"])
    return OpenPosition(**row)


_OPEN = """
    select p.position_id, p.instrument_id, i.symbol, p.signal_id, p.side, p.quantity_initial, p.quantity_open,
           p.quantity_protected, p.entry_price, p.entry_margin, p.stop_price, p.initial_stop_price,
           p.liquidation_price, p.mark_price, p.leverage, i.price_step, i.quantity_step, p.opened_at,
           exists (select from fills f where f.session_id = p.session_id and f.position_id = p.position_id
                   and f.kind in ('TP1', 'TP2', 'TP3')) as target_filled,
           p.quantity_open <= (
               select coalesce(sum(o.quantity - o.filled_quantity), 0) from orders o
               where o.position_id = p.position_id and o.leg = 'EXIT'
                 and o.status in ('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED')) as exit_pending
    from positions p join instruments i using (instrument_id)
    where p.session_id = %s and p.status = 'OPEN'
    order by i.symbol
"""
_RECORD_PROTECTION = """
    with looked as (
        select position_id, session_id, quantity_open, quantity_protected
        from positions where session_id = %(session)s and status = 'OPEN'
    ), newest as (
        select l.*, c.since, (c.quantity_open, c.quantity_protected) = (l.quantity_open, l.quantity_protected) as same
        from looked l left join lateral (
            select * from protection_checks c where c.position_id = l.position_id order by since desc limit 1) c on true
    ), extended as (
        update protection_checks c set until = greatest(c.until, %(at)s), looks = c.looks + 1
        from newest n where c.position_id = n.position_id and c.since = n.since and n.same
    )
    insert into protection_checks (position_id, session_id, since, until, quantity_open, quantity_protected)
    select position_id, session_id, %(at)s, %(at)s, quantity_open, quantity_protected
    from newest where same is not true
    on conflict (position_id, since) do update
    set looks = protection_checks.looks + 1,
        quantity_open = greatest(protection_checks.quantity_open, excluded.quantity_open),
        quantity_protected = least(protection_checks.quantity_protected, excluded.quantity_protected)
"""
_REFRESH = """
    with book as (
        select sum(quantity) filter (where kind = 'ENTRY') as bought,
               sum(quantity * price) filter (where kind = 'ENTRY') as paid,
               coalesce(sum(quantity) filter (where kind <> 'ENTRY'), 0) as closed,
               sum(realised_pnl) as realised, sum(fee) as fees,
               sum(abs(price - reference_price) * quantity) as slippage,
               max(ts) as last_ts,
               (array_agg(kind order by sequence desc, ts desc))[1] as last_kind,
               (array_agg(client_order_id order by sequence desc, ts desc))[1] as last_order,
               count(*) filter (where kind = 'ENTRY') as entries,
               max(sequence) filter (where kind = 'ENTRY') as last_entry,
               coalesce(bool_or(kind in ('TP1', 'TP2', 'TP3')), false) as target_filled
        from fills where position_id = %(position)s
    ), basis as (
        -- What was paid for what the last entry left open: a close takes its share at the entry price of its time.
        select sum(case when f.kind = 'ENTRY' then f.quantity * f.price
                        else case p.side when 'LONG' then 1 else -1 end * f.realised_pnl - f.quantity * f.price end)
               / nullif(sum(case when f.kind = 'ENTRY' then f.quantity else -f.quantity end), 0) as price
        from fills f join positions p using (position_id), book b
        where f.position_id = %(position)s and f.sequence <= b.last_entry
    ), paid_funding as (
        select coalesce(sum(amount), 0) as amount from funding_payments where position_id = %(position)s
    ), moved as (
        update positions p
        set quantity_initial = b.bought,
            quantity_open = b.bought - b.closed,
            quantity_protected = least(p.quantity_protected, b.bought - b.closed),
            entry_price = e.price,
            entry_margin = case when b.entries > 1 then e.price * b.bought / p.leverage else p.entry_margin end,
            liquidation_price = case when e.price = p.entry_price then p.liquidation_price
                                     else p.liquidation_price * e.price / p.entry_price end,
            realised_pnl = b.realised, fees = b.fees, slippage = b.slippage, funding = f.amount,
            unrealised_pnl = case p.side when 'LONG' then 1 else -1 end * (b.bought - b.closed)
                             * (p.mark_price - e.price),
            status = case when b.closed >= b.bought then 'CLOSED' else 'OPEN' end,
            closed_at = case when b.closed >= b.bought then b.last_ts end,
            close_reason = case
                when b.closed < b.bought then null
                when b.last_kind = 'STOP' and b.target_filled then 'TRAILING_STOP'
                when b.last_kind = 'EXIT' then coalesce(
                    (select status_reason from orders where client_order_id = b.last_order), b.last_kind)
                else b.last_kind end,
            updated_at = %(at)s
        from book b, paid_funding f,
             lateral (select case when b.entries = 1 then b.paid / b.bought
                                  else coalesce((select price from basis), b.paid / b.bought) end as price) e
        where p.position_id = %(position)s
        returning p.signal_id, p.instrument_id, p.status, b.last_kind
    )
    select m.signal_id, i.symbol, m.status = 'CLOSED' as is_closed,
           case when m.status = 'CLOSED' then m.last_kind end as close_kind
    from moved m join instruments i using (instrument_id)
"""
