"""ATR(14) of one closed bar, as the stored features have it to the digit, although they may not be stored yet."""

from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.application.features import features_between
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import Timeframe


def atr_at(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: Timeframe, ts: datetime
) -> float:
    """ATR of the bar that opened at `ts`, in quote currency; NaN while it warms up or without that bar."""
    matrix = features_between(connection, exchange, symbol, timeframe, ts, ts + timeframe.delta)
    connection.commit()
    return float(matrix.values[-1, registry.NAMES.index("atr_14")]) if len(matrix.ts) else float("nan")
