"""Drift: what has shifted more than it used to is named, slow features and noise are not."""

import numpy as np
import pytest

from trading_pipelines.domain.modelling.novelty import Reference, reference_of
from trading_pipelines.domain.validation.drift import (
    DriftSpec,
    bin_shares,
    decay_of,
    feature_drift,
    reasons,
    shifted,
)

ROWS, WEEK = 6_720, 672
SPEC = DriftSpec()


def _training(seed: int = 1) -> np.ndarray:
    """A feature of noise, one that wanders slowly, and one that is missing half of the time."""
    draw = np.random.default_rng(seed)
    noise, slow = draw.normal(size=ROWS + WEEK), np.sin(np.arange(ROWS + WEEK) / 1_500)
    gaps = np.where(draw.random(ROWS + WEEK) < 0.5, np.nan, draw.normal(size=ROWS + WEEK))
    return np.column_stack([noise, slow, gaps])


def _reference() -> Reference:
    return reference_of(("noise", "slow", "gaps"), _training()[:ROWS], WEEK)


def _shifted(recent: np.ndarray) -> list[bool]:
    reference = _reference()
    drift = feature_drift(bin_shares(recent, reference.edges), reference.shares)
    return shifted(drift, reference.usual_psi, SPEC).tolist()


def test_week_like_those_of_the_training_has_not_shifted() -> None:
    assert _shifted(_training()[ROWS:]) == [False, False, False]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda week: week + np.array([1.0, 0, 0]), [True, False, False]),
        (lambda week: week * np.array([3.0, 1, 1]), [True, False, False]),
        (lambda week: np.where([False, False, True], np.nan, week), [False, False, True]),
    ],
)
def test_other_distribution_has_shifted(change: object, expected: list[bool]) -> None:
    assert _shifted(change(_training()[ROWS:])) == expected  # type: ignore[operator]  # one of the lambdas above


def test_novelty_is_the_share_of_features_beyond_the_training() -> None:
    reference = _reference()
    rows = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [9.0, -7.0, 0.0], [np.nan, 0.0, np.nan], [9.0, 9.0, 9.0]])
    np.testing.assert_allclose(reference.novelty(rows), [0, 1 / 3, 2 / 3, 1 / 3, 1])
    assert reference.novelty(_training()[:ROWS]).mean() < 0.01


def test_reference_survives_the_store() -> None:
    reference = _reference()
    again = Reference.from_dict(reference.to_dict())
    assert again.features == reference.features
    for name in ("low", "high", "edges", "shares", "usual_psi"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name))


def _decay(right: float) -> tuple[str, ...]:
    outcome = np.where(np.arange(3_200) % 100 < right * 100, 1.0, 0.0)
    return reasons(0.0, decay_of(np.full(3_200, 0.55), outcome), 0.55, 0.688, 16, SPEC)


def test_hits_decay_beyond_three_standard_errors_only() -> None:
    assert _decay(0.55) == _decay(0.50) == ()
    assert any("hit rate 40.0%, out of sample it was 55.0%" in reason for reason in _decay(0.40))


def test_too_few_outcomes_say_nothing() -> None:
    assert reasons(0.0, decay_of(np.full(200, 0.55), np.zeros(200)), 0.55, 0.688, 16, SPEC) == ()
    assert reasons(0.0, decay_of(np.empty(0), np.empty(0)), 0.55, 0.688, 16, SPEC) == ()
    assert "30% of the features have shifted" in reasons(0.3, None, None, None, 16, SPEC)[0]
