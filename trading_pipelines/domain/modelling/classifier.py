"""A calibrated LightGBM classifier for the side of the next move: fit, predict, save, load, explain.

LightGBM is imported where it is used: it costs every process half a second and its threads.
"""

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.modelling.spec import TrainingSpec

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

FORMAT = 1
BIN_SAMPLE = 5_000
"""Rows that LightGBM looks at to find the edges of its bins; all of them would take longer than a short fit."""
MAX_TEMPERATURE_FACTOR = 1.5
"""A larger factor would mean that the booster was too modest, which on a short inner split is luck."""


@dataclass(frozen=True)
class Samples:
    """Rows to learn from or to be judged by: features (rows x features), label 0 or 1, weight."""

    features: Floats
    labels: npt.NDArray[np.int8]
    weights: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[Any]) -> "Samples":
        """The given rows, by index or mask."""
        return Samples(self.features[rows], self.labels[rows], self.weights[rows])


@dataclass(frozen=True)
class Classifier:
    """A fitted booster with its calibration.

    Attributes
    ----------
    model : str
        LightGBM's text format.
    factor : float
        What the booster's raw score (log-odds) is multiplied by, from `temperature`.
    features : tuple of str
        Names of the columns, in order.
    """

    model: str
    factor: float
    features: tuple[str, ...]

    def probability(self, features: Floats) -> Floats:
        """Calibrated probability of label 1, one per row."""
        if len(features) == 0:
            return np.empty(0)
        raw = _booster(self.model).predict(features, raw_score=True, num_threads=1)
        return _sigmoid(self.factor * np.asarray(raw))

    def contributions(self, features: Floats) -> Floats:
        """Contribution of each feature to the raw score (SHAP values of LightGBM), rows x features."""
        return np.asarray(_booster(self.model).predict(features, pred_contrib=True, num_threads=1))[:, :-1]

    @property
    def rounds(self) -> int:
        """Number of boosting rounds."""
        return _booster(self.model).num_trees()

    def importance(self) -> dict[str, float]:
        """Total gain of each feature, as a share of all."""
        gain = _booster(self.model).feature_importance("gain")
        total = float(gain.sum()) or 1.0
        return {name: float(g) / total for name, g in zip(self.features, gain, strict=True)}

    def mean_contribution(self, features: Floats) -> dict[str, float]:
        """Mean absolute contribution (SHAP value) of each feature over the rows, as a share of all.

        Gain counts what a feature was worth where the booster split on it while it learnt; this counts how far it moves
        what is predicted, and does not favour features with many distinct values.
        """
        moved = np.abs(self.contributions(features)).mean(axis=0)
        total = float(moved.sum()) or 1.0
        return {name: float(m) / total for name, m in zip(self.features, moved, strict=True)}

    def to_bytes(self) -> bytes:
        """The artefact; the same model gives the same bytes."""
        content = {
            "format": FORMAT,
            "model": self.model,
            "factor": self.factor,
            "features": self.features,
        }
        return gzip.compress(json.dumps(content, sort_keys=True).encode(), mtime=0)

    @classmethod
    def from_bytes(cls, artefact: bytes) -> "Classifier":
        """Read an artefact; `ValueError` for a format of another version."""
        content = json.loads(gzip.decompress(artefact))
        if content.pop("format") != FORMAT:
            raise ValueError("the model was stored by another version of the platform: train it again")
        return cls(**content | {"features": tuple(content["features"])})


@dataclass(frozen=True)
class InnerSplit:
    """Rows of a training window, in order of time and purged from each other: to learn from, to stop by, to calibrate.

    The booster is no judge of its own confidence on rows that it, or the choice of its rounds, has seen.
    """

    train: Rows
    stop: Rows
    calibration: Rows


class BinnedSamples:
    """A training window as LightGBM keeps it; made once and shared by all fits on parts of it."""

    def __init__(self, samples: Samples, features: tuple[str, ...], spec: TrainingSpec) -> None:
        self.samples = samples
        self.features = features
        dataset = _lightgbm().Dataset(
            samples.features,
            samples.labels,
            weight=samples.weights,
            feature_name=list(features),
            params=_parameters(spec),
            free_raw_data=False,
        )
        self._dataset = dataset.construct()

    def boost(self, spec: TrainingSpec, rounds: int, rows: Rows | None = None) -> Any:
        """A booster of so many rounds, on the given rows or all."""
        return _lightgbm().train(_parameters(spec), self._part(rows), rounds)

    def boost_until(self, spec: TrainingSpec, rows: Rows, stop: Rows) -> tuple[Any, int, float]:
        """A booster that stops when the rows of `stop` are ranked no better; it, the best round and its AUC.

        It stops by the area under the curve, not by the log loss: a booster becomes too sure of itself long before it
        ranks worse, and the calibration takes that away again. On a few weeks of overlapping labels the curve is noisy;
        `min_boost_round` keeps chance from ending it at once.
        """
        curve: list[float] = []

        def follow(environment: Any) -> None:
            curve.append(environment.evaluation_result_list[0][2])
            waited = len(curve) - max(_best_round(curve, spec.min_boost_round), spec.min_boost_round)
            if waited >= spec.early_stopping_rounds:
                raise _lightgbm().callback.EarlyStopException(environment.iteration, environment.evaluation_result_list)

        booster = _lightgbm().train(
            _parameters(spec),
            self._part(rows),
            spec.num_boost_round,
            valid_sets=[self._part(stop)],
            callbacks=[follow],
        )
        best = _best_round(curve, spec.min_boost_round)
        return booster, best, curve[best - 1]

    def _part(self, rows: Rows | None) -> Any:
        return self._dataset if rows is None else self._dataset.subset(rows)


def fit(data: BinnedSamples, inner: InnerSplit, spec: TrainingSpec) -> Classifier:
    """Fit on the whole window; how long and how sure of itself is decided by a first booster on its older part.

    Without the second fit the newest weeks, which resemble what comes next the most, would never be learnt from.
    """
    first, rounds, _ = data.boost_until(spec, inner.train, inner.stop)
    unseen = data.samples.take(inner.calibration)
    raw = np.asarray(first.predict(unseen.features, raw_score=True, num_iteration=rounds, num_threads=1))
    text = data.boost(spec, rounds).model_to_string()
    factor = temperature(raw, unseen.labels, unseen.weights, spec.calibration_prior, spec.calibration_center)
    return Classifier(text, max(factor, spec.calibration_floor), data.features)


def temperature(
    raw: Floats, labels: npt.NDArray[np.int8], weights: Floats, prior: float = 0.0, center: float = 0.0
) -> float:
    """Factor on the log-odds that minimises the log loss, by Newton's method; 0 where the scores are of no use.

    Temperature scaling: Guo et al. (2017), "On Calibration of Modern Neural Networks". It has one parameter only: with
    a few thousand noisy, overlapping samples the steps of an isotonic regression are noise. It has no intercept on
    purpose: the base rate of a few weeks of overlapping labels is the trend of those weeks, and would be bet on in the
    next.

    Parameters
    ----------
    prior, center : float
        Samples' worth of belief that the factor is `center`. The weights of a few weeks add up to some hundred samples,
        and a factor found on so few is luck to a good part.
    """
    factor = center if prior else 0.0
    belief = prior * float(np.mean(raw**2)) / 4 if len(raw) else 0.0
    for _ in range(50):
        p = _sigmoid(factor * raw)
        gradient = float((weights * raw * (labels - p)).sum()) - belief * (factor - center)
        curvature = float((weights * raw**2 * p * (1 - p)).sum()) + belief
        if curvature < 1e-12:
            return 0.0
        factor += gradient / curvature
        if abs(gradient / curvature) < 1e-10:
            break
    return min(max(factor, 0.0), MAX_TEMPERATURE_FACTOR)


def _best_round(curve: list[float], floor: int) -> int:
    """Number of rounds after which the score was best, of those from `floor` on."""
    first = min(floor, len(curve)) - 1
    return first + int(np.argmax(curve[first:])) + 1


def _parameters(spec: TrainingSpec) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": "auc",
        "learning_rate": spec.learning_rate,
        "num_leaves": spec.num_leaves,
        "min_data_in_leaf": spec.min_data_in_leaf,
        "feature_fraction": spec.feature_fraction,
        "bagging_fraction": spec.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": spec.lambda_l2,
        "max_bin": spec.max_bin,
        "bin_construct_sample_cnt": BIN_SAMPLE,
        # Trials of a search share the bins, whatever they say of leaves.
        "feature_pre_filter": False,
        "seed": spec.seed,
        # One thread and fixed orders: the same inputs give the same bytes, and folds run side by side.
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm


@lru_cache(maxsize=64)
def _booster(model: str) -> Any:
    return _lightgbm().Booster(model_str=model)


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -40.0, 40.0)))
