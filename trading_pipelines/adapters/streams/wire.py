"""How each venue's messages say what they are about: channel, market, time and place in the order.

The values themselves are read by the client library; what it does not tell is which message came when. Shapes:
https://bybit-exchange.github.io/docs/v5/websocket/public/ticker,
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
https://www.mexc.com/api-docs/futures/websocket-api.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trading_pipelines.adapters.streams.base import Channel


@dataclass(frozen=True)
class Envelope:
    """What a message, or a part of one, is about."""

    channel: Channel
    market_id: str
    epoch_ms: int = 0
    """Time of a quote; trades carry their own."""
    sequence: int = 0
    """Tells quotes of the same millisecond apart, where the venue gives it."""
    trades: int = 0
    """How many trades the message has."""


Reader = Callable[[Any], Iterator[Envelope]]


@dataclass(frozen=True)
class Wire:
    """One venue's ways."""

    read: Reader
    symbols_per_request: int
    """Markets that one subscription may name."""
    ticker_params: Mapping[str, str]
    trade_params: Mapping[str, str]
    has_numbered_trades: bool = False
    """Ids of trades are consecutive numbers."""
    trades_one_by_one: bool = False
    """Each market's trades are subscribed to alone."""


def _bybit(message: Any) -> Iterator[Envelope]:
    topic, _, market_id = str(message.get("topic", "")).partition(".")
    if topic == "tickers":
        yield Envelope(Channel.TICKERS, market_id, int(message["ts"]), int(message.get("cs", 0)))
    elif topic == "publicTrade":
        yield Envelope(Channel.TRADES, market_id, trades=len(message["data"]))


def _binance(message: Any) -> Iterator[Envelope]:
    kind = message.get("e")
    if kind == "24hrTicker":
        yield Envelope(Channel.TICKERS, message["s"], int(message["E"]))
    elif kind == "aggTrade":
        yield Envelope(Channel.TRADES, message["s"], trades=1)


def _mexc_swap(message: Any) -> Iterator[Envelope]:
    channel = message.get("channel")
    if channel == "push.tickers":
        for row in message["data"]:
            yield Envelope(Channel.TICKERS, row["symbol"], int(row["timestamp"]))
    elif channel == "push.deal":
        yield Envelope(Channel.TRADES, message["symbol"], trades=len(message["data"]))


_AGGREGATED = {"name": "aggTrade"}
_FULL_TICKER = {"name": "ticker"}
WIRES = {
    "bybit": Wire(_bybit, 10, {}, {}),
    "bybit_spot": Wire(_bybit, 10, {}, {}),
    "binance": Wire(_binance, 200, _FULL_TICKER, _AGGREGATED, has_numbered_trades=True),
    "binanceusdm": Wire(_binance, 200, _FULL_TICKER, _AGGREGATED, has_numbered_trades=True),
    "mexc_swap": Wire(_mexc_swap, 200, {}, {}, trades_one_by_one=True),
}
"""MEXC's spot market sends no prices of trades with its quotes, so there is nothing to collect from."""
