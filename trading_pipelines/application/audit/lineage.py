"""Lineage: from an order back to the candles that led to it, and from a candle or a model forward to results.

Belongs here: finding what a person means by an id, and knowing which bars features and strategies read. Does not belong
here: the SQL (`store.read_models.lineage`) and the rendering (`cli.explain`).
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features.building import LEADER, current_feature_set, features_between
from trading_pipelines.application.signals.strategies import build_strategy
from trading_pipelines.application.trading.manual import STRATEGY as BY_HAND
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.breadth import BASKET, MEMBER_BARS
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.inputs import MOMENTUM_CANDLES
from trading_pipelines.domain.sentiment.aggregate import AggregationSpec
from trading_pipelines.domain.strategies.base import Needs
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, WARM_UP
from trading_pipelines.errors import UserError
from trading_pipelines.store.read_models import lineage
from trading_pipelines.store.read_models.lineage import Match, Reader, Role, Trade, Window
from trading_pipelines.store.repositories import instruments

_SCORE_HIGHER = {**HIGHER_WARM_UP, Timeframe.H1: max(HIGHER_WARM_UP[Timeframe.H1], MOMENTUM_CANDLES)}
"""Bars of longer timeframes that the charts and the momentum of a composite score read."""
SHORTEST_PREFIX = 4
MOST_TRADES = 50
_MOST_MATCHES = 25
_SUGGEST_FROM = 2000


@dataclass(frozen=True)
class Explanation:
    """One answer: what was asked for, and the stored rows as one JSON object."""

    kind: str
    id: str
    content: dict[str, Any]


def explain_trade(
    connection: psycopg.Connection[Any], text: str, texts: AggregationSpec | None = None, *, verify: bool = False
) -> Explanation:
    """Walk from an order, signal, position or fill to everything that led to it and that came of it.

    Parameters
    ----------
    text : str
        An id or an unambiguous beginning of one; several ids of the same trade are not ambiguous.
    texts : AggregationSpec, optional
        By which texts make a sentiment; by default as the settings have it from the start.
    verify : bool
        Recompute the stored features from today's candles as well: a difference names a candle that was corrected
        after the decision.

    Raises
    ------
    UserError
        Nothing has that id, or several trades have; the message names the nearest ones.
    """
    match = _resolve(connection, text)
    asked = lineage.trade(connection, match.signal_id, match.position_id)
    if asked is None:
        raise UserError(f"{match.kind} {match.id} belongs to no signal and no position: nothing led to it")
    windows = list(_windows(connection, asked))
    found = lineage.trace(connection, asked, windows, texts)
    found["definitions"] = _definitions(connection, found)
    if verify:
        found["verified"] = _verify(connection, asked, found)
    return Explanation(match.kind, match.id, found)


def explain_candle(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: Timeframe, ts: datetime
) -> Explanation:
    """Name everything that read one candle: features, predictions, decisions, signals, positions and their results.

    Longer candles that were derived from it count as the candle: what read them read it.

    Raises
    ------
    UserError
        The symbol is not stored, or there is no such candle.
    """
    stored = instruments.by_symbol(connection, exchange)
    if symbol not in stored:
        known = ", ".join(difflib.get_close_matches(symbol, stored, 5, 0.5) or sorted(stored)[:10]) or "none"
        raise UserError(f"{symbol} is not stored for {exchange} (near: {known})")
    instrument_id, opened = stored[symbol].instrument_id, timeframe.floor(ts)
    readers = list(_readers(connection, exchange, symbol, instrument_id, timeframe, opened))
    found = lineage.of_candle(connection, exchange, instrument_id, timeframe, opened, readers, MOST_TRADES)
    if found["candle"] is None:
        raise UserError(
            f"there is no {timeframe} candle of {symbol} on {exchange} that opens at {opened:%Y-%m-%d %H:%M}"
            f"{'' if found['sources'] else ', nor was that time ever fetched'}"
        )
    return Explanation("candle", f"{exchange}:{symbol}:{timeframe}:{opened.isoformat()}", found)


def explain_model(connection: psycopg.Connection[Any], text: str) -> Explanation:
    """Name what came of one model version: promotions, predictions, decisions, signals, positions, results.

    Raises
    ------
    UserError
        No version, or several, have an id that begins so.
    """
    found = lineage.model_ids(connection, text, _MOST_MATCHES)
    if text in found:
        found = [text]
    if len(found) != 1:
        near = found or difflib.get_close_matches(text, lineage.model_ids(connection, "", _SUGGEST_FROM), 5, 0.3)
        problem = "several model versions begin" if found else "no model version begins"
        raise UserError(f"{problem} with {text!r} (near: {', '.join(near) or 'none'})")
    content = lineage.of_model(connection, found[0], MOST_TRADES)
    assert content is not None  # it was just found
    return Explanation("model", found[0], content)


def explain_signal(connection: psycopg.Connection[Any], text: str) -> Explanation:
    """Name what became of one signal: its orders, fills, position and net result."""
    match = _resolve(connection, text)
    if match.signal_id is None:
        raise UserError(f"{match.kind} {match.id} did not come from a signal")
    return Explanation("signal", str(match.signal_id), lineage.of_signal(connection, match.signal_id))


def _resolve(connection: psycopg.Connection[Any], text: str) -> Match:
    text = text.strip()
    if len(text) < SHORTEST_PREFIX:
        raise UserError(f"{text!r} is too short for an id: give at least {SHORTEST_PREFIX} characters")
    found = lineage.find(connection, text, _MOST_MATCHES)
    exact = [match for match in found if match.id == text]
    trades = {match.signal_id or match.position_id or match.id for match in found}
    if exact or len(trades) == 1:
        return (exact or found)[0]
    if found:
        examples = ", ".join(f"{match.kind} {match.id}" for match in found[:5])
        raise UserError(f"{text!r} begins the ids of {len(trades)} trades: give more of it (for example {examples})")
    kinds = {match.id: match.kind for match in lineage.newest(connection, _SUGGEST_FROM)}
    near = difflib.get_close_matches(text, kinds, 3, 0.5) or list(kinds)[:3]
    hint = f"near: {', '.join(f'{kinds[name]} {name}' for name in near)}" if near else "nothing was traded yet"
    raise UserError(f"no order, signal, position or fill has the id {text!r} ({hint})")


def _windows(connection: psycopg.Connection[Any], asked: Trade) -> Iterator[Window]:
    """The candles that the decision of a trade read, by what read them; a person's decision read none."""
    if asked.timeframe is None or asked.ts is None or asked.strategy is None or asked.strategy == BY_HAND:
        return
    own, ts, frame = asked.instrument_id, asked.ts, asked.timeframe
    needs = needs_of(asked.strategy, asked.strategy_params or {})
    if needs is None or needs.features or needs.predictions:
        yield from lineage.feature_windows(asked)
        leader = instruments.by_symbol(connection, asked.exchange).get(LEADER)
        if leader is not None and asked.symbol != LEADER:
            bars = registry.WARMUP_BARS["signal"]
            yield lineage.window(f"features, {LEADER}", leader.instrument_id, frame, bars, ts)
    if needs is not None and needs.warm_up:
        yield lineage.window(f"{asked.strategy}, own bars", own, frame, needs.warm_up, ts)
    for longer, bars in ({} if needs is None else needs.higher).items():
        yield lineage.window(f"{asked.strategy}, {longer}", own, longer, bars, ts, frame)
    if needs is None or needs.scores:
        yield lineage.window("score, own bars", own, frame, WARM_UP, ts)
        for longer, bars in _SCORE_HIGHER.items():
            yield lineage.window(f"score, {longer}", own, longer, bars, ts, frame)


def _readers(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    instrument_id: int,
    timeframe: Timeframe,
    opened: datetime,
) -> Iterator[Reader]:
    """Turn `_windows` round: which bars have the candle in theirs."""
    used = lineage.strategies_in_use(connection, exchange)
    frames = list(dict.fromkeys(frame for _, _, frame in used))
    # The leader's candles and, through the market's breadth, those of the basket are read for every symbol.
    shared, own = symbol == LEADER or symbol in BASKET, registry.WARMUP_BARS["signal"]
    bars = max(own, MEMBER_BARS) if symbol in BASKET else own
    features = {frame: _span(timeframe, opened, frame, bars, registry.WARMUP_BARS) for frame in frames}
    scores = {frame: _span(timeframe, opened, frame, WARM_UP, _SCORE_HIGHER) for frame in frames}
    everyone = None if shared else [instrument_id]
    for frame in frames:
        span = features[frame]
        if span is not None and frame is not Timeframe.M1:
            yield Reader(Role.FEATURES, None, everyone, frame, *span)
        span = scores[frame]
        if span is not None:
            yield Reader(Role.SCORES, None, [instrument_id], frame, *span)
    for strategy, params, frame in used:
        needs = needs_of(strategy, params)
        spans = [] if needs is None else [_span(timeframe, opened, frame, needs.warm_up, needs.higher)]
        through_features = needs is None or bool(needs.features) or needs.predictions
        spans += [features[frame]] if through_features else []
        spans += [scores[frame]] if needs is None or needs.scores else []
        known = [span for span in spans if span is not None]
        if known:
            markets = everyone if through_features else [instrument_id]
            first, last = min(s for s, _ in known), max(e for _, e in known)
            yield Reader(Role.DECISIONS, strategy, markets, frame, first, last)


def _span(
    timeframe: Timeframe, opened: datetime, frame: Timeframe, warm_up: int, higher: Mapping[Any, int]
) -> tuple[datetime, datetime] | None:
    """First and last bar of `frame` whose window holds the candle, itself or inside a longer one; None without any."""
    spans = list[tuple[datetime, datetime]]()
    if frame.minutes >= timeframe.minutes:
        own = frame.floor(opened)
        spans.append((own, own + warm_up * frame.delta))
    for longer in Timeframe:
        if longer.minutes > frame.minutes and longer.minutes >= timeframe.minutes and longer in higher:
            bucket = longer.floor(opened)
            first = bucket + longer.delta - frame.delta
            spans.append((first, bucket + (higher[longer] + 1) * longer.delta - frame.delta))
    if not spans:
        return None
    return min(first for first, _ in spans), max(last for _, last in spans)


def needs_of(strategy: str, params: Mapping[str, Any]) -> Needs | None:
    """What a strategy reads; None for one that can no longer be built."""
    try:
        return build_strategy(strategy, params).needs
    except UserError:
        return None


def _definitions(connection: psycopg.Connection[Any], found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the stored features mean, if this version of the program still computes that set."""
    features = found["features"]
    if features is None or features["feature_set_id"] != current_feature_set(connection):
        return None
    return {
        spec.name: {"source": spec.source, "unit": spec.unit, "look_back": spec.look_back, "is": spec.description}
        for spec in registry.REGISTRY
    }


def _verify(connection: psycopg.Connection[Any], asked: Trade, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Recompute the stored feature row from the candles as they are now."""
    stored = found["features"]
    if stored is None or found["definitions"] is None or asked.timeframe is None or asked.ts is None:
        return None
    one = timedelta(microseconds=1)
    matrix = features_between(connection, asked.exchange, asked.symbol, asked.timeframe, asked.ts, asked.ts + one)
    if len(matrix.ts) == 0:
        return {"equal": False, "different": {}, "reason": "the candle of the decision is gone"}
    now = dict(zip(registry.NAMES, matrix.values[-1].tolist(), strict=True))
    then = {name: float(value) for name, value in stored["values"].items()}
    different = {
        name: {"stored": then[name], "recomputed": now[name]}
        for name in then
        if not np.isclose(then[name], now[name], rtol=1e-9, atol=1e-9, equal_nan=True)
    }
    reason = "a candle or funding rate was corrected after the decision" if different else "as it was decided"
    return {"equal": not different, "different": different, "reason": reason}
