"""Ladders of prices: the distribution that the markets of one coin and one expiry imply together.

Belongs here: from odds at strikes to a distribution and what it says. Does not belong here: single markets
(`domain.prediction_markets.markets`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.prediction_markets.markets import MarketKind

Floats = npt.NDArray[np.float64]
QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
_ROUNDING = 1e-9


class Method(StrEnum):
    """What kind of markets a distribution was made of."""

    TERMINAL = "TERMINAL"
    TOUCH = "TOUCH"


@dataclass(frozen=True)
class Rung:
    """Odds at one strike; `weight_usd` is the liquidity behind them."""

    kind: MarketKind
    strike: float
    upper_strike: float | None
    probability: float
    weight_usd: float


@dataclass(frozen=True)
class Implied:
    """A distribution of a price at an expiry.

    Attributes
    ----------
    strikes, survival : tuple of float
        Ascending prices, and the probability of a higher price at each; never rising.
    repaired : float
        Largest change of a probability that made them so.
    above_spot : float or None
        Probability of a price above spot; None where spot lies outside of the strikes.
    quantiles : tuple of float or None
        Prices at `QUANTILES`; None where one lies outside of the strikes.
    """

    method: Method
    strikes: tuple[float, ...]
    survival: tuple[float, ...]
    repaired: float
    rungs: int
    weight_usd: float
    above_spot: float | None
    quantiles: tuple[float | None, ...]


def imply(rungs: Sequence[Rung], spot: float, min_rungs: int) -> list[Implied]:
    """The distributions that a ladder implies: one from prices at the expiry, one from prices reached until then.

    Parameters
    ----------
    spot : float
        Price at the time of the odds.
    min_rungs : int
        Strikes that a distribution needs.

    Notes
    -----
    Above a strike *K* the survival function is ``S(K) = P(price > K)``: the odds of ABOVE, one minus those of BELOW.
    BETWEEN markets that join, with an open end below, are summed upwards and divided by their total, which takes out
    the margin of the market maker. Markets on whether a price is *reached* are halved: for a driftless random walk the
    reflection principle gives ``P(max >= K) = 2 P(price > K)`` for *K* above spot, and the mirror image below.

    Odds of single markets need not agree. The repair is the non-increasing sequence that is nearest to them in weighted
    least squares (isotonic regression, pool adjacent violators; Barlow et al., 1972), the weights being liquidity.
    Between strikes the survival function is linear in the logarithm of the price; outside of them nothing is said.
    """
    made = [
        _distribution(method, points, spot, min_rungs)
        for method, points in (
            (Method.TERMINAL, _terminal_points(rungs)),
            (Method.TOUCH, list(_touch_points(rungs, spot))),
        )
    ]
    return [distribution for distribution in made if distribution is not None]


def bias(distributions: Iterable[Implied]) -> float | None:
    """How far ladders lean above spot, -1 to 1: ``2 P(price > spot) - 1``, weighted by liquidity; None without any."""
    known = [(d.above_spot, d.weight_usd) for d in distributions if d.above_spot is not None and d.weight_usd > 0]
    total = sum(weight for _, weight in known)
    return sum((2 * above - 1) * weight for above, weight in known) / total if total else None


@dataclass(frozen=True)
class _Point:
    strike: float
    survival: float
    weight: float


def _terminal_points(rungs: Sequence[Rung]) -> list[_Point]:
    points = [
        _Point(r.strike, r.probability if r.kind is MarketKind.ABOVE else 1 - r.probability, r.weight_usd)
        for r in rungs
        if r.kind in {MarketKind.ABOVE, MarketKind.BELOW}
    ]
    buckets = sorted((r for r in rungs if r.kind is MarketKind.BETWEEN), key=lambda r: r.strike)
    return points + _bucket_points(buckets, rungs)


def _bucket_points(buckets: Sequence[Rung], rungs: Sequence[Rung]) -> list[_Point]:
    """Survival at the upper ends of joining buckets; none where one is missing or the ends are not open markets."""
    if not buckets:
        return []
    lowest = next((r for r in rungs if r.kind is MarketKind.BELOW and r.strike == buckets[0].strike), None)
    highest = next((r for r in rungs if r.kind is MarketKind.ABOVE and r.strike == buckets[-1].upper_strike), None)
    joined = all(low.upper_strike == high.strike for low, high in pairwise(buckets))
    if lowest is None or highest is None or not joined:
        return []
    total = lowest.probability + highest.probability + sum(r.probability for r in buckets)
    if total <= 0:
        return []
    points: list[_Point] = []
    below = lowest.probability
    for bucket in buckets[:-1]:
        below += bucket.probability
        points.append(_Point(bucket.upper_strike or bucket.strike, 1 - below / total, bucket.weight_usd))
    return points


def _touch_points(rungs: Sequence[Rung], spot: float) -> Iterable[_Point]:
    """What is reached already says nothing about the expiry and is left out."""
    for r in rungs:
        if r.kind is MarketKind.HIT_ABOVE and r.strike > spot:
            yield _Point(r.strike, r.probability / 2, r.weight_usd)
        elif r.kind is MarketKind.HIT_BELOW and r.strike < spot:
            yield _Point(r.strike, 1 - r.probability / 2, r.weight_usd)


def _distribution(method: Method, points: Sequence[_Point], spot: float, min_rungs: int) -> Implied | None:
    strikes = sorted({p.strike for p in points})
    if len(strikes) < max(2, min_rungs):
        return None
    from sklearn.isotonic import (  # pyright: ignore[reportMissingTypeStubs]  # it has none; slow to import
        IsotonicRegression,
    )

    prices = np.array([p.strike for p in points])
    raw = np.clip(np.array([p.survival for p in points]), 0.0, 1.0)
    weights = np.array([max(p.weight, 1.0) for p in points])
    repair: Any = IsotonicRegression(increasing=False, y_min=0.0, y_max=1.0)
    repair.fit(np.log(prices), raw, sample_weight=weights)
    survival: Floats = np.asarray(repair.predict(np.log(strikes)), dtype=np.float64)
    at_points = np.interp(np.log(prices), np.log(strikes), survival)
    chances: list[float] = survival.tolist()
    return Implied(
        method=method,
        strikes=tuple(strikes),
        survival=tuple(chances),
        repaired=float(np.abs(at_points - raw).max()),
        rungs=len(points),
        weight_usd=float(sum(p.weight for p in points)),
        above_spot=survival_at(strikes, chances, spot),
        quantiles=tuple(quantile(strikes, chances, q) for q in QUANTILES),
    )


def survival_at(strikes: Sequence[float], survival: Sequence[float], price: float) -> float | None:
    """Probability of a price above `price`; None outside of the strikes."""
    if not strikes[0] <= price <= strikes[-1]:
        return None
    return float(np.interp(math.log(price), np.log(strikes), survival))


def quantile(strikes: Sequence[float], survival: Sequence[float], share: float) -> float | None:
    """The price below which the given share of the probability lies; None outside of the strikes."""
    wanted = 1 - share
    if not survival[-1] - _ROUNDING <= wanted <= survival[0] + _ROUNDING:
        return None
    wanted = min(max(wanted, survival[-1]), survival[0])
    for i in range(len(strikes) - 1):
        upper, lower = survival[i], survival[i + 1]
        if lower <= wanted <= upper:
            part = 0.5 if upper == lower else (upper - wanted) / (upper - lower)
            low, high = math.log(strikes[i]), math.log(strikes[i + 1])
            return math.exp(low + part * (high - low))
    return None
