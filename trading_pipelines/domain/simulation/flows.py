"""What moves on the chains of the simulated market: large transactions and hourly flows of exchanges.

Belongs here: transactions and flows as a pure function of seed, coin and hour. Does not belong here: when a source
would have reported them (`adapters.alternative.simulated.flows`).

Holders follow the market: after a rise coins leave exchanges and stablecoins come to them, after a fall the other way
round. An hour is made from candles that closed before it began, so nothing knows a price of its own future.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from trading_pipelines.domain.alternative.series import MARKET, SIMULATED
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.onchain.transactions import ExchangeFlow, OwnerKind, WhaleTransaction
from trading_pipelines.domain.simulation.market import GRID, SimulatedMarket, profile_of
from trading_pipelines.domain.simulation.noise import Floats, Integers, normal, stream, uniform

HOUR = timedelta(hours=1)
TRANSACTION_LAG, FLOW_LAG = timedelta(minutes=2), timedelta(minutes=10)
"""From a transaction, and from the end of an hour, until anyone can know of it."""
FLOW_COINS = ("BTC", "ETH")
"""Coins of which hourly flows of all sizes are published, besides the stablecoins as a whole."""
_PER_HOUR = 60 // GRID.minutes
_DAY_BARS = 24 * _PER_HOUR
_SLOTS = 3
_LEAST_USD, _MOST_USD = 500_000.0, 300_000_000.0
_TAIL = 1.15
"""Exponent of the sizes' Pareto distribution: many just large enough, a few enormous."""
_STABLECOINS = {"USDT": 0.5, "USDC": 0.25}
"""Probability of a transaction in a slot of an hour."""
_EXCHANGES = ("Northpool", "Ledgerline", "Quayside", "Meridian")
_WHALES = ("Harbour Fund", "Longview Treasury", "Basalt Mining")


@dataclass(frozen=True)
class _Coin:
    coin: str
    symbol: str
    probability: float
    """Of a transaction in a slot of an hour."""
    sign: int
    """+1: leaves exchanges in a rise; -1 for stablecoins, which come to them."""
    stable: bool


class SimulatedFlows:
    """Flows of all coins of one simulated market."""

    def __init__(self, market: SimulatedMarket) -> None:
        self._market = market
        bases = {base_of(symbol): symbol for symbol in market.spec.symbols}
        leader = market.spec.symbols[0]
        self.coins = tuple(bases)
        self._coins = [
            *(_Coin(base, symbol, _probability(symbol), 1, False) for base, symbol in bases.items()),
            *(_Coin(name, leader, probability, -1, True) for name, probability in _STABLECOINS.items()),
        ]

    def transactions(self, start: datetime, end: datetime) -> list[WhaleTransaction]:
        """Large transactions of the whole hours that begin in [start, end), in order of time."""
        first, last = _hour_at_or_after(start), _hour_at_or_after(end)
        if last <= first:
            return []
        hours = np.arange(first, last)
        found = [row for coin in self._coins for row in self._transactions_of(coin, hours)]
        return sorted(found, key=lambda row: (row.ts, row.transaction_id))

    def flows(self, start: datetime, end: datetime) -> list[ExchangeFlow]:
        """Hourly flows of the exchanges for the hours that begin in [start, end), in order of time."""
        first, last = _hour_at_or_after(start), _hour_at_or_after(end)
        hours = np.arange(first, last)
        published = [coin for coin in self._coins if coin.coin in FLOW_COINS]
        stable = next(coin for coin in self._coins if coin.stable)
        if last <= first:
            return []
        found = [
            row
            for coin, name in [*((c, c.coin) for c in published), (stable, MARKET)]
            for row in self._flows_of(coin, name, hours)
        ]
        return sorted(found, key=lambda row: (row.ts, row.coin))

    def _transactions_of(self, coin: _Coin, hours: Integers) -> Iterator[WhaleTransaction]:
        price, lean = self._before(coin, hours)
        seed = self._market.spec.seed
        for slot in range(_SLOTS):
            draw = {
                what: uniform(stream(seed, f"{coin.coin}/whale/{slot}/{what}"), hours)
                for what in ("happens", "size", "when", "way", "from", "to")
            }
            for i in np.flatnonzero(draw["happens"] < coin.probability).tolist():
                usd = min(_MOST_USD * 2 * coin.probability, _LEAST_USD * float(draw["size"][i]) ** (-1 / _TAIL))
                seconds = int(3_599 * float(draw["when"][i]))
                ts = EPOCH + int(hours[i]) * HOUR + timedelta(seconds=seconds)
                sender, recipient = _owners(
                    float(draw["way"][i]), float(draw["from"][i]), float(draw["to"][i]), coin.sign * float(lean[i])
                )
                rate = 1.0 if coin.stable else float(price[i])
                yield WhaleTransaction(
                    source=SIMULATED,
                    transaction_id=f"{coin.coin}-{int(hours[i])}-{slot}",
                    blockchain="simulated",
                    coin=coin.coin,
                    ts=ts,
                    available_at=ts + TRANSACTION_LAG,
                    amount=usd / rate,
                    amount_usd=usd,
                    sender_kind=sender[0],
                    sender=sender[1],
                    recipient_kind=recipient[0],
                    recipient=recipient[1],
                )

    def _flows_of(self, coin: _Coin, name: str, hours: Integers) -> Iterator[ExchangeFlow]:
        _, lean = self._before(coin, hours)
        seed = self._market.spec.seed
        size = 0.004 * profile_of(coin.symbol).turnover
        volume = size * np.exp(0.5 * normal(stream(seed, f"{name}/flow/volume"), hours))
        net = np.tanh(0.25 * normal(stream(seed, f"{name}/flow/net"), hours) - 0.25 * coin.sign * lean)
        for hour, gross, share in zip(hours.tolist(), volume.tolist(), net.tolist(), strict=True):
            ts = EPOCH + hour * HOUR
            yield ExchangeFlow(
                source=SIMULATED,
                coin=name,
                ts=ts,
                available_at=ts + HOUR + FLOW_LAG,
                inflow=gross * (1 + share) / 2,
                outflow=gross * (1 - share) / 2,
                unit="USD",
            )

    def _before(self, coin: _Coin, hours: Integers) -> tuple[Floats, Floats]:
        """Price at the start of each hour and the way of the day before it, from -1 (fall) to 1 (rise)."""
        close = closes_before(self._market, coin.symbol, int(hours[0]), int(hours[-1]) + 1, _DAY_BARS)
        ends = (hours - hours[0]) * _PER_HOUR + _DAY_BARS
        logs = np.log(close)
        squares = np.concatenate(([0.0], np.cumsum(np.diff(logs) ** 2)))
        deviation = np.sqrt(squares[ends] - squares[ends - _DAY_BARS])
        return close[ends], np.tanh((logs[ends] - logs[ends - _DAY_BARS]) / deviation)


def closes_before(market: SimulatedMarket, symbol: str, first_hour: int, end_hour: int, bars: int) -> Floats:
    """Closes of the grid, from the one known `bars` bars before the start of `first_hour` to that of the last hour.

    Element ``bars + 12 n`` is the last close known when hour ``first_hour + n`` begins (with twelve bars an hour).
    """
    start = EPOCH + first_hour * HOUR - (bars + 1) * GRID.delta
    end = EPOCH + (end_hour - 1) * HOUR
    return market.candles(symbol, start, end)["close"].to_numpy(dtype=np.float64)


def base_of(symbol: str) -> str:
    """Base currency of a symbol of the simulated market."""
    return symbol.removesuffix("USDT")


def _probability(symbol: str) -> float:
    return min(0.5, max(0.06, profile_of(symbol).turnover / 1.5e10))


def _owners(way: float, from_: float, to: float, lean: float) -> tuple[tuple[OwnerKind, str], tuple[OwnerKind, str]]:
    """Sender and recipient; `lean` > 0 makes coins leave exchanges more often."""
    leaves = 0.36 + 0.18 * lean
    comes = 0.36 - 0.18 * lean
    if way < leaves:
        return _exchange(from_), _holder(to)
    if way < leaves + comes:
        return _holder(from_), _exchange(to)
    return (_exchange(from_), _exchange(to)) if way > 0.94 else (_holder(from_), _holder(to))


def _exchange(draw: float) -> tuple[OwnerKind, str]:
    return OwnerKind.EXCHANGE, _EXCHANGES[math.floor(draw * len(_EXCHANGES))]


def _holder(draw: float) -> tuple[OwnerKind, str]:
    if draw < 0.4:
        return OwnerKind.WHALE, _WHALES[math.floor(draw / 0.4 * len(_WHALES))]
    return OwnerKind.UNKNOWN, f"sim{math.floor(draw * 1e12):012x}"


def _hour_at_or_after(moment: datetime) -> int:
    return -((EPOCH - moment) // HOUR)
