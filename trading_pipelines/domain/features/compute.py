"""From candles to the matrix of features: a long history of one symbol, or the newest bars of many."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.features.context import FeatureInputs, side_by_side
from trading_pipelines.domain.features.registry import REGISTRY, FeatureSpec
from trading_pipelines.domain.features.windows import Times

_WINDOWS = (128, 1_024)
"""Features that look back less far than that are computed on fewer bars."""


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of one symbol: a row per bar, a column per feature.

    Attributes
    ----------
    ts : array of datetime64[us]
        Open time of the bar, UTC.
    available_at : array of datetime64[us]
        Close of the bar: from then on the row may be read.
    values : array of float, shape (bars, features)
        NaN while an indicator warms up.
    """

    ts: Times
    available_at: Times
    values: npt.NDArray[np.float64]

    def between(self, start: np.datetime64, end: np.datetime64) -> "FeatureMatrix":
        """The rows whose bar opens in [start, end)."""
        first, last = np.searchsorted(self.ts, [start, end])
        return FeatureMatrix(self.ts[first:last], self.available_at[first:last], self.values[first:last])

    def row(self, number: int) -> "FeatureMatrix":
        """One row alone."""
        one = slice(number, number + 1)
        return FeatureMatrix(self.ts[one], self.available_at[one], self.values[one])


def compute_features(inputs: FeatureInputs, registry: Sequence[FeatureSpec] = REGISTRY) -> FeatureMatrix:
    """Compute every feature for every bar of the signal timeframe.

    The value of a row depends only on candles that had closed, and on funding that had been settled, by the row's
    `available_at`.
    """
    values = np.empty((len(inputs.bars), len(registry)))
    _fill(values, inputs, list(enumerate(registry)))
    return FeatureMatrix(inputs.bars.ts, inputs.bars.closes_at, values)


def compute_newest(
    symbols: Sequence[FeatureInputs], bars: int, registry: Sequence[FeatureSpec] = REGISTRY
) -> list[FeatureMatrix]:
    """Compute every feature of the newest `bars` bars of many symbols: the same values in much less time.

    The symbols lie side by side in the same arrays, and of each series only as many bars are looked at as the feature
    depends on.
    """
    found: list[FeatureMatrix | None] = [None] * len(symbols)
    for group in _alike(symbols):
        rows = min(bars, max(len(symbols[i].bars) for i in group))
        together = side_by_side([symbols[i] for i in group])
        values = np.empty((len(group), rows, len(registry)))
        for specs in _by_window(registry):
            _fill(values, together.newest(rows + max(spec.window for _, spec in specs) - 1), specs)
        for row, i in enumerate(group):
            own = symbols[i].bars
            first = max(rows - len(own), 0)
            found[i] = FeatureMatrix(own.ts[-rows:], own.closes_at[-rows:], values[row, first:])
    return [matrix for matrix in found if matrix is not None]


def _fill(values: npt.NDArray[np.float64], inputs: FeatureInputs, specs: Sequence[tuple[int, FeatureSpec]]) -> None:
    """Write the columns of `specs`; the newest bars, as many as there are rows."""
    rows = values.shape[-2]
    with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still: the value is NaN
        for column, spec in specs:
            value = spec.compute(inputs)
            values[..., column] = value[..., value.shape[-1] - rows :]
            values[..., column][~np.isfinite(values[..., column])] = np.nan


def _alike(symbols: Sequence[FeatureInputs]) -> Iterable[list[int]]:
    """Positions of the symbols that can lie side by side: the same leader, breadth, market and longer timeframes."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, x in enumerate(symbols):
        key = (id(x.leader), id(x.breadth), id(x.market) if x.market else None, *x.higher)
        groups.setdefault(key, []).append(i)
    return groups.values()


def _by_window(registry: Sequence[FeatureSpec]) -> Iterable[list[tuple[int, FeatureSpec]]]:
    """Features with their columns, in groups that look back about as far."""
    groups: dict[int, list[tuple[int, FeatureSpec]]] = {}
    for column, spec in enumerate(registry):
        groups.setdefault(bisect_left(_WINDOWS, spec.window), []).append((column, spec))
    return groups.values()
