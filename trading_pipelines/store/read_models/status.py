"""Is the platform alive and is its data complete."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import read_frame
from trading_pipelines.store.read_models.chart import TIMEFRAMES


@dataclass(frozen=True)
class PlatformStatus:
    """What every page says about the platform.

    Attributes
    ----------
    now : datetime
        The database's clock, UTC.
    services : DataFrame
        service, age_seconds since its last heartbeat, started_at, detail (JSON as text).
    """

    now: datetime
    kill_engaged: bool
    kill_reason: str
    kill_changed_at: datetime
    services: pd.DataFrame


_KILL = "select now(), engaged, reason, changed_at from kill_switch"
_HEARTBEATS = """
select service, extract(epoch from now() - ts)::float8 as age_seconds, ts, started_at, detail::text as detail
from heartbeats order by service
"""


def platform_status(connection: psycopg.Connection[Any]) -> PlatformStatus:
    """The kill switch and the heartbeats; a kill switch without a row counts as engaged."""
    services = read_frame(connection, _HEARTBEATS, {})
    row = connection.execute(_KILL).fetchone()
    if row is None:
        now = connection.execute("select now()").fetchone()
        assert now is not None
        return PlatformStatus(now[0], True, "its row is missing from the database", now[0], services)
    now, engaged, reason, changed_at = row
    return PlatformStatus(now, engaged, reason, changed_at, services)


_SOURCES = """
select i.exchange, i.symbol, i.instrument_id, i.status, s.source, s.dataset, s.last_ts,
       extract(epoch from now() - s.last_ts - {length})::float8 as lag_seconds, s.last_success_at,
       s.last_error, s.last_error_at, coalesce(s.failures, 0) as failures,
       coalesce(s.failures_in_a_row, 0) as failures_in_a_row, s.rows_written, s.rows_per_second,
       coalesce(g.gaps, 0) as open_gaps, coalesce(g.bars, 0) as missing_bars, coalesce(q.rows, 0) as quarantined
from instruments i
left join source_status s on s.exchange = i.exchange and s.symbol = i.symbol
left join (
    select instrument_id, 'candles ' || timeframe as dataset, count(*) as gaps, sum(bars)::bigint as bars
    from ohlcv_gaps where verdict = 'open' group by 1, 2
) g on g.instrument_id = i.instrument_id and g.dataset = s.dataset
left join (
    select source, exchange, symbol, 'candles ' || timeframe as dataset, count(*) as rows
    from ohlcv_quarantine group by 1, 2, 3, 4
) q on (q.source, q.exchange, q.symbol, q.dataset) = (s.source, s.exchange, s.symbol, s.dataset)
where i.followed or s.source is not null
order by i.exchange, i.symbol, s.dataset
"""


def source_status(connection: psycopg.Connection[Any]) -> pd.DataFrame:
    """One row per source, symbol and dataset: newest row, lag, failures, gaps, quarantined rows, speed.

    A candle is late by the time since its close. Symbols without a source have a row as well.
    """
    lengths = "".join(f" when 'candles {t}' then interval '{t.minutes} minutes'" for t in Timeframe)
    length = f"case s.dataset{lengths} when 'mark 1h' then interval '1 hour' else interval '0' end"
    return read_frame(connection, _SOURCES.format(length=length), {})


# One index probe per instrument and timeframe.
_NEWEST_CANDLES = " union all ".join(
    f"select i.exchange, i.symbol, '{t}' as timeframe, "
    f"(select available_at from ohlcv_{t} where instrument_id = i.instrument_id order by ts desc limit 1) as closed_at "
    "from instruments i where i.followed"
    for t in TIMEFRAMES
)


def newest_candles(connection: psycopg.Connection[Any]) -> pd.DataFrame:
    """Close of the newest candle per followed symbol and timeframe: exchange, symbol, timeframe, closed_at."""
    return read_frame(connection, f"select * from ({_NEWEST_CANDLES}) n where closed_at is not null", {})


_GAPS = """
select i.exchange, i.symbol, g.timeframe, g.gap_start, g.gap_end, g.bars, g.verdict, g.detected_at, g.checked_at,
       g.asked, g.repaired_from
from ohlcv_gaps g join instruments i using (instrument_id)
order by g.verdict <> 'open', g.gap_start desc
limit %(limit)s
"""
_QUARANTINE = """
select seen_at, source, exchange, symbol, timeframe, ts, reason, left(payload::text, 400) as payload
from ohlcv_quarantine order by quarantine_id desc limit %(limit)s
"""
_EVENTS = """
select e.ts, e.severity, e.kind, s.name as session, e.subject, e.message
from events e left join sessions s using (session_id)
order by e.event_id desc limit %(limit)s
"""


def list_gaps(connection: psycopg.Connection[Any], limit: int) -> pd.DataFrame:
    """Holes inside the covered time, the open ones first."""
    return read_frame(connection, _GAPS, {"limit": limit})


def list_quarantine(connection: psycopg.Connection[Any], limit: int) -> pd.DataFrame:
    """Rows that were refused on their way in, newest first, with at most 400 characters of what came."""
    return read_frame(connection, _QUARANTINE, {"limit": limit})


def list_events(connection: psycopg.Connection[Any], limit: int) -> pd.DataFrame:
    """The newest events of the platform, newest first."""
    return read_frame(connection, _EVENTS, {"limit": limit})


@dataclass(frozen=True)
class DatabaseSize:
    """How large the database is; `tables` has table, bytes (with indices) and rows (the planner's estimate)."""

    total_bytes: int
    connections: int
    version: str
    tables: pd.DataFrame


_DATABASE = """
select pg_database_size(current_database()), (select count(*) from pg_stat_activity where datname = current_database()),
       current_setting('server_version')
"""
# Chunks of a partitioned or hypertable live in other schemas; the sum over all of ours is the database's size.
_TABLES = """
select c.relname as table, pg_total_relation_size(c.oid) as bytes, greatest(c.reltuples, 0)::bigint as rows
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = current_schema() and c.relkind in ('r', 'p')
order by 2 desc limit %(limit)s
"""


def database_size(connection: psycopg.Connection[Any], limit: int) -> DatabaseSize:
    """Size of the database and of its largest tables."""
    row = connection.execute(_DATABASE).fetchone()
    assert row is not None
    total_bytes, connections, version = row
    return DatabaseSize(total_bytes, connections, version, read_frame(connection, _TABLES, {"limit": limit}))
