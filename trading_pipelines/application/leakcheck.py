"""Check stored features against what was known at their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features import current_feature_set, load_inputs
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.validation.leakage import Leak, compare
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import instruments


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


def _recompute(
    connection: psycopg.Connection[Any], exchange: str, symbol: str, timeframe: str, ts: np.datetime64, warm_ups: int
) -> Any:
    opened = ts.astype("datetime64[us]").item().replace(tzinfo=UTC)
    bar = Timeframe(timeframe)
    inputs = load_inputs(connection, exchange, symbol, bar, opened, opened + timedelta(microseconds=1), warm_ups)
    known = inputs.known_at(ts + np.timedelta64(bar.minutes, "m"))
    return compute_features(known).values[-1]
