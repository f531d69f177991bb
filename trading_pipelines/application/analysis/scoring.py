"""Score all symbols at closes of bars: load what was known, ask the domain, store.

Belongs here: from the database to the database, for one live bar of all symbols and for years of history alike. Does
not belong here: mappings and arithmetic (`domain.scoring`) and choosing weights (`application.analysis.calibration`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from trading_pipelines.application.analysis.market import SIGNAL_TIMEFRAME
from trading_pipelines.application.features.strategy_inputs import from_microseconds, load_input
from trading_pipelines.domain.alternative.series import MARKET, coin_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.composite import Scores, evaluate
from trading_pipelines.domain.scoring.inputs import (
    INPUT_NAMES,
    INPUTS,
    MOMENTUM_CANDLES,
    OBSERVED,
    Input,
    Known,
    Scope,
    join,
    momentum,
    observed,
)
from trading_pipelines.domain.scoring.spec import ScoringSpec
from trading_pipelines.domain.strategies.base import Needs
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, WARM_UP, Weights, read_charts
from trading_pipelines.domain.validation.leakage import Leak, compare
from trading_pipelines.errors import UserError
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import analysis, candles, funding, instruments, observations
from trading_pipelines.store.repositories import scores as score_store
from trading_pipelines.store.repositories.instruments import StoredInstrument

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SIMULATED_EXCHANGE = "simulated"
_CHARTS = Needs(warm_up=WARM_UP, higher=HIGHER_WARM_UP)
_CHUNK_ROWS = 200_000
"""Scores that are computed and held in memory at once."""
_LAG = timedelta(days=2)
"""From the time that a value speaks of until it is known, at most; what takes longer is not seen by its norm."""
_INPUT = {each.name: each for each in INPUTS}


@dataclass(frozen=True)
class ScoringReport:
    """How many scores there are now, and how many of them were new or different."""

    symbols: int
    rows: int
    counts: UpsertCount
    seconds: float


@dataclass(frozen=True)
class Scored:
    """Scores of several symbols, one row per symbol and bar: symbol by symbol, ascending in time.

    Attributes
    ----------
    ts : array of int64
        Open times of the bars in microseconds since 1970.
    raw, mapped, ages : arrays of float
        (rows, inputs).
    """

    instrument_id: Integers
    ts: Integers
    raw: Floats
    mapped: Floats
    ages: Floats
    scores: Scores


def score(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    as_of: datetime,
    spec: ScoringSpec,
) -> ScoringReport:
    """Score the newest bar that is closed at `as_of`, store it, and commit."""
    newest = Timeframe(timeframe).last_closed(as_of)
    return score_range(connection, exchange, symbols, timeframe, newest, newest + timedelta(microseconds=1), spec)


def score_range(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    spec: ScoringSpec,
) -> ScoringReport:
    """Score every bar that opens in [start, end), store the scores, and commit; a repetition changes nothing.

    Raises
    ------
    UserError
        A symbol that is not stored.
    """
    began, frame = time.monotonic(), Timeframe(timeframe)
    stored = stored_instruments(connection, exchange, symbols)
    definition = score_store.definition_id(connection, spec)
    counts, rows = UpsertCount(), 0
    for since, until in _chunks(len(stored), frame, start, end):
        found = compute(connection, exchange, stored, frame, since, until, spec)
        inputs = {"raw": found.raw, "mapped": found.mapped, "ages": found.ages}
        ts = found.ts.astype("datetime64[us]")
        counts += score_store.save(connection, definition, frame, found.instrument_id, ts, found.scores, inputs)
        rows += len(ts)
        connection.commit()
    return ScoringReport(len(stored), rows, counts, time.monotonic() - began)


def compute(
    connection: psycopg.Connection[Any],
    exchange: str,
    stored: Mapping[str, StoredInstrument],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    spec: ScoringSpec,
    *,
    from_candles: bool = False,
) -> Scored:
    """Score the bars that open in [start, end) without storing anything.

    Nothing is read that became known after the close of the last of them.

    Parameters
    ----------
    from_candles : bool
        Read the charts anew instead of taking the stored readings.
    """
    ids = [row.instrument_id for row in stored.values()]
    bars = candles.read_many(connection, ids, timeframe, start, end)
    opens = {i: _microseconds(columns["ts"]) for i, columns in bars.items()}
    newest = max((int(ts[-1]) for ts in opens.values() if len(ts)), default=None)
    if newest is None:
        return _nothing(spec)
    loaded = _Loaded.of(connection, exchange, stored, timeframe, start, from_microseconds(newest) + timeframe.delta)
    charts = _charts(connection, stored, timeframe, opens, start, end, from_candles=from_candles)
    parts = [
        _joined(loaded.known(row, charts[row.instrument_id]), opens[row.instrument_id] + timeframe.microseconds, spec)
        for row in stored.values()
    ]
    mapped, raw, ages = (np.concatenate([part[n] for part in parts]) for n in range(3))
    owner = np.concatenate([np.full(len(opens[i]), i) for i in ids])
    return Scored(owner, np.concatenate([opens[i] for i in ids]), raw, mapped, ages, evaluate(mapped, ages, spec))


def bring_up_to_date(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
    spec: ScoringSpec,
    *,
    asked: bool,
) -> None:
    """Score a span that is about to be decided, where a strategy has `asked` for it or the gates can use it.

    The gates of other strategies ask for three known factors: without observations there are no more than two.
    """
    reach = max(each.max_age for each in OBSERVED)
    simulated = exchange == SIMULATED_EXCHANGE
    if asked or observations.any_known(connection, start - reach, end + reach, simulated=simulated):
        score_range(connection, exchange, symbols, timeframe, start, end, spec)


def check_scores(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    samples: int,
    seed: int,
    spec: ScoringSpec,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[int, dict[str, list[Leak]]]:
    """Compute up to `samples` stored scores of each symbol again from what was known at their time.

    Returns
    -------
    tuple
        How many were looked at, and what differs by symbol.
    """
    draw, frame = np.random.default_rng(seed), Timeframe(timeframe)
    since, until = start or datetime(1970, 1, 1, tzinfo=UTC), end or datetime(9999, 1, 1, tzinfo=UTC)
    definition = score_store.definition_id(connection, spec)
    names = ("score", *INPUT_NAMES)
    checked, leaks = 0, dict[str, list[Leak]]()
    for symbol, row in stored_instruments(connection, exchange, symbols).items():
        found = score_store.read_inputs(connection, row.instrument_id, frame, definition, since, until)
        drawn: list[int] = sorted(draw.choice(len(found["ts"]), min(samples, len(found["ts"])), replace=False).tolist())
        before = [np.concatenate(([found["score"][i]], found["mapped"][i])) for i in drawn]
        again = [
            _alone(connection, exchange, {symbol: row}, frame, from_microseconds(int(ts)), spec)
            for ts in _microseconds(found["ts"])[drawn]
        ]
        different = compare(names, found["ts"][drawn] + np.timedelta64(frame.minutes, "m"), before, again)
        checked += len(drawn)
        if different:
            leaks[symbol] = different
    return checked, leaks


def _alone(
    connection: psycopg.Connection[Any],
    exchange: str,
    stored: Mapping[str, StoredInstrument],
    timeframe: Timeframe,
    ts: datetime,
    spec: ScoringSpec,
) -> Floats:
    """Score and inputs of one bar, NaN where there is no such bar."""
    until = ts + timedelta(microseconds=1)
    found = compute(connection, exchange, stored, timeframe, ts, until, spec, from_candles=True)
    if not len(found.ts):
        return np.full(1 + len(INPUTS), np.nan)
    return np.concatenate((found.scores.score, found.mapped[0]))


@dataclass(frozen=True)
class _Loaded:
    """What was known besides the charts, for a span of bars."""

    by_coin: Mapping[tuple[str, str], Known]
    """By input and coin, or `MARKET`."""
    funding: Mapping[int, Known]
    momentum: Mapping[int, Known]

    @classmethod
    def of(
        cls,
        connection: psycopg.Connection[Any],
        exchange: str,
        stored: Mapping[str, StoredInstrument],
        timeframe: Timeframe,
        start: datetime,
        last_close: datetime,
    ) -> "_Loaded":
        ids = [row.instrument_id for row in stored.values()]
        first_close = start + timeframe.delta
        coins = sorted({coin_of(row.instrument.base) for row in stored.values()})
        # A value that is young enough may speak of a time that lies back by as much as its publication took.
        since = {e.name: first_close - e.max_age - e.history - _LAG for e in OBSERVED}
        found = observations.read_series(
            connection, since, [*coins, MARKET], last_close, simulated=exchange == SIMULATED_EXCHANGE
        )
        paid = _INPUT["funding"]
        rates = funding.read_many(connection, ids, first_close - paid.max_age - paid.history, last_close)
        hours = (MOMENTUM_CANDLES + 2) * Timeframe.H1.delta
        closes = candles.read_closes(
            connection,
            ids,
            Timeframe.H1,
            Timeframe.H1.floor(first_close) - hours,
            last_close - Timeframe.H1.delta + timedelta(microseconds=1),
        )
        return cls(
            {(name, coin): _observed(_INPUT[name], v, "value") for (name, coin), v in found.items()},
            {i: _observed(paid, v, "rate") for i, v in rates.items()},
            {i: _momentum(closes[i]) for i in ids if i in closes},
        )

    def known(self, row: StoredInstrument, charts: Known) -> dict[str, Known]:
        """What was known of one instrument, by input; what nothing was known of is left out."""
        coin = coin_of(row.instrument.base)
        own = {"technical": charts, "funding": self.funding[row.instrument_id]}
        if row.instrument_id in self.momentum:
            own["momentum"] = self.momentum[row.instrument_id]
        for each in OBSERVED:
            found = self.by_coin.get((each.name, MARKET if each.scope is Scope.MARKET else coin))
            if found is not None:
                own[each.name] = found
        return own


def _joined(known: Mapping[str, Known], closes: Integers, spec: ScoringSpec) -> tuple[Floats, Floats, Floats]:
    """Mapped values, raw values and ages at each close, (closes, inputs)."""
    columns = [_join(each, known.get(each.name), closes, spec) for each in INPUTS]
    mapped, raw, ages = (np.column_stack([column[n] for column in columns]) for n in range(3))
    return mapped, raw, ages


def _join(each: Input, known: Known | None, closes: Integers, spec: ScoringSpec) -> tuple[Floats, Floats, Floats]:
    if known is None:
        return tuple(np.full((3, len(closes)), np.nan))  # type: ignore[return-value]  # three of them
    settling = timedelta(seconds=spec.settling_seconds) if each.mapping is not None else timedelta(0)
    mapped, raw, age = join(known, closes - settling // timedelta(microseconds=1), each.max_age)
    return mapped, raw, age + settling / timedelta(minutes=1)


def _charts(
    connection: psycopg.Connection[Any],
    stored: Mapping[str, StoredInstrument],
    timeframe: Timeframe,
    opens: Mapping[int, Integers],
    start: datetime,
    end: datetime,
    *,
    from_candles: bool,
) -> dict[int, Known]:
    """What the charts said: as stored, and read from the candles where nothing is."""
    ids = [row.instrument_id for row in stored.values()]
    found = (
        analysis.read_charts(connection, ids, start, end)
        if timeframe is SIGNAL_TIMEFRAME and not from_candles
        else dict.fromkeys(ids, None)
    )
    charts = dict[int, Known]()
    for symbol, row in stored.items():
        own, readings = opens[row.instrument_id], found[row.instrument_id]
        told = _no_charts() if readings is None else _stored_charts(readings)
        missing = own[~np.isin(own, told.ts)]
        if len(missing):
            first, last = from_microseconds(int(missing[0])), from_microseconds(int(missing[-1]))
            span = first, last + timedelta(microseconds=1)
            read = _read_charts(connection, row.instrument_id, symbol, timeframe, *span)
            told = _merged(told, read, missing)
        charts[row.instrument_id] = told
    return charts


def _read_charts(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    symbol: str,
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
) -> Known:
    data = load_input(connection, instrument_id, symbol, timeframe, _CHARTS, start, end)
    reading = read_charts(data, Weights())
    part = slice(data.warm_up, None)
    value = _technical(reading.trend_4h, reading.trend_1d, reading.setup_15m, reading.setup_1h)
    value = np.where(np.isnan(reading.atr), np.nan, value)[part]
    return Known(data.closed_at[part], data.bars.ts[part], value, value)


def _stored_charts(columns: Mapping[str, Any]) -> Known:
    value = _technical(*(columns[name] for name in ("trend_4h", "trend_1d", "setup_15m", "setup_1h")))
    return Known(_microseconds(columns["available_at"]), _microseconds(columns["ts"]), value, value)


def _technical(trend_4h: Floats, trend_1d: Floats, setup_own: Floats, setup_1h: Floats) -> Floats:
    """The charts by the weights of their reading; a day chart that is not known counts as flat."""
    w = Weights()
    day = np.nan_to_num(trend_1d)
    return w.trend_4h * trend_4h + w.trend_1d * day + w.setup_15m * setup_own + w.setup_1h * setup_1h


def _merged(stored: Known, read: Known, missing: Integers) -> Known:
    wanted = np.isin(read.ts, missing)
    columns = [
        np.concatenate((getattr(stored, name), getattr(read, name)[wanted]))
        for name in ("known_at", "ts", "raw", "mapped")
    ]
    order = np.argsort(columns[1], kind="stable")
    return Known(*(column[order] for column in columns))


def _observed(each: Input, columns: Mapping[str, Any], value: str) -> Known:
    return observed(each, _microseconds(columns["available_at"]), _microseconds(columns["ts"]), columns[value])


def _momentum(columns: Mapping[str, Any]) -> Known:
    ts, value = _microseconds(columns["ts"]), momentum(columns["close"])
    return Known(ts + Timeframe.H1.microseconds, ts, value, value)


def _no_charts() -> Known:
    return Known(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))


def _nothing(spec: ScoringSpec) -> Scored:
    none, inputs = np.empty(0, np.int64), np.empty((0, len(INPUTS)))
    return Scored(none, none, inputs, inputs, inputs, evaluate(inputs, inputs, spec))


def _chunks(symbols: int, timeframe: Timeframe, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Whole days, as many as fit into memory together."""
    bars_per_day = max(Timeframe.D1.minutes // timeframe.minutes, 1)
    length = timedelta(days=max(_CHUNK_ROWS // max(symbols * bars_per_day, 1), 1))
    since = start
    while since < end:
        until = min(Timeframe.D1.floor(since) + length, end)
        yield since, until
        since = until


def stored_instruments(
    connection: psycopg.Connection[Any], exchange: str, symbols: Sequence[str]
) -> dict[str, StoredInstrument]:
    """The instruments of some symbols, in the order of their ids.

    Raises
    ------
    UserError
        A symbol that is not stored.
    """
    stored = instruments.by_symbol(connection, exchange)
    unknown = [symbol for symbol in symbols if symbol not in stored]
    if unknown:
        raise UserError(f"{', '.join(unknown)} not stored for {exchange}: run `trading ingest` first")
    return dict(sorted(((s, stored[s]) for s in symbols), key=lambda item: item[1].instrument_id))


def _microseconds(ts: Any) -> Integers:
    return np.asarray(ts).astype("datetime64[us]").astype(np.int64)
