"""Sockets of real exchanges, through ccxt.pro.

The library connects, subscribes, keeps alive and reads values. It is told nothing of order and loss, merges parts of
quotes as they come and stops reading at the first message that is no JSON; so each message passes through here first.
A connection that fails is not mended: everything of it is closed, and the caller starts anew.
"""

import asyncio
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import ccxt
import ccxt.pro

from trading_pipelines.adapters.sources.ccxt_source import describe
from trading_pipelines.adapters.sources.venues import VENUES
from trading_pipelines.adapters.streams.base import Channel, StreamDownError
from trading_pipelines.adapters.streams.intake import Intake
from trading_pipelines.adapters.streams.wire import WIRES, Envelope
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.market.trades import Trade

_MILLISECOND = timedelta(milliseconds=1)
_CLOSE_SECONDS = 2.0
_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, ccxt.BaseError)
"""What reading a message raises that is not what it should be."""


class CcxtStream:
    """One venue and market type of `WIRES`, without credentials.

    Parameters
    ----------
    markets : mapping
        The client library's markets by our symbol, as the source has loaded them.
    base_url : str, optional
        Replaces scheme and host of the socket's address.
    """

    def __init__(self, exchange: str, markets: Mapping[str, dict[str, Any]], base_url: str | None = None) -> None:
        self.exchange = exchange
        self._markets = markets
        self._base_url = base_url

    async def run(self, symbols: Sequence[str], channels: Sequence[Channel], intake: Intake) -> None:
        """Deliver into `intake` until cancelled or the connection fails."""
        down: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client = self._client(_Tap(self.exchange, self._markets, intake, down))
        intake.connect()
        tasks = [asyncio.ensure_future(request) for request in self._subscriptions(client, symbols, channels)]
        waiting: set[asyncio.Future[Any]] = {down, *tasks}
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except (ccxt.BaseError, OSError, *_UNREADABLE) as error:
            raise StreamDownError(describe(error)) from error
        finally:
            intake.disconnect()
            await _end(client, [down, *tasks])

    def _subscriptions(
        self, client: Any, symbols: Sequence[str], channels: Sequence[Channel]
    ) -> list[Coroutine[Any, Any, Any]]:
        """One request per group of markets; each ends with its first answer, and the stream goes on."""
        wire = WIRES[self.exchange]
        names = [self._markets[symbol]["symbol"] for symbol in symbols]
        requests: list[Coroutine[Any, Any, Any]] = []
        if Channel.TICKERS in channels:
            groups = _groups(names, wire.symbols_per_request)
            requests += [client.watch_tickers(group, dict(wire.ticker_params)) for group in groups]
        if Channel.TRADES in channels and wire.trades_one_by_one:
            requests += [client.watch_trades(name, params=dict(wire.trade_params)) for name in names]
        elif Channel.TRADES in channels:
            groups = _groups(names, wire.symbols_per_request)
            requests += [client.watch_trades_for_symbols(g, params=dict(wire.trade_params)) for g in groups]
        return requests

    def _client(self, tap: "_Tap") -> Any:
        base = getattr(ccxt.pro, VENUES[self.exchange].ccxt_id)
        tapped: Any = type("TappedClient", (_TappedClient, base), {})
        client = tapped({"enableRateLimit": True})
        client.tap = tap
        client.set_markets([dict(market) for market in self._markets.values()])
        if self._base_url is not None:
            client.urls["api"]["ws"] = _with_host(client.urls["api"]["ws"], self._base_url.rstrip("/"))
        return client


class _Tap:
    """What happens to each message of one connection."""

    def __init__(
        self, exchange: str, markets: Mapping[str, dict[str, Any]], intake: Intake, down: "asyncio.Future[None]"
    ) -> None:
        self._wire = WIRES[exchange]
        self._by_id = {market["id"]: (symbol, market) for symbol, market in markets.items()}
        self._intake = intake
        self._down = down

    def fail(self, reason: str) -> None:
        """The connection is of no more use."""
        if not self._down.done():
            self._down.set_exception(ccxt.NetworkError(reason))

    def unreadable(self) -> None:
        self._intake.unreadable()

    def admit(self, message: Any) -> list[Envelope] | None:
        """What of a message is to be read; None when the library must not see it."""
        envelopes = [envelope for envelope in self._wire.read(message) if envelope.market_id in self._by_id]
        wanted = [envelope for envelope in envelopes if self._is_wanted(envelope)]
        return None if envelopes and not wanted else wanted

    def _is_wanted(self, envelope: Envelope) -> bool:
        if envelope.channel is Channel.TRADES:
            return True
        symbol, _ = self._by_id[envelope.market_id]
        return self._intake.admits_quote(symbol, EPOCH + envelope.epoch_ms * _MILLISECOND, envelope.sequence)

    def deliver(self, client: Any, envelopes: Iterable[Envelope]) -> None:
        """Hand on what the library has read of a message."""
        for envelope in envelopes:
            symbol, market = self._by_id[envelope.market_id]
            if envelope.channel is Channel.TICKERS:
                self._intake.quote(_ticker(symbol, client.tickers[market["symbol"]]))
            else:
                read = client.trades[market["symbol"]]
                size = float(market.get("contractSize") or 1)
                trades = [_trade(symbol, read[index], size) for index in range(-envelope.trades, 0)]
                self._intake.trade_message(trades, numbered=self._wire.has_numbered_trades)


class _TappedClient:
    """Mixed into a client of ccxt.pro: shows each message to the tap before and after the library reads it."""

    tap: _Tap

    def client(self, url: str) -> Any:
        """The library's connection to `url`, which does not stumble over what it cannot read."""
        connection: Any = super().client(url)  # type: ignore[misc]  # the other base class has it
        if "handle_text_or_binary_message" not in vars(connection):
            read = connection.handle_text_or_binary_message

            def read_if_possible(data: Any) -> None:
                try:
                    read(data)
                except _UNREADABLE:
                    self.tap.unreadable()

            connection.handle_text_or_binary_message = read_if_possible
        return connection

    def handle_message(self, client: Any, message: Any) -> None:
        if not isinstance(message, dict):
            self.tap.unreadable()
            return
        envelopes = self.tap.admit(message)
        if envelopes is None:
            return
        super().handle_message(client, message)  # type: ignore[misc]  # the other base class has it
        self.tap.deliver(self, envelopes)

    def on_error(self, client: Any, error: Any) -> None:
        super().on_error(client, error)  # type: ignore[misc]  # the other base class has it
        self.tap.fail(str(error))

    def on_close(self, client: Any, code: Any) -> None:
        super().on_close(client, code)  # type: ignore[misc]  # the other base class has it
        self.tap.fail(f"closed with code {code}")


async def _end(client: Any, tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Close the sockets and wait for everything that waits for them; who does not answer the goodbye is cut off."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    client.timeout_on_exit = 0
    try:
        await asyncio.wait_for(client.close(), _CLOSE_SECONDS)
    except TimeoutError:
        await client.session.close()
        await client.close()


def _groups(names: Sequence[str], size: int) -> list[list[str]]:
    return [list(names[start : start + size]) for start in range(0, len(names), size)]


def _with_host(address: Any, base_url: str) -> Any:
    if isinstance(address, dict):
        return {name: _with_host(part, base_url) for name, part in address.items()}
    return re.sub(r"^wss?://[^/]+", base_url, address)


def _ticker(symbol: str, quote: Mapping[str, Any]) -> Ticker:
    change = quote.get("percentage")
    return Ticker(
        symbol,
        EPOCH + int(quote["timestamp"]) * _MILLISECOND,
        float(quote["last"]),
        bid=quote.get("bid"),
        ask=quote.get("ask"),
        change_24h=None if change is None else change / 100,
        quote_volume_24h=quote.get("quoteVolume"),
    )


def _trade(symbol: str, row: Mapping[str, Any], contract_size: float) -> Trade:
    return Trade(
        symbol,
        row.get("id"),
        EPOCH + int(row["timestamp"]) * _MILLISECOND,
        float(row["price"]),
        float(row["amount"]) * contract_size,
        row.get("side") == "buy",
    )
