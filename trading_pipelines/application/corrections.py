"""What a corrected candle made stale: found, named, and rebuilt where it is computed and not a log.

Belongs here: which rows of which table a candle reaches. Does not belong here: storing corrections, which the database
does itself (`ohlcv_revisions`), and the features.
"""

from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features import LEADER, build_features, current_feature_set
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.breadth import BASKET, MEMBER_BARS
from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import instruments, revisions
from trading_pipelines.store.repositories.revisions import Correction, StaleSpan

LOGS = ("predictions", "decisions", "signals")
"""What was said at the time and stays as it was said."""
SAME_VALUE = 1e-9
"""Relative and absolute difference up to which two values of a feature are the same."""


def trace_corrections(connection: psycopg.Connection[Any], exchange: str, timeframe: Timeframe) -> int:
    """Name every stored row of `timeframe` that was computed from a candle that has been corrected since; commit.

    A candle reaches as far forward as the longest look-back of the features that read its timeframe. One of the
    leader, or of the basket whose breadth is a feature, reaches into the features of every symbol. Rows whose value
    does not change are named as well; how many really change is known when they are rebuilt.
    """
    with connection.transaction():
        found = revisions.untraced(connection, exchange)
        everyone = [stored.instrument_id for stored in instruments.by_symbol(connection, exchange).values()]
        return sum(_trace(connection, correction, timeframe, everyone) for correction in found)


def rebuild_stale(connection: psycopg.Connection[Any], exchange: str) -> dict[str, int]:
    """Compute the features of the named spans again; rows that came out differently, by symbol."""
    changed: dict[str, int] = {}
    for span in revisions.to_rebuild(connection, exchange):
        timeframe = span.dataset.removeprefix("features_")
        before = _stored(connection, span, timeframe)
        build_features(connection, exchange, (span.symbol,), timeframe, span.from_ts, span.until_ts)
        different = _different_rows(before, _stored(connection, span, timeframe))
        with connection.transaction():
            revisions.mark_rebuilt(connection, span.stale_id, different)
        changed[span.symbol] = changed.get(span.symbol, 0) + different
    return changed


def _stored(connection: psycopg.Connection[Any], span: StaleSpan, timeframe: str) -> FeatureMatrix:
    set_id, width = current_feature_set(connection), len(registry.NAMES)
    matrix = feature_store.read_features(
        connection, span.instrument_id, set_id, timeframe, width, span.from_ts, span.until_ts
    )
    connection.commit()
    return matrix


def _different_rows(before: FeatureMatrix, after: FeatureMatrix) -> int:
    """Rows with a value beyond rounding: a recursive indicator keeps a trace of where its history was cut."""
    values = after.values[np.searchsorted(after.ts, before.ts)]
    same = np.isclose(before.values, values, rtol=SAME_VALUE, atol=SAME_VALUE, equal_nan=True)
    return int((~same).any(axis=1).sum())


def _trace(
    connection: psycopg.Connection[Any], correction: Correction, timeframe: Timeframe, everyone: list[int]
) -> int:
    span = reach(Timeframe(correction.timeframe), timeframe, correction.first, correction.last)
    if span is None:
        return 0
    shared = correction.symbol == LEADER or correction.symbol in BASKET
    ids = everyone if shared else [correction.instrument_id]
    cause = (
        f"{correction.candles} candles {correction.timeframe} of {correction.symbol} "
        f"from {correction.first:%Y-%m-%d %H:%M}"
    )
    named = revisions.note_stale(connection, f"features_{timeframe}", ids, span, cause, "to rebuild")
    for log in LOGS:
        named += revisions.note_stale(connection, log, ids, span, cause, "kept")
    return named


def reach(
    corrected: Timeframe, timeframe: Timeframe, first: datetime, last: datetime
) -> tuple[datetime, datetime] | None:
    """Open times [from, until) of the bars of `timeframe` whose features read candles of `corrected` in first..last.

    None where features of that timeframe do not read those candles.
    """
    if corrected is timeframe:
        bars = max(registry.WARMUP_BARS["signal"], MEMBER_BARS)
    else:
        bars = registry.WARMUP_BARS.get(corrected.value, 0)
    if bars == 0 or corrected.minutes < timeframe.minutes:
        return None
    # The first bar that can see the candle is the one that closes with it or after it.
    seen = timeframe.floor(first + corrected.delta - timeframe.delta)
    return seen, last + (bars + 1) * corrected.delta + timeframe.delta
