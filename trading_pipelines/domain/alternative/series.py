"""The dated numbers that the platform knows by name: unit, rhythm, when they are published and how long they count.

Belongs here: what a series means. Does not belong here: who delivers it (`adapters.alternative`) and what is made of
it (`domain.scoring`, `domain.features`).
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

MARKET = "MARKET"
"""In place of a coin: the value speaks of the whole market."""
SIMULATED = "simulated"
"""Source of everything that belongs to the simulated market."""

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Series:
    """A dated number.

    Attributes
    ----------
    name, unit, meaning : str
        Key of the stored rows, unit of the value, one line for people.
    period : datetime.timedelta
        What one value covers, from its `ts` on; zero for a value at an instant.
    publication_lag : datetime.timedelta
        From the end of the period until anyone can know the value. It dates recorded history, of which nobody noted
        when it arrived; what is fetched live is known when it was fetched.
    max_age : datetime.timedelta
        From `available_at` on; older values count as missing.
    """

    name: str
    unit: str
    meaning: str
    period: timedelta
    publication_lag: timedelta
    max_age: timedelta

    def known_at(self, ts: datetime) -> datetime:
        """When the value that speaks of `ts` could be known, for a history that does not say."""
        return ts + self.period + self.publication_lag

    def dated(self, ts: datetime, fetched_at: datetime) -> datetime:
        """When a value that a source gives at `fetched_at` was known.

        One that still counts became known now, for nobody noticed it before. One that is out of date already is
        history, and dated by the publication of its series.
        """
        published = self.known_at(ts)
        return published if fetched_at - published > self.max_age else fetched_at


@dataclass(frozen=True)
class Observation:
    """One dated number of one coin, or of the `MARKET`; both times are UTC."""

    series: str
    coin: str
    source: str
    ts: datetime
    available_at: datetime
    value: float


_ALL = (
    Series(
        "fear_greed",
        "0-100",
        "Fear & Greed index, stamped with the day it is published on",
        timedelta(0),
        _HOUR,
        2 * _DAY,
    ),
    Series(
        "btc_dominance", "percent", "BTC's share of the market value of all coins", timedelta(0), timedelta(0), _DAY
    ),
    Series("open_interest_usd", "USD", "open perpetual contracts of a coin", timedelta(0), timedelta(0), _DAY),
    Series("stablecoin_supply_usd", "USD", "market value of the large stablecoins", _DAY, 6 * _HOUR, 3 * _DAY),
    Series("stablecoin_inflow_usd", "USD", "stablecoins that went to exchanges", _HOUR, timedelta(0), _DAY),
    Series("exchange_netflow_usd", "USD", "coins to exchanges minus coins from them", _HOUR, timedelta(0), _DAY),
    Series(
        "whale_score", "-1 to 1", "large holders leave exchanges (1) or go to them (-1)", _DAY, timedelta(0), 2 * _DAY
    ),
    Series(
        "sentiment", "-1 to 1", "what texts about a coin say, weighted by age", timedelta(0), timedelta(0), 6 * _HOUR
    ),
    Series("exchange_reserve", "coins", "coins that exchanges hold, at the end of the day", _DAY, 6 * _HOUR, 3 * _DAY),
    Series(
        "etf_netflow_usd", "USD", "what went into spot funds of a coin; none on weekends", _DAY, 6 * _HOUR, 4 * _DAY
    ),
    Series("funding_rate_1d", "fraction", "mean of the funding rates settled on the day", _DAY, timedelta(0), 2 * _DAY),
    Series("taker_imbalance", "-1 to 1", "bought at market minus sold at market, over both", _HOUR, timedelta(0), _DAY),
    Series(
        "prediction_bias",
        "-1 to 1",
        "how far prediction markets expect a higher price",
        timedelta(0),
        timedelta(0),
        _DAY,
    ),
    Series("market_cap_usd", "USD", "market value of all coins of a kind", timedelta(0), timedelta(0), _DAY),
    Series(
        "trending_place",
        "place",
        "place among the coins that people search for, 1 is the first",
        timedelta(0),
        timedelta(0),
        _DAY,
    ),
    Series(
        "community_sentiment",
        "percent",
        "votes on a coin's page that expect a rise",
        timedelta(0),
        timedelta(0),
        2 * _DAY,
    ),
    Series("galaxy_score", "0-100", "LunarCrush's score of a coin's prices and mentions", _HOUR, timedelta(0), _DAY),
    Series("social_volume", "mentions", "posts about a coin in social media", _HOUR, timedelta(0), _DAY),
    Series("social_dominance", "percent", "share of a coin in all posts about coins", _HOUR, timedelta(0), _DAY),
    Series(
        "long_short_ratio",
        "ratio",
        "accounts that are long over those that are short",
        timedelta(0),
        timedelta(0),
        _DAY,
    ),
    Series("taker_buy_sell_ratio", "ratio", "bought at market over sold at market", _HOUR, timedelta(0), _DAY),
)
SERIES = {series.name: series for series in _ALL}


def coin_of(base: str) -> str:
    """The coin behind the base currency of a contract, which may be a lot of many, such as 1000PEPE."""
    return re.sub(r"^10+(?=[A-Z])", "", base)
