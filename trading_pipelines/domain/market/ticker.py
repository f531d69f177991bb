"""The newest quote of a symbol; history of prices is candles, not this."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Ticker:
    """What a venue says about a symbol right now.

    Attributes
    ----------
    ts : datetime
        UTC instant the quote is about, by the source's clock.
    price, bid, ask : float
        Last price and best quotes in quote currency; a venue may leave bid and ask out.
    change_24h : float or None
        Fraction, against the price 24 hours before.
    quote_volume_24h : float or None
        Turnover of the last 24 hours in quote currency.
    """

    symbol: str
    ts: datetime
    price: float
    bid: float | None = None
    ask: float | None = None
    change_24h: float | None = None
    quote_volume_24h: float | None = None
