"""Search for the booster's parameters inside one training window, with Optuna.

Belongs here: what is tried, and how a trial is scored. Does not belong here: which windows get a search, and who
makes it (`application.models.tasks`).

Optuna is imported where it is used, as LightGBM is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from trading_pipelines.domain.modelling.classifier import BinnedSamples, Rows
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData, booster_parameters, tuned


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    parameters : dict
        For `training.tuned`.
    score, default_score : float
        Mean area under the curve on the inner windows, of the best trial and of the spec's own parameters. Being the
        best of many, the former promises more than it keeps.
    trials, pruned : int
        How many there were, and how many of them were given up early.
    """

    parameters: dict[str, float]
    score: float
    default_score: float
    trials: int
    pruned: int


def search(data: TrainingData, rows: Rows, spec: TrainingSpec, seed: int) -> Found:
    """Try parameters on inner walk-forward windows of a training window; nothing outside `rows` is looked at.

    The sampler is seeded and trials run one after the other: the same inputs find the same parameters.
    """
    optuna = _optuna()
    windows = inner_windows(data, rows, spec)
    binned = BinnedSamples(data.samples.take(rows), data.features, spec)

    def objective(trial: Any) -> float:
        candidate = tuned(spec, _suggest(trial, spec))
        scores: list[float] = []
        for step, (train, judge) in enumerate(windows):
            scores.append(binned.boost_until(candidate, train, judge)[2])
            trial.report(float(np.mean(scores)), step)
            if step + 1 < len(windows) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=spec.search.startup_trials),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=spec.search.startup_trials),
    )
    study.enqueue_trial(booster_parameters(spec))
    study.optimize(objective, n_trials=spec.search.trials)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in study.trials)
    return Found(
        dict(study.best_params), float(study.best_value), float(study.trials[0].value), len(study.trials), pruned
    )


def inner_windows(data: TrainingData, rows: Rows, spec: TrainingSpec) -> list[tuple[Rows, Rows]]:
    """Rows to learn from and to judge by, newest window first; indices count within `rows`, labels are purged.

    Of a short training window at least two thirds are left to learn from.
    """
    known_at, label_end = data.known_at[rows], data.label_end[rows]
    longest = (known_at[-1] - known_at[0]) / (3 * spec.search.windows)
    length = min(longest, np.timedelta64(spec.early_stopping_days, "D"))
    windows: list[tuple[Rows, Rows]] = []
    for number in range(spec.search.windows):
        until = known_at[-1] - number * length
        judge = np.flatnonzero((known_at > until - length) & (known_at <= until))
        windows.append((np.flatnonzero(label_end <= until - length), judge))
    return windows


def _suggest(trial: Any, spec: TrainingSpec) -> dict[str, float]:
    """One set of parameters within the spec's bounds, widened to hold the spec's own."""
    bounds = spec.search
    own = booster_parameters(spec)
    suggested: dict[str, float] = {}
    for name in ("num_leaves", "min_data_in_leaf"):
        low, high = getattr(bounds, name)
        suggested[name] = trial.suggest_int(name, min(low, own[name]), max(high, own[name]), log=True)
    for name, log in (
        ("learning_rate", True),
        ("feature_fraction", False),
        ("bagging_fraction", False),
        ("lambda_l2", True),
    ):
        low, high = (choose(edge, own[name]) for choose, edge in zip((min, max), getattr(bounds, name), strict=True))
        suggested[name] = trial.suggest_float(name, low, high, log=log and low > 0)
    return suggested


def _optuna() -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
