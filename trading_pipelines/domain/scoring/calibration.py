"""Choose the weights of the factors walk-forward, and measure what came of them out of sample.

Belongs here: which moments a set of weights would have signalled, what these signals brought, and the choice by the
past alone. Does not belong here: loading factors and outcomes (`application.analysis.calibration`), and intervals
(`domain.research.ablation`).

A signal's outcome is that of its triple barrier after costs; it is false when that is a loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.scoring.composite import agreeing
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DAY = 86_400_000_000
_FEWEST_SIGNALS = 50
"""Signals that a set of weights needs in a training window to be chosen."""


@dataclass(frozen=True)
class Moments:
    """Moments at which a signal could have been given; sorted by symbol, then time.

    Attributes
    ----------
    symbol : array of int64
        Codes of the symbols.
    closed_at, known_at : array of int64
        When a signal would be given, and when its outcome was known; microseconds since 1970.
    factors : array of float
        (moments, factors) from -1 to 1, NaN where not known.
    long, short : array of float
        Net return of a trade of that side, as a share of its notional.
    """

    symbol: Integers
    closed_at: Integers
    known_at: Integers
    factors: Floats
    long: Floats
    short: Floats

    def __len__(self) -> int:
        return len(self.symbol)

    def with_factors(self, factors: Floats) -> "Moments":
        """The same moments with other factors."""
        return Moments(self.symbol, self.closed_at, self.known_at, factors, self.long, self.short)


@dataclass(frozen=True)
class Rules:
    """What makes a signal of a score.

    Attributes
    ----------
    mark : float
        Points that a score has to lie away from neutral, more than.
    min_consensus : int
        Factors that have to agree; 0 asks none.
    cooldown : int
        Microseconds between two signals of a symbol.
    """

    mark: float
    min_consensus: int
    cooldown: int
    agreement: float
    min_coverage: float


@dataclass(frozen=True)
class Fold:
    """One window: chosen in [train_from, train_until), measured in [test_from, test_until)."""

    train_from: int
    train_until: int
    test_from: int
    test_until: int


@dataclass(frozen=True)
class Outcomes:
    """What some signals brought: their moments and net returns, in the order of the moments."""

    closed_at: Integers
    net: Floats

    @property
    def signals(self) -> int:
        """How many there were."""
        return len(self.net)

    @property
    def false_signals(self) -> int:
        """How many lost after costs."""
        return int((self.net <= 0).sum())

    @property
    def hit_rate(self) -> float:
        """Share that did not lose, NaN without signals."""
        return float((self.net > 0).mean()) if self.signals else float("nan")

    @property
    def mean_net(self) -> float:
        """Mean net return of a signal, NaN without signals."""
        return float(self.net.mean()) if self.signals else float("nan")

    def by_day(self, start: int, end: int) -> pd.DataFrame:
        """Signals, false ones and the sum of net returns per UTC day of [start, end); days without signals are 0."""
        first, last = start // DAY, -(-end // DAY)
        day = self.closed_at // DAY - first
        days = int(last - first)
        columns = {
            "signals": np.bincount(day, minlength=days),
            "false": np.bincount(day, self.net <= 0, minlength=days),
            "net": np.bincount(day, self.net, minlength=days),
        }
        index = pd.to_datetime(np.arange(first, last) * DAY, unit="us", utc=True)
        return pd.DataFrame({name: values[:days].astype(float) for name, values in columns.items()}, index=index)


def join(parts: Sequence[Outcomes]) -> Outcomes:
    """Outcomes of several windows, one after the other."""
    return Outcomes(np.concatenate([p.closed_at for p in parts]), np.concatenate([p.net for p in parts]))


def leans(moments: Moments, weights: Sequence[float], rules: Rules) -> Floats:
    """Points above (positive) or below neutral, as `composite.evaluate` gives them; NaN where too little is known.

    Weights that ask for one factor only have full coverage wherever that factor is known.
    """
    given = np.where(np.isfinite(moments.factors), np.array(weights), 0.0)
    coverage = given.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lean = 50.0 * (given * np.nan_to_num(moments.factors)).sum(axis=1) / coverage
    return np.where(coverage >= rules.min_coverage - 1e-9, lean, np.nan)


def signals(moments: Moments, lean: Floats, rules: Rules) -> Integers:
    """Rows at which a signal would be given: beyond the mark, agreed on, and not within the cooldown."""
    wanted = np.abs(lean) > rules.mark  # comparisons with NaN are false
    if rules.min_consensus:
        bullish, bearish = (agreeing(moments.factors, side, rules.agreement) for side in (1, -1))
        wanted &= np.where(lean > 0, bullish, bearish) >= rules.min_consensus
    rows = np.flatnonzero(wanted & np.isfinite(moments.long))
    return rows[_outside_cooldown(moments.symbol[rows], moments.closed_at[rows], rules.cooldown)]


def outcomes(moments: Moments, lean: Floats, rows: Integers, start: int, end: int, known_by: int) -> Outcomes:
    """What the signals of [start, end) brought whose outcome was known by a moment, in the order of time."""
    closed = moments.closed_at[rows]
    rows = rows[(closed >= start) & (closed < end) & (moments.known_at[rows] <= known_by)]
    rows = rows[np.argsort(moments.closed_at[rows], kind="stable")]
    return Outcomes(moments.closed_at[rows], np.where(lean[rows] > 0, moments.long[rows], moments.short[rows]))


def grid(known: Sequence[str], step: float = 0.1) -> list[tuple[float, ...]]:
    """All weights in multiples of `step` that sum to 1 over the known factors, each of them getting at least one."""
    units = round(1 / step)
    if len(known) > units:
        raise ValueError(f"{len(known)} factors cannot share {units} parts")
    found = list[tuple[float, ...]]()
    for cuts in combinations(range(1, units), len(known) - 1):
        parts = np.diff([0, *cuts, units]) / units
        share = dict(zip(known, parts.tolist(), strict=True))
        found.append(tuple(share.get(name, 0.0) for name in FACTORS))
    return found


def folds(start: int, end: int, train: int, test: int, embargo: int) -> Iterator[Fold]:
    """Rolling windows, the test windows one after the other; lengths in microseconds."""
    since = start + train + embargo
    while since < end:
        yield Fold(since - embargo - train, since - embargo, since, min(since + test, end))
        since += test


def choose(
    moments: Moments, candidates: Mapping[tuple[float, ...], tuple[Floats, Integers]], fold: Fold
) -> tuple[float, ...] | None:
    """The weights with the most certain daily result in the training window; None if all signal too rarely.

    Certain means the mean of the daily net returns over its standard error. Outcomes that were not known when the
    window ended are left out.
    """
    best: tuple[float, tuple[float, ...]] | None = None
    for weights, (lean, rows) in candidates.items():
        found = outcomes(moments, lean, rows, fold.train_from, fold.train_until, fold.train_until)
        if found.signals < _FEWEST_SIGNALS:
            continue
        daily = found.by_day(fold.train_from, fold.train_until)["net"].to_numpy()
        deviation = float(daily.std())
        certainty = float(daily.mean()) / deviation * np.sqrt(len(daily)) if deviation > 0 else 0.0
        if best is None or certainty > best[0]:
            best = certainty, weights
    return None if best is None else best[1]


def mark_for(moments: Moments, lean: Floats, rules: Rules, fold: Fold, wanted: int) -> float:
    """The mark at which these weights signal as often in the training window as something else did.

    Found by halving the span of possible marks; the cooldown makes the number of signals a step function.
    """
    low, high = 0.0, 50.0
    for _ in range(14):
        middle = (low + high) / 2
        tried = Rules(middle, rules.min_consensus, rules.cooldown, rules.agreement, rules.min_coverage)
        rows = signals(moments, lean, tried)
        closed = moments.closed_at[rows]
        count = int(((closed >= fold.train_from) & (closed < fold.train_until)).sum())
        low, high = (middle, high) if count > wanted else (low, middle)
    return high


def default_rules(spec: ScoringSpec, min_consensus: int, cooldown_minutes: int) -> Rules:
    """The rules that are in force."""
    return Rules(spec.strong - 50, min_consensus, cooldown_minutes * 60_000_000, spec.agreement, spec.min_coverage)


def _outside_cooldown(symbol: Integers, closed_at: Integers, cooldown: int) -> Integers:
    """Positions of the moments that no earlier taken one of the same symbol keeps back; sorted by symbol, then time."""
    taken = list[int]()
    i, n = 0, len(symbol)
    ends: Integers = np.searchsorted(symbol, symbol, side="right")
    while i < n:
        taken.append(i)
        end = int(ends[i])
        after = i + max(int(np.searchsorted(closed_at[i:end], int(closed_at[i]) + cooldown)), 1)
        i = after if after < end else end
    return np.array(taken, dtype=np.int64)
