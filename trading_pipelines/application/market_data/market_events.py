"""Stored candles and funding as the market events that a simulated exchange lives through."""

from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from math import isnan
from typing import Any

import pandas as pd
import psycopg

from trading_pipelines.adapters.exchanges.paper import FundingEvent, MarketEvent
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories import candles, settlements


def market_events(
    connection: psycopg.Connection[Any],
    instrument_ids: Iterable[int],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> list[MarketEvent]:
    """Every bar that opens in [start, end), ordered by time, then instrument.

    Each instrument's finest stored timeframe up to `timeframe` is used, so that stops and targets inside a coarse
    bar fill in the order in which they were reached.
    """
    events = [
        event
        for instrument_id in instrument_ids
        for event in _of_instrument(connection, instrument_id, timeframe, start, end)
    ]
    return sorted(events, key=lambda event: (event.ts_open, event.instrument_id))


def funding_events(
    connection: psycopg.Connection[Any], instrument_id: int, start: datetime, end: datetime
) -> list[FundingEvent]:
    """Settlements of [start, end), ascending; without a stored mark price the exchange pays on the open."""
    due = settlements.read_settlements(connection, instrument_id, start, end)
    rows = zip(_times(due), due["rate"].tolist(), due["mark"].tolist(), strict=True)
    return [FundingEvent(ts, rate, None if isnan(mark) else mark) for ts, rate, mark in rows]


def _of_instrument(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> list[MarketEvent]:
    finest, bars = _finest(connection, instrument_id, timeframe, start, end)
    # Funding due in (previous open, this open]: what fell due at or before the bar before `start` is not of this span.
    pending = deque(funding_events(connection, instrument_id, start - finest.delta + timedelta(microseconds=1), end))
    events: list[MarketEvent] = []
    columns = (bars[name].tolist() for name in ("open", "high", "low", "close", "volume"))
    for opened, open_, high, low, close, volume in zip(_times(bars), *columns, strict=True):
        settled: list[FundingEvent] = []
        while pending and pending[0].ts <= opened:
            settled.append(pending.popleft())
        closed = opened + finest.delta
        events.append(MarketEvent(instrument_id, opened, closed, open_, high, low, close, tuple(settled), volume))
    return events


def _times(frame: pd.DataFrame) -> list[datetime]:
    """The column ts as Python's own datetimes, in UTC."""
    return list(frame["ts"].dt.to_pydatetime())


def _finest(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> tuple[Timeframe, pd.DataFrame]:
    """The finest candles that cover the span as fully as `timeframe` itself does."""
    wanted = candles.read_candles(connection, instrument_id, timeframe, start, end)
    for finer in Timeframe:
        if finer.minutes >= timeframe.minutes:
            break
        bars = candles.read_candles(connection, instrument_id, finer, start, end)
        if not bars.empty and len(bars) >= len(wanted):
            return finer, bars
    return timeframe, wanted
