"""How much of a good backtest is left when one remembers how many others were tried.

Belongs here: the two measures of overfitting that a parameter search reports. Does not belong here: the search
(`domain.research.search`), and the figures of one backtest (`domain.portfolio.performance`).

Sharpe ratios are per observation here, not annualised, as in the sources.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_NORMAL = NormalDist()
_EULER = 0.5772156649015329
_SPLITS_AT_ONCE = 256
_FLAT = 1e-15
"""A deviation below this is that of a strategy that did nothing."""


@dataclass(frozen=True)
class DeflatedSharpe:
    """The best of several trials, judged against the best that chance alone would give.

    Attributes
    ----------
    probability : float
        That the true Sharpe ratio is above `threshold`; 0.95 and more is usually asked for.
    sharpe : float
        Of the best trial.
    threshold : float
        Expected best Sharpe ratio of so many trials without any skill.
    trials : float
        Number of independent trials that the correlated ones amount to.
    """

    probability: float
    sharpe: float
    threshold: float
    trials: float


@dataclass(frozen=True)
class OverfittingProbability:
    """What combinatorially symmetric cross-validation found.

    Attributes
    ----------
    probability : float
        Share of splits in which the best trial of one half is not above the median of the other.
    loss : float
        Share of splits in which it loses in the other half.
    splits : int
        How many there were.
    """

    probability: float
    loss: float
    splits: int


def probabilistic_sharpe(returns: Floats, threshold: float = 0.0) -> float | None:
    """Give the probability that the true Sharpe ratio is above a threshold; None without any variation.

    Skewed and fat-tailed returns, and few of them, make a Sharpe ratio less certain.

    Notes
    -----
    D. Bailey and M. López de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15 (2), 2012.
    """
    n = len(returns)
    if n < 3 or float(returns.std(ddof=1)) < _FLAT:
        return None
    sharpe = float(returns.mean() / returns.std(ddof=1))
    standard = (returns - returns.mean()) / returns.std()
    skewness, kurtosis = float((standard**3).mean()), float((standard**4).mean())
    variance = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    return _NORMAL.cdf((sharpe - threshold) * math.sqrt((n - 1) / max(variance, _FLAT)))


def deflated_sharpe(returns: Floats) -> DeflatedSharpe | None:
    """Judge the best of several trials; None where no trial did anything.

    Parameters
    ----------
    returns : array of float
        One column per trial, all that were tried, over the same time.

    Notes
    -----
    D. Bailey and M. López de Prado, "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest Overfitting
    and Non-Normality", Journal of Portfolio Management 40 (5), 2014. The number of independent trials is that of
    its appendix, from the mean correlation of the trials.
    """
    sharpes = _sharpes(returns.sum(axis=0), (returns**2).sum(axis=0), len(returns))
    best = int(np.argmax(sharpes))
    trials = independent_trials(returns)
    threshold = expected_best_sharpe(float(sharpes.std(ddof=1)) if len(sharpes) > 1 else 0.0, trials)
    probability = probabilistic_sharpe(returns[:, best], threshold)
    return None if probability is None else DeflatedSharpe(probability, float(sharpes[best]), threshold, trials)


def expected_best_sharpe(deviation: float, trials: float) -> float:
    """Give the expected maximum of so many Sharpe ratios whose true value is zero."""
    if trials <= 1:
        return 0.0
    plain, tail = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return deviation * ((1 - _EULER) * plain + _EULER * tail)


def independent_trials(returns: Floats) -> float:
    """Give the number of independent trials with as much variety: 1 where all are alike, all where none are."""
    active = returns[:, returns.std(axis=0) > _FLAT]
    n = active.shape[1]
    if n < 2:
        return float(max(n, 1))
    standard = (active - active.mean(axis=0)) / active.std(axis=0)
    # The mean of all correlations, without making them one by one.
    together = float((standard.sum(axis=1) ** 2).mean())
    correlation = (together - n) / (n * (n - 1))
    return 1 + (n - 1) * (1 - min(max(correlation, 0.0), 1.0))


def overfitting_probability(returns: Floats, blocks: int = 16) -> OverfittingProbability | None:
    """Find how often the best of one half of the time is mediocre in the other.

    Parameters
    ----------
    returns : array of float
        One row per period and one column per trial, all that were tried; of the oldest rows as many are left out as
        the blocks do not divide.
    blocks : int
        Even number of blocks of time; every choice of half of them is a split, 12,870 for 16 blocks.

    Returns
    -------
    OverfittingProbability or None
        None for fewer than two trials, or fewer than two periods per block.

    Notes
    -----
    D. Bailey, J. Borwein, M. López de Prado and Q. Zhu, "The Probability of Backtest Overfitting", Journal of
    Computational Finance 20 (4), 2017. Performance is the Sharpe ratio; equal ones share their rank.
    """
    if blocks < 2 or blocks % 2:
        raise ValueError(f"the number of blocks has to be even and at least 2, not {blocks}")
    length, trials = len(returns) // blocks, returns.shape[1]
    if trials < 2 or length < 2:
        return None
    by_block = returns[-blocks * length :].reshape(blocks, length, trials)
    sums, squares = by_block.sum(axis=1), (by_block**2).sum(axis=1)
    half = length * blocks // 2
    mediocre = lost = splits = 0
    for chosen in _splits(blocks):
        inside = _sharpes(chosen @ sums, chosen @ squares, half)
        outside = _sharpes((1 - chosen) @ sums, (1 - chosen) @ squares, half)
        rows = np.arange(len(chosen))
        best = outside[rows, inside.argmax(axis=1)][:, None]
        rank = (outside < best).sum(axis=1) + (1 + (outside == best).sum(axis=1)) / 2
        # A rank share of one half or less is a logit of zero or less.
        mediocre += int((rank / (trials + 1) <= 0.5).sum())
        lost += int((best < 0).sum())
        splits += len(chosen)
    return OverfittingProbability(mediocre / splits, lost / splits, splits)


def _splits(blocks: int) -> Iterator[Floats]:
    """Every choice of half of the blocks, as rows of ones and zeros, some hundred at a time."""
    choices = combinations(range(blocks), blocks // 2)
    while some := list(islice(choices, _SPLITS_AT_ONCE)):
        chosen = np.zeros((len(some), blocks))
        chosen[np.arange(len(some))[:, None], np.array(some)] = 1.0
        yield chosen


def _sharpes(sums: Floats, squares: Floats, n: int) -> Floats:
    """Mean over deviation from sums and sums of squares; 0 for what never moved."""
    mean = sums / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 0.0) * n / (n - 1))
    return np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > _FLAT)
