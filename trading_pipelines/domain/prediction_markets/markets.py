"""Prediction markets about coins: what a question asks, about which coin, and whether its odds mean anything.

Belongs here: reading a question, and which odds are believed. Does not belong here: where markets are found
(`adapters.alternative.polymarket`) and what several of them say together (`domain.prediction_markets.ladder`).

A question is text from outside: it is matched against fixed patterns and never followed.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from trading_pipelines.domain.alternative.series import MARKET


class MarketKind(StrEnum):
    """What a question asks."""

    ABOVE = "ABOVE"
    """Is the price above a strike at the expiry."""
    BELOW = "BELOW"
    BETWEEN = "BETWEEN"
    HIT_ABOVE = "HIT_ABOVE"
    """Is a price above the present one reached at any time until the expiry."""
    HIT_BELOW = "HIT_BELOW"
    UP_OR_DOWN = "UP_OR_DOWN"
    """Is the price higher at the end of a period than at its beginning."""
    EVENT = "EVENT"
    """Something that is not a price."""


class MarketStatus(StrEnum):
    """Where a market stands."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"
    VANISHED = "VANISHED"


class OddsPolicy(BaseModel, frozen=True, extra="forbid"):
    """Which markets are looked at and which odds are believed."""

    least_life_hours: float = Field(default=4.0, ge=0)
    """Markets that live shorter, such as up or down within five minutes, are left out."""
    max_spread: float = Field(default=0.10, gt=0, le=1)
    """Odds with a wider spread between bid and ask count for nothing."""
    min_liquidity_usd: float = Field(default=1_000.0, ge=0)
    min_volume_usd: float = Field(default=1_000.0, ge=0)
    """Traded so far."""
    max_age_hours: float = Field(default=3.0, gt=0)
    """Older odds are not used."""
    alert_points: float = Field(default=0.10, gt=0, le=1)
    """Change of a probability that makes an event."""
    alert_hours: float = Field(default=1.0, gt=0)
    """Against the odds of so long before, or the newest older ones within `max_age_hours`."""
    min_rungs: int = Field(default=3, ge=2)
    """Markets of one coin and expiry that make a ladder."""
    bias_from_hours: float = Field(default=6.0, ge=0)
    bias_to_days: float = Field(default=62.0, gt=0)
    """Ladders that expire sooner or later say nothing about the lean of a coin."""


@dataclass(frozen=True)
class PredictionMarket:
    """One market as it was seen at `ts`; times are UTC.

    Attributes
    ----------
    coin : str
        What the question is about; MARKET where it names no coin or several.
    strike, upper_strike : float or None
        Prices in USD; the upper one of BETWEEN only, none of UP_OR_DOWN and EVENT.
    outcome : float or None
        What the first outcome paid, once it is resolved and known.
    """

    source: str
    market_id: str
    event_id: str
    question: str
    coin: str
    kind: MarketKind
    strike: float | None
    upper_strike: float | None
    expires_at: datetime
    ts: datetime
    status: MarketStatus = MarketStatus.OPEN
    outcome: float | None = None


@dataclass(frozen=True)
class MarketOdds:
    """Odds of one market at an instant.

    Attributes
    ----------
    probability : float
        Price of the first outcome, Yes or Up.
    spread, liquidity_usd, volume_usd : float or None
        None in a history, which has only prices.
    """

    source: str
    market_id: str
    ts: datetime
    available_at: datetime
    probability: float
    spread: float | None = None
    liquidity_usd: float | None = None
    volume_usd: float | None = None


def is_liquid(spread: float | None, liquidity_usd: float | None, volume_usd: float | None, policy: OddsPolicy) -> bool:
    """Whether odds are believed; what is not known of a history is no reason against it."""
    return (
        (spread is None or spread <= policy.max_spread)
        and (liquidity_usd is None or liquidity_usd >= policy.min_liquidity_usd)
        and (volume_usd is None or volume_usd >= policy.min_volume_usd)
    )


@dataclass(frozen=True)
class Asked:
    """What a question asks about."""

    coin: str
    kind: MarketKind
    strike: float | None = None
    upper_strike: float | None = None


_NAMES = {
    "BTC": "bitcoin|btc",
    "ETH": "ethereum|ether|eth",
    "SOL": "solana|sol",
    "XRP": "xrp|ripple",
    "BNB": "bnb|binance coin",
    "DOGE": "dogecoin|doge",
    "ADA": "cardano|ada",
    "AVAX": "avalanche|avax",
    "LINK": "chainlink",
    "DOT": "polkadot",
    "LTC": "litecoin|ltc",
    "TRX": "tron|trx",
    "TON": "toncoin",
    "SUI": "sui",
    "NEAR": "near protocol",
    "PEPE": "pepe",
    "SHIB": "shiba inu|shib",
    "HYPE": "hyperliquid",
    "XMR": "monero|xmr",
    "BCH": "bitcoin cash|bch",
}
_SHORT = {"SOL", "ADA", "ETH", "BTC", "XRP", "BNB", "DOGE", "LTC", "TRX", "BCH", "XMR", "AVAX", "SHIB"}
"""Symbols that are words or parts of words in lower case; they count in capitals only."""
_COIN = {
    coin: re.compile(
        "|".join(
            rf"\b{name}\b" if name.upper() in _SHORT else rf"\b(?i:{name})\b"
            for name in (n.upper() if n.upper() in _SHORT else n for n in names.split("|"))
        )
    )
    for coin, names in _NAMES.items()
}
_LOOSE_CRYPTO = re.compile(
    r"\b(crypto\w*|stablecoins?|tether|usdt|usdc|binance|coinbase|defi|nft|altcoins?|token|airdrop|blockchain|"
    r"microstrategy|satoshi|etf|kraken|fdv|memecoins?)\b",
    re.IGNORECASE,
)
_AMOUNT = r"\$?\s*(\d[\d,]*(?:\.\d+)?)\s*([kmb](?![a-z])|thousand|million|billion|trillion|t(?![a-z]))?"
_UNIT = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "b": 1e9, "billion": 1e9, "t": 1e12, "trillion": 1e12}
_NOT_A_PRICE = re.compile(
    r"\b(market cap|fdv|fully diluted|dominance|volume|inflows?|outflows?|etf|tvl|hash ?rate|gas|transactions?|"
    r"supply|holdings?|hold|holds|buys?|purchase|treasury|reserve|valuation|%|percent)\b|%",
    re.IGNORECASE,
)
_HIGHEST_PRICE = 1e12
"""USD; a question about a higher one asks about no price."""
_UP_OR_DOWN = re.compile(r"\bup or down\b", re.IGNORECASE)
_BETWEEN = re.compile(rf"\bbetween\s+{_AMOUNT}\s*(?:and|-|\u2013|to)\s*{_AMOUNT}", re.IGNORECASE)
_ABOVE = re.compile(
    rf"\b(?:above|over|greater than|more than|higher than|at least|or higher than|exceed)\s+{_AMOUNT}", re.IGNORECASE
)
_BELOW = re.compile(rf"\b(?:below|under|less than|lower than)\s+{_AMOUNT}", re.IGNORECASE)
_HIT_UP = re.compile(rf"\b(?:reach|hit|rise to|touch|surpass)\s+(?:\(high\)\s*)?{_AMOUNT}", re.IGNORECASE)
_HIT_DOWN = re.compile(rf"\b(?:dip to|fall to|drop to|crash to|hit \(low\))\s+{_AMOUNT}", re.IGNORECASE)
_TOUCHES = re.compile(r"\b(?:at any (?:time|point)|hit|reach|touch|ever)\b", re.IGNORECASE)


def read_question(question: str) -> Asked | None:
    """What a question asks, or None where it has nothing to do with coins.

    A price is recognised by words and an amount, such as "be above $64,000" or "reach $100k"; a question about a coin
    that names no price is an EVENT. "Bitcoin Cash" is no Bitcoin. A question that names several coins is about MARKET.
    """
    coins = _coins_in(question)
    if not coins:
        return Asked(MARKET, MarketKind.EVENT) if _LOOSE_CRYPTO.search(question) else None
    if len(coins) > 1:
        return Asked(MARKET, MarketKind.EVENT)
    coin = coins[0]
    if _UP_OR_DOWN.search(question):
        return Asked(coin, MarketKind.UP_OR_DOWN)
    if _NOT_A_PRICE.search(question):
        return Asked(coin, MarketKind.EVENT)
    return _priced(coin, question) or Asked(coin, MarketKind.EVENT)


def _coins_in(question: str) -> list[str]:
    rest = re.sub(r"\bbitcoin cash\b", "BCH", question, flags=re.IGNORECASE)
    return [coin for coin, pattern in _COIN.items() if pattern.search(rest)]


def _priced(coin: str, question: str) -> Asked | None:
    if found := _BETWEEN.search(question):
        low, high = _amount(found[1], found[2] or found[4]), _amount(found[3], found[4])
        return Asked(coin, MarketKind.BETWEEN, low, high) if 0 < low < high <= _HIGHEST_PRICE else None
    if found := _HIT_DOWN.search(question):
        return _at(coin, MarketKind.HIT_BELOW, found)
    if found := _HIT_UP.search(question):
        return _at(coin, MarketKind.HIT_ABOVE, found)
    touches = bool(_TOUCHES.search(question))
    if found := _ABOVE.search(question):
        return _at(coin, MarketKind.HIT_ABOVE if touches else MarketKind.ABOVE, found)
    if found := _BELOW.search(question):
        return _at(coin, MarketKind.HIT_BELOW if touches else MarketKind.BELOW, found)
    return None


def _at(coin: str, kind: MarketKind, found: re.Match[str]) -> Asked | None:
    strike = _amount(found[1], found[2])
    return Asked(coin, kind, strike) if 0 < strike <= _HIGHEST_PRICE else None


def _amount(digits: str, unit: str | None) -> float:
    return float(digits.replace(",", "")) * _UNIT.get((unit or "").lower(), 1.0)
