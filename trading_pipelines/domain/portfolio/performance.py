"""What a session was worth: returns, risk and costs from its equity curve and its closed positions.

Own formulas, because the common libraries differ from these definitions in one way or another (sample deviation or not,
trading days a year, drawdown on closed trades instead of marked equity).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

DAYS_PER_YEAR = 365


@dataclass(frozen=True)
class ClosedPosition:
    """One finished position, amounts in quote currency.

    Attributes
    ----------
    realised_pnl : float
        Price result before fees and funding, slippage included.
    initial_risk : float
        Quantity times the distance from entry to the first stop.
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
class Performance:
    """The figures of one session; None where there is nothing to compute one from.

    Attributes
    ----------
    total_return, max_drawdown, win_rate, exposure : float
        Fractions; drawdown is positive and measured on marked equity.
    sharpe, sortino, calmar : float or None
        Annualised with 365 days, without a risk-free rate, from daily equity at 00:00 UTC.
    average_r : float or None
        Mean net result in units of the initial risk.
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
    times: pd.DatetimeIndex, equity: npt.NDArray[np.float64], positions: Sequence[ClosedPosition], start_equity: float
) -> Performance:
    """Compute all figures.

    Parameters
    ----------
    times : DatetimeIndex
        Ascending, aware, UTC: when each equity mark was taken.
    equity : array of float
        Marked equity, as long as `times`.
    start_equity : float
        Capital before the first mark.
    """
    curve = np.concatenate(([start_equity], equity))
    daily = _daily_returns(times, equity, start_equity)
    drawdown = max_drawdown(curve)
    nets = np.array([p.net for p in positions])
    gains, losses = nets[nets > 0].sum(), -nets[nets <= 0].sum()
    rs = [p.net / p.initial_risk for p in positions if p.initial_risk > 0]
    annual = _annual_return(times, curve)
    return Performance(
        start_equity=start_equity,
        end_equity=float(curve[-1]),
        total_return=float(curve[-1] / start_equity - 1),
        max_drawdown=drawdown,
        sharpe=_ratio(daily, daily),
        sortino=_ratio(daily, np.minimum(daily, 0.0), around_zero=True),
        calmar=None if drawdown == 0 or annual is None else annual / drawdown,
        trades=len(positions),
        win_rate=float((nets > 0).mean()) if len(nets) else None,
        profit_factor=float(gains / losses) if losses > 0 else None,
        average_r=float(np.mean(rs)) if rs else None,
        exposure=_exposure(times, positions),
        net_pnl=float(nets.sum()),
        fees=sum(p.fees for p in positions),
        funding=sum(p.funding for p in positions),
        slippage=sum(p.slippage for p in positions),
    )


def max_drawdown(curve: npt.NDArray[np.float64]) -> float:
    """Largest loss from a running maximum, as a positive fraction of that maximum."""
    return float((1 - curve / np.maximum.accumulate(curve)).max())


def _daily_returns(
    times: pd.DatetimeIndex, equity: npt.NDArray[np.float64], start_equity: float
) -> npt.NDArray[np.float64]:
    """Returns between the midnights passed; the mark of a midnight is the last one taken up to it."""
    if len(times) == 0:
        return np.empty(0)
    midnights = pd.date_range(times[0].ceil("D"), times[-1].floor("D"), freq="D")
    marks = equity[times.searchsorted(midnights, side="right") - 1]
    values = np.concatenate(([start_equity], marks))
    return values[1:] / values[:-1] - 1


def _ratio(
    returns: npt.NDArray[np.float64], risk: npt.NDArray[np.float64], *, around_zero: bool = False
) -> float | None:
    """Annualised mean over deviation; None with fewer than two days or without any deviation."""
    if len(returns) < 2:
        return None
    deviation = math.sqrt(float(np.mean(risk**2))) if around_zero else float(np.std(risk, ddof=1))
    return None if deviation < 1e-12 else float(returns.mean()) / deviation * math.sqrt(DAYS_PER_YEAR)


def _annual_return(times: pd.DatetimeIndex, curve: npt.NDArray[np.float64]) -> float | None:
    if len(times) < 2 or curve[-1] <= 0:
        return None
    days = (times[-1] - times[0]) / pd.Timedelta(days=1)
    return None if days < 1 else float((curve[-1] / curve[0]) ** (DAYS_PER_YEAR / days) - 1)


def _exposure(times: pd.DatetimeIndex, positions: Sequence[ClosedPosition]) -> float:
    """Share of the time in which at least one position was open."""
    if len(times) < 2 or not positions:
        return 0.0
    held, until = 0.0, positions[0].opened_at
    for position in sorted(positions, key=lambda p: p.opened_at):
        begin = max(position.opened_at, until)
        if position.closed_at > begin:
            held += (position.closed_at - begin).total_seconds()
            until = position.closed_at
    return min(1.0, held / (times[-1] - times[0]).total_seconds())
