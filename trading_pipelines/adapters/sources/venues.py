"""Exchange keys that are known by name: which venue and market type each one stands for."""

from dataclasses import dataclass

from trading_pipelines.domain.market.instrument import MarketKind


@dataclass(frozen=True)
class Venue:
    """One venue and market type; `ccxt_id` and `ccxt_type` are what the client library calls them."""

    ccxt_id: str
    ccxt_type: str
    kind: MarketKind


VENUES = {
    "bybit": Venue("bybit", "swap", MarketKind.PERPETUAL),
    "bybit_spot": Venue("bybit", "spot", MarketKind.SPOT),
    "binance": Venue("binance", "spot", MarketKind.SPOT),
    "binanceusdm": Venue("binanceusdm", "swap", MarketKind.PERPETUAL),
    "mexc": Venue("mexc", "spot", MarketKind.SPOT),
    "mexc_swap": Venue("mexc", "swap", MarketKind.PERPETUAL),
}


def kind_of(exchange: str) -> MarketKind:
    """What an exchange key trades; a name that is not known is taken for a spot market."""
    return VENUES[exchange].kind if exchange in VENUES else MarketKind.SPOT
