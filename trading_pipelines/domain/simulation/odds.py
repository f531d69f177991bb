"""Prediction markets on the coins of the simulated market: ladders, their odds each hour, and how they end.

Belongs here: markets and odds as a pure function of seed, coin and time. Does not belong here: how a source hands
them out (`adapters.alternative.simulated.odds`).

A ladder is listed around the price of its first day. Its odds are those of a lognormal price with the volatility of the
last week and a drift towards the trend of the last day, plus noise of each market, which now and then makes neighbours
contradict each other, as real ones do. Every seventh market is hardly traded. An hour uses candles that closed before.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.prediction_markets.markets import (
    MarketKind,
    MarketOdds,
    MarketStatus,
    PredictionMarket,
)
from trading_pipelines.domain.simulation.flows import base_of, closes_before
from trading_pipelines.domain.simulation.market import GRID, SimulatedMarket
from trading_pipelines.domain.simulation.noise import normal, stream

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WIDTHS = {"BTC": 1.0, "ETH": 1.4, "SOL": 1.8}
"""Coins with markets, and how far apart the strikes of each are."""
_PER_HOUR = 60 // GRID.minutes
_WEEK_BARS = 7 * 24 * _PER_HOUR
_WEEKLY_LIFE, _MONTHLY_LIFE = 10 * DAY, 30 * DAY
_MEMORY = 14 * DAY
_WEEKLY_HOUR = 16 * HOUR
_WEEKLY_RUNGS = (-0.16, -0.11, -0.07, -0.03, 0.0, 0.03, 0.07, 0.11, 0.16)
_MONTHLY_RUNGS = (-0.25, -0.15, -0.08, 0.08, 0.15, 0.25)
_LEAN = 0.25
"""Drift of a full trend, in standard deviations until the expiry."""
_NOISE = 0.012


@dataclass(frozen=True)
class _Listed:
    """A market with the hours (since 1970) in which it opens and ends."""

    market_id: str
    event_id: str
    coin: str
    symbol: str
    kind: MarketKind
    strike: float
    opens: int
    ends: int

    @property
    def question(self) -> str:
        when = f"{_moment(self.ends):%B} {_moment(self.ends).day}"
        match self.kind:
            case MarketKind.HIT_ABOVE:
                return f"Will {self.coin} reach ${self.strike:,.10g} by {when}?"
            case MarketKind.HIT_BELOW:
                return f"Will {self.coin} dip to ${self.strike:,.10g} by {when}?"
            case _:
                return f"Will the price of {self.coin} be above ${self.strike:,.10g} on {when}?"


class SimulatedOdds:
    """All prediction markets of one simulated market."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        symbols = {base_of(symbol): symbol for symbol in market.spec.symbols}
        self._symbols = {coin: symbols[coin] for coin in WIDTHS if coin in symbols}

    def known(self, since: datetime, until: datetime) -> tuple[list[PredictionMarket], list[MarketOdds]]:
        """The markets as they stand at the last full hour of (since, until], and their odds at each of these hours.

        What is older than two weeks before `until` is not told any more.
        """
        first, last = (max(since, until - _MEMORY) - EPOCH) // HOUR + 1, (until - EPOCH) // HOUR
        markets: list[PredictionMarket] = []
        odds: list[MarketOdds] = []
        if last < first:
            return markets, odds
        for coin, symbol in self._symbols.items():
            for listed in self._listed(coin, symbol, first, last):
                markets.append(self._state(listed, last))
                odds.extend(self._odds(listed, max(first, listed.opens), min(last, self._end_of(listed) - 1)))
        return markets, odds

    def _listed(self, coin: str, symbol: str, first: int, last: int) -> Iterator[_Listed]:
        """Markets that are open at some of the hours."""
        friday = EPOCH + DAY + _WEEKLY_HOUR  # 1970-01-02 was a Friday
        week = (_moment(first) - friday) // (7 * DAY)
        while (expiry := friday + week * 7 * DAY) - _WEEKLY_LIFE <= _moment(last):
            if expiry >= _moment(first):
                yield from self._ladder(coin, symbol, expiry, _WEEKLY_LIFE, _WEEKLY_RUNGS, touch=False)
            week += 1
        month = _moment(first).replace(day=1, hour=0)
        while month - _MONTHLY_LIFE <= _moment(last):
            if month >= _moment(first):
                yield from self._ladder(coin, symbol, month, _MONTHLY_LIFE, _MONTHLY_RUNGS, touch=True)
            month = (month + 32 * DAY).replace(day=1)

    def _ladder(
        self, coin: str, symbol: str, expiry: datetime, life: timedelta, rungs: tuple[float, ...], *, touch: bool
    ) -> Iterator[_Listed]:
        ends, opens = (expiry - EPOCH) // HOUR, (expiry - life - EPOCH) // HOUR
        price = self._close(symbol, opens)
        strikes = {_round_price(price * (1 + WIDTHS[coin] * step), price): step for step in rungs}
        for strike, step in strikes.items():
            kind = MarketKind.ABOVE if not touch else MarketKind.HIT_ABOVE if step > 0 else MarketKind.HIT_BELOW
            event = f"{coin}-{expiry:%Y%m%d}-{'touch' if touch else 'above'}"
            yield _Listed(f"{event}-{strike:.10g}", event, coin, symbol, kind, strike, opens, ends)

    def _state(self, listed: _Listed, hour: int) -> PredictionMarket:
        end = self._end_of(listed)
        resolved = hour >= end
        return PredictionMarket(
            source=SIMULATED,
            market_id=listed.market_id,
            event_id=listed.event_id,
            question=listed.question,
            coin=listed.coin,
            kind=listed.kind,
            strike=listed.strike,
            upper_strike=None,
            expires_at=_moment(listed.ends),
            ts=_moment(min(hour, end)),
            status=MarketStatus.RESOLVED if resolved else MarketStatus.OPEN,
            outcome=self._outcome(listed) if resolved else None,
        )

    def _end_of(self, listed: _Listed) -> int:
        """The hour at which a market is decided: its expiry, or earlier where its price was reached."""
        if listed.kind is MarketKind.ABOVE:
            return listed.ends
        path = self._closes(listed.symbol, listed.opens, listed.ends)
        up = listed.kind is MarketKind.HIT_ABOVE
        reached = np.flatnonzero(path >= listed.strike if up else path <= listed.strike)
        return listed.opens + int(reached[0]) if len(reached) else listed.ends

    def _outcome(self, listed: _Listed) -> float:
        if listed.kind is MarketKind.ABOVE:
            return float(self._close(listed.symbol, listed.ends) > listed.strike)
        path = self._closes(listed.symbol, listed.opens, self._end_of(listed) + 1)
        up = listed.kind is MarketKind.HIT_ABOVE
        return float((path >= listed.strike).any() if up else (path <= listed.strike).any())

    def _odds(self, listed: _Listed, first: int, last: int) -> Iterator[MarketOdds]:
        if last < first:
            return
        hours = np.arange(first, last + 1)
        price, deviation, lean = self._before(listed.symbol, first, last)
        noise = _NOISE * normal(stream(self._market.spec.seed, f"{listed.market_id}/odds"), hours)
        thin = hash_of(listed.market_id) % 7 == 0
        for i, hour in enumerate(hours.tolist()):
            left = deviation[i] * math.sqrt((listed.ends - hour) / 24)
            distance = math.log(price[i] / listed.strike) / left
            probability = _probability(listed.kind, distance, _LEAN * lean[i]) + noise[i] * (3 if thin else 1)
            ts = _moment(hour)
            age = (hour - listed.opens + 1) / (listed.ends - listed.opens)
            yield MarketOdds(
                source=SIMULATED,
                market_id=listed.market_id,
                ts=ts,
                available_at=ts,
                probability=round(min(0.995, max(0.005, float(probability))), 4),
                spread=0.18 if thin else 0.02,
                liquidity_usd=400.0 if thin else 25_000.0,
                volume_usd=round((900.0 if thin else 400_000.0) * (0.1 + age), 2),
            )

    def _before(self, symbol: str, first: int, last: int) -> tuple[list[float], list[float], list[float]]:
        """Price, deviation of a day and trend of the last day at the start of each hour."""
        close = closes_before(self._market, symbol, first, last + 1, _WEEK_BARS)
        logs = np.log(close)
        squares = np.concatenate(([0.0], np.cumsum(np.diff(logs) ** 2)))
        ends = np.arange(last - first + 1) * _PER_HOUR + _WEEK_BARS
        deviation = np.sqrt((squares[ends] - squares[ends - _WEEK_BARS]) / 7)
        lean = np.tanh((logs[ends] - logs[ends - 24 * _PER_HOUR]) / deviation)
        return close[ends].tolist(), deviation.tolist(), lean.tolist()

    def _close(self, symbol: str, hour: int) -> float:
        return float(_hourly_closes(self._market, symbol, hour // 24)[hour % 24])

    def _closes(self, symbol: str, first: int, end: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Last closes known at the start of each hour of [first, end)."""
        return np.array([self._close(symbol, hour) for hour in range(first, end)])


@lru_cache(maxsize=4096)
def _hourly_closes(market: SimulatedMarket, symbol: str, day: int) -> tuple[float, ...]:
    return tuple(closes_before(market, symbol, day * 24, day * 24 + 24, 0)[::_PER_HOUR].tolist())


def _probability(kind: MarketKind, distance: float, drift: float) -> float:
    """Probability that a driftless walk ends above, or has been beyond, a strike at `distance` deviations."""
    match kind:
        case MarketKind.HIT_ABOVE:
            return 2 * _normal_cdf(distance + drift)
        case MarketKind.HIT_BELOW:
            return 2 * _normal_cdf(-distance - drift)
        case _:
            return _normal_cdf(distance + drift)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def hash_of(name: str) -> int:
    """A number that follows from a name and is the same in every process."""
    return int(stream(0, name) >> np.uint64(8))


def _round_price(value: float, around: float) -> float:
    """To two and a half digits of the price around, as strikes are chosen."""
    step = 10.0 ** (math.floor(math.log10(around)) - 2) * 5
    return round(round(value / step) * step, 10)


def _moment(hour: int) -> datetime:
    return EPOCH + hour * HOUR
