"""Find values that knew the future: recompute them from what was known at their time, and compare.

The proof needs no insight into a feature: whatever it does, a value that changes when everything later is taken
away has used something later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.features.context import FeatureInputs
from trading_pipelines.domain.features.registry import FeatureSpec

TOLERANCE = 1e-9
"""Relative; recursive indicators forget their start to 1e-10 within the warm-up."""


@dataclass(frozen=True)
class Leak:
    """One column whose stored values differ from what was known.

    Attributes
    ----------
    first : datetime64
        Earliest instant at which it differs, UTC.
    stored, recomputed : float
        The values at that instant.
    instants : int
        Number of sampled instants at which it differs.
    """

    column: str
    first: np.datetime64
    stored: float
    recomputed: float
    instants: int

    def __str__(self) -> str:
        return f"{self.column} at {self.first}: {self.stored} instead of {self.recomputed}"


def compare(
    names: Sequence[str],
    instants: Iterable[np.datetime64],
    stored: Iterable[npt.NDArray[np.float64]],
    recomputed: Iterable[npt.NDArray[np.float64]],
) -> list[Leak]:
    """Compare rows (one value per name) pairwise; one `Leak` per column that differs anywhere."""
    found: dict[str, list[tuple[np.datetime64, float, float]]] = {}
    for instant, before, after in zip(instants, stored, recomputed, strict=True):
        for i in np.flatnonzero(~_same(before, after)):
            found.setdefault(names[int(i)], []).append((instant, float(before[i]), float(after[i])))
    return [Leak(column, *min(hits), len(hits)) for column, hits in found.items()]


def find_leaks(inputs: FeatureInputs, rows: Sequence[int], registry: Sequence[FeatureSpec]) -> list[Leak]:
    """Check features computed from all of `inputs` at the given rows of the signal timeframe."""
    full = compute_features(inputs, registry)
    instants = [full.available_at[row] for row in rows]
    alone = [compute_features(inputs.known_at(instant), registry).values[-1] for instant in instants]
    return compare([spec.name for spec in registry], instants, [full.values[row] for row in rows], alone)


def _same(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    close = np.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False)
    return close | (np.isnan(a) & np.isnan(b))
