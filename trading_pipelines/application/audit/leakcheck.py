"""Check stored features against what was known at their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from trading_pipelines.application.features.building import current_feature_set, inputs_hash, load_inputs
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.features.registry import Source
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.validation.leakage import Leak, compare
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import instruments, revisions

REBUILD = "trading features rebuild"
_HINDSIGHT = timedelta(days=1)
_LIKELY = {
    Source.OWN: "a bar after its own, or a figure of the whole sample",
    **dict.fromkeys((Source.H1, Source.H4, Source.D1), "a longer bar joined by its open, before it had closed"),
    Source.LEADER: "a bar of the leader that had not closed",
    Source.FUNDING: "a rate joined before it was settled",
    Source.BREADTH: "a breadth that was not known yet",
    **dict.fromkeys((Source.COIN, Source.MARKET), "a value joined by the day it speaks of, or in a later version"),
}
"""What mistakes with a source usually are."""


@dataclass(frozen=True)
class LeakReport:
    """What was looked at and what was found, by symbol; no leaks means that all samples agree.

    Attributes
    ----------
    unsteady : dict of list
        Columns whose value changes when more history is loaded than they say they need.
    """

    checked: int
    leaks: dict[str, list[Leak]]
    unsteady: dict[str, list[Leak]]


def check_features(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    samples: int,
    seed: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> LeakReport:
    """Recompute `samples` stored rows per symbol, drawn by `seed`, from what was known at their time.

    Once with the history that they say they need, and once with twice of it.
    """
    draw = np.random.default_rng(seed)
    stored, set_id = instruments.by_symbol(connection, exchange), current_feature_set(connection)
    since, until = start or datetime(1970, 1, 1, tzinfo=UTC), end or datetime(9999, 1, 1, tzinfo=UTC)
    checked, leaks, unsteady = 0, dict[str, list[Leak]](), dict[str, list[Leak]]()
    for symbol in symbols:
        matrix = feature_store.read_features(
            connection, stored[symbol].instrument_id, set_id, timeframe, len(registry.NAMES), since, until
        )
        rows: list[int] = sorted(draw.choice(len(matrix.ts), min(samples, len(matrix.ts)), replace=False).tolist())
        once, twice = (
            [_recompute(connection, exchange, symbol, timeframe, matrix.ts[row], warm_ups) for row in rows]
            for warm_ups in (1, 2)
        )
        instants = [matrix.available_at[row] for row in rows]
        checked += len(rows)
        if found := compare(registry.NAMES, instants, [matrix.values[row] for row in rows], once):
            leaks[symbol] = found
        if found := compare(registry.NAMES, instants, twice, once):
            unsteady[symbol] = found
    return LeakReport(checked, leaks, unsteady)


def explain_leaks(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: str, leaks: Sequence[Leak]
) -> list[str]:
    """The probable cause of stored values of a symbol that are not what was known, in words, one for each.

    Inputs that changed after a row was built are known by name. Otherwise the row is computed once more with the day
    that came after it: where that gives the stored value, it was computed with what came after.
    """
    seen: dict[np.datetime64, _Seen] = {}
    for leak in leaks:
        if leak.first not in seen:
            seen[leak.first] = _look_closer(connection, exchange, symbol, Timeframe(timeframe), leak.first)
    return [_cause(seen[leak.first], leak) for leak in leaks]


@dataclass(frozen=True)
class _Seen:
    """A row that is not what was known, looked at more closely.

    Attributes
    ----------
    changes : list of str
        What is known to have happened to its inputs since; where anything has, the rest is not looked at.
    in_hindsight : array of float or None
        The row as it comes out with the day that came after it.
    otherwise : str
        What it is where nothing looked ahead.
    """

    changes: list[str]
    in_hindsight: npt.NDArray[np.float64] | None = None
    otherwise: str = ""


def _look_closer(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, bar: Timeframe, closed_at: np.datetime64
) -> _Seen:
    ts = closed_at - np.timedelta64(bar.minutes, "m")
    opened, instrument_id = _opened(ts), instruments.by_symbol(connection, exchange)[symbol].instrument_id
    changes = revisions.why_stale(connection, f"features_{bar}", instrument_id, opened, opened + bar.delta)
    if changes:
        return _Seen(changes)
    inputs = load_inputs(connection, exchange, symbol, bar, opened, opened + _HINDSIGHT)
    in_hindsight = compute_features(inputs).values[int(np.searchsorted(inputs.bars.ts, ts))]
    build = feature_store.newest_build(connection, instrument_id, current_feature_set(connection), bar, opened)
    if build is None:
        return _Seen([], in_hindsight, "does not follow from its inputs: they, the code or the row have changed since")
    again = inputs_hash(load_inputs(connection, exchange, symbol, bar, build.start, build.end))
    if again == build.inputs_hash:
        return _Seen([], in_hindsight, "does not follow from the inputs of its build: the row or the code was changed")
    return _Seen([], in_hindsight, "its inputs are not those of its build, and nothing has noted the change")


def _cause(seen: _Seen, leak: Leak) -> str:
    column = registry.NAMES.index(leak.column)
    spec = registry.REGISTRY[column]
    if seen.changes:
        own = [change for change in seen.changes if spec.series and spec.series in change]
        return f"its inputs changed after it was built ({(own or seen.changes)[0]}): `{REBUILD}` computes it again"
    assert seen.in_hindsight is not None
    if np.isclose(seen.in_hindsight[column], leak.stored, rtol=1e-9, atol=1e-9, equal_nan=True):
        return f"computed with what came after the bar's close: {_LIKELY[spec.source]}"
    return seen.otherwise


def _recompute(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: str, ts: np.datetime64, warm_ups: int
) -> Any:
    opened, bar = _opened(ts), Timeframe(timeframe)
    inputs = load_inputs(connection, exchange, symbol, bar, opened, opened + timedelta(microseconds=1), warm_ups)
    known = inputs.known_at(ts + np.timedelta64(bar.minutes, "m"))
    return compute_features(known).values[-1]


def _opened(ts: np.datetime64) -> datetime:
    return ts.astype("datetime64[us]").astype(datetime).replace(tzinfo=UTC)
