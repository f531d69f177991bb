"""One training: which rows may be learnt from, what each fold gives, and the final fit."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.labeling.triple_barrier import RowLabels
from trading_pipelines.domain.modelling.classifier import BinnedSamples, Classifier, InnerSplit, Samples, fit
from trading_pipelines.domain.modelling.metrics import Metrics, add_up, calibration_error, measure, simulate_trades
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.validation.walk_forward import Fold, WalkForward, training_window

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
Rows = npt.NDArray[np.int64]
MINIMUM_ROWS = 500
MINIMUM_INNER_ROWS = 50
SEARCHED = ("num_leaves", "min_data_in_leaf", "learning_rate", "feature_fraction", "bagging_fraction", "lambda_l2")
"""Parameters of the booster that a search may change."""


@dataclass(frozen=True)
class TrainingData:
    """Labelled rows of one symbol, ascending in time.

    Attributes
    ----------
    known_at : array of datetime64
        Close of the row's bar.
    label_end : array of datetime64
        When the row's label was known.
    moves : array of float or None
        What the price did over the label's life, see `Labels.move`; None where nobody asks for a profit.
    """

    known_at: Times
    label_end: Times
    samples: Samples
    features: tuple[str, ...]
    moves: Floats | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def sha256(self) -> str:
        """Hash of everything that is learnt from."""
        digest = hashlib.sha256()
        moves = np.empty(0) if self.moves is None else self.moves
        for array in (self.known_at, self.label_end, self.samples.features, self.samples.labels, moves):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class FoldResult:
    """What one fold has shown; times in UTC.

    Attributes
    ----------
    parameters : dict
        The booster's, see `tuned`.
    rounds : int
        Boosting rounds that early stopping left.
    calibration : float
        Factor on the log-odds.
    probabilities : array of float
        Of the rows of the test window.
    """

    number: int
    train_from: np.datetime64
    train_until: np.datetime64
    test_from: np.datetime64
    test_until: np.datetime64
    metrics: Metrics
    parameters: dict[str, float]
    rounds: int
    calibration: float
    probabilities: Floats


def model_inputs(names: Sequence[str], price_scaled: Set[str], spec: TrainingSpec) -> list[int]:
    """Columns to learn from: those that no pattern of the spec leaves out and that name no price level."""
    return [
        i
        for i, name in enumerate(names)
        if name not in price_scaled and not any(fnmatch(name, pattern) for pattern in spec.excluded_features)
    ]


def assemble(known_at: Times, features: Floats, names: tuple[str, ...], labels: RowLabels) -> TrainingData:
    """Keep the rows that have a label, and the columns that say anything.

    What is still warming up is NaN, which the booster knows how to take. A column that is the same in all rows, such as
    that of a source which nobody has set up, would be no input: only a name in the version and in its novelty.
    """
    keep = labels.value >= 0
    known = features[keep]
    told = [i for i, column in enumerate(known.T) if not _is_constant(column)]
    samples = Samples(known[:, told], labels.value[keep], labels.weight[keep])
    return TrainingData(
        known_at[keep], labels.known_at[keep], samples, tuple(names[i] for i in told), labels.move[keep]
    )


def _is_constant(column: Floats) -> bool:
    first = column[:1]
    return bool(np.array_equal(column, np.broadcast_to(first, column.shape), equal_nan=True))


def splitter(spec: TrainingSpec) -> WalkForward:
    """The walk-forward split that the spec describes."""
    return WalkForward(
        train=None if spec.anchored else np.timedelta64(spec.train_days, "D"),
        test=np.timedelta64(spec.test_days, "D"),
        embargo=np.timedelta64(spec.embargo_minutes, "m"),
        folds=spec.folds,
    )


def folds_of(data: TrainingData, spec: TrainingSpec) -> list[Fold]:
    """The folds of the data, oldest first."""
    return list(splitter(spec).split(data.known_at, data.label_end))


def final_rows(data: TrainingData, as_of: np.datetime64, spec: TrainingSpec) -> Rows:
    """The rows that the version for use at `as_of` learns from; nothing is tested on it, so no embargo is due."""
    length = splitter(spec).train
    return np.flatnonzero(training_window(data.known_at, data.label_end, as_of, length, np.timedelta64(0, "m")))


def inner_split(data: TrainingData, rows: Rows, spec: TrainingSpec) -> InnerSplit:
    """Cut a training window in three, each purged from the next; the indices count within `rows`.

    Of a short window at least two thirds are left to learn from.
    """
    known_at, label_end = data.known_at[rows], data.label_end[rows]
    longest = (known_at[-1] - known_at[0]) / 6
    calibration_from = known_at[-1] - min(longest, np.timedelta64(spec.calibration_days, "D"))
    stop_from = calibration_from - min(longest, np.timedelta64(spec.early_stopping_days, "D"))
    return InnerSplit(
        train=np.flatnonzero(label_end <= stop_from),
        stop=np.flatnonzero((known_at > stop_from) & (label_end <= calibration_from)),
        calibration=np.flatnonzero(known_at > calibration_from),
    )


def is_enough(data: TrainingData, rows: Rows, spec: TrainingSpec) -> bool:
    """Whether a window has rows to learn from besides those that stop and calibrate the fit."""
    if len(rows) < MINIMUM_ROWS:
        return False
    inner = inner_split(data, rows, spec)
    return min(len(inner.train), len(inner.stop), len(inner.calibration)) >= MINIMUM_INNER_ROWS


def tuned(spec: TrainingSpec, parameters: Mapping[str, float]) -> TrainingSpec:
    """The spec with the booster's parameters replaced by those that a search has found."""
    return TrainingSpec.model_validate(spec.model_dump() | dict(parameters))


def booster_parameters(spec: TrainingSpec) -> dict[str, float]:
    """The parameters of the booster that a search may change."""
    return {name: getattr(spec, name) for name in SEARCHED}


def evaluate_fold(data: TrainingData, fold: Fold, spec: TrainingSpec) -> FoldResult | None:
    """Fit on the fold's past and judge by its test window; None where either has too few rows."""
    if len(fold.test) == 0 or not is_enough(data, fold.train, spec):
        return None
    window = data.samples.take(fold.train)
    model = fit(BinnedSamples(window, data.features, spec), inner_split(data, fold.train, spec), spec)
    test = data.samples.take(fold.test)
    probabilities = model.probability(test.features)
    base_rate = float(np.average(window.labels, weights=window.weights))
    return FoldResult(
        fold.number,
        data.known_at[int(fold.train[0])],
        data.known_at[int(fold.train[-1])],
        data.known_at[int(fold.test[0])],
        data.known_at[int(fold.test[-1])],
        _judged(data, fold.test, probabilities, base_rate, spec),
        booster_parameters(spec),
        model.rounds,
        model.factor,
        probabilities,
    )


def fit_final(data: TrainingData, as_of: np.datetime64, spec: TrainingSpec) -> Classifier | None:
    """Fit the version that goes into use at `as_of`; None with too few rows."""
    rows = final_rows(data, as_of, spec)
    if not is_enough(data, rows, spec):
        return None
    window = data.samples.take(rows)
    return fit(BinnedSamples(window, data.features, spec), inner_split(data, rows, spec), spec)


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
        trades=sum(m.trades for m in results),
        net_profit=sum(m.net_profit for m in results),
    )


def _judged(data: TrainingData, rows: Rows, probabilities: Floats, base_rate: float, spec: TrainingSpec) -> Metrics:
    metrics = measure(probabilities, data.samples.labels[rows], base_rate, spec.confidence_threshold)
    if data.moves is None:
        return metrics
    trades, profit = simulate_trades(
        probabilities,
        data.known_at[rows],
        data.label_end[rows],
        data.moves[rows],
        spec.confidence_threshold,
        spec.cost_rate,
    )
    return replace(metrics, trades=trades, net_profit=profit)
