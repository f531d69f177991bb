"""ATR(14) of one closed bar, as the stored features have it to the digit, although they may not be stored yet."""

from datetime import datetime
from typing import Any

import psycopg

from trading_pipelines.application.features.building import load_inputs, to_naive
from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.features.registry import REGISTRY
from trading_pipelines.domain.market.timeframe import Timeframe

_ATR = [spec for spec in REGISTRY if spec.name == "atr_14"]
"""This feature alone: the fast service must not wait for all the others."""


def atr_at(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: Timeframe, ts: datetime
) -> float:
    """ATR of the bar that opened at `ts`, in quote currency; NaN while it warms up or without that bar."""
    end = ts + timeframe.delta
    inputs = load_inputs(connection, exchange, symbol, timeframe, ts, end)
    connection.commit()
    matrix = compute_features(inputs, _ATR).between(to_naive(ts), to_naive(end))
    return float(matrix.values[-1, 0]) if len(matrix.ts) else float("nan")
