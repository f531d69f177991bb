"""Positions and orders of one session."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

# The page of positions comes first: fills have no index by position, so they are read once and not per row.
# Margin shrinks with the part that is still open; the result counts everything since entry. Targets are where they
# work, which a person may have changed, and else where the signal had them.
_POSITIONS = """
with page as materialized (
    select * from positions
    where session_id = %(session)s and status = %(status)s
    order by coalesce(closed_at, opened_at) desc
    limit %(limit)s
), filled as (
    select position_id,
           string_agg(distinct f.kind, ' ' order by f.kind) filter (where starts_with(f.kind, 'TP')) as targets,
           (sum(f.price * f.quantity) filter (where f.kind <> 'ENTRY')
            / sum(f.quantity) filter (where f.kind <> 'ENTRY'))::float8 as exit_price
    from fills f
    join page using (position_id)
    where f.session_id = %(session)s
    group by 1
), working as (
    select position_id,
           max(o.trigger_price) filter (where o.leg = 'TP1')::float8 as tp1,
           max(o.trigger_price) filter (where o.leg = 'TP2')::float8 as tp2,
           max(o.trigger_price) filter (where o.leg = 'TP3')::float8 as tp3
    from orders o
    where o.session_id = %(session)s and o.status in ('ACCEPTED', 'PARTIALLY_FILLED') and o.leg like 'TP_'
    group by 1
)
select p.position_id::text as position_id, p.signal_id::text as signal_id, i.symbol, p.side, p.status,
       p.quantity_initial::float8 as quantity_initial, p.quantity_open::float8 as quantity_open,
       p.quantity_protected::float8 as quantity_protected,
       p.entry_price::float8 as entry_price, p.mark_price::float8 as mark_price, p.leverage::float8 as leverage,
       p.entry_margin::float8 as entry_margin,
       (p.entry_margin * p.quantity_open / p.quantity_initial)::float8 as margin,
       p.stop_price::float8 as stop_price, p.initial_stop_price::float8 as initial_stop_price,
       p.liquidation_price::float8 as liquidation_price,
       coalesce(w.tp1, s.tp1_price) as tp1_price, coalesce(w.tp2, s.tp2_price) as tp2_price,
       coalesce(w.tp3, s.tp3_price) as tp3_price, coalesce(f.targets, '') as targets_filled,
       p.unrealised_pnl::float8 as unrealised_pnl, p.realised_pnl::float8 as realised_pnl,
       p.fees::float8 as fees, p.funding::float8 as funding, p.slippage::float8 as slippage,
       (p.realised_pnl + p.unrealised_pnl - p.fees - p.funding)::float8 as net,
       f.exit_price, p.close_reason, p.opened_at, p.closed_at, p.updated_at
from page p
join instruments i using (instrument_id)
left join signals s on s.signal_id = p.signal_id
left join filled f on f.position_id = p.position_id
left join working w on w.position_id = p.position_id
order by coalesce(p.closed_at, p.opened_at) desc, i.symbol
"""


def open_positions(connection: psycopg.Connection[Any], session_id: UUID) -> pd.DataFrame:
    """Open positions, newest first; money in quote currency, `net` after fees and funding, `margin` of what is open."""
    return read_frame(connection, _POSITIONS, {"session": session_id, "status": "OPEN", "limit": None})


def closed_positions(connection: psycopg.Connection[Any], session_id: UUID, limit: int) -> pd.DataFrame:
    """Closed positions, the last closed first; the same columns as `open_positions`."""
    return read_frame(connection, _POSITIONS, {"session": session_id, "status": "CLOSED", "limit": limit})


# Slippage is what the fills paid against the price before slippage; positive is a cost.
_ORDERS = """
with page as materialized (
    select * from orders
    where session_id = %(session)s and (%(statuses)s::text[] is null or status = any(%(statuses)s))
    order by created_at desc, client_order_id
    limit %(limit)s
), paid as (
    select client_order_id,
           (10000 * sum(case f.side when 'BUY' then 1 else -1 end * f.quantity * (f.price - f.reference_price))
            / sum(f.quantity * f.reference_price))::float8 as slippage_bps,
           sum(case f.side when 'BUY' then 1 else -1 end * f.quantity * (f.price - f.reference_price))::float8
               as slippage,
           sum(f.realised_pnl)::float8 as realised_pnl,
           bool_or(f.source = 'RECONCILED') as is_reconciled
    from fills f
    join page using (client_order_id)
    where f.session_id = %(session)s
    group by 1
)
select o.client_order_id, i.symbol, s.strategy, o.leg, o.side, o.type, o.reduce_only, o.status, o.status_reason,
       o.reject_code,
       o.quantity::float8 as quantity, o.filled_quantity::float8 as filled_quantity,
       o.trigger_price::float8 as trigger_price, o.requested_price::float8 as requested_price,
       o.average_price::float8 as average_price, o.fee::float8 as fee, paid.slippage_bps, paid.slippage,
       paid.realised_pnl, coalesce(paid.is_reconciled, false) as is_reconciled,
       o.created_at, o.sent_at, o.updated_at
from page o
join instruments i using (instrument_id)
left join signals s on s.signal_id = o.signal_id
left join paid using (client_order_id)
order by o.created_at desc, o.client_order_id
"""


def list_orders(
    connection: psycopg.Connection[Any], session_id: UUID, statuses: list[str] | None = None, limit: int = 300
) -> pd.DataFrame:
    """Orders of a session, newest first.

    Each with its requested and filled price, slippage in bps and in quote currency (positive is a cost), commission
    (`fee`), realised result before costs, and the reason of a refusal.
    """
    parameters = {"session": session_id, "statuses": statuses, "limit": limit}
    return read_frame(connection, _ORDERS, parameters)


# A row of protection_checks stands from its first to its last look, so a gap that one look found has no length.
_PROTECTION = """
    select (select count(*) from positions where session_id = %(session)s and status = 'OPEN') as positions,
           (select count(*) from positions where session_id = %(session)s and status = 'OPEN'
            and quantity_protected = quantity_open) as covered,
           count(*) filter (where c.quantity_protected < c.quantity_open) as gaps_24h,
           coalesce(extract(epoch from sum(c.until - c.since)
                            filter (where c.quantity_protected < c.quantity_open)), 0)::float8 as seconds_bare_24h,
           max(c.until) as looked_at
    from protection_checks c
    where c.session_id = %(session)s and c.until > %(as_of)s - interval '24 hours'
"""


def protection(connection: psycopg.Connection[Any], session_id: UUID, as_of: datetime) -> pd.DataFrame:
    """How much of what is open is protected: one row with the positions now, and the gaps of the last 24 hours."""
    return read_frame(connection, _PROTECTION, {"session": session_id, "as_of": as_of})
