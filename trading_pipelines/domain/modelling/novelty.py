"""How far a row lies beyond what a model has learnt from.

Belongs here: the distribution of the features that is kept with a version, and the score of one row against it. Does
not belong here: whether many rows together have another distribution (`domain.validation.drift`).

The score is the share of the features that lie outside the range of nearly all rows of the training. A tree gives
everything beyond its last split the same answer, so beyond that range the answer no longer rests on evidence. A
distance that supposes an ellipse (Mahalanobis) would need the inverse covariance of ninety related columns with missing
values, and an isolation forest would be a second model beside the first. This costs two comparisons per feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.validation.drift import bin_shares, stability_index

Floats = npt.NDArray[np.float64]

BINS = 20
"""Bins of equal share that a feature's distribution is kept in."""
TAIL = 0.001
"""Share of the training's rows at either end that counts as beyond its range."""
_RARELY_MISSING = 0.01
"""A missing value is nothing new where at least this share of the training was missing."""


@dataclass(frozen=True)
class Reference:
    """The distribution of each feature over a training's rows.

    Attributes
    ----------
    low, high : array of float
        Range of all but the tails, per feature; NaN where every value was missing.
    edges : array of float
        Inner edges of the bins, features x (BINS - 1).
    shares : array of float
        Share of the rows per bin and, last, of missing values: features x (BINS + 1).
    usual_psi : array of float
        The largest population stability index of a window of some days within the training, per feature.
    """

    features: tuple[str, ...]
    low: Floats
    high: Floats
    edges: Floats
    shares: Floats
    usual_psi: Floats

    def novelty(self, values: Floats) -> Floats:
        """Share of the features beyond the training, 0 to 1, one per row of `values` (rows x features)."""
        missing = np.isnan(values)
        surprising = missing & (self.shares[:, -1] < _RARELY_MISSING)
        return ((values < self.low) | (values > self.high) | surprising).mean(axis=1)

    def to_dict(self) -> dict[str, Any]:
        """For the store, without NaN."""
        return {
            "features": list(self.features),
            **{name: _listed(getattr(self, name)) for name in ("low", "high", "edges", "shares", "usual_psi")},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Reference":
        """The reverse of `to_dict`."""
        arrays = [np.array(content[name], dtype=np.float64) for name in ("low", "high", "edges", "shares", "usual_psi")]
        return cls(tuple(content["features"]), *arrays)


def reference_of(features: Sequence[str], values: Floats, window_rows: int) -> Reference:
    """Describe a training's rows, ascending in time.

    Parameters
    ----------
    window_rows : int
        Length of the windows that say how far a stretch of the training usually is from all of it: slow features are
        far from their long-run distribution in any week, and that is no drift.
    """
    edges = np.full((len(features), BINS - 1), np.nan)
    low, high = np.full(len(features), np.nan), np.full(len(features), np.nan)
    for i, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if len(known):
            edges[i] = np.quantile(known, np.arange(1, BINS) / BINS)
            low[i], high[i] = np.quantile(known, [TAIL, 1 - TAIL])
    shares = bin_shares(values, edges)
    starts = range(0, max(len(values) - window_rows, 0) + 1, window_rows)
    windows = [stability_index(bin_shares(values[s : s + window_rows], edges), shares) for s in starts]
    return Reference(tuple(features), low, high, edges, shares, np.max(windows, axis=0))


def _listed(values: Floats) -> list[Any]:
    if values.ndim > 1:
        return [_listed(row) for row in values]
    return [None if np.isnan(value) else float(value) for value in values]
