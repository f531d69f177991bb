"""Positions and orders of one session."""

from typing import Any
from uuid import UUID

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

# Margin shrinks with the part that is still open; the result counts everything since entry.
_POSITIONS = """
select p.position_id::text as position_id, p.signal_id::text as signal_id, i.symbol, p.side, p.status,
       p.quantity_initial::float8 as quantity_initial, p.quantity_open::float8 as quantity_open,
       p.quantity_protected::float8 as quantity_protected,
       p.entry_price::float8 as entry_price, p.mark_price::float8 as mark_price, p.leverage::float8 as leverage,
       p.entry_margin::float8 as entry_margin,
       (p.entry_margin * p.quantity_open / p.quantity_initial)::float8 as margin,
       p.stop_price::float8 as stop_price, p.initial_stop_price::float8 as initial_stop_price,
       p.liquidation_price::float8 as liquidation_price,
       s.tp1_price, s.tp2_price, s.tp3_price, coalesce(f.targets, '') as targets_filled,
       p.unrealised_pnl::float8 as unrealised_pnl, p.realised_pnl::float8 as realised_pnl,
       p.fees::float8 as fees, p.funding::float8 as funding, p.slippage::float8 as slippage,
       (p.realised_pnl + p.unrealised_pnl - p.fees - p.funding)::float8 as net,
       f.exit_price, p.close_reason, p.opened_at, p.closed_at, p.updated_at
from positions p
join instruments i using (instrument_id)
left join signals s on s.signal_id = p.signal_id
left join lateral (
    select string_agg(kind, ' ' order by ts) filter (where starts_with(kind, 'TP')) as targets,
           (sum(price * quantity) filter (where kind <> 'ENTRY')
            / sum(quantity) filter (where kind <> 'ENTRY'))::float8 as exit_price
    from fills where session_id = p.session_id and position_id = p.position_id
) f on true
where p.session_id = %(session)s and p.status = %(status)s
"""

_POSITION_ORDER = {
    "OPEN": "order by p.opened_at desc, i.symbol",
    "CLOSED": "order by p.closed_at desc, i.symbol limit %(limit)s",
}


def open_positions(connection: psycopg.Connection[Any], session_id: UUID) -> pd.DataFrame:
    """Open positions, newest first; money in quote currency, `net` after fees and funding, `margin` of what is open."""
    query = _POSITIONS + _POSITION_ORDER["OPEN"]
    return read_frame(connection, query, {"session": session_id, "status": "OPEN"})


def closed_positions(connection: psycopg.Connection[Any], session_id: UUID, limit: int) -> pd.DataFrame:
    """Closed positions, the last closed first; the same columns as `open_positions`."""
    query = _POSITIONS + _POSITION_ORDER["CLOSED"]
    return read_frame(connection, query, {"session": session_id, "status": "CLOSED", "limit": limit})


# Slippage is what the fills paid against the price before slippage; positive is a cost.
_ORDERS = """
select o.client_order_id, i.symbol, o.leg, o.side, o.type, o.reduce_only, o.status, o.status_reason,
       o.quantity::float8 as quantity, o.filled_quantity::float8 as filled_quantity,
       o.trigger_price::float8 as trigger_price, o.requested_price::float8 as requested_price,
       o.average_price::float8 as average_price, o.fee::float8 as fee, o.created_at, o.updated_at,
       f.slippage_bps
from orders o
join instruments i using (instrument_id)
left join lateral (
    select (10000 * sum(case side when 'BUY' then 1 else -1 end * quantity * (price - reference_price))
            / sum(quantity * reference_price))::float8 as slippage_bps
    from fills where client_order_id = o.client_order_id and session_id = o.session_id
) f on true
where o.session_id = %(session)s
  and (%(statuses)s::text[] is null or o.status = any(%(statuses)s))
order by o.created_at desc, o.client_order_id
limit %(limit)s
"""


def list_orders(
    connection: psycopg.Connection[Any], session_id: UUID, statuses: list[str] | None = None, limit: int = 300
) -> pd.DataFrame:
    """Orders of a session, newest first, with slippage in bps (positive is a cost) and the reason of a refusal."""
    parameters = {"session": session_id, "statuses": statuses, "limit": limit}
    return read_frame(connection, _ORDERS, parameters)
