"""What indices and crowds would say of the simulated market.

Belongs here: figures that follow from the simulated market's past prices, with noise of their own. Does not belong
here: a clock (every function is told which span is meant) and what people write (`domain.simulation.writers`).

All figures look back only: the one that is known at T is made from bars that had closed by the time it speaks of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np

from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.simulation.market import GRID, SimulatedMarket, profile_of
from trading_pipelines.domain.simulation.noise import Floats, Integers, normal, stream
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

HOUR = timedelta(hours=1)
_DAY = 24
_WEEK = 168
_MONTH = 720
_BARS = 60 // GRID.minutes
_PUBLISHED_AFTER = timedelta(minutes=3)
"""From the time that a figure speaks of until it is known."""


@dataclass(frozen=True)
class PastMoves:
    """Hourly closes of all symbols, as known at each full hour of [first, last), with a month before it.

    Attributes
    ----------
    log_price : array of float
        By symbol and hour; the close of the bar that ends at that hour.
    """

    spec: SimulatedMarketSpec
    first: int
    last: int
    log_price: Floats

    @classmethod
    def of(cls, market: SimulatedMarket, first: int, last: int) -> "PastMoves":
        """Read the closes; hours count from 1970."""
        start = EPOCH + (first - _MONTH) * HOUR - GRID.delta
        closes = [
            market.candles(symbol, start, EPOCH + last * HOUR - GRID.delta)["close"].to_numpy()[::_BARS]
            for symbol in market.spec.symbols
        ]
        return cls(market.spec, first, last, np.log(np.array(closes)))

    @property
    def hours(self) -> Integers:
        """The hours of the span."""
        return np.arange(self.first, self.last)

    def change(self, hours: int) -> Floats:
        """Log return over the last `hours`, by symbol and hour of the span."""
        now = self.log_price[:, _MONTH:]
        return now - self.log_price[:, _MONTH - hours : self.log_price.shape[1] - hours]

    def surprise(self, hours: int) -> Floats:
        """The same in standard deviations of the past month's moves of that length."""
        return self.change(hours) / (self.volatility(_MONTH) * np.sqrt(hours))

    def volatility(self, hours: int) -> Floats:
        """Standard deviation of hourly returns over the last `hours`, by symbol and hour of the span."""
        squares = np.cumsum(np.diff(self.log_price, prepend=self.log_price[:, :1]) ** 2, axis=1)
        now, before = squares[:, _MONTH:], squares[:, _MONTH - hours : squares.shape[1] - hours]
        return np.sqrt((now - before) / hours)

    @cached_property
    def coins(self) -> tuple[str, ...]:
        """Base currencies in the order of the rows."""
        return tuple(split_symbol(symbol)[0] for symbol in self.spec.symbols)


class SimulatedCrowd:
    """Figures about the simulated market as a pure function of its seed and the time."""

    def __init__(self, spec: SimulatedMarketSpec) -> None:
        self._spec = spec
        self._market = SimulatedMarket(spec)

    def fear_greed(self, since: datetime, until: datetime) -> list[Observation]:
        """The index of each day that became known in (since, until]: greedy after calm rises, else afraid."""
        return self._figures(since, until, _DAY, self._fear_greed)

    def coin_metrics(self, since: datetime, until: datetime) -> list[Observation]:
        """Market values, dominance, what is searched for and voted, every four hours."""
        return self._figures(since, until, 4, self._coin_metrics)

    def social_metrics(self, since: datetime, until: datetime) -> list[Observation]:
        """How much and how gladly coins are talked about, every four hours."""
        return self._figures(since, until, 4, self._social_metrics)

    def derivatives(self, since: datetime, until: datetime) -> list[Observation]:
        """How accounts and takers are positioned, every four hours."""
        return self._figures(since, until, 4, self._derivatives)

    def _figures(
        self, since: datetime, until: datetime, every: int, make: Callable[[PastMoves, Integers], list[Observation]]
    ) -> list[Observation]:
        """Figures of all multiples of `every` hours that became known in the span, oldest first."""
        first, last = (
            -(-((t - _PUBLISHED_AFTER - EPOCH) // GRID.delta + 1) // (_BARS * every)) for t in (since, until)
        )
        if first >= last:
            return []
        moves = PastMoves.of(self._market, first * every, (last - 1) * every + 1)
        return sorted(make(moves, np.arange(first, last) * every), key=lambda row: row.ts)

    def _fear_greed(self, moves: PastMoves, hours: Integers) -> list[Observation]:
        week, month = moves.change(_WEEK).mean(axis=0), moves.change(_MONTH).mean(axis=0)
        wildness = np.log(moves.volatility(_WEEK).mean(axis=0) / moves.volatility(_MONTH).mean(axis=0))
        mood = 50 + 30 * np.tanh(week / 0.08) + 12 * np.tanh(month / 0.2) - 10 * np.tanh(wildness / 0.5)
        index = mood[hours - moves.first] + 4 * self._noise("fear_greed", hours)
        return _rows("fear_greed", MARKET, hours, np.clip(index, 1, 99).round())

    def _coin_metrics(self, moves: PastMoves, hours: Integers) -> list[Observation]:
        at = hours - moves.first
        profiles = [profile_of(symbol) for symbol in self._spec.symbols]
        supply = np.array([150 * p.turnover / p.price for p in profiles])
        worth = np.exp(moves.log_price[:, _MONTH:][:, at]) * supply[:, None]
        excitement = np.abs(moves.surprise(_DAY))[:, at]
        places = (-excitement).argsort(axis=0).argsort(axis=0) + 1.0
        rows: list[Observation] = []
        for number, coin in enumerate(moves.coins):
            votes = 65 + 12 * np.tanh(moves.surprise(_WEEK)[number, at]) + 2 * self._noise(f"{coin}/votes", hours)
            rows += _rows("market_cap_usd", coin, hours, worth[number].round())
            rows += _rows("community_sentiment", coin, hours, np.clip(votes, 1, 99).round(1))
            rows += _rows("trending_place", coin, hours, places[number])
            if coin == "BTC":
                rows += _rows("btc_dominance", MARKET, hours, (90 * worth[number] / worth.sum(axis=0)).round(2))
        return rows + _rows("market_cap_usd", MARKET, hours, (worth.sum(axis=0) / 0.9).round())

    def _social_metrics(self, moves: PastMoves, hours: Integers) -> list[Observation]:
        at = hours - moves.first
        day = moves.surprise(_DAY)[:, at]
        usual = np.array([profile_of(symbol).turnover / 1e6 for symbol in self._spec.symbols])[:, None]
        chatter = np.array([self._noise(f"{coin}/chatter", hours) for coin in moves.coins])
        volume = (usual * np.exp(0.4 * np.abs(day) + 0.25 * chatter)).round()
        rows: list[Observation] = []
        for number, coin in enumerate(moves.coins):
            score = 50 + 18 * np.tanh(day[number]) + 5 * self._noise(f"{coin}/galaxy", hours)
            rows += _rows("galaxy_score", coin, hours - 1, np.clip(score, 0, 100).round(1), known_after=HOUR)
            rows += _rows("social_volume", coin, hours - 1, volume[number], known_after=HOUR)
            rows += _rows(
                "social_dominance",
                coin,
                hours - 1,
                (100 * volume[number] / volume.sum(axis=0)).round(3),
                known_after=HOUR,
            )
        return rows

    def _derivatives(self, moves: PastMoves, hours: Integers) -> list[Observation]:
        at = hours - moves.first
        week, recent = np.tanh(moves.surprise(_WEEK)[:, at]), np.tanh(moves.surprise(4)[:, at])
        rows: list[Observation] = []
        for number, coin in enumerate(moves.coins):
            lean = 0.1 + 0.25 * week[number] + 0.08 * self._noise(f"{coin}/accounts", hours)
            takers = 0.1 * recent[number] + 0.04 * self._noise(f"{coin}/takers", hours)
            turnover = profile_of(self._spec.symbols[number]).turnover
            interest = 0.4 * turnover * np.exp(0.3 * week[number] + 0.05 * self._noise(f"{coin}/interest", hours))
            rows += _rows("long_short_ratio", coin, hours, np.exp(lean).round(4))
            rows += _rows("taker_buy_sell_ratio", coin, hours - 1, np.exp(takers).round(4), known_after=HOUR)
            rows += _rows("open_interest_usd", coin, hours, interest.round())
        return rows

    def _noise(self, name: str, hours: Integers) -> Floats:
        return normal(stream(self._spec.seed, f"crowd/{name}"), hours)


def _rows(
    series: str, coin: str, hours: Integers, values: Floats, known_after: timedelta = timedelta(0)
) -> list[Observation]:
    """One observation per hour; `known_after` is the length of the period that it speaks of."""
    moments = [EPOCH + int(hour) * HOUR for hour in hours]
    delay = known_after + _PUBLISHED_AFTER
    return [
        Observation(series, coin, SIMULATED, ts, ts + delay, value)
        for ts, value in zip(moments, values.tolist(), strict=True)
    ]
