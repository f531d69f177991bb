"""From candles to the matrix of features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.features.context import FeatureInputs
from trading_pipelines.domain.features.registry import REGISTRY, FeatureSpec
from trading_pipelines.domain.features.windows import Times


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


def compute_features(inputs: FeatureInputs, registry: Sequence[FeatureSpec] = REGISTRY) -> FeatureMatrix:
    """Compute every feature for every bar of the signal timeframe.

    The value of a row depends only on candles that had closed, and on funding that had been settled, by the row's
    `available_at`.
    """
    values = np.empty((len(inputs.bars), len(registry)))
    with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still: the value is NaN
        for column, spec in enumerate(registry):
            values[:, column] = spec.compute(inputs)
    values[~np.isfinite(values)] = np.nan
    return FeatureMatrix(inputs.bars.ts, inputs.bars.closes_at, values)
