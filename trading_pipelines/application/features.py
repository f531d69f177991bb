"""Build the stored features of closed bars."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, cast

import numpy as np
import psycopg

from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix, compute_features
from trading_pipelines.domain.features.context import Bars, FeatureInputs, Settlements
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles, funding, instruments
from trading_pipelines.store.repositories import features as feature_store

LEADER = "BTCUSDT"
_TICK = timedelta(microseconds=1)
_FUNDING_WARMUP = timedelta(days=3)


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
    history = _History(connection, exchange, Timeframe(timeframe), start, end)
    unknown = [symbol for symbol in symbols if symbol not in history.stored]
    if unknown:
        raise UserError(f"{', '.join(unknown)} not stored for {exchange}: run `trading ingest` first")
    rows, counts = 0, UpsertCount()
    for symbol in symbols:
        matrix = compute_features(history.inputs(symbol)).between(to_naive(start), to_naive(end))
        instrument_id = history.stored[symbol].instrument_id
        with connection.cursor() as cursor:
            counts += feature_store.upsert_features(cursor, instrument_id, set_id, timeframe, matrix)
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
    return compute_features(inputs).between(to_naive(start), to_naive(end))


def load_inputs(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> FeatureInputs:
    """Load what the features of [start, end) are computed from, warm-up included."""
    return _History(connection, exchange, timeframe, start, end).inputs(symbol)


def to_naive(moment: datetime) -> np.datetime64:
    """A moment as numpy has it, in UTC."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def to_aware(moment: np.datetime64) -> datetime:
    """The reverse of `to_naive`."""
    return cast(datetime, moment.astype("datetime64[us]").item()).replace(tzinfo=UTC)


class _History:
    """Loads the series that features of [start, end) are computed from; the leader's only once for all symbols."""

    def __init__(
        self, connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> None:
        self.connection = connection
        self.timeframe = timeframe
        self.start = timeframe.floor(start)
        self.end = timeframe.floor(end - _TICK) + timeframe.delta
        """Close of the last wanted bar."""
        self.stored = instruments.by_symbol(connection, exchange)

    def inputs(self, symbol: str) -> FeatureInputs:
        instrument_id = self.stored[symbol].instrument_id
        higher = [t for t in (Timeframe.H1, Timeframe.H4, Timeframe.D1) if t.minutes > self.timeframe.minutes]
        return FeatureInputs(
            bars=self._leader
            if symbol == LEADER and self._leader
            else self._bars(instrument_id, self.timeframe, "signal"),
            higher={t: self._bars(instrument_id, t, t) for t in higher},
            leader=None if symbol == LEADER else self._leader,
            funding=self._funding(instrument_id),
        )

    @cached_property
    def _leader(self) -> Bars | None:
        leader = self.stored.get(LEADER)
        return None if leader is None else self._bars(leader.instrument_id, self.timeframe, "signal")

    def _bars(self, instrument_id: int, timeframe: Timeframe, warmup: str) -> Bars:
        since = timeframe.floor(self.start) - registry.WARMUP_BARS[warmup] * timeframe.delta
        frame = candles.read_candles(self.connection, instrument_id, timeframe, since, self.end)
        return Bars(
            timeframe,
            frame["ts"].to_numpy("datetime64[us]"),
            *(frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")),
        )

    def _funding(self, instrument_id: int) -> Settlements:
        frame = funding.read_rates(self.connection, instrument_id, self.start - _FUNDING_WARMUP, self.end)
        return Settlements(frame["ts"].to_numpy("datetime64[us]"), frame["rate"].to_numpy(np.float64))
