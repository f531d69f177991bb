"""What one source of information adds out of sample: the same judgement with it and without it, period by period.

Belongs here: the comparison of two paired series of results and its uncertainty. Does not belong here: making the
results (training, backtests, scores), and whether a source is worth its price.

Results of neighbouring periods resemble each other, so whole stretches of periods are drawn again, not single ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

FEWEST_PERIODS = 10
"""An interval from fewer pairs would say nothing."""
_DRAWN_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """Mean of the paired differences, with a bootstrap interval.

    Attributes
    ----------
    difference : float
        Mean result with the source minus mean result without it, in the unit of the results. NaN without enough pairs.
    low, high : float
        Ends of the interval that holds the true difference with probability `confidence`.
    improved : float
        Share of the drawn samples in which the difference is above zero.
    periods : int
        Pairs that were compared.
    unpaired : int
        Periods that only one of the two has a result for; they are left out.
    """

    difference: float
    low: float
    high: float
    improved: float
    periods: int
    unpaired: int
    confidence: float

    @property
    def conclusive(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Ablation:
    """What `source` adds: the result of everything minus the result without it."""

    source: str
    comparison: Comparison


def compare(
    with_source: "pd.Series[Any]",
    without: "pd.Series[Any]",
    *,
    block: int,
    samples: int,
    seed: int,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two paired series of out-of-sample results by the stationary bootstrap.

    Politis and Romano (1994), "The Stationary Bootstrap": stretches of a random length with the mean `block` are drawn
    with replacement from the differences put into a circle. The interval is the middle of the drawn means.

    Parameters
    ----------
    with_source, without : series
        One result per period, larger is better, indexed by the period (a day, a fold). The results of several folds
        are one series, in order of time. Periods in which either is NaN or missing are left out.
    block : int
        Mean length of a stretch, in periods; about as long as results stay alike. One for independent periods.
    samples : int
        How often the periods are drawn again.

    Raises
    ------
    ValueError
        A period that occurs twice, or a length, number or confidence that makes no sense.
    """
    if block < 1 or samples < 1 or not 0 < confidence < 1:
        raise ValueError("block and samples have to be at least 1, confidence between 0 and 1")
    if not (with_source.index.is_unique and without.index.is_unique):
        raise ValueError("one result per period: a period occurs twice")
    pairs = pd.concat({"with": with_source, "without": without}, axis=1).sort_index()
    known = pairs.notna()
    unpaired = int((known.any(axis=1) & ~known.all(axis=1)).sum())
    pairs = pairs[known.all(axis=1)]
    differences = (pairs["with"] - pairs["without"]).to_numpy(np.float64)
    if len(differences) < FEWEST_PERIODS:
        nan = float("nan")
        return Comparison(nan, nan, nan, nan, len(differences), unpaired, confidence)
    means = _drawn_means(differences, block, samples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    improved = float((means > 0).mean())
    return Comparison(float(differences.mean()), low, high, improved, len(differences), unpaired, confidence)


def ablate(
    values: Mapping[str, "pd.Series[Any]"],
    baseline: str,
    *,
    block: int = 5,
    samples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Ablation, ...]:
    """Compare the results of everything with those of everything but one source.

    The intervals are widened so that all of them hold together with probability `confidence` (Bonferroni): of twenty
    useless sources, one would otherwise look useful.

    Parameters
    ----------
    values : mapping
        Results by name: those of `baseline`, made with every source, and of each other name, made without that source.

    Raises
    ------
    KeyError
        The baseline has no results.
    """
    everything = values[baseline]
    sources = [name for name in values if name != baseline]
    each = 1 - (1 - confidence) / max(len(sources), 1)
    return tuple(
        Ablation(
            source,
            compare(everything, values[source], block=block, samples=samples, seed=seed, confidence=each),
        )
        for source in sources
    )


def _drawn_means(values: Floats, block: int, samples: int, draw: np.random.Generator) -> Floats:
    """Means of the drawn samples, a bounded number of them in memory at once."""
    together = max(_DRAWN_AT_ONCE // len(values), 1)
    parts = [
        values[_drawn_rows(len(values), block, min(together, samples - done), draw)].mean(axis=1)
        for done in range(0, samples, together)
    ]
    return np.concatenate(parts)


def _drawn_rows(length: int, block: int, samples: int, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of `samples` samples: each goes on from the one before, or begins anew with probability 1 / `block`."""
    begins = draw.random((samples, length)) < 1 / block
    begins[:, 0] = True
    places = np.arange(length)
    began = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    starts = draw.integers(0, length, (samples, length))
    return (np.take_along_axis(starts, began, axis=1) + places - began) % length
