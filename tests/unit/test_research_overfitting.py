"""The overfitting measures on noise, on a planted edge, and against the published figures."""

import numpy as np
import pytest

from trading_pipelines.domain.research.overfitting import (
    deflated_sharpe,
    expected_best_sharpe,
    independent_trials,
    overfitting_probability,
    probabilistic_sharpe,
)

DAYS = 480


def noise(seed: int, trials: int = 60, days: int = DAYS) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (days, trials))


def test_best_of_pure_noise_is_overfitted_about_every_second_time() -> None:
    found = [overfitting_probability(noise(seed), 10) for seed in range(12)]
    shares = [one.probability for one in found if one is not None]
    assert len(shares) == 12
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_best_of_pure_noise_has_no_significant_deflated_sharpe() -> None:
    judged = [deflated_sharpe(noise(seed)) for seed in range(12)]
    assert all(one is not None and one.probability < 0.95 for one in judged)
    # While the undeflated one would have convinced.
    assert np.mean([probabilistic_sharpe(noise(s)[:, _best(noise(s))]) for s in range(12)]) > 0.97


def test_planted_edge_is_recognised_by_both() -> None:
    returns = noise(5)
    returns[:, 17] += 0.005
    judged, overfitted = deflated_sharpe(returns), overfitting_probability(returns, 10)
    assert judged is not None
    assert overfitted is not None
    assert judged.probability > 0.95
    assert judged.sharpe == pytest.approx(returns[:, 17].mean() / returns[:, 17].std(ddof=1))
    assert overfitted.probability < 0.01
    assert overfitted.loss < 0.01


def test_expected_best_of_trials_is_that_of_a_simulation() -> None:
    best = np.random.default_rng(2).standard_normal((20_000, 100)).max(axis=1).mean()
    assert expected_best_sharpe(1.0, 100) == pytest.approx(best, rel=0.01)
    assert expected_best_sharpe(1.0, 1) == 0.0


def test_deflated_sharpe_of_the_published_example() -> None:
    # Bailey and López de Prado (2014), "A Numerical Example": annualised Sharpe ratio 2.5 on 5 years of 250 days,
    # skewness -3, kurtosis 10, 100 trials with a variance of 1/2 per year; the threshold is 0.1132 per day.
    threshold = expected_best_sharpe((0.5 / 250) ** 0.5, 100)
    assert threshold == pytest.approx(0.1132, abs=2e-4)


def test_alike_trials_count_once_and_different_ones_all() -> None:
    one = noise(1, 1)
    assert independent_trials(np.repeat(one, 20, axis=1)) == pytest.approx(1.0)
    assert independent_trials(noise(1, 20, 20_000)) == pytest.approx(20.0, rel=0.02)


def test_mean_correlation_is_that_of_all_pairs() -> None:
    common = noise(3, 1)
    returns = noise(4, 8) + common
    correlations = np.corrcoef(returns.T)
    mean = correlations[~np.eye(8, dtype=bool)].mean()
    assert independent_trials(returns) == pytest.approx(mean + (1 - mean) * 8)


def test_every_split_into_halves_is_counted() -> None:
    found = overfitting_probability(noise(1, 5, 64), 8)
    assert found is not None
    assert found.splits == 70


def test_trial_that_is_best_everywhere_is_never_overfitted() -> None:
    returns = noise(1, 6, 64)
    returns[:, 2] = 0.01 + 0.0001 * np.arange(64) % 3
    found = overfitting_probability(returns, 8)
    assert found is not None
    assert found.probability == 0.0


def test_trials_that_do_nothing_give_no_verdict() -> None:
    assert deflated_sharpe(np.zeros((100, 3))) is None
    assert overfitting_probability(np.zeros((100, 1))) is None
    assert overfitting_probability(noise(1, 4, 16), 16) is None
    with pytest.raises(ValueError, match="even"):
        overfitting_probability(noise(1), 7)


def _best(returns: np.ndarray) -> int:
    return int(np.argmax(returns.mean(axis=0) / returns.std(axis=0)))
