"""Whether what a model meets today still looks like what it has learnt from.

Belongs here: measures of a changed distribution and of decayed predictions, and when they count as drift. Does not
belong here: where the numbers come from and what is done about it (`application.models.drift`).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]

_EMPTY = 1e-4
"""Share that an empty bin counts as, so that the index stays finite."""


class DriftSpec(BaseModel):
    """When the market has left what a version has learnt from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_days: int = Field(default=7, ge=1)
    """Days of rows and predictions that are compared with the training."""
    max_psi: float = Field(default=0.25, gt=0)
    """Population stability index of a feature, from which its distribution has shifted."""
    usual_multiple: float = Field(default=1.5, ge=1)
    """And it is beyond this multiple of what windows of that length came to within the training."""
    max_drifted_share: float = Field(default=0.2, gt=0, le=1)
    """Share of shifted features that a version bears."""
    min_outcomes: int = Field(default=300, ge=1)
    """Predictions with known outcomes below which nothing is said of hits and calibration."""
    max_standard_errors: float = Field(default=3.0, gt=0)
    """Distance of hit rate and log loss from the folds' figures."""
    retrain_cooldown_hours: int = Field(default=24, ge=1)
    """At most one retraining of a symbol for drift in this time."""


@dataclass(frozen=True)
class FeatureDrift:
    """Distance of recent rows from the training, one value per feature.

    Attributes
    ----------
    psi : array of float
        Population stability index: sum over bins of (p - q) log(p / q).
    ks : array of float
        Kolmogorov-Smirnov distance, at the edges of the bins.
    """

    psi: Floats
    ks: Floats


@dataclass(frozen=True)
class Decay:
    """How predictions turned out, next to what the folds had promised.

    Attributes
    ----------
    hit_rate, log_loss, calibration_error : float
        Of the outcomes that are known by now.
    loss_deviation : float
        Standard deviation of one outcome's loss.
    """

    outcomes: int
    hit_rate: float
    log_loss: float
    calibration_error: float
    loss_deviation: float


def bin_shares(values: Floats, edges: Floats) -> Floats:
    """Share of rows per bin, and of missing values last: features x (bins + 1)."""
    bins = edges.shape[1] + 1
    shares = np.zeros((len(edges), bins + 1))
    for i, column in enumerate(values.T):
        place: npt.NDArray[np.int64] = np.array(np.searchsorted(edges[i], column, side="right"), dtype=np.int64)
        place[np.isnan(column)] = bins
        shares[i] = np.bincount(place, minlength=bins + 1) / max(len(column), 1)
    return shares


def stability_index(recent: Floats, reference: Floats) -> Floats:
    """Population stability index per feature, from shares; pairs of bins are joined, which halves the noise."""
    p, q = (np.maximum(_joined(shares), _EMPTY) for shares in (recent, reference))
    return ((p - q) * np.log(p / q)).sum(axis=1)


def feature_drift(recent: Floats, reference: Floats) -> FeatureDrift:
    """Compare shares of recent rows with those of the training."""
    distance = np.abs(np.cumsum(recent[:, :-1], axis=1) - np.cumsum(reference[:, :-1], axis=1)).max(axis=1)
    return FeatureDrift(stability_index(recent, reference), distance)


def shifted(drift: FeatureDrift, usual_psi: Floats, spec: DriftSpec) -> npt.NDArray[np.bool_]:
    """Which features have another distribution than the training, more than stretches of the training had."""
    return (drift.psi > spec.max_psi) & (drift.psi > spec.usual_multiple * usual_psi)


def decay_of(probability: Floats, outcome: Floats) -> Decay | None:
    """Hit rate, log loss and calibration of predictions whose outcome is known; None without any."""
    if len(probability) == 0:
        return None
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    losses = -(outcome * np.log(p) + (1 - outcome) * np.log(1 - p))
    bins = np.floor(probability / 0.05).astype(np.int64)
    gaps = [abs(float((outcome[bins == b] - probability[bins == b]).sum())) for b in np.unique(bins)]
    return Decay(
        outcomes=len(p),
        hit_rate=float(((probability >= 0.5) == (outcome == 1)).mean()),
        log_loss=float(losses.mean()),
        calibration_error=sum(gaps) / len(p),
        loss_deviation=float(losses.std()),
    )


def reasons(
    shifted_share: float,
    decay: Decay | None,
    expected_hit_rate: float | None,
    expected_log_loss: float | None,
    overlap: float,
    spec: DriftSpec,
) -> tuple[str, ...]:
    """What is beyond its threshold, in words.

    Parameters
    ----------
    overlap : float
        Bars that a label lives: neighbouring outcomes tell the same story, and only so many are independent.
    """
    found: list[str] = []
    if shifted_share > spec.max_drifted_share:
        found.append(f"{shifted_share:.0%} of the features have shifted, {spec.max_drifted_share:.0%} are borne")
    if decay is None or decay.outcomes < spec.min_outcomes:
        return tuple(found)
    independent = decay.outcomes / max(overlap, 1.0)
    if expected_hit_rate is not None:
        error = math.sqrt(expected_hit_rate * (1 - expected_hit_rate) / independent)
        if decay.hit_rate < expected_hit_rate - spec.max_standard_errors * error:
            found.append(f"hit rate {decay.hit_rate:.1%}, out of sample it was {expected_hit_rate:.1%}")
    if expected_log_loss is not None:
        error = decay.loss_deviation / math.sqrt(independent)
        if decay.log_loss > expected_log_loss + spec.max_standard_errors * error:
            found.append(f"log loss {decay.log_loss:.4f}, out of sample it was {expected_log_loss:.4f}")
    return tuple(found)


def _joined(shares: Floats) -> Floats:
    """Shares of pairs of bins, missing values on their own."""
    bins = shares[:, :-1]
    return np.column_stack([bins[:, 0::2] + bins[:, 1::2], shares[:, -1]])
