"""Candles of one symbol and what the session did on them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import read_frame

TIMEFRAMES = tuple(timeframe.value for timeframe in Timeframe)
_WARM_UP = 4
"""An EMA is read this many spans early; what is left of its start is then under 0.04 %."""


def bars_between(timeframe: str, start: datetime, end: datetime) -> int:
    """How many bars of a timeframe fit between two moments."""
    return int((end - start) / Timeframe(timeframe).delta)


def next_close(timeframe: str, now: datetime) -> datetime:
    """When the bar that is being formed at `now` closes."""
    step = Timeframe(timeframe)
    return step.floor(now) + step.delta


_SPANS = " union all ".join(
    f"select '{timeframe}' as timeframe, "
    f"(select min(ts) from ohlcv_{timeframe} where instrument_id = i.instrument_id) as first, "
    f"(select max(ts) from ohlcv_{timeframe} where instrument_id = i.instrument_id) as last "
    "from instruments i where i.exchange = %(exchange)s and i.symbol = %(symbol)s"
    for timeframe in TIMEFRAMES
)


def candle_span(
    connection: psycopg.Connection[Any], exchange: str, symbol: str
) -> dict[str, tuple[datetime, datetime]]:
    """Open times of the first and last stored candle per timeframe; a timeframe without candles is absent."""
    frame = read_frame(connection, _SPANS, {"exchange": exchange, "symbol": symbol})
    known = frame.dropna().itertuples(index=False, name=None)
    return {timeframe: (first, last) for timeframe, first, last in known}


INDICATORS = (
    "bollinger_upper",
    "bollinger_middle",
    "bollinger_lower",
    "vwap",
    "rsi",
    "macd",
    "macd_signal",
    "macd_histogram",
)
_INDICATOR_BARS = 640
"""Read early for RSI and MACD, so that nothing of their start is left."""


def candles(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: str,
    start: datetime,
    end: datetime,
    ema_spans: Sequence[int] = (),
    *,
    indicators: bool = False,
) -> pd.DataFrame:
    """Candles with open time in [start, end), ascending, with one column `ema_<span>` per requested span.

    With `indicators` there is a column for each of `INDICATORS` as well, NaN where a value has no whole window.
    """
    step = Timeframe(timeframe)
    bars = max(_WARM_UP * max(ema_spans, default=0), _INDICATOR_BARS if indicators else 0)
    # The VWAP begins at midnight.
    warm_up = step.delta * bars + (timedelta(days=1) if indicators else timedelta(0))
    frame = read_frame(
        connection,
        f"""
        select c.ts, c.open, c.high, c.low, c.close, c.volume
        from ohlcv_{step.value} c
        join instruments i using (instrument_id)
        where i.exchange = %(exchange)s and i.symbol = %(symbol)s and c.ts >= %(start)s and c.ts < %(end)s
        order by c.ts
        """,
        {"exchange": exchange, "symbol": symbol, "start": start - warm_up, "end": end},
    )
    for span in ema_spans:
        frame[f"ema_{span}"] = frame["close"].ewm(span=span, adjust=False).mean()
    if indicators and len(frame):
        frame = frame.assign(**_indicators(frame, step))
    return frame.loc[frame["ts"] >= start].reset_index(drop=True)


def _indicators(frame: pd.DataFrame, step: Timeframe) -> dict[str, Any]:
    # Loads a compiler, which the pages do without until somebody asks for an indicator.
    from trading_pipelines.domain.features.context import Bars
    from trading_pipelines.domain.technical.indicators import indicators

    ts = frame["ts"].dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    columns = [frame[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")]
    found = indicators(Bars(step, ts, *columns))
    return {name: getattr(found, "vwap_session" if name == "vwap" else name) for name in INDICATORS}


_SIGNAL_MARKS = """
select s.signal_id::text as signal_id, s.created_at, s.valid_until, s.side, s.status, s.confidence, s.entry_price,
       s.stop_price, s.tp1_price, s.tp2_price, s.tp3_price
from signals s
join instruments i using (instrument_id)
where s.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and s.created_at >= %(start)s and s.created_at <= %(end)s
order by s.created_at
"""

_FILL_MARKS = """
select f.ts, f.kind, f.side, f.quantity::float8 as quantity, f.price::float8 as price, f.fee::float8 as fee,
       f.realised_pnl::float8 as realised_pnl
from fills f
join instruments i using (instrument_id)
where f.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and f.ts >= %(start)s and f.ts <= %(end)s
order by f.ts
"""


def signal_marks(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    exchange: str,
    symbol: str,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    """Signals of a symbol created in [start, end], with their levels."""
    parameters = {"session": session_id, "exchange": exchange, "symbol": symbol, "start": start, "end": end}
    return read_frame(connection, _SIGNAL_MARKS, parameters)


def fill_marks(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    exchange: str,
    symbol: str,
    start: datetime,
    end: datetime,
) -> pd.DataFrame:
    """Fills of a symbol in [start, end]."""
    parameters = {"session": session_id, "exchange": exchange, "symbol": symbol, "start": start, "end": end}
    return read_frame(connection, _FILL_MARKS, parameters)
