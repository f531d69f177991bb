"""The real socket client against servers that drop, stall, repeat, reorder and send what nobody can read."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_bybit import FakeBybit, FakeExchange
from fake_sockets import (
    Line,
    Sockets,
    binance_ticker,
    binance_trade,
    bybit_ticker,
    bybit_trades,
    mexc_deal,
    mexc_tickers,
)
from fake_venues import FakeBinance, FakeMexc

from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.adapters.streams import Intake, StreamDownError
from trading_pipelines.adapters.streams.base import Channel
from trading_pipelines.adapters.streams.ccxt_stream import CcxtStream
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.trades import MinuteFlow

NOW = datetime(2026, 5, 4, 3, 21, 30, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "SOLUSDT")
BOTH = (Channel.TICKERS, Channel.TRADES)
SECOND = timedelta(seconds=1)
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def markets() -> Iterator[dict[str, dict[str, Any]]]:
    exchange = FakeBybit(NOW, timedelta(hours=1), SYMBOLS)
    yield CcxtSource("bybit", exchange.url).markets
    exchange.stop()


def play(
    markets: dict[str, dict[str, Any]],
    script: Callable[[Line], Coroutine[Any, Any, None]] | None,
    until: Callable[[Intake], bool] = lambda intake: False,
    sockets: Sockets | None = None,
    now: datetime = NOW,
    exchange: str = "bybit",
) -> Intake:
    """Stream from a server that plays `script` until that holds or the stream ends; nothing may be left behind."""
    server = sockets or Sockets()
    if script is not None:
        server.scripts.append(script)
    intake = Intake(lambda: now)

    async def scenario() -> None:
        async with server.serving():
            before = asyncio.all_tasks()
            stream = asyncio.ensure_future(CcxtStream(exchange, markets, server.url).run(SYMBOLS, BOTH, intake))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while not stream.done() and not until(intake):
                        assert server.failures == []
                        await asyncio.sleep(0.01)
            finally:
                stream.cancel()
                await asyncio.wait({stream})
                await asyncio.sleep(0.05)
                left = asyncio.all_tasks() - before - {stream}
                assert not [task for task in left if "ccxt" in repr(task) or "collector" in repr(task)]
            if not stream.cancelled():
                stream.result()

    asyncio.run(scenario())
    return intake


def quote_of(intake: Intake, symbol: str = "BTCUSDT") -> Ticker:
    return intake.take().quotes[symbol][0]


def flow_of(intake: Intake, symbol: str = "BTCUSDT") -> MinuteFlow:
    (flow,) = (flow for (name, _), flow in intake.flow.take_changed().items() if name == symbol)
    return flow


def test_quotes_and_trades_arrive_in_our_units_from_one_request_each(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_ticker("BTCUSDT", NOW, 1, price=100.5, whole=True))
        await line.say(bybit_trades("BTCUSDT", ("a", NOW, 100.5, 2.0, "Buy"), ("b", NOW + SECOND, 100.25, 1.0, "Sell")))

    server = Sockets()
    intake = play(markets, script, lambda intake: intake.counters.trades == 2, server, NOW + SECOND)
    arrivals = intake.take()
    assert arrivals.quotes["BTCUSDT"] == (
        Ticker("BTCUSDT", NOW, 100.5, 1.0, 300.0, 0.017103, 1570383121.943499),
        NOW + SECOND,
    )
    (flow,) = arrivals.flows.values()
    assert (flow.trades, flow.volume, flow.buy_volume, flow.quote_volume, flow.last_price) == (
        2,
        3.0,
        2.0,
        301.25,
        100.25,
    )
    asked = [sorted(message["args"]) for message in server.asked]
    assert sorted(asked) == [
        ["publicTrade.BTCUSDT", "publicTrade.SOLUSDT"], ["tickers.BTCUSDT", "tickers.SOLUSDT"],
    ]  # fmt: skip
    assert (intake.counters.messages, intake.counters.unreadable, intake.counters.lost) == (2, 0, None)
    assert intake.delay().max_ms == 1000.0


def test_older_part_of_a_quote_never_becomes_part_of_a_newer_one(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_ticker("BTCUSDT", NOW, 1, price=100.0, whole=True))
        await line.say(bybit_ticker("BTCUSDT", NOW + 3 * SECOND, 3, price=103.0))
        await line.say(bybit_ticker("BTCUSDT", NOW + 2 * SECOND, 2, price=102.0))
        await line.say(bybit_ticker("BTCUSDT", NOW + 4 * SECOND, 4, bid=101.5))

    intake = play(markets, script, lambda intake: intake.counters.messages == 4)
    assert (quote_of(intake).price, intake.counters.reordered, intake.counters.quotes) == (103.0, 1, 3)


def test_repeated_messages_and_trades_count_once(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        quote = bybit_ticker("BTCUSDT", NOW, 1, price=100.0, whole=True)
        trades = bybit_trades("BTCUSDT", ("a", NOW, 100.0, 1.0, "Buy"), ("b", NOW, 101.0, 1.0, "Buy"))
        newer = bybit_ticker("BTCUSDT", NOW + SECOND, 2, price=105.0)
        for message in (quote, trades, quote, trades, newer, quote, newer):
            await line.say(message)

    intake = play(markets, script, lambda intake: intake.counters.messages == 7)
    assert intake.counters.duplicates == 3 + 2
    assert intake.counters.reordered == 0
    assert quote_of(intake).price == 105.0
    intake.flow.give_back([("BTCUSDT", NOW.replace(second=0))])
    assert flow_of(intake).volume == 2.0


def test_trade_that_comes_late_counts_and_leaves_the_last_price_alone(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_trades("BTCUSDT", ("b", NOW + SECOND, 102.0, 1.0, "Buy")))
        await line.say(bybit_trades("BTCUSDT", ("a", NOW, 101.0, 1.0, "Buy")))

    intake = play(markets, script, lambda intake: intake.counters.trades == 2)
    flow = flow_of(intake)
    assert (flow.trades, flow.last_price, intake.counters.reordered) == (2, 102.0, 1)


GARBAGE = [
    "{not json",
    "Hello",
    "[]",
    "{}",
    '{"topic": "tickers.BTCUSDT", "type": "delta"}',
    '{"topic": "tickers.BTCUSDT", "type": "delta", "data": 5, "ts": "soon"}',
    '{"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": [{"T": "x", "p": "y"}]}',
    '{"topic": "tickers.NONEUSDT", "type": "snapshot", "data": {"symbol": "NONEUSDT", "lastPrice": "1"}, "ts": 1}',
    "\x00\x01",
]  # fmt: skip


def test_what_nobody_can_read_is_counted_and_the_stream_goes_on(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_ticker("BTCUSDT", NOW, 1, price=100.0, whole=True))
        for message in GARBAGE:
            await line.say(message)
        await line.say(bybit_ticker("BTCUSDT", NOW + 9 * timedelta(days=365), 2, price=1e9))
        await line.say(bybit_ticker("BTCUSDT", NOW + SECOND, 3, price=-5.0))
        await line.say(bybit_ticker("BTCUSDT", NOW + 2 * SECOND, 4, price=101.0))

    intake = play(markets, script, lambda intake: intake.counters.quotes == 2)
    assert quote_of(intake).price == 101.0
    assert intake.counters.unreadable == len(GARBAGE) - 2 + 2  # an empty one and one of a foreign market are no harm


@pytest.mark.parametrize("farewell", ["cut", "close"])
def test_connection_that_ends_ends_the_stream(markets: dict[str, dict[str, Any]], farewell: str) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_ticker("BTCUSDT", NOW, 1, price=100.0, whole=True))
        if farewell == "cut":
            line.drop()
        else:
            await line.socket.close()

    with pytest.raises(StreamDownError, match="NetworkError"):
        play(markets, script)


def test_refused_connection_and_refused_subscription_end_the_stream(markets: dict[str, dict[str, Any]]) -> None:
    turned_away = Sockets()
    turned_away.refusals = 1
    with pytest.raises(StreamDownError, match="503"):
        play(markets, None, sockets=turned_away)

    class Choosy(Sockets):
        def _accepts(self, message: dict[str, Any]) -> dict[str, Any]:
            return {
                "success": False,
                "ret_msg": "error:handler not found",
                "req_id": message["req_id"],
                "op": "subscribe",
            }

    with pytest.raises(StreamDownError, match="handler not found"):
        play(markets, None, sockets=Choosy())


def test_handshake_without_an_answer_can_be_given_up(markets: dict[str, dict[str, Any]]) -> None:
    server = Sockets()
    server.deaf = True
    play(markets, None, lambda intake: len(server.connected_at) == 1, server)


def test_server_that_does_not_answer_the_goodbye_is_cut_off(markets: dict[str, dict[str, Any]]) -> None:
    async def script(line: Line) -> None:
        await line.say(bybit_ticker("BTCUSDT", NOW, 1, price=100.0, whole=True))
        line.freeze()

    assert quote_of(play(markets, script, lambda intake: intake.counters.quotes == 1)).price == 100.0


def test_server_that_is_not_there_ends_the_stream(markets: dict[str, dict[str, Any]]) -> None:
    async def scenario() -> None:
        await CcxtStream("bybit", markets, "ws://127.0.0.1:9").run(SYMBOLS, BOTH, Intake())

    with pytest.raises(StreamDownError, match="Cannot connect"):
        asyncio.run(scenario())


def markets_of(exchange: str, fake: FakeExchange) -> dict[str, dict[str, Any]]:
    try:
        return CcxtSource(exchange, fake.url).markets
    finally:
        fake.stop()


@pytest.mark.parametrize("exchange", ["binance", "binanceusdm"])
def test_trades_of_binance_that_never_come_are_known_by_their_numbers(exchange: str) -> None:
    async def script(line: Line) -> None:
        await line.say(binance_ticker("BTCUSDT", NOW, 100.5))
        for number in (7, 8, 12, 10, 13, 13):
            await line.say(
                binance_trade("BTCUSDT", number, NOW + number * SECOND, 100.0 + number, 1.0, buyer_made=number == 8)
            )

    server = Sockets(subscriptions=1)
    markets = markets_of(exchange, FakeBinance(NOW, timedelta(hours=1), SYMBOLS))
    intake = play(markets, script, lambda intake: intake.counters.messages == 7, server, NOW + 20 * SECOND, exchange)
    assert quote_of(intake) == Ticker("BTCUSDT", NOW, 100.5, None, None, 0.015, 3332.4)
    intake.flow.give_back([("BTCUSDT", NOW.replace(second=0))])
    flow = flow_of(intake)
    assert (flow.trades, flow.buy_volume, flow.last_price) == (5, 4.0, 113.0)
    counters = intake.counters
    assert (counters.lost, counters.reordered, counters.duplicates, counters.unreadable) == (2, 1, 1, 0)
    topics = {topic for message in server.asked for topic in message["params"]}
    assert topics == {"btcusdt@ticker", "solusdt@ticker", "btcusdt@aggTrade", "solusdt@aggTrade"}


def test_swaps_of_mexc_stream_all_quotes_at_once_and_count_contracts() -> None:
    async def script(line: Line) -> None:
        await line.say(mexc_tickers(NOW, BTC_USDT=100.5, SOL_USDT=10.5, OTHER_USDT=1.0))
        await line.say(mexc_deal("BTC_USDT", NOW, 100.0, 20_000, side=1))
        await line.say(mexc_deal("BTC_USDT", NOW + SECOND, 101.0, 10_000, side=2))
        await line.say(mexc_tickers(NOW - SECOND, BTC_USDT=99.0, SOL_USDT=9.0))

    server = Sockets(subscriptions=3)
    markets = markets_of("mexc_swap", FakeMexc(NOW, timedelta(hours=1), SYMBOLS))
    intake = play(markets, script, lambda intake: intake.counters.messages == 6, server, NOW + SECOND, "mexc_swap")
    arrivals = intake.take()
    assert {symbol: quote.price for symbol, (quote, _) in arrivals.quotes.items()} == {
        "BTCUSDT": 100.5,
        "SOLUSDT": 10.5,
    }
    (flow,) = arrivals.flows.values()
    assert (flow.volume, flow.buy_volume, flow.last_price) == (3.0, 2.0, 101.0)
    assert (intake.counters.reordered, intake.counters.lost) == (2, None)


def test_many_symbols_are_subscribed_to_in_groups_that_the_exchange_takes(
    markets: dict[str, dict[str, Any]],
) -> None:
    btc = markets["BTCUSDT"]
    many = {
        f"C{number}USDT": {**btc, "id": f"C{number}USDT", "symbol": f"C{number}/USDT:USDT", "base": f"C{number}"}
        for number in range(25)
    }
    server = Sockets(subscriptions=6)

    async def script(line: Line) -> None:
        await line.say(bybit_ticker("C24USDT", NOW, 1, price=1.5, whole=True))

    server.scripts.append(script)
    intake = Intake(lambda: NOW)

    async def scenario() -> None:
        async with server.serving():
            stream = asyncio.ensure_future(CcxtStream("bybit", many, server.url).run(list(many), BOTH, intake))
            async with asyncio.timeout(PATIENCE_S):
                while not intake.counters.quotes and not stream.done():
                    await asyncio.sleep(0.01)
            stream.cancel()
            await asyncio.wait({stream})

    asyncio.run(scenario())
    assert sorted(len(message["args"]) for message in server.asked) == [5, 5, 10, 10, 10, 10]
    assert len(server.connected_at) == 1
