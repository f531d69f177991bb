"""Prices, changes and trends of all symbols of one exchange, and the figures of the whole market."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg

from trading_pipelines.domain.alternative.series import MARKET, SERIES, SIMULATED
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import read_frame

_HOURS = 240
"""Hourly bars read per symbol: three times the slow EMA, so that its start no longer matters."""
_SPARK_HOURS = 48
_FAST, _SLOW = 20, 80


@dataclass(frozen=True)
class Exchange:
    """An exchange key and how many instruments are stored for it."""

    exchange: str
    instruments: int


def list_exchanges(connection: psycopg.Connection[Any]) -> list[Exchange]:
    """Exchanges with followed instruments, the one with most of them first."""
    rows = connection.execute("select exchange, count(*) from instruments where followed group by 1 order by 2 desc, 1")
    return [Exchange(exchange, count) for exchange, count in rows]


def list_symbols(connection: psycopg.Connection[Any], exchange: str) -> list[str]:
    """Symbols of one exchange in alphabetical order."""
    rows = connection.execute("select symbol from instruments where exchange = %s and followed order by 1", (exchange,))
    return [symbol for (symbol,) in rows]


# The newest candle of any intraday timeframe: which one is fetched and which are derived is a setting.
_NEWEST = """
select i.instrument_id, i.symbol, i.status,
       c.close as candle_price, c.available_at as candle_at,
       t.price as ticker_price, t.ts as ticker_at, t.change_24h as ticker_change,
       t.quote_volume_24h as ticker_volume
from instruments i
left join tickers t on t.instrument_id = i.instrument_id
left join lateral (
    select close, available_at from (
        (select close, available_at from ohlcv_5m where instrument_id = i.instrument_id order by ts desc limit 1)
        union all
        (select close, available_at from ohlcv_15m where instrument_id = i.instrument_id order by ts desc limit 1)
        union all
        (select close, available_at from ohlcv_1h where instrument_id = i.instrument_id order by ts desc limit 1)
    ) newest
    order by available_at desc limit 1
) c on true
where i.exchange = %(exchange)s and i.followed
order by i.symbol
"""

_HOURLY = """
select i.instrument_id, c.available_at, c.close, c.close * c.volume as quote_volume
from instruments i
cross join lateral (
    select available_at, close, volume from ohlcv_1h
    where instrument_id = i.instrument_id order by ts desc limit %(hours)s
) c
where i.exchange = %(exchange)s and i.followed
order by i.instrument_id, c.available_at
"""

_LAST_SIGNALS = """
select distinct on (instrument_id)
       instrument_id, side as signal_side, status as signal_status, created_at as signal_at
from signals
where session_id = %(session)s
order by instrument_id, created_at desc
"""

# `materialized` keeps the planner at one index probe per instrument instead of a scan of all predictions.
_LAST_PREDICTIONS = """
select i.instrument_id, p.side as model_side, p.confidence as model_confidence
from instruments i
cross join lateral (
    select side, confidence from predictions
    where instrument_id = i.instrument_id and timeframe = %(timeframe)s order by ts desc limit 1
) p
where i.exchange = %(exchange)s and i.followed
"""

_SCORES = """
select i.instrument_id, c.score
from instruments i
cross join lateral (
    select nullif(score, 'NaN') as score from composite_scores
    where instrument_id = i.instrument_id and bar_minutes = %(minutes)s order by ts desc limit 1
) c
where i.exchange = %(exchange)s and i.followed
"""


def market_overview(
    connection: psycopg.Connection[Any], exchange: str, session_id: UUID | None, timeframe: str
) -> pd.DataFrame:
    """One row per symbol of an exchange, the largest traded volume first.

    Parameters
    ----------
    session_id : UUID or None
        Session whose newest signal per symbol is shown; None shows no signals.
    timeframe : str
        Timeframe whose newest prediction and score are shown.

    Returns
    -------
    DataFrame
        symbol, status, price, price_at, change_24h (fraction), volume_24h (quote currency), trend (`UP`, `DOWN`,
        `MIXED` or None while there are fewer than 80 hourly bars), trend_gap (EMA 20 over EMA 80 of hourly
        closes, minus one), spark (list of hourly closes of two days), score (newest composite score, 0 to 100),
        model_side, model_confidence, signal_side, signal_status, signal_at.
    """
    newest = read_frame(connection, _NEWEST, {"exchange": exchange}).set_index("instrument_id")
    hourly = read_frame(connection, _HOURLY, {"exchange": exchange, "hours": _HOURS})
    predictions = read_frame(connection, _LAST_PREDICTIONS, {"exchange": exchange, "timeframe": timeframe})
    scores = read_frame(connection, _SCORES, {"exchange": exchange, "minutes": Timeframe(timeframe).minutes})
    signals = read_frame(connection, _LAST_SIGNALS, {"session": session_id})
    prices = _prices(newest)
    found = [frame.set_index("instrument_id") for frame in (scores, predictions, signals)]
    overview = prices.join([_trends(hourly, prices), *found])
    overview["change_24h"] = overview.pop("ticker_change").fillna(overview.pop("candle_change"))
    overview["volume_24h"] = overview.pop("ticker_volume").fillna(overview.pop("candle_volume"))
    return overview.sort_values("volume_24h", ascending=False, na_position="last").reset_index(drop=True)


def _prices(newest: pd.DataFrame) -> pd.DataFrame:
    """Take the ticker where it is at least as new as the newest candle, and the candle otherwise."""
    has_ticker = newest["ticker_at"].notna() & ~(newest["candle_at"] > newest["ticker_at"])
    prices = pd.DataFrame({"symbol": newest["symbol"], "status": newest["status"]})
    prices["price"] = newest["ticker_price"].where(has_ticker, newest["candle_price"]).astype("float64")
    prices["price_at"] = newest["ticker_at"].where(has_ticker, newest["candle_at"])
    prices["ticker_change"] = newest["ticker_change"].where(has_ticker).astype("float64")
    prices["ticker_volume"] = newest["ticker_volume"].where(has_ticker).astype("float64")
    return prices


def _trends(hourly: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    now = {key: (price, at) for key, price, at in zip(prices.index, prices["price"], prices["price_at"], strict=True)}
    rows = {key: _trend(bars, *now[key]) for key, bars in hourly.groupby("instrument_id")}
    columns = ["candle_change", "candle_volume", "trend", "trend_gap", "spark"]
    trends = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return trends.astype({"candle_change": "float64", "candle_volume": "float64", "trend_gap": "float64"})


def _trend(bars: pd.DataFrame, price: float, price_at: pd.Timestamp) -> list[Any]:
    closes = bars["close"].astype("float64")
    last_day = bars["available_at"] > price_at - pd.Timedelta(hours=24)
    before = closes[~last_day].tolist()
    change = price / before[-1] - 1 if before else None
    volume = bars["quote_volume"][last_day].sum()
    spark = [*closes.tolist()[-_SPARK_HOURS:], price]
    if len(closes) < _SLOW:
        return [change, volume, None, None, spark]
    fast = closes.ewm(span=_FAST, adjust=False).mean().tolist()[-1]
    slow = closes.ewm(span=_SLOW, adjust=False).mean().tolist()[-1]
    trend = "UP" if price > fast > slow else "DOWN" if price < fast < slow else "MIXED"
    return [change, volume, trend, fast / slow - 1, spark]


MARKET_INDICES = ("fear_greed", "btc_dominance")
_INDEX_DAYS = 30


@dataclass(frozen=True)
class MarketIndex:
    """One figure of the whole market, in the unit of its series.

    Attributes
    ----------
    ts : datetime
        What the newest value speaks of, UTC.
    day_before : float or None
        The newest value that is at least a day older.
    history : list of float
        Values of 30 days, the oldest first.
    is_stale : bool
        So old that the platform itself no longer counts with it.
    """

    value: float
    ts: datetime
    day_before: float | None
    history: list[float]
    is_stale: bool


_INDICES = """
select distinct on (series, ts) series, ts, available_at, value from observations
where series = any(%(series)s) and coin = %(market)s and (source = %(name)s) = %(simulated)s
  and ts > %(since)s and ts <= %(now)s and available_at <= %(now)s
order by series, ts, available_at desc
"""


def market_indices(connection: psycopg.Connection[Any], now: datetime, *, simulated: bool) -> dict[str, MarketIndex]:
    """Fear & Greed and the dominance of bitcoin as known at `now`; what was not published for 30 days is absent."""
    rows = read_frame(
        connection,
        _INDICES,
        {
            "series": list(MARKET_INDICES),
            "market": MARKET,
            "name": SIMULATED,
            "simulated": simulated,
            "since": now - timedelta(days=_INDEX_DAYS),
            "now": now,
        },
    )
    return {str(name): _index(str(name), values, now) for name, values in rows.groupby("series")}


def _index(name: str, rows: pd.DataFrame, now: datetime) -> MarketIndex:
    newest = rows.iloc[-1]
    before = rows.loc[rows["ts"] <= newest["ts"] - pd.Timedelta(days=1), "value"].tolist()
    return MarketIndex(
        value=float(newest["value"]),
        ts=newest["ts"],
        day_before=before[-1] if before else None,
        history=rows["value"].tolist(),
        is_stale=bool(newest["available_at"] < now - SERIES[name].max_age),
    )
