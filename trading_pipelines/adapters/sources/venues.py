"""Exchange keys that are known by name: which venue and market type each one stands for."""

from dataclasses import dataclass

from trading_pipelines.domain.market.instrument import MarketKind


@dataclass(frozen=True)
class Venue:
    """One venue and market type as the client library ccxt knows it, and how much it returns at once."""

    ccxt_id: str
    market_type: str
    kind: MarketKind
    candles_per_page: int
    loads: tuple[str, ...] = ()
    """Kinds of markets that the client is told to load; empty where it always loads all."""
    funding_per_page: int = 0
    """Settlements per answer; zero where the history cannot be asked for by time."""
    counts_contracts: bool = False
    """Volume of candles is in contracts instead of base currency."""


_SPOT, _PERPETUAL = MarketKind.SPOT, MarketKind.PERPETUAL
VENUES = {
    "bybit": Venue("bybit", "swap", _PERPETUAL, 1000, ("linear",), funding_per_page=200),
    "bybit_spot": Venue("bybit", "spot", _SPOT, 1000, ("spot",)),
    "binance": Venue("binance", "spot", _SPOT, 1000, ("spot",)),
    "binanceusdm": Venue("binanceusdm", "swap", _PERPETUAL, 1000, ("linear",), funding_per_page=1000),
    "mexc": Venue("mexc", "spot", _SPOT, 500),
    "mexc_swap": Venue("mexc", "swap", _PERPETUAL, 2000, counts_contracts=True),
}


def kind_of(exchange: str) -> MarketKind:
    """What an exchange key trades; a name that is not known is taken for a spot market."""
    return VENUES[exchange].kind if exchange in VENUES else MarketKind.SPOT
