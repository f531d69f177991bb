"""What the factors are made of: each input's series, its mapping to -1 ... +1, and how it is joined as known.

Belongs here: monotone mappings and the join by the time at which a value became known. Does not belong here: the
weights of the factors and the score (`domain.scoring.composite`), and reading stored rows.

An input of +1 speaks for a rise and one of -1 for a fall. Times are microseconds since 1970, UTC.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.alternative.series import SERIES

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MICROSECOND = timedelta(microseconds=1)
_DAY = 86_400_000_000
_LEAST_VALUES = 20
"""Values that a norm needs; with fewer there is none."""
_FUNDING_HOURS = 8
_FUNDING_NEUTRAL = 0.0001
_FUNDING_FULL = 0.0005
MOMENTUM_HOURS = (24, 168)
MOMENTUM_CANDLES = MOMENTUM_HOURS[-1] + 1
"""Hourly closes that one value needs."""


class Scope(StrEnum):
    """Whom an input speaks of."""

    COIN = "coin"
    MARKET = "market"
    INSTRUMENT = "instrument"


@dataclass(frozen=True)
class Known:
    """Values of one input as they became known, ascending in `known_at`.

    Attributes
    ----------
    known_at, ts : array of int64
        When a value became known, and the time that it speaks of.
    raw, mapped : array of float
        As published, and from -1 to 1; NaN where a mapping needs more history.
    """

    known_at: Integers
    ts: Integers
    raw: Floats
    mapped: Floats


Mapping = Callable[[Integers, Floats], Floats]
"""From times and values, ascending in time, to values from -1 to 1."""


@dataclass(frozen=True)
class Input:
    """One input of a factor.

    Attributes
    ----------
    name : str
        Name of the series, or of what is made from candles.
    max_age : datetime.timedelta
        From the moment it became known; older values are left out.
    history : datetime.timedelta
        How much of the past its mapping looks at.
    alone : bool
        Whether it makes the factor known when nothing else does.
    """

    name: str
    factor: str
    scope: Scope
    meaning: str
    max_age: timedelta
    history: timedelta = timedelta(0)
    alone: bool = True
    mapping: Mapping | None = None
    """None for what is made from candles."""


def level(center: float, full: float) -> Mapping:
    """Distance from `center`, +1 at `full` and beyond, -1 at its mirror image."""

    def mapped(_: Integers, values: Floats) -> Floats:
        return np.clip((values - center) / (full - center), -1.0, 1.0)

    return mapped


def surge(sign: int, window: timedelta, norm: timedelta) -> Mapping:
    """How unusual the sum of the last `window` is, against the values of the last `norm`.

    Notes
    -----
    z = (sum - n·mean) / (deviation·√n) with the *n* values of the window and mean and deviation over `norm`; mapped
    to ``sign * tanh(z / 2)``, which gives 0.46 at one deviation and 0.76 at two.
    """

    def mapped(ts: Integers, values: Floats) -> Floats:
        return sign * np.tanh(_unusual(ts, values, window // MICROSECOND, norm // MICROSECOND) / 2)

    return mapped


def change(sign: int, window: timedelta, norm: timedelta) -> Mapping:
    """As `surge`, of the relative change per day from one value of a stock to the next."""
    unusual = surge(sign, window, norm)

    def mapped(ts: Integers, values: Floats) -> Floats:
        if len(values) < 2:
            return np.full(len(values), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.diff(np.log(values)) / (np.diff(ts) / _DAY)
        known = np.isfinite(change)
        result = np.full(len(values), np.nan)
        result[1:][known] = unusual(ts[1:][known], change[known])
        return result

    return mapped


def funding(ts: Integers, rates: Floats) -> Floats:
    """Crowded positions: longs that pay much speak against a rise, shorts that pay against a fall.

    The rate per eight hours, 0.01 % (the interest part of the rate) being neutral and 0.05 % further full. The interval
    is that to the settlement before.
    """
    hours = np.diff(ts, prepend=ts[:1] - _FUNDING_HOURS * 3_600_000_000) / 3_600_000_000
    hours = np.where((hours > 0) & (hours < _FUNDING_HOURS), hours, _FUNDING_HOURS)
    return -np.clip((rates * _FUNDING_HOURS / hours - _FUNDING_NEUTRAL) / _FUNDING_FULL, -1.0, 1.0)


def momentum(close: Floats) -> Floats:
    """Returns of a day and of a week in units of their own volatility; from hourly closes, NaN before a week.

    Notes
    -----
    tanh of the mean of r_h / (σ·√h) over h = 24 and 168 hours, σ being the root mean square of the hourly log returns
    of the week. Scaling by volatility follows Moskowitz, Ooi and Pedersen, Time Series Momentum (2012).
    """
    result = np.full(len(close), np.nan)
    longest = MOMENTUM_HOURS[-1]
    if len(close) <= longest:
        return result
    logs = np.log(close)
    windows = np.lib.stride_tricks.sliding_window_view(np.diff(logs), longest)
    deviation = np.sqrt(np.einsum("ij,ij->i", windows, windows) / longest)
    moves = [(logs[longest:] - logs[longest - h : len(logs) - h]) / np.sqrt(h) for h in MOMENTUM_HOURS]
    with np.errstate(divide="ignore", invalid="ignore"):  # a market that stood still: not known
        result[longest:] = np.tanh(np.mean(moves, axis=0) / deviation)
    return np.where(np.isfinite(result), result, np.nan)


def observed(series: Input, known_at: Integers, ts: Integers, values: Floats) -> Known:
    """Stored observations of one input as they became known.

    A mapping that looks back reads every value as first published, and none that became known after one of a later
    time. Of the other inputs every version is read: the newest one holds.

    Parameters
    ----------
    known_at, ts, values : arrays
        Versions in any order.
    """
    assert series.mapping is not None  # what is made from candles is not observed
    order = np.lexsort((ts, known_at))
    known_at, ts, values = known_at[order], ts[order], values[order]
    if series.history and len(ts):
        # What an earlier moment saw must not depend on what came late.
        newer = ts > np.concatenate((ts[:1] - 1, np.maximum.accumulate(ts)[:-1]))
        known_at, ts, values = known_at[newer], ts[newer], values[newer]
    return Known(known_at, ts, values, series.mapping(ts, values))


def join(known: Known, at: Integers, max_age: timedelta) -> tuple[Floats, Floats, Floats]:
    """Mapped value, raw value and age in minutes at each moment; NaN where nothing young enough was known.

    Of what was known the value that speaks of the latest time holds, of several versions of it the newest.
    """
    empty = np.full(len(at), np.nan)
    if not len(known.known_at):
        return empty, empty.copy(), empty.copy()
    newest = known.ts >= np.maximum.accumulate(known.ts)
    holds = np.maximum.accumulate(np.where(newest, np.arange(len(known.ts)), 0))
    last = np.searchsorted(known.known_at, at, side="right") - 1
    row = holds[np.maximum(last, 0)]
    age = (at - known.known_at[row]) / 60_000_000
    fresh = (last >= 0) & (age <= max_age / timedelta(minutes=1)) & np.isfinite(known.mapped[row])
    return tuple(np.where(fresh, values, np.nan) for values in (known.mapped[row], known.raw[row], age))  # type: ignore[return-value]  # three of them


def _unusual(ts: Integers, values: Floats, window: int, norm: int) -> Floats:
    n = len(values)
    if n == 0:
        return np.empty(0)
    # Centred, so that the sums of squares keep their digits.
    centred = values - values[0]
    sums, squares = (np.concatenate(([0.0], np.cumsum(v))) for v in (centred, centred**2))
    end = np.arange(1, n + 1)
    near = np.searchsorted(ts, ts - window, side="right")
    far = np.searchsorted(ts, ts - norm, side="right")
    inside, all_ = end - near, end - far
    mean = (sums[end] - sums[far]) / all_
    variance = np.maximum((squares[end] - squares[far]) / all_ - mean**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (sums[end] - sums[near] - inside * mean) / np.sqrt(variance * inside)
    # A deviation that is nothing but rounding is none.
    sound = (all_ >= _LEAST_VALUES) & (variance > 1e-18 * (mean**2 + centred**2 + values[0] ** 2))
    return np.where(sound, z, np.nan)


def _series(name: str, factor: str, scope: Scope, mapping: Mapping, norm: timedelta = timedelta(0)) -> Input:
    series = SERIES[name]
    return Input(name, factor, scope, series.meaning, series.max_age, norm, mapping=mapping)


_ONE_DAY, _HOURLY_NORM, _DAILY_NORM = timedelta(days=1), timedelta(days=7), timedelta(days=60)
INPUTS: Sequence[Input] = (
    Input(
        "technical",
        "technical",
        Scope.INSTRUMENT,
        "charts of 4h, 1d, 1h and the signal timeframe",
        timedelta(minutes=45),
    ),
    _series("sentiment", "sentiment", Scope.COIN, level(0, 1)),
    _series("whale_score", "on_chain", Scope.COIN, level(0, 1)),
    _series("exchange_netflow_usd", "on_chain", Scope.COIN, surge(-1, _ONE_DAY, _HOURLY_NORM), _HOURLY_NORM),
    _series("exchange_reserve", "on_chain", Scope.COIN, change(-1, _ONE_DAY, _DAILY_NORM), _DAILY_NORM),
    _series("etf_netflow_usd", "on_chain", Scope.COIN, surge(1, _ONE_DAY, _DAILY_NORM), _DAILY_NORM),
    _series("stablecoin_inflow_usd", "on_chain", Scope.MARKET, surge(1, _ONE_DAY, _HOURLY_NORM), _HOURLY_NORM),
    _series("stablecoin_supply_usd", "on_chain", Scope.MARKET, change(1, _ONE_DAY, _DAILY_NORM), _DAILY_NORM),
    _series("fear_greed", "market", Scope.MARKET, level(50, 100)),
    _series("prediction_bias", "market", Scope.COIN, level(0, 1)),
    Input(
        "funding",
        "market",
        Scope.INSTRUMENT,
        "rate that longs pay to shorts, per eight hours",
        timedelta(hours=12),
        timedelta(hours=24),
        alone=False,
        mapping=funding,
    ),
    Input(
        "momentum",
        "momentum",
        Scope.INSTRUMENT,
        "returns of a day and a week over their volatility",
        timedelta(hours=2),
    ),
)
"""All inputs in the order in which arrays of inputs are stored."""
INPUT_NAMES = tuple(each.name for each in INPUTS)
OBSERVED = tuple(each for each in INPUTS if each.name in SERIES)
"""Those that are read from `observations`."""
