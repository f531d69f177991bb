"""How much of each limit of a session is used up, what keeps entries away, and what a person was warned of.

Belongs here: these questions as pages ask them. Does not belong here: the rules and the locks (`domain.risk`).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.store.connection import read_frame


@dataclass(frozen=True)
class RiskState:
    """The account as the limits see it; money in quote currency, losses as positive fractions.

    Attributes
    ----------
    as_of : datetime
        The session's present: its clock for a replay, the database's otherwise.
    marked_at : datetime or None
        Newest equity mark, which losses are measured at; None before the first.
    daily_loss : float
        Below the equity at 00:00 UTC, as a fraction of it; 0 in profit.
    drawdown : float
        Below the highest equity so far, as a fraction of it.
    margin_long, margin_short : float
        Bound by open positions of a side.
    largest_symbol, largest_margin : str or None, float
        Where most margin is bound.
    stopped : int
        Positions that were stopped out within the window of the stop guard.
    """

    limits: RiskLimits
    as_of: datetime
    marked_at: datetime | None
    equity: float
    daily_loss: float
    drawdown: float
    open_positions: int
    margin_long: float
    margin_short: float
    largest_symbol: str | None
    largest_margin: float
    stopped: int


_STATE = """
with asked as (
    select session_id, start_capital::float8 as capital, config -> 'limits' as limits, coalesce(clock, now()) as as_of,
           coalesce((config #>> '{limits,stop_guard_window_hours}')::float8, %(window)s) as window_hours
    from sessions where session_id = %(session)s
), held as (
    select i.symbol, p.side, (p.entry_margin * p.quantity_open / p.quantity_initial)::float8 as margin
    from positions p join instruments i using (instrument_id)
    where p.session_id = %(session)s and p.status = 'OPEN'
)
select a.limits, a.as_of, newest.ts as marked_at, coalesce(newest.equity, a.capital) as equity,
       coalesce(newest.peak, newest.equity, a.capital) as peak, coalesce(opening.equity, a.capital) as day_open,
       (select count(*) from held) as open_positions,
       (select coalesce(sum(margin), 0) from held where side = 'LONG') as margin_long,
       (select coalesce(sum(margin), 0) from held where side = 'SHORT') as margin_short,
       largest.symbol as largest_symbol, coalesce(largest.margin, 0) as largest_margin,
       (select count(*) from positions p
        where p.session_id = a.session_id and p.status = 'CLOSED' and p.close_reason in ('STOP', 'LIQUIDATION')
          and p.closed_at > a.as_of - a.window_hours * interval '1 hour' and p.closed_at <= a.as_of) as stopped
from asked a
left join lateral (
    select ts, equity, peak from equity e
    where e.session_id = a.session_id and e.ts <= a.as_of order by e.ts desc limit 1
) newest on true
left join lateral (
    select equity from equity e
    where e.session_id = a.session_id and e.ts <= date_trunc('day', a.as_of at time zone 'UTC') at time zone 'UTC'
    order by e.ts desc limit 1
) opening on true
left join lateral (
    select symbol, sum(margin) as margin from held group by symbol order by 2 desc, 1 limit 1
) largest on true
"""


def risk_state(connection: psycopg.Connection[Any], session_id: UUID) -> RiskState | None:
    """How the account of a session stands to its limits, None when there is no such session."""
    arguments = {"session": session_id, "window": RiskLimits().stop_guard_window_hours}
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_STATE, arguments).fetchone()
    if row is None:
        return None
    peak, day_open = row.pop("peak"), row.pop("day_open")
    limits = RiskLimits.model_validate(row.pop("limits") or {})
    return RiskState(
        limits=limits,
        daily_loss=max(0.0, 1 - row["equity"] / day_open),
        drawdown=max(0.0, 1 - row["equity"] / max(peak, row["equity"])),
        **row,
    )


_LOCKS = """
select l.lock_id, l.reason, i.symbol, l.side, l.starts_at, l.ends_at,
       extract(epoch from l.ends_at - s.as_of)::float8 as seconds_left
from (select session_id, coalesce(clock, now()) as as_of from sessions where session_id = %(session)s) s
join risk_locks l using (session_id)
left join instruments i using (instrument_id)
where l.starts_at <= s.as_of and l.ends_at > s.as_of and (l.lifted_at is null or l.lifted_at > s.as_of)
order by l.instrument_id is not null, l.ends_at desc, l.lock_id
"""


def locks_in_force(connection: psycopg.Connection[Any], session_id: UUID) -> pd.DataFrame:
    """Locks that keep entries of a session away now; without a symbol they hold for all, without a side for both."""
    return read_frame(connection, _LOCKS, {"session": session_id})


_REFUSALS = """
select r.assessed_at, i.symbol, s.side, s.strategy, r.stage, r.outcome, r.reason
from risk_assessments r
join instruments i using (instrument_id)
left join signals s using (signal_id)
where r.session_id = %(session)s and r.outcome <> 'ALLOW'
order by r.assessed_at desc, r.assessment_id desc limit %(limit)s
"""


def refusals(connection: psycopg.Connection[Any], session_id: UUID, limit: int) -> pd.DataFrame:
    """What the rules have refused or made smaller, the newest first."""
    return read_frame(connection, _REFUSALS, {"session": session_id, "limit": limit})


_LOOKED_AT = 100_000
"""Newest events among which warnings are looked for: nearly all events are none."""

_ALERTS = """
select e.ts, e.severity, e.kind, s.name as session, e.subject, e.message
from events e left join sessions s using (session_id)
where e.severity <> 'info' and e.event_id > (select coalesce(max(event_id), 0) from events) - %(looked_at)s
  and (e.session_id is null or %(session)s::uuid is null or e.session_id = %(session)s)
order by e.event_id desc limit %(limit)s
"""


def list_alerts(connection: psycopg.Connection[Any], session_id: UUID | None, limit: int) -> pd.DataFrame:
    """Warnings and worse of the platform and of a session, None for all sessions; the newest first."""
    return read_frame(connection, _ALERTS, {"session": session_id, "limit": limit, "looked_at": _LOOKED_AT})
