"""Socket servers on 127.0.0.1 that speak like Bybit's, Binance's and MEXC's public streams, and misbehave on request.

Each connection plays the next of the prepared scripts once it has been subscribed to, then stays open and silent.
The shapes of the messages follow recorded ones.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from aiohttp import WSMsgType, web

from trading_pipelines.domain.market.timeframe import EPOCH


def ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


class Line:
    """One connection, from the exchange's end."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request

    async def say(self, message: Any) -> None:
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    def drop(self) -> None:
        """Cut the wire without a goodbye."""
        assert self.request.transport is not None
        self.request.transport.abort()

    def freeze(self) -> None:
        """Hear nothing any more, not even a goodbye."""
        assert self.request.transport is not None
        self.request.transport.pause_reading()


Script = Callable[[Line], Awaitable[None]]


class Sockets:
    """The exchange: what it was asked for, and what it will do with each connection."""

    def __init__(self, subscriptions: int = 2) -> None:
        """`subscriptions` is how many requests a client sends before the script begins."""
        self.scripts: deque[Script] = deque()
        self.refusals = 0
        """Connections that are turned away before they are one."""
        self.deaf = False
        """Take connections and never answer their handshake."""
        self.asked: list[dict[str, Any]] = []
        self.connected_at: list[float] = []
        self.closed = 0
        self.failures: list[BaseException] = []
        """Of scripts, which nobody would notice otherwise."""
        self.url = ""
        self._needed = subscriptions

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Sockets"]:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._serve)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.connected_at.append(asyncio.get_running_loop().time())
        if self.deaf:
            await asyncio.sleep(3600)
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        playing: asyncio.Task[None] | None = None
        subscribed = 0
        try:
            async for received in socket:
                if received.type is not WSMsgType.TEXT:
                    break
                message = json.loads(received.data)
                if self._is_ping(message):
                    await socket.send_str(json.dumps({"success": True, "ret_msg": "pong", "op": "ping"}))
                    continue
                self.asked.append(message)
                subscribed += 1
                await socket.send_str(json.dumps(self._accepts(message)))
                if subscribed == self._needed and self.scripts:
                    playing = asyncio.ensure_future(self._play(self.scripts.popleft(), Line(socket, request)))
        finally:
            self.closed += 1
            if playing is not None:
                playing.cancel()
        return socket

    async def _play(self, script: Script, line: Line) -> None:
        try:
            await script(line)
        except Exception as error:
            self.failures.append(error)

    def _is_ping(self, message: dict[str, Any]) -> bool:
        return message.get("op") == "ping" or message.get("method") == "ping"

    def _accepts(self, message: dict[str, Any]) -> dict[str, Any]:
        if "op" in message:
            return {"success": True, "ret_msg": "", "op": "subscribe", "req_id": message["req_id"], "conn_id": "c"}
        if "id" in message:
            return {"result": None, "id": message["id"]}
        return {"channel": f"rs.{message['method']}", "data": "success", "ts": 0}


def bybit_ticker(
    symbol: str,
    ts: datetime,
    sequence: int,
    *,
    price: float | None = None,
    bid: float | None = None,
    whole: bool = False,
) -> dict[str, Any]:
    """A quote, or what of it has changed."""
    data: dict[str, Any] = {"symbol": symbol}
    if whole:
        data |= {
            "tickDirection": "PlusTick",
            "price24hPcnt": "0.017103",
            "prevPrice24h": "99.00",
            "highPrice24h": "200",
            "lowPrice24h": "1",
            "turnover24h": "1570383121.943499",
            "volume24h": "91705.276",
            "bid1Price": "1",
            "bid1Size": "84.489",
            "ask1Price": "300",
            "ask1Size": "83.020",
        }
    if price is not None:
        data["lastPrice"] = repr(price)
    if bid is not None:
        data["bid1Price"] = repr(bid)
    kind = "snapshot" if whole else "delta"
    return {"topic": f"tickers.{symbol}", "type": kind, "data": data, "cs": sequence, "ts": ms(ts)}


def bybit_trades(symbol: str, *trades: tuple[str, datetime, float, float, str]) -> dict[str, Any]:
    """Trades as (id, time, price, quantity, Buy or Sell)."""
    return {
        "topic": f"publicTrade.{symbol}",
        "type": "snapshot",
        "ts": max(ms(trade[1]) for trade in trades),
        "data": [
            {
                "T": ms(ts),
                "s": symbol,
                "S": side,
                "v": repr(quantity),
                "p": repr(price),
                "L": "PlusTick",
                "i": key,
                "BT": False,
            }
            for key, ts, price, quantity, side in trades
        ],
    }


def binance_ticker(symbol: str, ts: datetime, price: float) -> dict[str, Any]:
    return {
        "e": "24hrTicker", "E": ms(ts), "s": symbol, "p": "1.5", "P": "1.5", "w": "100", "c": repr(price), "Q": "0.1",
        "o": "98.5", "h": "120", "l": "90", "v": "173518.1", "q": "3332.4", "O": ms(ts) - 86_400_000, "C": ms(ts),
        "F": 1, "L": 2, "n": 3,
    }  # fmt: skip


def binance_trade(
    symbol: str, number: int, ts: datetime, price: float, quantity: float, *, buyer_made: bool
) -> dict[str, Any]:
    return {
        "e": "aggTrade", "E": ms(ts) + 1, "s": symbol, "a": number, "p": repr(price), "q": repr(quantity), "f": number,
        "l": number, "T": ms(ts), "m": buyer_made,
    }  # fmt: skip


def mexc_tickers(ts: datetime, **prices: float) -> dict[str, Any]:
    rows = [
        {
            "symbol": symbol, "lastPrice": price, "riseFallRate": 0.0356, "fairPrice": price, "indexPrice": price,
            "volume24": 25868309, "amount24": 591752573.9, "maxBidPrice": 2557.98, "minAskPrice": 2092.89,
            "lower24Price": 2239.39, "high24Price": 2332.59, "timestamp": ms(ts),
        }
        for symbol, price in prices.items()
    ]  # fmt: skip
    return {"channel": "push.tickers", "data": rows, "ts": ms(ts)}


def mexc_deal(symbol: str, ts: datetime, price: float, contracts: float, side: int) -> dict[str, Any]:
    row = {"p": price, "v": contracts, "T": side, "O": 3, "M": 2, "t": ms(ts)}
    return {"symbol": symbol, "data": [row], "channel": "push.deal", "ts": ms(ts)}
