"""Which rows read an input: from a candle, a rate or an observation to spans of the tables that are computed.

Belongs here: spans, as open times [from, until) of the rows' bars. Does not belong here: whether there are such rows,
and what becomes of them (`application.audit.corrections`).

A span ends where the longest look-back ends. It may hold rows whose value does not change; none outside it does.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from trading_pipelines.application.analysis.market import SIGNAL_TIMEFRAME
from trading_pipelines.domain.alternative.series import MARKET
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.breadth import MEMBER_BARS
from trading_pipelines.domain.features.observations import MARGIN, history_of
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.inputs import INPUTS, MOMENTUM_CANDLES, Scope
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, WARM_UP

Span = tuple[datetime, datetime]
Spans = Mapping[str, Span]
"""By table."""
SCORES = "composite_scores"
CHARTS = "technical_signals"
FEATURES = {f"features_{t}": t for t in Timeframe if t is not Timeframe.M1}
"""Timeframes of the tables of features."""
_TICK = timedelta(microseconds=1)
_FUNDING_AGE = timedelta(days=2)
_DELAY = timedelta(days=2)
"""From the time that a value speaks of until it is known, as far as the norms of the scores look."""
_INPUT = {each.name: each for each in INPUTS}


def of_candles(changed: Timeframe, first: datetime, last: datetime, timeframe: Timeframe) -> Spans:
    """Rows that read candles of `changed` that open in first..last; `timeframe` is that of the scores."""
    charts = {timeframe: WARM_UP, **HIGHER_WARM_UP}
    scored = charts | {Timeframe.H1: max(charts[Timeframe.H1], MOMENTUM_CANDLES + 2)}
    found = {table: _reading(changed, t, _feature_bars(changed, t), first, last) for table, t in FEATURES.items()}
    found[CHARTS] = _reading(changed, SIGNAL_TIMEFRAME, _chart_bars(changed), first, last)
    span = _reading(changed, timeframe, scored.get(changed, 0), first, last)
    found[SCORES] = None if span is None else (span[0], span[1] + _INPUT["technical"].max_age)
    return {table: span for table, span in found.items() if span is not None}


def of_rates(first: datetime, last: datetime, timeframe: Timeframe) -> Spans:
    """Rows that read the funding rates settled from `first` to `last`; one at a close belongs to the next bar."""
    found = {table: (first - t.delta + _TICK, last + _FUNDING_AGE) for table, t in FEATURES.items()}
    paid = _INPUT["funding"]
    return found | {SCORES: (first - timeframe.delta, last + paid.max_age + paid.history)}


def of_observations(series: str, coin: str, first: datetime, last: datetime, timeframe: Timeframe) -> Spans:
    """Rows that read the values of a series, of a coin or the market, that could be known from `first` to `last`."""
    found = dict[str, Span]()
    history = history_of(market=coin == MARKET).get(series)
    if history is not None:
        found = {table: (first + MARGIN - t.delta, last + history) for table, t in FEATURES.items()}
    each = _INPUT.get(series)
    if each is not None and (each.scope is Scope.MARKET) == (coin == MARKET):
        found[SCORES] = first - timeframe.delta, last + each.max_age + each.history + _DELAY
    return found


def hull(spans: Iterable[Span]) -> Span | None:
    """The smallest span that holds all of them, None for none."""
    both = [*spans]
    return (min(start for start, _ in both), max(end for _, end in both)) if both else None


def union(spans: Iterable[Span]) -> list[Span]:
    """Overlapping and touching spans as one, ascending."""
    merged = list[Span]()
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _feature_bars(changed: Timeframe, timeframe: Timeframe) -> int:
    """The longest look-back of features of `timeframe` into candles of `changed`, 0 where they do not read them."""
    if changed is timeframe:
        return max(registry.WARMUP_BARS["signal"], MEMBER_BARS)
    return registry.WARMUP_BARS.get(changed.value, 0)


def _chart_bars(changed: Timeframe) -> int:
    return WARM_UP if changed is SIGNAL_TIMEFRAME else HIGHER_WARM_UP.get(changed, 0)


def _reading(changed: Timeframe, timeframe: Timeframe, bars: int, first: datetime, last: datetime) -> Span | None:
    """Bars of `timeframe` that look back `bars` candles of `changed` and find one of first..last among them."""
    if bars == 0 or changed.minutes < timeframe.minutes:
        return None
    # The first bar that can see the candle is the one that closes with it or after it.
    seen = timeframe.floor(first + changed.delta - timeframe.delta)
    return seen, last + (bars + 1) * changed.delta + timeframe.delta
