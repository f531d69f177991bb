"""What can be traded: one symbol on one venue, with the venue's rounding rules."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from enum import StrEnum


class MarketKind(StrEnum):
    """Spot pairs are owned outright; perpetuals pay funding and can be shorted with leverage."""

    SPOT = "spot"
    PERPETUAL = "perpetual"


@dataclass(frozen=True)
class Instrument:
    """One tradable symbol; a step or minimum of zero means that the venue states none.

    Attributes
    ----------
    exchange : str
        Exchange key: one venue and market type, for example ``binance`` (spot) or ``bybit`` (linear
        perpetuals).
    symbol : str
        Base and quote without separator, for example ``BTCUSDT``.
    price_step, quantity_step : Decimal
        Smallest change of a price (quote currency) and of a quantity (base currency).
    min_quantity, min_notional : Decimal
        Smallest order, in base and in quote currency.
    funding_interval_minutes : int or None
        None for spot.
    max_leverage : Decimal or None
        None where the venue states no limit.
    """

    exchange: str
    symbol: str
    base: str
    quote: str
    kind: MarketKind
    price_step: Decimal = Decimal(0)
    quantity_step: Decimal = Decimal(0)
    min_quantity: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    funding_interval_minutes: int | None = None
    max_leverage: Decimal | None = None

    def round_price(self, price: Decimal) -> Decimal:
        """Nearest price that the venue accepts."""
        return _to_step(price, self.price_step, ROUND_HALF_EVEN)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """Largest accepted quantity that is not above `quantity`."""
        return _to_step(quantity, self.quantity_step, ROUND_DOWN)


class ListingStatus(StrEnum):
    """Whether a venue trades a pair."""

    TRADING = "trading"
    HALTED = "halted"
    DELISTED = "delisted"


@dataclass(frozen=True)
class Listing:
    """A pair on a venue's list of markets, traded or not.

    Attributes
    ----------
    listed_at : datetime or None
        Start of trading, UTC; None where the venue does not say.
    """

    instrument: Instrument
    status: ListingStatus = ListingStatus.TRADING
    listed_at: datetime | None = None


QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH", "BNB")


def split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote of a symbol such as ``BTCUSDT``; the longest known quote at its end counts.

    Raises
    ------
    ValueError
        If the symbol ends with none of `QUOTES`.
    """
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    raise ValueError(f"{symbol}: expected base and quote without separator, for example BTCUSDT")


def _to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return value if step == 0 else (value / step).quantize(Decimal(1), rounding=rounding) * step
