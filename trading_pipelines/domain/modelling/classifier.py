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

FORMAT = 1
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

    def importance(self) -> dict[str, float]:
        """Total gain of each feature, as a share of all."""
        gain = _booster(self.model).feature_importance("gain")
        total = float(gain.sum()) or 1.0
        return {name: float(g) / total for name, g in zip(self.features, gain, strict=True)}

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


def fit(train: Samples, inner: Samples, features: tuple[str, ...], spec: TrainingSpec) -> Classifier:
    """Fit on `train`; stop early and calibrate on `inner`, the newest part of the training window.

    The calibration has one parameter only: with a few thousand noisy, overlapping samples the steps of an isotonic
    regression are noise. Where the booster has found nothing the probability becomes 0.5.
    """
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(
        train.features, train.labels, weight=train.weights, feature_name=list(features), free_raw_data=True
    )
    booster = lightgbm.train(
        _parameters(spec),
        data,
        num_boost_round=spec.num_boost_round,
        valid_sets=[data.create_valid(inner.features, inner.labels, weight=inner.weights)],
        callbacks=[lightgbm.early_stopping(spec.early_stopping_rounds, verbose=False)],
    )
    raw = np.asarray(booster.predict(inner.features, raw_score=True, num_iteration=booster.best_iteration))
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    return Classifier(text, temperature(raw, inner.labels, inner.weights), features)


def temperature(raw: Floats, labels: npt.NDArray[np.int8], weights: Floats) -> float:
    """Factor on the log-odds that minimises the log loss, by Newton's method; 0 where the scores are of no use.

    Temperature scaling: Guo et al. (2017), "On Calibration of Modern Neural Networks". It has no intercept on purpose:
    the base rate of a few weeks of overlapping labels is the trend of those weeks, and would be bet on in the next.
    """
    factor = 0.0
    for _ in range(50):
        p = _sigmoid(factor * raw)
        gradient = float((weights * raw * (labels - p)).sum())
        curvature = float((weights * raw**2 * p * (1 - p)).sum())
        if curvature < 1e-12:
            return 0.0
        factor += gradient / curvature
        if abs(gradient / curvature) < 1e-10:
            break
    return min(max(factor, 0.0), MAX_TEMPERATURE_FACTOR)


def _parameters(spec: TrainingSpec) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": spec.learning_rate,
        "num_leaves": spec.num_leaves,
        "min_data_in_leaf": spec.min_data_in_leaf,
        "feature_fraction": spec.feature_fraction,
        "bagging_fraction": spec.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": spec.lambda_l2,
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
