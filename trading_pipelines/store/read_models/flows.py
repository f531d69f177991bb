"""What moves on chains: large transactions, net flows over time, whale scores."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

SIMULATED = "simulated"
_TRANSACTIONS = """
select ts, coin, direction, amount, amount_usd, sender_kind, sender, recipient_kind, recipient, blockchain,
       available_at, alerted_at
from whale_transactions
where (source = %(name)s) = %(simulated)s and ts >= %(since)s and amount_usd >= %(least)s
  and (%(coin)s::text is null or coin = %(coin)s)
order by ts desc, transaction_id limit %(limit)s
"""
# Of each value the version that is known now.
_SERIES = """
select distinct on (coin, ts) coin, ts, value from observations
where series = %(series)s and (source = %(name)s) = %(simulated)s and ts >= %(since)s
  and (%(coin)s::text is null or coin = %(coin)s)
order by coin, ts, available_at desc
"""
_SUMMARY = """
with newest as (
    select distinct on (series, coin, ts) series, coin, ts, value from observations
    where series in ('exchange_netflow_usd', 'whale_score') and (source = %(name)s) = %(simulated)s
      and ts >= %(since)s - interval '2 days'
    order by series, coin, ts, available_at desc
), sums as (
    select coin, sum(value) filter (where series = 'exchange_netflow_usd' and ts >= %(since)s) as netflow_usd,
           max(ts) filter (where series = 'whale_score') as scored_day
    from newest group by 1
)
select s.coin, s.netflow_usd, score.value as whale_score, s.scored_day,
       coalesce(t.transactions, 0) as transactions, coalesce(t.inflow_usd, 0) as inflow_usd,
       coalesce(t.outflow_usd, 0) as outflow_usd, t.largest_usd
from sums s
left join newest score on score.coin = s.coin and score.series = 'whale_score' and score.ts = s.scored_day
left join (
    select coin, count(*) as transactions, max(amount_usd) as largest_usd,
           sum(amount_usd) filter (where direction = 'INFLOW') as inflow_usd,
           sum(amount_usd) filter (where direction = 'OUTFLOW') as outflow_usd
    from whale_transactions
    where (source = %(name)s) = %(simulated)s and ts >= %(since)s group by 1
) t on t.coin = s.coin
order by abs(s.netflow_usd) desc nulls last, s.coin
"""


def coin_summary(connection: psycopg.Connection[Any], since: datetime, *, simulated: bool) -> pd.DataFrame:
    """Net flow, large transactions and the newest whale score of every coin, the largest flow first."""
    return read_frame(connection, _SUMMARY, {"name": SIMULATED, "simulated": simulated, "since": since})


def list_transactions(
    connection: psycopg.Connection[Any],
    since: datetime,
    coin: str | None,
    least_usd: float,
    limit: int,
    *,
    simulated: bool,
) -> pd.DataFrame:
    """Large transactions since then, the newest first."""
    arguments = {
        "name": SIMULATED,
        "simulated": simulated,
        "since": since,
        "coin": coin,
        "least": least_usd,
        "limit": limit,
    }
    return read_frame(connection, _TRANSACTIONS, arguments)


def flow_series(
    connection: psycopg.Connection[Any], series: str, coin: str | None, since: datetime, *, simulated: bool
) -> pd.DataFrame:
    """Values of a series over time as they are known now: coin, ts, value."""
    arguments = {"series": series, "coin": coin, "since": since, "name": SIMULATED, "simulated": simulated}
    return read_frame(connection, _SERIES, arguments)
