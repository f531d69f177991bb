"""One training: which rows may be learnt from, what each fold gives, and the final fit."""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.labeling.triple_barrier import RowLabels
from trading_pipelines.domain.modelling.classifier import Classifier, Samples, fit
from trading_pipelines.domain.modelling.metrics import Metrics, add_up, calibration_error, measure
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.validation.walk_forward import Fold, WalkForward, training_window

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
MINIMUM_ROWS = 500


@dataclass(frozen=True)
class TrainingData:
    """Labelled rows of one symbol, ascending in time.

    Attributes
    ----------
    known_at : array of datetime64
        Close of the row's bar.
    label_end : array of datetime64
        When the row's label was known.
    """

    known_at: Times
    label_end: Times
    samples: Samples
    features: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def sha256(self) -> str:
        """Hash of everything that is learnt from."""
        digest = hashlib.sha256()
        for array in (self.known_at, self.label_end, self.samples.features, self.samples.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class FoldResult:
    """What one fold has shown; times in UTC."""

    number: int
    train_from: np.datetime64
    train_until: np.datetime64
    test_from: np.datetime64
    test_until: np.datetime64
    metrics: Metrics


def model_inputs(names: Sequence[str], price_scaled: Set[str], spec: TrainingSpec) -> list[int]:
    """Columns to learn from: those that no pattern of the spec leaves out and that name no price level."""
    return [
        i
        for i, name in enumerate(names)
        if name not in price_scaled and not any(fnmatch(name, pattern) for pattern in spec.excluded_features)
    ]


def assemble(known_at: Times, features: Floats, names: tuple[str, ...], labels: RowLabels) -> TrainingData:
    """Keep the rows that have a label; what is still warming up is NaN, which the booster knows how to take."""
    keep = labels.value >= 0
    samples = Samples(features[keep], labels.value[keep], labels.weight[keep])
    return TrainingData(known_at[keep], labels.known_at[keep], samples, names)


def splitter(spec: TrainingSpec) -> WalkForward:
    """The walk-forward split that the spec describes."""
    return WalkForward(
        train=np.timedelta64(spec.train_days, "D"),
        test=np.timedelta64(spec.test_days, "D"),
        embargo=np.timedelta64(spec.embargo_minutes, "m"),
        folds=spec.folds,
    )


def evaluate_fold(data: TrainingData, fold: Fold, spec: TrainingSpec) -> FoldResult | None:
    """Fit on the fold's past and judge by its test window; None where either has too few rows."""
    if len(fold.train) < MINIMUM_ROWS or len(fold.test) == 0:
        return None
    model, base_rate = _fit_window(data, fold.train, spec)
    test = data.samples.take(fold.test)
    return FoldResult(
        fold.number,
        data.known_at[int(fold.train[0])],
        data.known_at[int(fold.train[-1])],
        data.known_at[int(fold.test[0])],
        data.known_at[int(fold.test[-1])],
        measure(model.probability(test.features), test.labels, base_rate, spec.confidence_threshold),
    )


def fit_final(data: TrainingData, as_of: np.datetime64, spec: TrainingSpec) -> Classifier | None:
    """Fit the version that goes into use at `as_of`; None with too few rows."""
    split = splitter(spec)
    rows = np.flatnonzero(training_window(data.known_at, data.label_end, as_of, split.train, np.timedelta64(0, "m")))
    return None if len(rows) < MINIMUM_ROWS else _fit_window(data, rows, spec)[0]


def pool(results: list[Metrics]) -> Metrics:
    """Metrics over several folds: means weighted by samples, precision by the samples it was taken over.

    The area under the curve is the mean of the folds': scores of different models are not on one scale.
    """
    samples = sum(m.samples for m in results)
    reliability = add_up(m.reliability for m in results)

    def mean(values: list[tuple[float | None, float]]) -> float | None:
        known = [(v, w) for v, w in values if v is not None and w > 0]
        return sum(v * w for v, w in known) / sum(w for _, w in known) if known else None

    def average(name: str) -> float:
        return sum(getattr(m, name) * m.samples for m in results) / samples

    return Metrics(
        samples=samples,
        auc=mean([(m.auc, m.samples) for m in results]),
        log_loss=average("log_loss"),
        baseline_log_loss=average("baseline_log_loss"),
        brier=average("brier"),
        calibration_error=calibration_error(reliability),
        precision=mean([(m.precision, m.coverage * m.samples) for m in results]),
        coverage=average("coverage"),
        reliability=reliability,
    )


def _fit_window(data: TrainingData, rows: npt.NDArray[np.int64], spec: TrainingSpec) -> tuple[Classifier, float]:
    """Fit on a window whose newest part is kept for early stopping and calibration, purged like a test window."""
    inner_start = data.known_at[rows[-1]] - np.timedelta64(spec.early_stopping_days, "D")
    inner = rows[data.known_at[rows] > inner_start]
    older = rows[data.label_end[rows] <= inner_start]
    train = data.samples.take(older)
    base_rate = float(np.average(train.labels, weights=train.weights))
    return fit(train, data.samples.take(inner), data.features, spec), base_rate
