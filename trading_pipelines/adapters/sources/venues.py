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
    usual_funding_hours: int | None = None
    """Hours between two settlements, where the exchange only names the markets that differ."""
    open_interest_per_page: int = 0
    """Hours of open interest per answer; zero where there is no history of it."""
    open_interest_days: int | None = None
    """How far back the exchange keeps it, where it does not keep all."""
    mark_prices_per_page: int = 200
    funding_is_numbered: bool = False
    """Settlements come in numbered pages from the newest back, whatever time is asked for."""
    counts_contracts: bool = False
    """Volume of candles is in contracts instead of base currency."""
    passing_codes: frozenset[str] = frozenset()
    """Error codes that ask to come back later, beside those that the client library takes for such."""
    quotes_apart: bool = False
    """Best bids and asks do not come with the prices, but have an answer of their own."""
    tells_status: bool = False
    """There is a public answer to the question whether the exchange is under maintenance."""


_SPOT, _PERPETUAL = MarketKind.SPOT, MarketKind.PERPETUAL
_BYBIT_BUSY = frozenset({"10000", "10016"})
_MEXC_BUSY = frozenset({"500", "501", "510"})
VENUES = {
    "bybit": Venue(
        "bybit",
        "swap",
        _PERPETUAL,
        1000,
        ("linear",),
        funding_per_page=200,
        open_interest_per_page=200,
        passing_codes=_BYBIT_BUSY,
    ),
    "bybit_spot": Venue("bybit", "spot", _SPOT, 1000, ("spot",), passing_codes=_BYBIT_BUSY),
    "binance": Venue("binance", "spot", _SPOT, 1000, ("spot",), tells_status=True),
    "binanceusdm": Venue(
        "binanceusdm",
        "swap",
        _PERPETUAL,
        1000,
        ("linear",),
        funding_per_page=1000,
        usual_funding_hours=8,
        quotes_apart=True,
        tells_status=True,
        open_interest_per_page=500,
        open_interest_days=29,
        mark_prices_per_page=1000,
    ),
    "mexc": Venue("mexc", "spot", _SPOT, 500, passing_codes=_MEXC_BUSY),
    "mexc_swap": Venue(
        "mexc",
        "swap",
        _PERPETUAL,
        2000,
        funding_per_page=100,
        funding_is_numbered=True,
        counts_contracts=True,
        passing_codes=_MEXC_BUSY,
    ),
}


def kind_of(exchange: str) -> MarketKind:
    """What an exchange key trades; a name that is not known is taken for a spot market."""
    return VENUES[exchange].kind if exchange in VENUES else MarketKind.SPOT
