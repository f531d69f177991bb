"""Which symbols of a universe are worth a look today: trend, volume, volatility and RSI set-up, with reasons in words.

Belongs here: measuring one symbol at the end of a UTC day, and ranking all of them. Does not belong here: trading; a
rank is no signal.

Every measure rests on a finite number of bars, so a ranking does not change with the history that is stored. A symbol
that lacks the bars is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trading_pipelines.domain.features.context import Bars
from trading_pipelines.domain.features.windows import Floats, rolling_mean
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.technical.signal import HIGHER_WARM_UP, TREND_PERIODS, trend

NORM_DAYS = 30
RANGE_DAYS = 14
RSI_BARS = 15 * 14
DAYS_NEEDED = max(HIGHER_WARM_UP[Timeframe.D1], NORM_DAYS + RANGE_DAYS)
BARS_NEEDED = max(HIGHER_WARM_UP[Timeframe.H4], RSI_BARS)
WEIGHTS = {"trend": 0.35, "volume": 0.25, "volatility": 0.2, "rsi_setup": 0.2}
WANTED_VOLATILITY = 0.7
"""Rank within the universe from which more movement no longer counts as better."""
RSI_TARGETS = {1: 45.0, -1: 55.0}
"""A pull-back in a rise, a bounce in a fall."""
RSI_REACH = 25.0


@dataclass(frozen=True)
class Measures:
    """One symbol at the end of a day.

    Attributes
    ----------
    direction : int
        +1 or -1, of the trend on 4h and 1d together.
    trend_4h, trend_1d : float
        -1 (falling) to 1 (rising).
    quote_volume : float
        Of the day, in quote currency.
    volume_ratio : float
        Volume of the day over the median of the 30 days before.
    daily_range : float
        Mean true range of 14 days over the close.
    range_ratio : float
        That over its median of 30 days.
    rsi : float
        RSI(14) of 4h bars, from the newest 210 of them.
    """

    symbol: str
    direction: int
    trend_4h: float
    trend_1d: float
    quote_volume: float
    volume_ratio: float
    daily_range: float
    range_ratio: float
    rsi: float


@dataclass(frozen=True)
class Ranked:
    """One symbol's place; the parts of the score are from 0 to 1, as the score is."""

    rank: int
    symbols: int
    measures: Measures
    score: float
    trend: float
    volume: float
    volatility: float
    rsi_setup: float
    reasons: tuple[str, ...]


def measure(symbol: str, days: Bars, four_hours: Bars) -> Measures | None:
    """Measure one symbol from its whole days and its 4h bars, both ending with the day; None with too few bars."""
    if len(days) < DAYS_NEEDED or len(four_hours) < BARS_NEEDED:
        return None
    trend_1d = float(trend(days.close, TREND_PERIODS[Timeframe.D1])[-1])
    trend_4h = float(trend(four_hours.close, TREND_PERIODS[Timeframe.H4])[-1])
    normal_volume = float(np.median(days.volume[-NORM_DAYS - 1 : -1]))
    ranges = rolling_mean(_true_range(days), RANGE_DAYS) / days.close
    normal_range = float(np.median(ranges[-NORM_DAYS:]))
    return Measures(
        symbol=symbol,
        direction=1 if trend_4h + trend_1d >= 0 else -1,
        trend_4h=trend_4h,
        trend_1d=trend_1d,
        quote_volume=float(days.close[-1] * days.volume[-1]),
        volume_ratio=float(days.volume[-1]) / normal_volume if normal_volume > 0 else 0.0,
        daily_range=float(ranges[-1]),
        range_ratio=float(ranges[-1]) / normal_range if normal_range > 0 else 0.0,
        rsi=_finite_rsi(four_hours.close[-RSI_BARS:]),
    )


def rank(universe: Sequence[Measures]) -> list[Ranked]:
    """Rank all symbols, the best first; equal scores in the order of their names."""
    volumes = _places([m.quote_volume for m in universe])
    ranges = _places([m.daily_range for m in universe])
    scored = [_score(m, volume, range_) for m, volume, range_ in zip(universe, volumes, ranges, strict=True)]
    order = sorted(range(len(universe)), key=lambda i: (-scored[i]["score"], universe[i].symbol))
    return [
        Ranked(place, len(universe), universe[i], **scored[i], reasons=_reasons(universe[i]))
        for place, i in enumerate(order, start=1)
    ]


def _score(m: Measures, volume_place: float, range_place: float) -> dict[str, float]:
    agreed = m.trend_4h * m.trend_1d > 0
    parts = {
        "trend": (abs(m.trend_4h) + abs(m.trend_1d)) / 2 * (1.0 if agreed else 0.5),
        "volume": (volume_place + min(m.volume_ratio / 3, 1.0)) / 2,
        "volatility": 0.0 if m.range_ratio > 3 else min(range_place / WANTED_VOLATILITY, 1.0),
        "rsi_setup": max(0.0, 1 - abs(m.rsi - RSI_TARGETS[m.direction]) / RSI_REACH),
    }
    return {**parts, "score": sum(WEIGHTS[name] * value for name, value in parts.items())}


def _reasons(m: Measures) -> tuple[str, ...]:
    """What speaks for and against the symbol, in words."""
    way = "up" if m.direction > 0 else "down"
    return (
        f"trend {way} on 4h and 1d"
        if m.trend_4h * m.trend_1d > 0
        else f"trend leans {way}, but 4h ({m.trend_4h:+.1f}) and 1d ({m.trend_1d:+.1f}) do not agree",
        f"volume {m.volume_ratio:.1f} times its month's median",
        f"moves {m.daily_range:.1%} a day" + (", far more than usual" if m.range_ratio > 3 else ""),
        f"RSI {m.rsi:.0f} on 4h: {_rsi_in_words(m)}",
    )


def _rsi_in_words(m: Measures) -> str:
    stretch = m.direction * (m.rsi - 50)
    if stretch > 20:
        return "the move is stretched"
    if stretch > 3:
        return "the move is under way"
    return "a pull-back in the trend" if stretch > -15 else "the trend is in doubt"


def _places(values: Sequence[float]) -> list[float]:
    """Place of each value from 0 (exclusive, smallest) to 1 (largest); equal values share the upper place."""
    ordered = np.sort(np.array(values, np.float64))
    return [float(np.searchsorted(ordered, value, side="right")) / len(values) for value in values]


def _true_range(bars: Bars) -> Floats:
    before = np.concatenate((bars.open[:1], bars.close[:-1]))
    return np.maximum(bars.high, before) - np.minimum(bars.low, before)


def _finite_rsi(close: Floats) -> float:
    """RSI(14) whose exponential weights end with the bars given; 50 where nothing moved.

    With 210 bars the rest would have weighed 2e-7.
    """
    moves = np.diff(close)
    weights = (13 / 14) ** np.arange(len(moves))[::-1]
    gain, loss = float(weights @ np.maximum(moves, 0)), float(weights @ np.maximum(-moves, 0))
    return 50.0 if gain + loss == 0 else 100 * gain / (gain + loss)
