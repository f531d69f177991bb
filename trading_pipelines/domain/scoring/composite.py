"""The composite score: from inputs to factors, from factors to 0 ... 100, with what each one contributed.

Belongs here: the arithmetic, over any number of symbols and times at once, and the score in words. Does not belong
here: mappings of single inputs (`domain.scoring.inputs`) and trading on it (`domain.strategies.composite`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.scoring.inputs import INPUTS
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_NAMES = {"technical": "charts", "on_chain": "on-chain", "market": "market context"}


@dataclass(frozen=True)
class Scores:
    """Scores of any number of moments; arrays of one value per moment, or (moments, factors).

    Attributes
    ----------
    score : array of float
        0 to 100, 50 neutral, NaN where too little is known.
    confidence : array of float
        0.5 plus half of the distance from neutral, that distance being reduced by what is not known. Not calibrated.
    coverage : array of float
        Share of the weights whose factors are known.
    known, bullish, bearish, consensus : arrays of int64
        How many factors are known, speak for a rise, speak for a fall, and agree with the side that the score takes.
    values, ages : arrays of float
        Of each factor, from -1 to 1 and in minutes, NaN where it is missing or stale.
    weights : array of float
        As used: of the known factors they sum to 1, of the others they are 0.
    contributions : array of float
        Points of the score above or below 50; they sum to ``score - 50``.
    """

    score: Floats
    confidence: Floats
    coverage: Floats
    known: Integers
    bullish: Integers
    bearish: Integers
    consensus: Integers
    values: Floats
    ages: Floats
    weights: Floats
    contributions: Floats


def evaluate(values: Floats, ages: Floats, spec: ScoringSpec) -> Scores:
    """Put inputs together to factors, and factors to scores.

    Parameters
    ----------
    values, ages : arrays of float
        (moments, inputs) in the order of `INPUTS`; NaN where an input is missing or stale.

    Notes
    -----
    A factor is the mean of its known inputs, as old as the oldest of them. With weights *w* renormalised over the known
    factors and their values *v*, the score is ``50 + 50·Σ w·v``.
    """
    factors, factor_ages = _factors(values, ages)
    known = np.isfinite(factors)
    given = np.where(known, np.array(spec.weights.in_order()), 0.0)
    coverage = given.sum(axis=1)
    weights = np.divide(given, coverage[:, None], out=np.zeros_like(given), where=coverage[:, None] > 0)
    contributions = 50.0 * weights * np.nan_to_num(factors)
    lean = contributions.sum(axis=1)
    enough = coverage >= spec.min_coverage - 1e-9
    lean = np.where(enough, lean, np.nan)
    bullish, bearish = (agreeing(factors, side, spec.agreement) for side in (1, -1))
    return Scores(
        score=50.0 + lean,
        confidence=0.5 + np.abs(lean) / 100 * coverage,
        coverage=coverage,
        known=known.sum(axis=1),
        bullish=bullish,
        bearish=bearish,
        consensus=np.where(lean > 0, bullish, np.where(lean < 0, bearish, 0)),
        values=factors,
        ages=factor_ages,
        weights=weights,
        contributions=contributions,
    )


def agreeing(factors: Floats, side: int, agreement: float) -> Integers:
    """How many factors speak for a side, +1 or -1, with at least that size; comparisons with NaN are false."""
    return ((side * factors >= agreement) & (factors != 0)).sum(axis=1)


def conflict(factors: Floats) -> Floats:
    """How strongly charts and texts contradict each other, 0 to 1: the lesser of both sizes where their signs differ.

    NaN where one of them is not known.
    """
    technical, sentiment = (factors[:, FACTORS.index(name)] for name in ("technical", "sentiment"))
    opposed = np.where(technical * sentiment < 0, np.minimum(np.abs(technical), np.abs(sentiment)), 0.0)
    return np.where(np.isfinite(technical * sentiment), opposed, np.nan)


def in_words(
    score: float,
    values: Sequence[float | None],
    ages: Sequence[float | None],
    contributions: Sequence[float],
    coverage: float,
    consensus: int,
    spec: ScoringSpec,
) -> list[str]:
    """One score as sentences, the largest contribution first; a value that is None or NaN is missing."""
    known = [i for i, value in enumerate(values) if value is not None and np.isfinite(value)]
    missing = [_name(FACTORS[i]) for i in range(len(FACTORS)) if i not in known]
    left_out = f"left out, missing or too old: {', '.join(missing)}; the other weights count {1 / coverage:.2f} times"
    if not np.isfinite(score):
        return [f"no score: only {coverage:.0%} of the weights are known", *([left_out] if known else [])]
    verdict = "strong" if score > spec.strong else "one to avoid" if score < spec.avoid else "neither strong nor weak"
    told = [f"{score:.1f} of 100, {verdict}"]
    for i in sorted(known, key=lambda i: -abs(contributions[i])):
        age = ages[i]
        old = f", {age:.0f} min old" if age is not None and age >= 1 else ""
        told.append(f"{_name(FACTORS[i])} {values[i]:+.2f}{old}: {contributions[i]:+.1f} points")
    told.append(f"{consensus} of {len(known)} known factors agree with it")
    return [*told, left_out] if missing else told


def snapshot(score: Floats, values: Floats) -> Mapping[str, Floats]:
    """Scores and their factors, (factors, moments), under the names by which a signal keeps them."""
    return {"score": score, **{f"score_{name}": value for name, value in zip(FACTORS, values, strict=True)}}


def _factors(values: Floats, ages: Floats) -> tuple[Floats, Floats]:
    """The mean of each factor's known inputs, and the age of the oldest of them."""
    moments = len(values)
    factors, oldest = np.full((moments, len(FACTORS)), np.nan), np.full((moments, len(FACTORS)), np.nan)
    for f, name in enumerate(FACTORS):
        columns = [i for i, each in enumerate(INPUTS) if each.factor == name]
        leading = [i for i in columns if INPUTS[i].alone]
        known = np.isfinite(values[:, columns])
        counted = known.sum(axis=1)
        stands = np.isfinite(values[:, leading]).any(axis=1)
        total = np.where(known, values[:, columns], 0.0).sum(axis=1)
        factors[stands, f] = total[stands] / counted[stands]
        oldest[stands, f] = np.where(known, ages[:, columns], -np.inf).max(axis=1)[stands]
    return factors, oldest


def _name(factor: str) -> str:
    return _NAMES.get(factor, factor)
