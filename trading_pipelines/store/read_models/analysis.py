"""What was found out about the market of one exchange: technical signals, the daily ranking, anomalies."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

# The newest row per instrument, unless it is so old that the instrument no longer trades.
_TECHNICAL = """
select i.symbol, t.side, t.confidence, t.trend_4h, t.trend_1d, t.setup_15m, t.setup_1h, t.conflict, t.entry_price,
       t.stop_price, t.tp1_price, t.tp2_price, t.tp3_price, t.risk_reward, t.notional, t.quantity,
       array_to_string(t.reasons, ' · ') as reasons, t.available_at
from instruments i
cross join lateral (
    select * from technical_signals where instrument_id = i.instrument_id order by ts desc limit 1
) t
where i.exchange = %(exchange)s
  and t.available_at > (select max(available_at) from technical_signals s join instruments o using (instrument_id)
                        where o.exchange = %(exchange)s) - interval '1 day'
order by (t.side = 'NEUTRAL'), t.confidence desc, i.symbol
"""
_RANKINGS = """
select r.rank, i.symbol, r.direction, r.score, r.trend, r.volume, r.volatility, r.rsi_setup, r.symbols,
       array_to_string(r.reasons, ' · ') as reasons, r.available_at
from screener_rankings r join instruments i using (instrument_id)
where i.exchange = %(exchange)s and r.ts = %(day)s
order by r.rank limit %(limit)s
"""
_ANOMALIES = """
select a.available_at, i.symbol, a.timeframe, a.kind, a.measure, a.change, a.volume_ratio
from anomalies a join instruments i using (instrument_id)
where i.exchange = %(exchange)s and a.ts >= %(since)s
order by a.available_at desc, a.measure desc, i.symbol, a.kind limit %(limit)s
"""


def newest_technical_signals(connection: psycopg.Connection[Any], exchange: str) -> pd.DataFrame:
    """The newest technical signal of every symbol, the most confident first and neutral ones last."""
    return read_frame(connection, _TECHNICAL, {"exchange": exchange})


def ranked_days(connection: psycopg.Connection[Any], exchange: str, limit: int) -> list[datetime]:
    """Days that were ranked, the newest first."""
    rows = connection.execute(
        "select distinct r.ts from screener_rankings r join instruments i using (instrument_id) "
        "where i.exchange = %s order by 1 desc limit %s",
        (exchange, limit),
    ).fetchall()
    return [day for (day,) in rows]


def ranking(connection: psycopg.Connection[Any], exchange: str, day: datetime, limit: int) -> pd.DataFrame:
    """The best `limit` symbols of one day, in order."""
    return read_frame(connection, _RANKINGS, {"exchange": exchange, "day": day, "limit": limit})


def list_anomalies(connection: psycopg.Connection[Any], exchange: str, since: datetime, limit: int) -> pd.DataFrame:
    """Anomalies of bars that opened since then, the newest first."""
    return read_frame(connection, _ANOMALIES, {"exchange": exchange, "since": since, "limit": limit})
