"""Prediction markets as they stand, their odds over time, and the distributions that were implied by them."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.prediction_markets.markets import MarketOdds, OddsPolicy, PredictionMarket

_UPSERT_MARKETS: LiteralString = """
insert into prediction_markets as known
    (source, market_id, event_id, question, coin, kind, strike, upper_strike, expires_at, status, outcome,
     first_seen_at, last_seen_at, closed_at)
select source, market_id, event_id, question, coin, kind, strike, upper_strike, expires_at, status, outcome, ts, ts,
       case when status <> 'OPEN' then ts end
from unnest(%(source)s::text[], %(market_id)s::text[], %(event_id)s::text[], %(question)s::text[], %(coin)s::text[],
            %(kind)s::text[], %(strike)s::float8[], %(upper_strike)s::float8[], %(expires_at)s::timestamptz[],
            %(ts)s::timestamptz[], %(status)s::text[], %(outcome)s::float8[])
    as new (source, market_id, event_id, question, coin, kind, strike, upper_strike, expires_at, ts, status, outcome)
on conflict (source, market_id) do update set
    question = excluded.question, coin = excluded.coin, kind = excluded.kind, strike = excluded.strike,
    upper_strike = excluded.upper_strike, expires_at = excluded.expires_at, status = excluded.status,
    outcome = excluded.outcome, last_seen_at = excluded.last_seen_at,
    closed_at = case when excluded.status <> 'OPEN' then coalesce(known.closed_at, excluded.closed_at) end
where excluded.last_seen_at >= known.last_seen_at
returning xmax = 0
"""
_INSERT_ODDS: LiteralString = """
insert into prediction_odds (source, market_id, ts, available_at, probability, spread, liquidity_usd, volume_usd)
select * from unnest(%(source)s::text[], %(market_id)s::text[], %(ts)s::timestamptz[], %(available_at)s::timestamptz[],
                     %(probability)s::float8[], %(spread)s::float8[], %(liquidity_usd)s::float8[],
                     %(volume_usd)s::float8[])
on conflict (source, market_id, ts) do nothing
"""
# The newest odds of each market against those that held an hour before.
_CLAIM_ALERTS: LiteralString = """
with newest as (
    select distinct on (o.source, o.market_id) o.* from prediction_odds o
    where o.available_at <= %(now)s and o.available_at > %(now)s - %(max_age)s
      and (o.source = %(name)s) = %(simulated)s
    order by o.source, o.market_id, o.ts desc
), moved as (
    select n.source, n.market_id, n.ts, n.probability, before.probability as before
    from newest n
    join prediction_markets m using (source, market_id)
    cross join lateral (
        select b.probability from prediction_odds b
        where b.source = n.source and b.market_id = n.market_id
          and b.ts <= n.ts - %(hours)s and b.ts > n.ts - %(hours)s - %(max_age)s
        order by b.ts desc limit 1
    ) before
    where n.alerted_at is null and m.status = 'OPEN' and m.expires_at > %(now)s and m.kind <> 'UP_OR_DOWN'
      and coalesce(n.spread, 0) <= %(max_spread)s
      and coalesce(n.liquidity_usd, 'Infinity') >= %(min_liquidity)s
      and coalesce(n.volume_usd, 'Infinity') >= %(min_volume)s
      and abs(n.probability - before.probability) > %(points)s + 1e-9
)
update prediction_odds o set alerted_at = %(now)s
from moved join prediction_markets m using (source, market_id)
where (o.source, o.market_id, o.ts) = (moved.source, moved.market_id, moved.ts) and o.alerted_at is null
returning m.question, m.coin, m.kind, m.strike, m.expires_at, o.source, o.market_id, o.ts, moved.before, o.probability
"""
_UPSERT_IMPLIED: LiteralString = """
insert into implied_distributions as known
    (source, coin, expires_at, method, ts, available_at, spot, rungs, repaired, weight_usd, above_spot,
     q10, q25, median, q75, q90, strikes, survival)
values (%(source)s, %(coin)s, %(expires_at)s, %(method)s, %(ts)s, %(available_at)s, %(spot)s, %(rungs)s, %(repaired)s,
        %(weight_usd)s, %(above_spot)s, %(q10)s, %(q25)s, %(median)s, %(q75)s, %(q90)s, %(strikes)s, %(survival)s)
on conflict (source, coin, expires_at, method, ts) do nothing
"""


def save_markets(connection: psycopg.Connection[Any], rows: Sequence[PredictionMarket]) -> int:
    """Store markets as they were seen; what was seen later stays. Returns how many were not known before."""
    columns = {name: [getattr(row, name) for row in rows] for name in PredictionMarket.__dataclass_fields__}
    written = connection.execute(_UPSERT_MARKETS, columns).fetchall() if rows else []
    return sum(is_new for (is_new,) in written)


def add_odds(connection: psycopg.Connection[Any], rows: Sequence[MarketOdds]) -> int:
    """Store odds that are not known yet; returns how many those were."""
    columns = {name: [getattr(row, name) for row in rows] for name in MarketOdds.__dataclass_fields__}
    return connection.execute(_INSERT_ODDS, columns).rowcount if rows else 0


def add_implied(connection: psycopg.Connection[Any], rows: Sequence[dict[str, Any]]) -> int:
    """Store distributions that are not known yet; returns how many those were."""
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.executemany(_UPSERT_IMPLIED, rows)
        return cursor.rowcount


def claim_alerts(
    connection: psycopg.Connection[Any], now: datetime, policy: OddsPolicy, *, simulated: bool
) -> list[dict[str, Any]]:
    """Mark the newest odds that have moved by more than the policy's points as told of; each is returned once."""
    arguments = {
        "now": now,
        "name": SIMULATED,
        "simulated": simulated,
        "hours": timedelta(hours=policy.alert_hours),
        "max_age": timedelta(hours=policy.max_age_hours),
        "max_spread": policy.max_spread,
        "min_liquidity": policy.min_liquidity_usd,
        "min_volume": policy.min_volume_usd,
        "points": policy.alert_points,
    }
    with connection.cursor(row_factory=dict_row) as cursor:
        return sorted(cursor.execute(_CLAIM_ALERTS, arguments).fetchall(), key=lambda row: row["market_id"])


def read_ladder_odds(
    connection: psycopg.Connection[Any], start: datetime, end: datetime, *, simulated: bool
) -> Iterator[dict[str, Any]]:
    """Odds of markets on prices that became known in (start, end], with their markets, in the order they did."""
    with connection.cursor(row_factory=dict_row) as cursor:
        yield from cursor.execute(
            """
            select o.source, o.market_id, o.ts, o.available_at, o.probability, o.spread, o.liquidity_usd, o.volume_usd,
                   m.coin, m.kind, m.strike, m.upper_strike, m.expires_at, m.closed_at
            from prediction_odds o join prediction_markets m using (source, market_id)
            where o.available_at > %(start)s and o.available_at <= %(end)s and m.strike is not null
              and (o.source = %(name)s) = %(simulated)s
            order by o.available_at, o.ts, o.source, o.market_id
            """,
            {"start": start, "end": end, "name": SIMULATED, "simulated": simulated},
        ).fetchall()


def read_implied(
    connection: psycopg.Connection[Any], sources: Sequence[str], start: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Distributions that were implied in [start, end)."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select source, coin, expires_at, method, ts, strikes, survival from implied_distributions "
            "where source = any(%s) and ts >= %s and ts < %s order by ts, coin, expires_at, method",
            (list(sources), start, end),
        ).fetchall()


def missing_since(
    connection: psycopg.Connection[Any], source: str, listed_at: datetime, settled_within: timedelta, limit: int
) -> list[str]:
    """Markets of a source that its listing of that time did not contain, the longest missing first.

    Open ones, and those that were closed without an outcome lately.
    """
    rows = connection.execute(
        "select market_id from prediction_markets where source = %s and last_seen_at < %s and (status = 'OPEN' "
        "or (status = 'RESOLVED' and outcome is null and closed_at > %s)) order by last_seen_at, market_id limit %s",
        (source, listed_at, listed_at - settled_within, limit),
    ).fetchall()
    return [market_id for (market_id,) in rows]


def mark_vanished(connection: psycopg.Connection[Any], source: str, market_ids: Sequence[str], at: datetime) -> int:
    """Note that markets are gone; their rows and odds stay. One that is listed again is open again."""
    return connection.execute(
        "update prediction_markets set status = 'VANISHED', closed_at = %s "
        "where source = %s and market_id = any(%s) and status = 'OPEN'",
        (at, source, list(market_ids)),
    ).rowcount
