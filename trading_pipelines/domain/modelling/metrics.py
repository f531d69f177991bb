"""How good out-of-sample probabilities were, against a baseline that knows the training base rate only."""

# pyright: basic
# scikit-learn ships no types.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

from trading_pipelines.domain.labeling.triple_barrier import trade_return

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
Reliability = Sequence[Sequence[float]]
BIN_WIDTH = 0.02
COIN = float(np.log(2))
"""Log loss of always saying 0.5."""


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
    trades : int
        Positions that a trader would have held who takes every confident prediction while he holds nothing.
    net_profit : float
        Sum of their returns after fees and slippage, as a share of one position's notional.
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
    trades: int = 0
    net_profit: float = 0.0

    @property
    def skill(self) -> float:
        """Share of a naive forecast's log loss that the model takes away; negative when it is worse.

        The naive forecast is the training base rate or a coin, whichever was better: the base rate of some months is
        their trend, and a model that says nothing but 0.5 would often be better than it.
        """
        return 1 - self.log_loss / min(self.baseline_log_loss, COIN)


def measure(probability: Floats, labels: npt.NDArray[np.int8], base_rate: float, threshold: float) -> Metrics:
    """Compute all figures of predictions whose labels are known."""
    confident = np.maximum(probability, 1 - probability) >= threshold
    right = (probability >= 0.5) == (labels == 1)
    reliability = _reliability(probability, labels)
    return Metrics(
        samples=len(labels),
        auc=float(roc_auc_score(labels, probability)) if len(np.unique(labels)) == 2 else None,
        log_loss=mean_log_loss(probability, labels),
        baseline_log_loss=mean_log_loss(np.full(len(labels), base_rate), labels),
        brier=float(np.mean((probability - labels) ** 2)),
        calibration_error=calibration_error(reliability),
        precision=float(right[confident].mean()) if confident.any() else None,
        coverage=float(confident.mean()),
        reliability=reliability,
    )


def mean_log_loss(probability: Floats, labels: npt.NDArray[np.int8]) -> float:
    """Nats per sample."""
    return float(log_loss(labels, np.clip(probability, 1e-6, 1 - 1e-6), labels=[0, 1]))


def simulate_trades(
    probability: Floats, known_at: Times, label_end: Times, moves: Floats, threshold: float, cost_rate: float
) -> tuple[int, float]:
    """Number and summed net return of the trades that the predictions of one fold would have made.

    One position at a time: in at the open after a prediction with at least the threshold's confidence, out where its
    label ends. It says whether a fold's right predictions were those that pay; the backtest with ladder, trailing and
    portfolio limits says what a strategy makes of them.

    Parameters
    ----------
    known_at, label_end : array of datetime64
        Close of each prediction's bar and when its label was known, ascending in the former.
    moves : array of float
        What the price did over the label's life, see `Labels.move`.
    """
    returns = trade_return(probability >= 0.5, moves, cost_rate)
    confident = np.maximum(probability, 1 - probability) >= threshold
    free_from = known_at[0] if len(known_at) else None
    trades, profit = 0, 0.0
    for i in np.flatnonzero(confident & np.isfinite(returns)).tolist():
        if known_at[i] >= free_from:
            trades, profit, free_from = trades + 1, profit + float(returns[i]), label_end[i]
    return trades, profit


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
