"""Which pairs of a venue are worth looking at at all: enough turnover, a narrow spread.

Belongs here: the judgement of one pair from its newest quote. Does not belong here: when it is made and what is kept of
it (`application.market_data.universe`), and the order of the pairs (`domain.screening`).
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from trading_pipelines.domain.market.instrument import Listing, ListingStatus
from trading_pipelines.domain.market.ticker import Ticker


class Exclusion(StrEnum):
    """Why a pair does not belong to the universe."""

    HALTED = "HALTED"
    DELISTED = "DELISTED"
    NO_QUOTE = "NO_QUOTE"
    VOLUME = "VOLUME"
    SPREAD = "SPREAD"


class UniverseRules(BaseModel):
    """Who belongs to the universe, and how it is kept up to date."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quote: str = Field(default="USDT", pattern="^[A-Z0-9]+$")
    """Only pairs quoted in this currency are looked at."""
    min_quote_volume: float = Field(default=1_000_000.0, ge=0)
    """Turnover of 24 hours in quote currency that a member exceeds."""
    max_spread: float = Field(default=0.005, gt=0, lt=1)
    """Best ask minus best bid over their middle, below which a member's lies."""
    history_days: int = Field(default=180, ge=1)
    """Days of 4h candles that are kept of members, for the screener."""
    recent_days: int = Field(default=30, ge=0)
    """Pairs listed within so many days are named at the first look, which has nothing to compare with."""


def spread_of(ticker: Ticker) -> float | None:
    """Best ask minus best bid over their middle; None without both quotes."""
    if ticker.bid is None or ticker.ask is None or ticker.bid + ticker.ask <= 0:
        return None
    return 2 * (ticker.ask - ticker.bid) / (ticker.ask + ticker.bid)


def exclusions(listing: Listing, ticker: Ticker | None, rules: UniverseRules) -> tuple[Exclusion, ...]:
    """Why the pair is no member; empty for a member.

    A venue that gives no quotes with its prices (an archive, some lists of tickers) says nothing against a spread.
    """
    if listing.status is ListingStatus.DELISTED:
        return (Exclusion.DELISTED,)
    if listing.status is ListingStatus.HALTED:
        return (Exclusion.HALTED,)
    if ticker is None:
        return (Exclusion.NO_QUOTE,)
    found: list[Exclusion] = []
    if not (ticker.quote_volume_24h or 0.0) > rules.min_quote_volume:
        found.append(Exclusion.VOLUME)
    spread = spread_of(ticker)
    if spread is not None and not spread < rules.max_spread:
        found.append(Exclusion.SPREAD)
    return tuple(found)
