"""What each source of features adds to a model out of sample: every fold again, without one source at a time.

Belongs here: leaving features out and judging the folds. Does not belong here: the comparison of results and its
uncertainty (`domain.research.ablation`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.domain.research.ablation import Ablation, ablate

EVERYTHING = "everything"
_CLIP = 1e-6


@dataclass(frozen=True)
class SourceAblation:
    """What one source adds; positive is better.

    Attributes
    ----------
    features : tuple of str
        The source's features.
    log_loss : Ablation
        Nats per prediction by which the log loss is lower with the source, per day.
    auc : Ablation
        Area under the curve by which the source raises a fold.
    """

    source: str
    features: tuple[str, ...]
    log_loss: Ablation
    auc: Ablation


def without(data: TrainingData, features: Sequence[str]) -> TrainingData:
    """The same rows without some features."""
    kept = [i for i, name in enumerate(data.features) if name not in features]
    samples = replace(data.samples, features=np.ascontiguousarray(data.samples.features[:, kept]))
    return replace(data, samples=samples, features=tuple(data.features[i] for i in kept))


def ablate_sources(
    data: TrainingData,
    spec: TrainingSpec,
    sources: Mapping[str, Sequence[str]],
    *,
    block_days: int = 5,
    samples: int = 2000,
    seed: int = 0,
    on_fit: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[SourceAblation, ...]:
    """Judge every fold with all features and without those of each source, in the order of the sources.

    Every fit has the same rows, windows, parameters and seed. What a source adds is what the others cannot make up for:
    of two that say the same, neither adds anything.

    Parameters
    ----------
    sources : mapping
        Features of the data by source; a source without any is left out, and so is one that has them all.
    block_days : int
        Mean length of the stretches of days that are drawn again.
    on_fit : callable
        Is told how many of how many fits are done.
    """
    named = {source: tuple(n for n in names if n in data.features) for source, names in sources.items()}
    named = {source: names for source, names in named.items() if 0 < len(names) < len(data.features)}
    variants = {EVERYTHING: data} | {source: without(data, names) for source, names in named.items()}
    folds = training.folds_of(data, spec)
    by_day: dict[str, list[pd.Series[float]]] = {name: [] for name in variants}
    by_fold: dict[str, dict[int, float]] = {name: {} for name in variants}
    for i, fold in enumerate(folds):
        for j, (name, rows) in enumerate(variants.items()):
            result = training.evaluate_fold(rows, fold, spec)
            on_fit(i * len(variants) + j + 1, len(folds) * len(variants))
            if result is None:
                continue
            by_day[name].append(_daily(data, fold.test, result.probabilities))
            if result.metrics.auc is not None:
                by_fold[name][fold.number] = result.metrics.auc
    days = {name: _joined(parts) for name, parts in by_day.items()}
    aucs = {name: pd.Series(values, dtype=float) for name, values in by_fold.items()}
    losses = ablate(days, EVERYTHING, block=block_days, samples=samples, seed=seed)
    ranks = ablate(aucs, EVERYTHING, block=1, samples=samples, seed=seed)
    return tuple(
        SourceAblation(loss.source, named[loss.source], loss, rank) for loss, rank in zip(losses, ranks, strict=True)
    )


def _daily(
    data: TrainingData, rows: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> "pd.Series[float]":
    """Negated log loss of each of a fold's predictions, by its day."""
    p = np.clip(probabilities, _CLIP, 1 - _CLIP)
    right = np.where(data.samples.labels[rows] == 1, p, 1 - p)
    return pd.Series(np.log(right), index=data.known_at[rows].astype("datetime64[D]").astype("datetime64[s]"))


def _joined(parts: "Sequence[pd.Series[float]]") -> "pd.Series[float]":
    """Mean by day; a day that two folds share is one."""
    if not parts:
        return pd.Series(dtype=float)
    together = pd.concat(parts)
    return together.groupby(level=0).mean()
