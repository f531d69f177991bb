"""What prediction markets expect: markets with their newest odds, odds over time, implied distributions."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

SIMULATED = "simulated"
_MARKETS = """
select m.market_id, m.question, m.coin, m.kind, m.strike, m.upper_strike, m.expires_at, m.status, m.outcome,
       o.probability, o.spread, o.liquidity_usd, o.volume_usd, o.ts,
       o.probability - before.probability as change_24h, m.last_seen_at
from prediction_markets m
left join lateral (
    select * from prediction_odds where source = m.source and market_id = m.market_id order by ts desc limit 1
) o on true
left join lateral (
    select probability from prediction_odds
    where source = m.source and market_id = m.market_id and ts <= o.ts - interval '24 hours' order by ts desc limit 1
) before on true
where (m.source = %(name)s) = %(simulated)s and m.status = any(%(statuses)s)
  and (%(coin)s::text is null or m.coin = %(coin)s)
order by (m.status <> 'OPEN'), abs(o.probability - before.probability) desc nulls last, m.coin, m.expires_at, m.strike,
         m.market_id
limit %(limit)s
"""
_HISTORY = """
select o.ts, o.probability, m.question, m.market_id
from prediction_odds o join prediction_markets m using (source, market_id)
where (o.source = %(name)s) = %(simulated)s and o.market_id = any(%(ids)s) and o.ts >= %(since)s order by o.ts
"""
_NEWEST_LADDERS = """
select distinct on (coin, expires_at, method) coin, expires_at, method, ts, spot, rungs, repaired, weight_usd,
       above_spot, q10, q25, median, q75, q90, strikes, survival
from implied_distributions
where (source = %(name)s) = %(simulated)s and expires_at > %(now)s and ts > %(now)s - interval '1 day'
  and (%(coin)s::text is null or coin = %(coin)s)
order by coin, expires_at, method, ts desc
"""
_LADDER_HISTORY = """
select ts, spot, q10, q25, median, q75, q90, above_spot from implied_distributions
where (source = %(name)s) = %(simulated)s and coin = %(coin)s and expires_at = %(expires_at)s and method = %(method)s
order by ts
"""
_COINS = """
select distinct coin from prediction_markets where (source = %(name)s) = %(simulated)s order by 1
"""


def list_coins(connection: psycopg.Connection[Any], *, simulated: bool) -> list[str]:
    """Coins that some market is about."""
    return [coin for (coin,) in connection.execute(_COINS, {"name": SIMULATED, "simulated": simulated}).fetchall()]


def list_markets(
    connection: psycopg.Connection[Any], coin: str | None, statuses: tuple[str, ...], limit: int, *, simulated: bool
) -> pd.DataFrame:
    """Markets with their newest odds, open ones that moved most in a day first."""
    arguments = {"name": SIMULATED, "simulated": simulated, "coin": coin, "statuses": list(statuses), "limit": limit}
    return read_frame(connection, _MARKETS, arguments)


def odds_history(
    connection: psycopg.Connection[Any], market_ids: tuple[str, ...], since: datetime, *, simulated: bool
) -> pd.DataFrame:
    """Odds of markets over time."""
    arguments = {"name": SIMULATED, "simulated": simulated, "ids": list(market_ids), "since": since}
    return read_frame(connection, _HISTORY, arguments)


def newest_distributions(
    connection: psycopg.Connection[Any], coin: str | None, now: datetime, *, simulated: bool
) -> pd.DataFrame:
    """The newest implied distribution of each ladder that has not expired."""
    arguments = {"name": SIMULATED, "simulated": simulated, "coin": coin, "now": now}
    return read_frame(connection, _NEWEST_LADDERS, arguments)


def distribution_history(
    connection: psycopg.Connection[Any], coin: str, expires_at: datetime, method: str, *, simulated: bool
) -> pd.DataFrame:
    """How the quantiles of one ladder moved, with spot."""
    arguments = {
        "name": SIMULATED,
        "simulated": simulated,
        "coin": coin,
        "expires_at": expires_at,
        "method": method,
    }
    return read_frame(connection, _LADDER_HISTORY, arguments)
