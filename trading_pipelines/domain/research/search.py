"""Walk-forward search: choose parameters on what was known, trade the next stretch of time with them, go on.

Belongs here: which combinations and which windows there are, the choice in sample, and the result out of sample.
Does not belong here: what a backtest is (the search is given a function that runs one), the measures of overfitting
(`domain.research.overfitting`), loading and storing.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.portfolio.performance import ClosedPositions, Performance, daily_returns, measure
from trading_pipelines.domain.simulation.backtest import BacktestResult

Floats = npt.NDArray[np.float64]
Params = Mapping[str, Any]

_DAY = timedelta(days=1)


class Objective(StrEnum):
    """What is maximised in sample; the fields of `Performance`."""

    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    TOTAL_RETURN = "total_return"
    PROFIT_FACTOR = "profit_factor"
    AVERAGE_R = "average_r"


@dataclass(frozen=True)
class Window:
    """Parameters are chosen in [train_start, start) and traded in [start, end)."""

    train_start: datetime
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Trial:
    """One combination: what it earned in sample, per window, and over the whole span.

    Attributes
    ----------
    in_sample : tuple of float or None
        The objective; None where there was nothing to compute it from.
    returns : array of float
        Daily, over the whole span.
    """

    params: Params
    in_sample: tuple[float | None, ...]
    performance: Performance
    returns: Floats


@dataclass(frozen=True)
class Fold:
    """What one window has brought: the number of the chosen trial, and the result out of sample."""

    window: Window
    chosen: int
    result: BacktestResult


@dataclass(frozen=True)
class Stitched:
    """The out-of-sample results one after the other, on one account.

    A position that is open when a window ends is valued at the last close; the next window begins without it.
    """

    trades: pd.DataFrame
    fills: pd.DataFrame
    times: pd.DatetimeIndex
    equity: Floats
    performance: Performance


Run = Callable[[Params, datetime, datetime, float], BacktestResult]
"""Backtest these parameters on the bars that open between two moments, with so much capital."""


def combinations(space: Mapping[str, Sequence[Any]], limit: int, seed: int) -> list[dict[str, Any]]:
    """List every combination of a space, or `limit` different ones drawn from it, in the space's order.

    Raises
    ------
    ValueError
        A parameter without values.
    """
    sizes = [len(values) for values in space.values()]
    if not sizes or not all(sizes):
        raise ValueError("a search needs parameters, and values for each of them")
    total = math.prod(sizes)
    if total <= limit:
        numbers = list(range(total))
    else:
        dice = np.random.default_rng(seed)
        drawn = set[int]()
        while len(drawn) < limit:
            drawn.add(int(dice.integers(total)))
        numbers = sorted(drawn)
    return [dict(zip(space, _nth(list(space.values()), number), strict=True)) for number in numbers]


def windows(start: datetime, end: datetime, folds: int, train_ratio: float, step: timedelta) -> list[Window]:
    """Divide a span into windows whose out-of-sample parts follow each other up to its end.

    Parameters
    ----------
    train_ratio : float
        Length of the part in which is chosen, in lengths of the part in which is traded.
    step : timedelta
        Windows begin at multiples of this, and of a day where they are that long.

    Raises
    ------
    ValueError
        The span is too short for so many windows.
    """
    length = (end - start) / (train_ratio + folds)
    grain = _DAY if length >= _DAY else step
    length -= length % grain
    if length <= timedelta(0):
        raise ValueError(f"{end - start} is too short for {folds} windows of bars of {step}")
    last = end - (end - EPOCH) % grain
    first = last - folds * length
    opening = max(start, first - length * train_ratio)
    train = first - opening
    return [Window(first + k * length - train, first + k * length, first + (k + 1) * length) for k in range(folds)]


def walk_forward(
    run: Run,
    tried: Sequence[Params],
    parts: Sequence[Window],
    objective: Objective,
    capital: float,
    on_trial: Callable[[int], None] = lambda _: None,
) -> tuple[list[Trial], list[Fold]]:
    """Try every combination in sample, and trade the best of each window out of sample.

    Parameters
    ----------
    run : callable
        Runs one backtest; it must not read anything after the second moment.
    on_trial : callable
        Told how many combinations are done.

    Notes
    -----
    Of equal combinations the first wins. Each in-sample account starts afresh, so that what happened before a window
    does not lock or size its trades; out of sample the capital is carried on.
    """
    trials = list[Trial]()
    for number, params in enumerate(tried):
        figures = tuple(
            getattr(run(params, part.train_start, part.start, capital).performance, objective.value) for part in parts
        )
        whole = run(params, parts[0].train_start, parts[-1].end, capital)
        trials.append(Trial(params, figures, whole.performance, returns_of(whole)))
        on_trial(number + 1)
    folds = list[Fold]()
    equity = capital
    for k, part in enumerate(parts):
        chosen = max(range(len(trials)), key=lambda n: (_rank(trials[n].in_sample[k]), -n))
        result = run(trials[chosen].params, part.start, part.end, equity)
        folds.append(Fold(part, chosen, result))
        equity = result.final_equity
        if equity <= 0:
            break
    return trials, folds


def stitch(folds: Sequence[Fold]) -> Stitched:
    """Put the out-of-sample results one after the other."""
    results = [fold.result for fold in folds]
    start = results[0].start_capital
    before = np.cumsum([0, *(len(result.trades) for result in results)])
    fills = [
        result.fills.assign(trade=result.fills["trade"] + offset)
        for result, offset in zip(results, before[:-1].tolist(), strict=True)
    ]
    trades = pd.concat([_plain(result.trades) for result in results], ignore_index=True)
    times = pd.DatetimeIndex(np.concatenate([result.equity_ts for result in results]).view("datetime64[us]"), tz="UTC")
    equity = np.concatenate([result.equity for result in results])
    return Stitched(
        trades=trades,
        fills=pd.concat([_plain(frame) for frame in fills], ignore_index=True),
        times=times,
        equity=equity,
        performance=measure(times, equity, _closed(trades), start),
    )


def returns_of(result: BacktestResult) -> Floats:
    """Daily returns of a backtest."""
    return daily_returns(pd.DatetimeIndex(result.equity_curve.index), result.equity, result.start_capital)


def side_by_side(trials: Sequence[Trial]) -> Floats:
    """Daily returns of all trials, a column each; a lost account earns nothing any more."""
    longest = max(len(trial.returns) for trial in trials)
    return np.column_stack([np.pad(trial.returns, (0, longest - len(trial.returns))) for trial in trials])


def _nth(values: Sequence[Sequence[Any]], number: int) -> Iterator[Any]:
    """The combination with this number, the last parameter changing fastest."""
    sizes = [len(some) for some in values]
    strides = [*itertools.accumulate(reversed(sizes[1:]), lambda a, b: a * b, initial=1)][::-1]
    return (some[number // stride % len(some)] for some, stride in zip(values, strides, strict=True))


def _rank(figure: float | None) -> float:
    return -math.inf if figure is None or math.isnan(figure) else figure


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories of different results do not add up; names do."""
    categorical = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(categorical, object))


def _closed(trades: pd.DataFrame) -> ClosedPositions:
    closed = trades[trades["closed_at"].notna()]
    return ClosedPositions(
        opened_at=pd.DatetimeIndex(closed["opened_at"]).as_unit("us").asi8,
        closed_at=pd.DatetimeIndex(closed["closed_at"]).as_unit("us").asi8,
        realised_pnl=closed["pnl"].to_numpy(np.float64),
        fees=closed["fees"].to_numpy(np.float64),
        funding=closed["funding"].to_numpy(np.float64),
        slippage=closed["slippage"].to_numpy(np.float64),
        initial_risk=closed["initial_risk"].to_numpy(np.float64),
    )
