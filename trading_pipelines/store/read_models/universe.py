"""The pairs of an exchange: who is in the universe, why others are not, what was listed and delisted."""

from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.store.connection import read_frame

_UNIVERSE = """
select i.symbol, i.kind, u.member, array_to_string(u.reasons, ' ') as reasons, u.valid_from as since, i.followed,
       t.price, t.change_24h, t.quote_volume_24h, t.ts as quoted_at,
       case when t.bid + t.ask > 0 then 2 * (t.ask - t.bid) / (t.ask + t.bid) end as spread,
       i.funding_interval_minutes / 60.0::float8 as funding_hours, f.rate as funding_rate,
       o.value_usd as open_interest_usd, m.close as mark_price
from universe u
join instruments i using (instrument_id)
left join tickers t using (instrument_id)
left join lateral (
    select rate from funding_rates where instrument_id = i.instrument_id order by ts desc limit 1
) f on true
left join lateral (
    select value_usd from open_interest where instrument_id = i.instrument_id order by ts desc limit 1
) o on true
left join lateral (
    select close from mark_prices where instrument_id = i.instrument_id order by ts desc limit 1
) m on true
where i.exchange = %(exchange)s and u.valid_to is null
order by u.member desc, t.quote_volume_24h desc nulls last, i.symbol
"""
_LISTINGS = """
select l.ts, i.symbol, l.kind, l.listed_at, l.first_price, l.first_volume, t.price
from listings l join instruments i using (instrument_id) left join tickers t using (instrument_id)
where i.exchange = %(exchange)s
order by l.ts desc, coalesce(l.listed_at, l.ts) desc, i.symbol limit %(limit)s
"""


def universe_now(connection: psycopg.Connection[Any], exchange: str) -> pd.DataFrame:
    """Every pair that was judged, members first and by turnover, with its newest quote and its funding.

    Returns
    -------
    DataFrame
        symbol, kind, member, reasons (empty for members), since, followed, price, change_24h (fraction),
        quote_volume_24h, quoted_at, spread (fraction), funding_hours, funding_rate (fraction), open_interest_usd,
        mark_price.
    """
    return read_frame(connection, _UNIVERSE, {"exchange": exchange})


def newest_listings(connection: psycopg.Connection[Any], exchange: str, limit: int) -> pd.DataFrame:
    """What appeared and left, the newest first: when it was seen, what it was, first price and turnover, price now."""
    return read_frame(connection, _LISTINGS, {"exchange": exchange, "limit": limit})
