"""How good out-of-sample probabilities were, against a baseline that knows the training base rate only."""

# pyright: basic
# scikit-learn ships no types.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

Floats = npt.NDArray[np.float64]
Reliability = Sequence[Sequence[float]]
BIN_WIDTH = 0.02


@dataclass(frozen=True)
class Metrics:
    """Figures of one set of predictions.

    Attributes
    ----------
    auc : float or None
        Area under the ROC curve; None when only one class occurred.
    log_loss, baseline_log_loss : float
        Nats per sample, of the predictions and of the constant training base rate.
    brier : float
        Mean squared error of the probability.
    calibration_error : float
        Mean gap between predicted and observed frequency over bins of two per cent, weighted by size.
    precision : float or None
        Share of right sides among predictions with a confidence of at least the threshold; None without any.
    coverage : float
        Share of predictions that reach the threshold.
    reliability : sequence
        Per bin of two per cent that occurred: its number, samples, sum of probabilities, sum of labels. Those of
        several folds add up, which their calibration errors do not.
    """

    samples: int
    auc: float | None
    log_loss: float
    baseline_log_loss: float
    brier: float
    calibration_error: float
    precision: float | None
    coverage: float
    reliability: Reliability

    @property
    def skill(self) -> float:
        """Share of the baseline's log loss that the model takes away; negative when it is worse."""
        return 1 - self.log_loss / self.baseline_log_loss


def measure(probability: Floats, labels: npt.NDArray[np.int8], base_rate: float, threshold: float) -> Metrics:
    """Compute all figures of predictions whose labels are known."""
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    constant = np.full(len(labels), np.clip(base_rate, 1e-6, 1 - 1e-6))
    confident = np.maximum(probability, 1 - probability) >= threshold
    right = (probability >= 0.5) == (labels == 1)
    reliability = _reliability(probability, labels)
    return Metrics(
        samples=len(labels),
        auc=float(roc_auc_score(labels, probability)) if len(np.unique(labels)) == 2 else None,
        log_loss=float(log_loss(labels, clipped, labels=[0, 1])),
        baseline_log_loss=float(log_loss(labels, constant, labels=[0, 1])),
        brier=float(np.mean((probability - labels) ** 2)),
        calibration_error=calibration_error(reliability),
        precision=float(right[confident].mean()) if confident.any() else None,
        coverage=float(confident.mean()),
        reliability=reliability,
    )


def add_up(parts: Iterable[Reliability]) -> Reliability:
    """The bins of several folds together."""
    total: dict[int, list[float]] = {}
    for number, *sums in (row for part in parts for row in part):
        known = total.setdefault(int(number), [0.0, 0.0, 0.0])
        total[int(number)] = [a + b for a, b in zip(known, sums, strict=True)]
    return [[number, *total[number]] for number in sorted(total)]


def calibration_error(reliability: Reliability) -> float:
    """Mean gap between predicted and observed frequency, weighted by the samples of a bin."""
    samples = sum(row[1] for row in reliability)
    return sum(abs(predicted - observed) for _, _, predicted, observed in reliability) / samples if samples else 0.0


def _reliability(probability: Floats, labels: npt.NDArray[np.int8]) -> Reliability:
    bins = np.floor(probability / BIN_WIDTH).astype(np.int64)
    rows = ((number, bins == number) for number in np.unique(bins).tolist())
    return [[n, int(m.sum()), float(probability[m].sum()), float(labels[m].sum())] for n, m in rows]
