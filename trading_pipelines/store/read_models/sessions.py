"""Trading sessions as a person chooses between them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import class_row

from trading_pipelines.store.connection import read_frame


@dataclass(frozen=True)
class SessionSummary:
    """One session with the span of its equity marks.

    Attributes
    ----------
    clock : datetime or None
        As-of time that a replay has reached, UTC; None for a session on the wall clock.
    first_mark, last_mark : datetime or None
        First and last equity mark, UTC; None before the first bar.
    max_open_positions : int or None
        Limit from the session's own rules.
    """

    session_id: UUID
    name: str
    mode: str
    status: str
    exchange: str
    symbols: list[str]
    timeframe: str
    strategies: list[str]
    direction: str
    start_capital: float
    clock: datetime | None
    fingerprint: str | None
    created_at: datetime
    first_mark: datetime | None
    last_mark: datetime | None
    max_open_positions: int | None


_SESSIONS = """
select s.session_id, s.name, s.mode, s.status, s.exchange, s.symbols, s.timeframe, s.strategies, s.direction,
       s.start_capital::float8 as start_capital, s.clock, s.fingerprint, s.created_at,
       (select min(ts) from equity e where e.session_id = s.session_id) as first_mark,
       (select max(ts) from equity e where e.session_id = s.session_id) as last_mark,
       (s.config #>> '{limits,max_open_positions}')::int as max_open_positions
from sessions s
where s.purpose = 'trading'
order by s.mode = 'replay', case when s.mode <> 'replay' then s.created_at end, s.created_at desc
"""


def list_sessions(connection: psycopg.Connection[Any]) -> list[SessionSummary]:
    """All sessions that trade: those on the wall clock first, the oldest before the rest, then the newest replays."""
    with connection.cursor(row_factory=class_row(SessionSummary)) as cursor:
        return cursor.execute(_SESSIONS).fetchall()


_COMPARISON = """
select s.session_id::text as session_id, s.name, s.mode, s.status, s.stop_requested_at is not null as stopping,
       array_to_string(s.strategies, ', ') as strategies, s.direction, cardinality(s.symbols) as symbols,
       s.start_capital::float8 as start_capital, (s.start_capital + p.net)::float8 as equity,
       (p.net / s.start_capital)::float8 as result, p.unrealised::float8 as unrealised, p.open, p.closed, p.won,
       (p.fees + p.funding)::float8 as costs, d.drawdown, d.last_mark, g.signals,
       coalesce(t.known and t.valid_until >= now(), false) as known, s.created_at
from sessions s
cross join lateral (
    select coalesce(sum(realised_pnl + unrealised_pnl - fees - funding), 0) as net,
           coalesce(sum(unrealised_pnl) filter (where status = 'OPEN'), 0) as unrealised,
           count(*) filter (where status = 'OPEN') as open, count(*) filter (where status = 'CLOSED') as closed,
           count(*) filter (where status = 'CLOSED' and realised_pnl - fees - funding > 0) as won,
           coalesce(sum(fees), 0) as fees, coalesce(sum(funding), 0) as funding
    from positions where session_id = s.session_id
) p
cross join lateral (
    select min(equity / greatest(peak, equity) - 1) as drawdown, max(ts) as last_mark
    from equity where session_id = s.session_id
) d
cross join lateral (select count(*) as signals from signals where session_id = s.session_id) g
left join account_truth t on t.session_id = s.session_id
where s.purpose = 'trading'
order by s.mode = 'replay', case when s.mode <> 'replay' then s.created_at end, s.created_at desc
limit %(limit)s
"""


def compare_sessions(connection: psycopg.Connection[Any], limit: int = 100) -> pd.DataFrame:
    """All sessions side by side, as `list_sessions` orders them: rules, account, results in quote currency.

    `result` and `drawdown` are fractions; `known` says whether the account agrees with its exchange just now.
    """
    return read_frame(connection, _COMPARISON, {"limit": limit})
