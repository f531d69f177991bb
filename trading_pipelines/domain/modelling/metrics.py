"""How good out-of-sample probabilities were, against a baseline that knows the training base rate only."""

# pyright: basic
# scikit-learn ships no types.

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

Floats = npt.NDArray[np.float64]


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
        Mean gap between predicted and observed frequency over ten equally filled bins, weighted by size.
    precision : float or None
        Share of right sides among predictions with a confidence of at least the threshold; None without any.
    coverage : float
        Share of predictions that reach the threshold.
    """

    samples: int
    auc: float | None
    log_loss: float
    baseline_log_loss: float
    brier: float
    calibration_error: float
    precision: float | None
    coverage: float

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
    return Metrics(
        samples=len(labels),
        auc=float(roc_auc_score(labels, probability)) if len(np.unique(labels)) == 2 else None,
        log_loss=float(log_loss(labels, clipped, labels=[0, 1])),
        baseline_log_loss=float(log_loss(labels, constant, labels=[0, 1])),
        brier=float(np.mean((probability - labels) ** 2)),
        calibration_error=_calibration_error(probability, labels),
        precision=float(right[confident].mean()) if confident.any() else None,
        coverage=float(confident.mean()),
    )


def _calibration_error(probability: Floats, labels: npt.NDArray[np.int8], bins: int = 10) -> float:
    groups = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(labels)))
    gaps = [abs(probability[g].mean() - labels[g].mean()) * len(g) for g in groups]
    return float(sum(gaps) / len(labels))
