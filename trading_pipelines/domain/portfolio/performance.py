"""What a session was worth: returns, risk and costs from its equity curve and its closed positions.

Belongs here: the figures of section "Metrics" of the execution model. Does not belong here: where marks and positions
come from, and any comparison between results.

The formulas are the project's own, a line of NumPy each. Sharpe and Sortino ratio agree with those of
empyrical-reloaded, quantstats-lumi and ffn for a year of 365 days, and so does the drawdown of daily marks (the tests
hold their numbers). As dependencies these would bring 2, 27 and 8 packages, plotting among them, and they know neither
marks within a day nor positions; the years of their Calmar ratios have 365.25 days.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DAYS_PER_YEAR = 365
_DAY = 86_400_000_000


@dataclass(frozen=True)
class ClosedPosition:
    """One finished position, amounts in quote currency.

    Attributes
    ----------
    realised_pnl : float
        Price result before fees and funding, slippage included.
    initial_risk : float
        Quantity times the distance from the reference price (close of the decision bar) to the first stop.
    """

    opened_at: datetime
    closed_at: datetime
    realised_pnl: float
    fees: float
    funding: float
    slippage: float
    initial_risk: float

    @property
    def net(self) -> float:
        """Result after all costs."""
        return self.realised_pnl - self.fees - self.funding


@dataclass(frozen=True)
class ClosedPositions:
    """Many finished positions as arrays; times are microseconds since 1970, UTC, else as in `ClosedPosition`."""

    opened_at: Integers
    closed_at: Integers
    realised_pnl: Floats
    fees: Floats
    funding: Floats
    slippage: Floats
    initial_risk: Floats

    @classmethod
    def of(cls, positions: Sequence[ClosedPosition]) -> "ClosedPositions":
        """Gather single positions."""
        return cls(
            opened_at=_microseconds(pd.DatetimeIndex([p.opened_at for p in positions])),
            closed_at=_microseconds(pd.DatetimeIndex([p.closed_at for p in positions])),
            realised_pnl=np.array([p.realised_pnl for p in positions], np.float64),
            fees=np.array([p.fees for p in positions], np.float64),
            funding=np.array([p.funding for p in positions], np.float64),
            slippage=np.array([p.slippage for p in positions], np.float64),
            initial_risk=np.array([p.initial_risk for p in positions], np.float64),
        )

    @property
    def net(self) -> Floats:
        """Results after all costs."""
        return self.realised_pnl - self.fees - self.funding

    def __len__(self) -> int:
        return len(self.opened_at)


@dataclass(frozen=True)
class Performance:
    """The figures of one session; None where there is nothing to compute one from.

    Attributes
    ----------
    total_return, max_drawdown, win_rate, exposure : float
        Fractions; drawdown is positive and measured on marked equity.
    sharpe, sortino, calmar : float or None
        Annualised with 365 days, without a risk-free rate, from daily equity at 00:00 UTC.
    profit_factor : float or None
        Gross wins over gross losses of the positions after all costs; None without a loss.
    average_r : float or None
        Mean net result in units of the initial risk.
    exposure : float
        Share of the time in which at least one position was open.
    net_pnl, fees, funding, slippage : float
        Quote currency; `net_pnl` is that of the closed positions after all costs.
    """

    start_equity: float
    end_equity: float
    total_return: float
    max_drawdown: float
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    trades: int
    win_rate: float | None
    profit_factor: float | None
    average_r: float | None
    exposure: float
    net_pnl: float
    fees: float
    funding: float
    slippage: float


def measure(
    times: pd.DatetimeIndex,
    equity: Floats,
    positions: Sequence[ClosedPosition] | ClosedPositions,
    start_equity: float,
) -> Performance:
    """Compute all figures.

    Parameters
    ----------
    times : DatetimeIndex
        Ascending, aware, UTC: when each equity mark was taken. The first one is taken to close the first interval, so
        that the curve starts one interval before it with `start_equity`.
    equity : array of float
        Marked equity, as long as `times`.
    start_equity : float
        Capital before the first mark.
    """
    closed = positions if isinstance(positions, ClosedPositions) else ClosedPositions.of(positions)
    ts = _microseconds(times)
    start = int(2 * ts[0] - ts[1]) if len(ts) > 1 else 0
    curve = np.concatenate(([start_equity], equity))
    daily = _daily_returns(ts, curve)
    drawdown = max_drawdown(curve)
    net = closed.net
    losses = float(-net[net < 0].sum())
    at_risk = closed.initial_risk > 0
    annual = _annual_return(ts, start, curve)
    return Performance(
        start_equity=start_equity,
        end_equity=float(curve[-1]),
        total_return=float(curve[-1] / start_equity - 1),
        max_drawdown=drawdown,
        sharpe=_annualised(daily, float(np.std(daily, ddof=1))) if len(daily) > 1 else None,
        sortino=_annualised(daily, math.sqrt(float(np.mean(np.minimum(daily, 0.0) ** 2)))) if len(daily) > 1 else None,
        calmar=None if drawdown == 0 or annual is None else annual / drawdown,
        trades=len(closed),
        win_rate=float((net > 0).mean()) if len(closed) else None,
        profit_factor=float(net[net > 0].sum()) / losses if losses > 0 else None,
        average_r=float((net[at_risk] / closed.initial_risk[at_risk]).mean()) if at_risk.any() else None,
        exposure=_exposure(ts, start, closed),
        net_pnl=float(net.sum()),
        fees=float(closed.fees.sum()),
        funding=float(closed.funding.sum()),
        slippage=float(closed.slippage.sum()),
    )


def daily_returns(times: pd.DatetimeIndex, equity: Floats, start_equity: float) -> Floats:
    """Returns between the midnights passed, as Sharpe and Sortino are made of; they end with a lost account."""
    return _daily_returns(_microseconds(times), np.concatenate(([start_equity], equity)))


def max_drawdown(curve: Floats) -> float:
    """Largest loss from a running maximum, as a positive fraction of that maximum."""
    return float((1 - curve / np.maximum.accumulate(curve)).max())


def _microseconds(times: pd.DatetimeIndex) -> Integers:
    return times.as_unit("us").asi8


def _daily_returns(ts: Integers, curve: Floats) -> Floats:
    """Returns between the midnights passed; the mark of a midnight is the last one taken up to it.

    The curve starts with the capital, which stands for the midnight before the first mark.
    """
    if len(ts) == 0:
        return np.empty(0)
    midnights = np.arange(-(-int(ts[0]) // _DAY), int(ts[-1]) // _DAY + 1) * _DAY
    marks = np.concatenate((curve[:1], curve[np.searchsorted(ts, midnights, side="right")]))
    if marks.min() <= 0:
        # A lost account has no returns any more.
        marks = marks[: int(np.argmax(marks <= 0)) + 1]
    return marks[1:] / marks[:-1] - 1


def _annualised(daily: Floats, deviation: float) -> float | None:
    """Mean over deviation for a year; None without any deviation."""
    return None if deviation < 1e-15 else float(daily.mean()) / deviation * math.sqrt(DAYS_PER_YEAR)


def _annual_return(ts: Integers, start: int, curve: Floats) -> float | None:
    """Compound return of a year; None for less than a day, of which no year can be made, and for a lost account."""
    if len(ts) < 2 or curve[-1] <= 0 or ts[-1] - start < _DAY:
        return None
    return float((curve[-1] / curve[0]) ** (DAYS_PER_YEAR * _DAY / (ts[-1] - start)) - 1)


def _exposure(ts: Integers, start: int, closed: ClosedPositions) -> float:
    """Share of the time in which at least one position was open."""
    if len(ts) < 2 or len(closed) == 0:
        return 0.0
    order = np.argsort(closed.opened_at, kind="stable")
    opened, ended = closed.opened_at[order], closed.closed_at[order]
    # What lies before the latest end so far is counted already.
    covered = np.concatenate(([opened[0]], np.maximum.accumulate(ended)[:-1]))
    held = np.maximum(ended - np.maximum(opened, covered), 0).sum()
    return min(1.0, float(held) / float(ts[-1] - start))
