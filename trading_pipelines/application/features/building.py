"""Build the stored features of closed bars."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, cast

import numpy as np
import psycopg

from trading_pipelines.domain.alternative.series import MARKET, coin_of
from trading_pipelines.domain.features import breadth, registry
from trading_pipelines.domain.features.compute import FeatureMatrix, compute_features, compute_newest
from trading_pipelines.domain.features.context import Bars, Breadth, FeatureInputs, Settlements
from trading_pipelines.domain.features.observations import Observed, history_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import EXCHANGE as SIMULATED_EXCHANGE
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import breadth as breadth_store
from trading_pipelines.store.repositories import candles, funding, instruments, observations
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories.features import Build

LEADER = "BTCUSDT"
_TICK = timedelta(microseconds=1)
_FUNDING_WARMUP = timedelta(days=3)
_FEW_BARS = 192
"""Up to so many wanted bars, symbols are computed side by side."""
_TOGETHER = 64
_BREADTH_BARS = 20_000
"""Bars of the whole basket that are held in memory at once."""


@dataclass(frozen=True)
class FeatureReport:
    """How many rows were written, and for how many symbols."""

    symbols: int
    rows: int
    counts: UpsertCount
    breadth_changed: int
    """Rows of the market breadth that were new or different."""
    inputs_hash: str
    """Of the features' definition and everything that they were computed from."""
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
    breadth_changed = update_breadth(connection, exchange, Timeframe(timeframe), start, end)
    rows, counts, digest = 0, UpsertCount(), hashlib.sha256()
    for symbol, inputs, matrix in _computed(history, symbols):
        wanted = matrix.between(to_naive(start), to_naive(end))
        instrument_id = history.stored[symbol].instrument_id
        build = Build(history.start, history.end, inputs_hash(inputs))
        with connection.cursor() as cursor:
            counts += feature_store.upsert_features(cursor, instrument_id, set_id, timeframe, wanted)
            feature_store.record_build(cursor, instrument_id, set_id, timeframe, build)
        connection.commit()
        rows += len(wanted.ts)
        digest.update(symbol.encode() + build.inputs_hash.encode())
    return FeatureReport(len(symbols), rows, counts, breadth_changed, digest.hexdigest(), time.monotonic() - began)


def update_breadth(
    connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe, start: datetime, end: datetime
) -> int:
    """Bring the majors' breadth of the bars that open in [start, end) up to date with the candles, and commit.

    Returns
    -------
    int
        Rows that were new or different.
    """
    stored = instruments.by_symbol(connection, exchange)
    members = [stored[symbol].instrument_id for symbol in breadth.BASKET if symbol in stored]
    changed, since = 0, timeframe.floor(start)
    while since < end:
        until = min(since + _BREADTH_BARS * timeframe.delta, end)
        loaded = candles.read_with_history(connection, members, timeframe, since, until, breadth.MEMBER_BARS)
        bars = [Bars(timeframe, **loaded[instrument_id]) for instrument_id in members]
        rows = breadth.market_breadth(bars, timeframe, to_naive(since), to_naive(until))
        changed += breadth_store.replace(connection, exchange, timeframe, since, until, rows)
        connection.commit()
        since = until
    return changed


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
    warm_ups: int = 1,
) -> FeatureInputs:
    """Load what the features of [start, end) are computed from, with `warm_ups` times the history they need."""
    return _History(connection, exchange, timeframe, start, end, warm_ups).inputs(symbol)


def inputs_hash(inputs: FeatureInputs) -> str:
    """Identity of a build: the same definition over the same inputs, history included, gives the same rows."""
    return hashlib.sha256(registry.definition_hash().encode() + inputs.digest()).hexdigest()


def to_naive(moment: datetime) -> np.datetime64:
    """A moment as numpy has it, in UTC."""
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")


def to_aware(moment: np.datetime64) -> datetime:
    """The reverse of `to_naive`."""
    return cast(datetime, moment.astype("datetime64[us]").item()).replace(tzinfo=UTC)


def _computed(history: "_History", symbols: Sequence[str]) -> Iterator[tuple[str, FeatureInputs, FeatureMatrix]]:
    """Compute symbol by symbol; a few bars of many symbols, as live, in one pass."""
    bars = (history.end - history.start) // history.timeframe.delta
    if bars > _FEW_BARS:
        for symbol in symbols:
            inputs = history.inputs(symbol)
            yield symbol, inputs, compute_features(inputs)
        return
    for first in range(0, len(symbols), _TOGETHER):
        together = symbols[first : first + _TOGETHER]
        history.load(together)
        inputs = [history.inputs(symbol) for symbol in together]
        yield from zip(together, inputs, compute_newest(inputs, bars), strict=True)


class _History:
    """Loads the series that features of [start, end) are computed from; the shared ones only once."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        exchange: str,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        warm_ups: int = 1,
    ) -> None:
        self.connection = connection
        self.exchange = exchange
        self.timeframe = timeframe
        self.warm_ups = warm_ups
        self.start = timeframe.floor(start)
        self.end = timeframe.floor(end - _TICK) + timeframe.delta
        """Close of the last wanted bar."""
        self.stored = instruments.by_symbol(connection, exchange)
        self._higher = [t for t in (Timeframe.H1, Timeframe.H4, Timeframe.D1) if t.minutes > timeframe.minutes]
        self._loaded: dict[tuple[int, Timeframe], Bars] = {}
        self._observed: dict[str, dict[str, Observed]] = {}

    def load(self, symbols: Sequence[str]) -> None:
        """Load the series of several symbols at once, in place of those that were loaded before."""
        ids = [self.stored[symbol].instrument_id for symbol in symbols]
        self._loaded = {
            (instrument_id, timeframe): bars
            for timeframe in (self.timeframe, *self._higher)
            for instrument_id, bars in self._read(ids, timeframe).items()
        }
        self._observed = self._read_observed([self._coin(symbol) for symbol in symbols], market=False)

    def inputs(self, symbol: str) -> FeatureInputs:
        instrument_id = self.stored[symbol].instrument_id
        return FeatureInputs(
            bars=self._leader if symbol == LEADER and self._leader else self._bars(instrument_id, self.timeframe),
            higher={timeframe: self._bars(instrument_id, timeframe) for timeframe in self._higher},
            leader=None if symbol == LEADER else self._leader,
            funding=self._funding(instrument_id),
            breadth=self._breadth,
            observed=self._observations(self._coin(symbol)),
            market=self._market,
        )

    @cached_property
    def _leader(self) -> Bars | None:
        leader = self.stored.get(LEADER)
        return None if leader is None else self._bars(leader.instrument_id, self.timeframe)

    @cached_property
    def _breadth(self) -> Breadth:
        since = self.start - 2 * self.timeframe.delta
        return breadth_store.read(self.connection, self.exchange, self.timeframe, since, self.end)

    @cached_property
    def _market(self) -> dict[str, Observed]:
        return self._read_observed([MARKET], market=True)[MARKET]

    def _coin(self, symbol: str) -> str:
        return coin_of(self.stored[symbol].instrument.base)

    def _observations(self, coin: str) -> dict[str, Observed]:
        known = self._observed.get(coin)
        return self._read_observed([coin], market=False)[coin] if known is None else known

    def _read_observed(self, coins: Sequence[str], *, market: bool) -> dict[str, dict[str, Observed]]:
        """Series from outside by coin; what is too old to matter in either of its times is left out."""
        since = {name: self.start - self.warm_ups * history for name, history in history_of(market=market).items()}
        simulated = self.exchange == SIMULATED_EXCHANGE
        found = observations.read_series(
            self.connection, since, list(dict.fromkeys(coins)), self.end, simulated=simulated
        )
        by_coin: dict[str, dict[str, Observed]] = {coin: {} for coin in coins}
        for (name, coin), columns in found.items():
            recent = columns["ts"] >= to_naive(since[name])
            by_coin[coin][name] = Observed(*(columns[c][recent] for c in ("available_at", "ts", "value")))
        return by_coin

    def _bars(self, instrument_id: int, timeframe: Timeframe) -> Bars:
        loaded = self._loaded.get((instrument_id, timeframe))
        return self._read([instrument_id], timeframe)[instrument_id] if loaded is None else loaded

    def _read(self, instrument_ids: Sequence[int], timeframe: Timeframe) -> dict[int, Bars]:
        """Candles with the history that the indicators need before the first wanted bar."""
        warmup = self.warm_ups * registry.WARMUP_BARS["signal" if timeframe is self.timeframe else timeframe]
        since = timeframe.floor(self.start)
        found = candles.read_with_history(self.connection, instrument_ids, timeframe, since, self.end, warmup)
        return {instrument_id: Bars(timeframe, **columns) for instrument_id, columns in found.items()}

    def _funding(self, instrument_id: int) -> Settlements:
        frame = funding.read_rates(self.connection, instrument_id, self.start - _FUNDING_WARMUP, self.end)
        return Settlements(frame["ts"].to_numpy("datetime64[us]"), frame["rate"].to_numpy(np.float64))
