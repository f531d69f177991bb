"""What a corrected or late input made stale: found, named, and rebuilt where it is computed and not a log.

A candle that an exchange corrects, a hole that is filled, history that is lengthened, a rate or an observation that is
stored after rows that are dated behind it: the database notes each when it is stored. Belongs here: following these
notes to the rows, and computing the rows again. Does not belong here: how far an input reaches
(`application.audit.reach`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from trading_pipelines.application.analysis.market import read_technical_signals
from trading_pipelines.application.analysis.scoring import score_range
from trading_pipelines.application.audit.reach import (
    CHARTS,
    FEATURES,
    SCORES,
    Span,
    Spans,
    hull,
    of_candles,
    of_observations,
    of_rates,
    union,
)
from trading_pipelines.application.features.building import LEADER, build_features, current_feature_set, to_naive
from trading_pipelines.domain.alternative.series import MARKET, coin_of
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.breadth import BASKET
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import analysis, instruments, revisions
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import scores as score_store
from trading_pipelines.store.repositories.revisions import StaleSpan
from trading_pipelines.store.transaction import committed

COMPUTED = (*FEATURES, CHARTS, SCORES)
"""Tables that are computed again, in this order: a score reads what the charts say."""
LOGS = ("predictions", "decisions", "signals")
"""What was said at the time and stays as it was said."""
SAME_VALUE = 1e-9
"""Relative and absolute difference up to which two values are the same."""


@dataclass(frozen=True)
class Change:
    """An input that is not what it was when rows were computed from it.

    Attributes
    ----------
    own : sequence of int
        Instruments that it belongs to.
    shared : bool
        Whether features of every symbol of the exchange read it.
    """

    cause: str
    own: Sequence[int]
    shared: bool
    spans: Spans


def trace_changes(connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe) -> int:
    """Name every stored row that was computed before one of its inputs was corrected, or arrived; commit.

    A candle of the leader, or of the basket whose breadth is a feature, reaches into the features of every symbol. Rows
    whose value does not change are named as well; how many really change is known when they are rebuilt.

    Parameters
    ----------
    timeframe : Timeframe
        Of predictions, decisions, signals and scores; features are looked at on all.

    Returns
    -------
    int
        Rows that were named; one is counted for each of its inputs that changed.
    """
    with committed(connection):
        everyone = [stored.instrument_id for stored in instruments.by_symbol(connection, exchange).values()]
        changes = [*_corrected(connection, exchange, timeframe), *_late(connection, exchange, timeframe)]
        return sum(_name(connection, change, timeframe, everyone) for change in changes)


def rebuild_stale(connection: psycopg.Connection[Any], exchange: str, settings: Settings) -> dict[str, int]:
    """Compute the named spans again, commit each; rows that came out differently, by symbol."""
    changed: dict[str, int] = {}
    waiting = revisions.to_rebuild(connection, exchange)
    for dataset in COMPUTED:
        for symbol in dict.fromkeys(span.symbol for span in waiting if span.dataset == dataset):
            own = [span for span in waiting if (span.dataset, span.symbol) == (dataset, symbol)]
            for whole in union((span.from_ts, span.until_ts) for span in own):
                inside = [span for span in own if whole[0] <= span.from_ts < whole[1]]
                rows = _rebuild(connection, settings, inside[0], whole)
                with committed(connection):
                    for span in inside:
                        revisions.mark_rebuilt(connection, span.stale_id, _count(rows, span))
                changed[symbol] = changed.get(symbol, 0) + len(rows)
    return changed


def _corrected(connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe) -> Iterator[Change]:
    for found in revisions.untraced(connection, exchange):
        cause = f"{found.candles} candles {found.timeframe} of {found.symbol} from {found.first:%Y-%m-%d %H:%M}"
        spans = of_candles(Timeframe(found.timeframe), found.first, found.last, timeframe)
        yield Change(f"corrected: {cause}", [found.instrument_id], _is_shared(found.symbol), spans)


def _late(connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe) -> Iterator[Change]:
    candles, rates, told = revisions.untraced_late(connection, exchange)
    for found in candles:
        base = Timeframe(found.timeframe)
        cause = (
            f"late: candles {base} of {found.symbol} from {found.first:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M}"
        )
        # The longer candles that hold them are new or different as well.
        for longer in (base, *base.longer()):
            spans = of_candles(longer, longer.floor(found.first), found.until - base.delta, timeframe)
            yield Change(cause, [found.instrument_id], _is_shared(found.symbol), spans)
    for rate in rates:
        cause = f"late: funding of {rate.symbol} from {rate.first:%Y-%m-%d %H:%M} to {rate.last:%Y-%m-%d %H:%M}"
        yield Change(cause, [rate.instrument_id], False, of_rates(rate.first, rate.last, timeframe))
    for value in told:
        subject = value.series if value.coin == MARKET else f"{value.series} of {value.coin}"
        cause = f"late: {subject} known from {value.first:%Y-%m-%d %H:%M} to {value.last:%Y-%m-%d %H:%M}"
        bases = revisions.bases(connection, simulated=value.simulated)
        own = [i for i, base in bases.items() if value.coin in (MARKET, coin_of(base))]
        spans = of_observations(value.series, value.coin, value.first, value.last, timeframe)
        yield Change(cause, own, False, spans)


def _is_shared(symbol: str) -> bool:
    return symbol == LEADER or symbol in BASKET


def _name(connection: psycopg.Connection[Any], change: Change, timeframe: Timeframe, everyone: Sequence[int]) -> int:
    read_by_all = everyone if change.shared else change.own
    named = 0
    for dataset, span in change.spans.items():
        ids = read_by_all if dataset in FEATURES else change.own
        named += revisions.note_stale(connection, dataset, ids, span, change.cause, "to rebuild")
    said_from = hull(change.spans[t] for t in (f"features_{timeframe}", CHARTS, SCORES) if t in change.spans)
    if said_from is not None:
        for log in LOGS:
            named += revisions.note_stale(connection, log, read_by_all, said_from, change.cause, "kept")
    return named


def _rebuild(
    connection: psycopg.Connection[Any], settings: Settings, one: StaleSpan, span: Span
) -> npt.NDArray[np.datetime64]:
    """Compute the rows of a span again; the open times of those that came out differently."""
    before = _stored(connection, settings, one, span)
    if one.dataset in FEATURES:
        build_features(connection, one.exchange, (one.symbol,), FEATURES[one.dataset], *span)
    elif one.dataset == CHARTS:
        read_technical_signals(
            connection,
            one.exchange,
            (one.symbol,),
            *span,
            capital=settings.session.capital,
            execution=settings.execution,
            limits=settings.risk,
        )
    else:
        spec = score_store.newest_spec(connection) or settings.scoring
        score_range(connection, one.exchange, (one.symbol,), settings.signal_timeframe, *span, spec)
    return _different(before, _stored(connection, settings, one, span))


_Rows = tuple[npt.NDArray[np.datetime64], npt.NDArray[np.float64]]
"""Open times, ascending, and a row of values for each."""


def _stored(connection: psycopg.Connection[Any], settings: Settings, one: StaleSpan, span: Span) -> _Rows:
    try:
        if one.dataset in FEATURES:
            set_id, width = current_feature_set(connection), len(registry.NAMES)
            matrix = feature_store.read_features(
                connection, one.instrument_id, set_id, FEATURES[one.dataset], width, *span
            )
            return matrix.ts, matrix.values
        if one.dataset == CHARTS:
            charts = analysis.read_charts(connection, [one.instrument_id], *span)[one.instrument_id]
            columns = [charts[name] for name in ("trend_4h", "trend_1d", "setup_15m", "setup_1h")]
            return charts["ts"], np.column_stack(columns)
        spec = score_store.newest_spec(connection) or settings.scoring
        definition = score_store.definition_id(connection, spec)
        frame = Timeframe(settings.signal_timeframe)
        scores = score_store.read_inputs(connection, one.instrument_id, frame, definition, *span)
        return scores["ts"], np.column_stack((scores["score"], scores["mapped"]))
    finally:
        connection.commit()


def _different(before: _Rows, after: _Rows) -> npt.NDArray[np.datetime64]:
    """Rows with a value beyond rounding (a recursive indicator keeps a trace of where its history was cut), or gone."""
    common, was, now = np.intersect1d(before[0], after[0], assume_unique=True, return_indices=True)
    same = np.isclose(before[1][was], after[1][now], rtol=SAME_VALUE, atol=SAME_VALUE, equal_nan=True)
    changed = common[~same.all(axis=1)]
    return np.union1d(changed, np.setdiff1d(before[0], after[0], assume_unique=True))


def _count(rows: npt.NDArray[np.datetime64], span: StaleSpan) -> int:
    """How many of the rows lie in the span."""
    first, last = np.searchsorted(rows, [to_naive(span.from_ts), to_naive(span.until_ts)])
    return int(last - first)
