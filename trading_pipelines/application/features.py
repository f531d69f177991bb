"""Build the stored features of closed bars."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix, compute_features
from trading_pipelines.domain.features.context import Bars, FeatureInputs
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles, funding, instruments
from trading_pipelines.store.repositories import features as feature_store

LEADER = "BTCUSDT"


@dataclass(frozen=True)
class FeatureReport:
    """How many rows were written, and for how many symbols."""

    symbols: int
    rows: int
    counts: UpsertCount
    seconds: float


def current_feature_set(connection: psycopg.Connection[Any]) -> int:
    """Id of the feature set that this version of the code computes."""
    return feature_store.feature_set_id(connection, registry.definition_hash(), registry.NAMES)


def build_features(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
) -> FeatureReport:
    """Compute and store the features of the bars that open in [start, end); commit per symbol.

    The history that the indicators need is loaded before `start`, so that a day rebuilt alone gives the values that
    the whole year gives.
    """
    began = time.monotonic()
    set_id = current_feature_set(connection)
    stored = instruments.by_symbol(connection, exchange)
    rows, counts = 0, UpsertCount()
    for symbol in symbols:
        if symbol not in stored:
            raise UserError(f"{symbol} is not stored for {exchange}: run `trading ingest` first")
        matrix = features_between(connection, exchange, symbol, Timeframe(timeframe), start, end)
        with connection.cursor() as cursor:
            counts += feature_store.upsert_features(cursor, stored[symbol].instrument_id, set_id, timeframe, matrix)
        connection.commit()
        rows += len(matrix.ts)
    return FeatureReport(len(symbols), rows, counts, time.monotonic() - began)


def features_between(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> FeatureMatrix:
    """Compute, without storing, the features of the bars that open in [start, end)."""
    inputs = load_inputs(connection, exchange, symbol, timeframe, start, end)
    return compute_features(inputs).between(_naive(start), _naive(end))


def load_inputs(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> FeatureInputs:
    """Load what the features of [start, end) are computed from, warm-up included."""
    stored = instruments.by_symbol(connection, exchange)
    own, leader = stored[symbol], stored.get(LEADER)

    def load(instrument_id: int, wanted: Timeframe, warmup: int) -> Bars:
        since = wanted.floor(start) - warmup * wanted.delta
        return Bars(candles.read_candles(connection, instrument_id, wanted, since, end), wanted)

    warmup = registry.WARMUP_BARS["signal"]
    higher = [t for t in (Timeframe.H1, Timeframe.H4, Timeframe.D1) if t.minutes > timeframe.minutes]
    return FeatureInputs(
        bars=load(own.instrument_id, timeframe, warmup),
        higher={t: load(own.instrument_id, t, registry.WARMUP_BARS[t]) for t in higher},
        leader=None if leader is None or symbol == LEADER else load(leader.instrument_id, timeframe, warmup),
        funding=funding.read_rates(connection, own.instrument_id, start - timedelta(days=10), end),
    )


def _naive(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
