"""Find out about the market as a whole and store it: technical signals, the daily ranking, anomalies."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features.building import to_aware, to_naive
from trading_pipelines.application.features.strategy_inputs import load_input
from trading_pipelines.domain.anomaly.measures import MEASURES, RECENT_BARS, Kind, volume_norm
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.features.context import Bars, wilder_bars
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.sizing import decide_size
from trading_pipelines.domain.screening import ranking
from trading_pipelines.domain.signals.setup import Setups, build_setups
from trading_pipelines.domain.strategies.base import Needs, StrategyInput
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, WARM_UP, Reading, Weights, read_charts
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import analysis, candles, events, instruments, universe
from trading_pipelines.store.repositories.instruments import StoredInstrument

SIGNAL_TIMEFRAME = Timeframe.M15
_CHARTS = Needs(warm_up=WARM_UP, higher=HIGHER_WARM_UP)
_ANOMALY_WARM_UP = max(RECENT_BARS, wilder_bars(14) + 672)
_NEWS = timedelta(hours=1)
"""An anomaly that is older when it is found is history and no alert."""


@dataclass(frozen=True)
class AnalysisReport:
    """What one pass over the universe has found."""

    symbols: int
    rows: int
    new: int
    seconds: float


def read_technical_signals(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    capital: float,
    execution: ExecutionParams,
    limits: RiskLimits,
) -> AnalysisReport:
    """Read the charts of every symbol at each 15-minute close of [start, end), store what they say, and commit.

    `capital` is what the sizes are for, with nothing else open.
    """
    began = time.monotonic()
    known = _stored(connection, exchange, symbols)
    rows: list[analysis.Row] = []
    for symbol, stored in known.items():
        data = load_input(connection, stored.instrument_id, symbol, SIGNAL_TIMEFRAME, _CHARTS, start, end)
        rows.extend(_signal_rows(stored, data, capital, execution, limits))
    ids = [stored.instrument_id for stored in known.values()]
    written = analysis.replace_technical_signals(connection, ids, start, end, rows)
    connection.commit()
    return AnalysisReport(len(known), len(rows), len(written.new), time.monotonic() - began)


def find_anomalies(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    now: datetime,
) -> AnalysisReport:
    """Look for anomalies at each close of [start, end), store them, raise events for the fresh ones, and commit.

    An anomaly that goes on from bar to bar is one event.
    """
    began = time.monotonic()
    known = _stored(connection, exchange, symbols)
    by_id = {stored.instrument_id: symbol for symbol, stored in known.items()}
    since = timeframe.floor(start) - _ANOMALY_WARM_UP * timeframe.delta
    loaded = candles.read_many(connection, list(by_id), timeframe, since, end)
    rows = [
        row
        for instrument_id, columns in loaded.items()
        for row in _anomaly_rows(instrument_id, Bars(timeframe, **columns), to_naive(start), to_naive(end))
    ]
    written = analysis.replace_anomalies(connection, list(by_id), timeframe, start, end, rows)
    found = {(row["instrument_id"], row["ts"], row["kind"]): row for row in rows}
    for instrument_id, _, ts, kind in written.new:
        row = found[instrument_id, ts.isoformat(), kind]
        goes_on = (instrument_id, (ts - timeframe.delta).isoformat(), kind) in found
        if not goes_on and now - (ts + timeframe.delta) <= _NEWS:
            _announce(connection, now, by_id[instrument_id], kind, row)
    connection.commit()
    return AnalysisReport(len(known), len(rows), len(written.new), time.monotonic() - began)


def rank_universe(
    connection: psycopg.Connection[Any], exchange: str, traded: Sequence[str], start: datetime, end: datetime
) -> AnalysisReport:
    """Rank the universe at the end of each whole UTC day of [start, end), store the rankings, and commit.

    A day's universe are the traded symbols and those that were members at its end; before anybody looked for members,
    the traded ones alone.
    """
    began = time.monotonic()
    _stored(connection, exchange, traded)
    known = instruments.by_symbol(connection, exchange, everything=True)
    ids = {symbol: stored.instrument_id for symbol, stored in known.items()}
    first, whole = Timeframe.D1.floor(start), Timeframe.D1.floor(end)
    rows: list[analysis.Row] = []
    if first < whole:
        history = timedelta(days=ranking.DAYS_NEEDED)
        days = candles.read_many(connection, list(ids.values()), Timeframe.D1, first - history, whole)
        since = first - ranking.BARS_NEEDED * Timeframe.H4.delta
        hours = candles.read_many(connection, list(ids.values()), Timeframe.H4, since, whole)
        series = {s: (Bars(Timeframe.D1, **days[i]), Bars(Timeframe.H4, **hours[i])) for s, i in ids.items()}
        day = first
        while day < whole:
            members = universe.members_at(connection, exchange, day + Timeframe.D1.delta) or []
            rows.extend(_ranking_rows(ids, {s: series[s] for s in sorted({*traded, *members})}, day))
            day += Timeframe.D1.delta
    written = analysis.replace_rankings(connection, list(ids.values()), first, whole, rows)
    connection.commit()
    return AnalysisReport(len(known), len(rows), len(written.new), time.monotonic() - began)


def _stored(connection: psycopg.Connection[Any], exchange: str, symbols: Sequence[str]) -> dict[str, StoredInstrument]:
    stored = instruments.by_symbol(connection, exchange, everything=True)
    unknown = [symbol for symbol in symbols if symbol not in stored]
    if unknown:
        raise UserError(f"{', '.join(unknown)} not stored for {exchange}: run `trading ingest` first")
    return {symbol: stored[symbol] for symbol in symbols}


def _signal_rows(
    stored: StoredInstrument, data: StrategyInput, capital: float, execution: ExecutionParams, limits: RiskLimits
) -> Iterator[analysis.Row]:
    """A row per bar whose charts are known."""
    reading = read_charts(data, Weights())
    setups = build_setups(reading.side, data.bars.close, reading.atr, reading.confidence, reading.confidence, execution)
    known = ~np.isnan(reading.trend_4h + reading.setup_15m + reading.setup_1h + reading.atr)
    known[: data.warm_up] = False
    for i in np.flatnonzero(known).tolist():
        opened = np.datetime64(int(data.bars.ts[i]), "us")
        yield {
            "instrument_id": stored.instrument_id,
            "ts": to_aware(opened).isoformat(),
            "available_at": (to_aware(opened) + data.timeframe.delta).isoformat(),
            "side": ("SHORT", "NEUTRAL", "LONG")[int(reading.side[i]) + 1],
            "confidence": float(reading.confidence[i]),
            "trend_4h": float(reading.trend_4h[i]),
            "trend_1d": float(np.nan_to_num(reading.trend_1d[i])),
            "setup_15m": float(reading.setup_15m[i]),
            "setup_1h": float(reading.setup_1h[i]),
            "conflict": bool(reading.conflict[i]),
            "entry_price": float(data.bars.close[i]),
            "atr": float(reading.atr[i]),
            **_levels(stored, setups, i, capital, execution, limits),
            "reasons": _reasons(reading, i),
        }


def _levels(
    stored: StoredInstrument, setups: Setups, i: int, capital: float, execution: ExecutionParams, limits: RiskLimits
) -> dict[str, float | None]:
    """Stop, targets and size of one reading, nulls where it is neutral."""
    setup, rules = setups.row(i), stored.instrument
    if setup is None:
        names = ("stop_price", "tp1_price", "tp2_price", "tp3_price", "risk_reward", "notional", "quantity")
        return dict.fromkeys(names)
    size = decide_size(
        reference_price=setup.reference_price,
        stop_price=setup.stop_price,
        confidence=setup.confidence,
        equity=capital,
        symbol_margin=0.0,
        direction_margin=0.0,
        execution=execution,
        limits=limits,
        free_cash=capital,
        quantity_step=float(rules.quantity_step),
        min_quantity=float(rules.min_quantity),
        min_notional=float(rules.min_notional),
    )
    tp1, tp2, tp3 = setup.targets
    return {
        "stop_price": setup.stop_price,
        "tp1_price": tp1,
        "tp2_price": tp2,
        "tp3_price": tp3,
        "risk_reward": setup.risk_reward,
        "notional": size.quantity * setup.reference_price,
        "quantity": size.quantity,
    }


def _reasons(reading: Reading, i: int) -> list[str]:
    """What the charts say, in words."""
    trends = [
        f"{name} {_in_words(float(values[i]), 'rising', 'falling', 'without direction')}"
        for name, values in (("4h", reading.trend_4h), ("1d", reading.trend_1d))
    ]
    setups = [
        f"{name} {_in_words(float(values[i]), 'supports a rise', 'supports a fall', 'undecided')}"
        for name, values in (("15m", reading.setup_15m), ("1h", reading.setup_1h))
    ]
    return [*trends, *setups, *(["the charts contradict each other"] if reading.conflict[i] else [])]


def _in_words(value: float, up: str, down: str, flat: str) -> str:
    if np.isnan(value):
        return "not known yet"
    if abs(value) < 0.3:
        return flat
    return f"{up if value > 0 else down} ({value:+.2f})"


def _anomaly_rows(instrument_id: int, bars: Bars, start: np.datetime64, end: np.datetime64) -> Iterator[dict[str, Any]]:
    if len(bars) == 0:
        return
    wanted = (bars.ts >= start) & (bars.ts < end)
    with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still: no measure
        measures = {kind: measure(bars) for kind, measure in MEASURES.items()}
        volume, change = volume_norm(bars), np.expm1(bars.log_return(1))
    for kind, values in measures.items():
        for i in np.flatnonzero(wanted & (values >= 1) & np.isfinite(values)).tolist():
            yield _anomaly_row(instrument_id, bars, i, kind, float(values[i]), float(change[i]), float(volume[i]))


def _anomaly_row(
    instrument_id: int, bars: Bars, i: int, kind: Kind, measure: float, change: float, volume_ratio: float
) -> dict[str, Any]:
    return {
        "instrument_id": instrument_id,
        "timeframe": bars.timeframe.value,
        "ts": to_aware(bars.ts[i]).isoformat(),
        "kind": kind.value,
        "available_at": to_aware(bars.closes_at[i]).isoformat(),
        "measure": measure,
        "change": change,
        "volume_ratio": volume_ratio if np.isfinite(volume_ratio) else 0.0,
    }


def _announce(connection: psycopg.Connection[Any], now: datetime, symbol: str, kind: str, row: analysis.Row) -> None:
    what = kind.lower().replace("_", " ")
    message = (
        f"{what}: {row['change']:+.2%} in the bar, volume {row['volume_ratio']:.1f} times the normal, "
        f"{row['measure']:.1f} times the size that counts as one"
    )
    events.append(connection, now, "anomaly", symbol, message, severity=events.Severity.WARNING, payload=dict(row))


def _ranking_rows(ids: dict[str, int], series: dict[str, tuple[Bars, Bars]], day: datetime) -> Iterator[analysis.Row]:
    """The ranking at the end of one day, of the symbols that had traded on it."""
    ended, opened = to_naive(day + Timeframe.D1.delta), to_naive(day)
    measured = [
        ranking.measure(symbol, days.known_at(ended), hours.known_at(ended))
        for symbol, (days, hours) in series.items()
        if opened in days.ts
    ]
    for place in ranking.rank([m for m in measured if m is not None]):
        parts = asdict(place)
        yield {
            "instrument_id": ids[place.measures.symbol],
            "ts": day.isoformat(),
            "available_at": (day + Timeframe.D1.delta).isoformat(),
            "direction": "LONG" if place.measures.direction > 0 else "SHORT",
            **{
                name: parts[name] for name in ("rank", "symbols", "score", "trend", "volume", "volatility", "rsi_setup")
            },
            "reasons": list(place.reasons),
        }
