"""The collector as a whole: the real socket client, a server that misbehaves, a real database."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fake_bybit import FakeBybit
from fake_sockets import Line, Script, Sockets, bybit_ticker, bybit_trades
from structlog.testing import capture_logs
from waiting import wait_until

from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.errors import UserError
from trading_pipelines.services.collector import Backoff, Collector
from trading_pipelines.services.market import Market
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import instruments

SYMBOLS = ("BTCUSDT", "SOLUSDT")
SECOND = timedelta(seconds=1)
PATIENCE_S = 30.0
QUICK = {
    "flush_seconds": 0.05,
    "first_backoff_seconds": 0.1,
    "max_backoff_seconds": 0.4,
    "stall_seconds": 10.0,
    "heartbeat_seconds": 0.3,
}


@pytest.fixture
def exchange() -> Iterator[FakeBybit]:
    fake = FakeBybit(datetime.now(UTC), timedelta(hours=1), SYMBOLS)
    yield fake
    fake.stop()


@dataclass
class World:
    """An exchange that streams, a database, and the collector between them."""

    exchange: FakeBybit
    url: str
    sockets: Sockets = field(default_factory=Sockets)
    rules: dict[str, Any] = field(default_factory=lambda: dict(QUICK))

    def collector(self) -> Collector:
        self.source = CcxtSource("bybit", self.exchange.url, clock=lambda: self.exchange.now)
        settings = self.settings()
        return Collector(settings, self.source, lambda: connect(self.url, application_name="collector"))

    def settings(self) -> Settings:
        return load_settings(
            source="ccxt",
            exchange="bybit",
            symbols="BTCUSDT",
            ccxt_base_url=self.exchange.url,
            collector={**self.rules, "base_url": self.sockets.url},
        )

    def play(self, *scripts: Script, until: Callable[[Collector], bool]) -> Collector:
        """Collect while the scripts are played, one per connection, then stop in order."""
        self.sockets.scripts.extend(scripts)

        async def scenario() -> Collector:
            async with self.sockets.serving():
                before = asyncio.all_tasks()
                collector = self.collector()
                running = asyncio.ensure_future(collector.run())
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        while not running.done() and not until(collector):
                            assert self.sockets.failures == []
                            await asyncio.sleep(0.01)
                finally:
                    collector.stop()
                    async with asyncio.timeout(PATIENCE_S):
                        await running
                    await asyncio.sleep(0.05)
                    left = [t for t in asyncio.all_tasks() - before if "aiohttp/web" not in repr(t)]
                    assert left == []
                return collector

        return asyncio.run(scenario())

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with connect(self.url) as connection:
            return connection.execute(question).fetchall()

    def price(self, symbol: str = "BTCUSDT") -> float | None:
        found = self.ask(f"select price from tickers join instruments using (instrument_id) where symbol = '{symbol}'")
        return found[0][0] if found else None


@pytest.fixture
def world(exchange: FakeBybit, database: str) -> World:
    return World(exchange, database)


def quotes(world: World, *prices: float, first: int = 1, ending: str = "") -> Script:
    """A whole quote, then changes of its price, then what `ending` says."""

    async def script(line: Line) -> None:
        for index, price in enumerate(prices):
            ts = world.exchange.now + (first + index) * timedelta(milliseconds=10)
            await line.say(bybit_ticker("BTCUSDT", ts, first + index, price=price, whole=index == 0))
        if ending == "cut":
            await asyncio.sleep(0.1)
            line.drop()

    return script


def test_everything_arrives_in_the_tables_and_is_told(world: World) -> None:
    async def script(line: Line) -> None:
        at = world.exchange.now
        await line.say(bybit_ticker("BTCUSDT", at, 1, price=100.0, whole=True))
        await line.say(bybit_ticker("BTCUSDT", at + SECOND, 2, price=101.0))
        await line.say(bybit_trades("SOLUSDT", ("a", at, 10.0, 2.0, "Buy"), ("b", at, 11.0, 1.0, "Sell")))

    collector = world.play(script, until=lambda c: c.intake.counters.messages == 3)
    assert world.price() == 101.0
    assert world.ask("select trades, volume, buy_volume, quote_volume, last_price from trade_flow_1m") == [
        (2, 3.0, 2.0, 31.0, 11.0)
    ]
    ((detail,),) = world.ask("select detail from heartbeats where service = 'collector'")
    assert (detail["messages"], detail["symbols"], detail["problem"], detail["reconnects"]) == (3, 2, None, 0)
    assert detail["p50_ms"] <= detail["p99_ms"] <= detail["max_ms"]
    assert world.ask("select symbol, dataset, rows_written, last_error from source_status order by 1") == [
        ("BTCUSDT", "stream tickers", 2, None),
        ("SOLUSDT", "stream trades", 2, None),
    ]
    assert collector.intake.counters.unreadable == 0
    assert world.sockets.closed == 1


def test_connections_that_are_cut_are_made_again_and_the_newest_price_is_right(world: World) -> None:
    collector = world.play(
        quotes(world, 100.0, 101.0, ending="cut"),
        quotes(world, 200.0, 201.0, first=10, ending="cut"),
        quotes(world, 300.0, 299.0, first=20),
        until=lambda c: c.intake.counters.quotes == 6,
    )
    assert world.price() == 299.0
    assert collector.intake.counters.reconnects == 2
    assert collector.intake.counters.outage_seconds > 0.15
    assert world.sockets.closed == len(world.sockets.connected_at) == 3


def test_older_quote_on_a_new_connection_does_not_overwrite_the_newest(world: World) -> None:
    world.play(
        quotes(world, 100.0, 101.0, first=50, ending="cut"),
        quotes(world, 90.0, first=1),
        until=lambda c: c.intake.counters.messages == 3,
    )
    assert world.price() == 101.0


def test_stream_that_falls_silent_without_closing_is_given_up(world: World) -> None:
    world.rules["stall_seconds"] = 1.5
    collector = world.play(
        quotes(world, 100.0), quotes(world, 200.0, first=9), until=lambda c: c.intake.counters.quotes == 2
    )
    assert world.price() == 200.0
    assert collector.intake.counters.reconnects >= 1
    began, again, *_ = world.sockets.connected_at
    assert again - began >= 1.5


def test_server_that_turns_connections_away_is_asked_at_growing_intervals(world: World) -> None:
    world.sockets.refusals = 5
    world.play(quotes(world, 100.0), until=lambda c: c.intake.counters.quotes == 1)
    at = world.sockets.connected_at
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert all(pause >= due for pause, due in zip(pauses, [0.1, 0.2, 0.4, 0.4, 0.4], strict=True))
    assert world.price() == 100.0


def test_pauses_grow_from_five_to_sixty_seconds_and_begin_anew() -> None:
    backoff = Backoff(load_settings().collector.first_backoff_seconds, load_settings().collector.max_backoff_seconds)
    assert [backoff.take() for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    backoff.reset()
    assert backoff.take() == 5


def test_exchange_that_is_away_at_the_start_is_waited_for(world: World) -> None:
    world.exchange.faults["/v5/market/instruments-info"].append(refusing)
    collector = world.play(quotes(world, 100.0), until=lambda c: c.intake.counters.quotes == 1)
    assert collector.intake.counters.reconnects == 1
    assert world.price() == 100.0


def refusing(answer: Any) -> None:
    answer.payload = {"retCode": 10003, "retMsg": "API key is invalid", "result": {}, "retExtInfo": {}, "time": 0}
    answer.send()


def test_second_collector_of_the_same_exchange_is_refused(world: World) -> None:
    with connect(world.url) as other:
        other.execute("select pg_advisory_lock(hashtextextended('collector bybit', 0))")
        other.commit()
        with pytest.raises(UserError, match="bybit are collected already"):
            world.play(until=lambda c: False)


def test_next_collector_goes_on_with_the_sums_of_the_minute(world: World) -> None:
    def trading(*keys: str) -> Script:
        async def script(line: Line) -> None:
            await line.say(bybit_trades("BTCUSDT", *((key, world.exchange.now, 10.0, 1.0, "Buy") for key in keys)))

        return script

    world.play(trading("a", "b"), until=lambda c: c.intake.counters.trades == 2)
    world.play(trading("c"), until=lambda c: c.intake.counters.trades == 1)
    assert world.ask("select trades, volume, is_whole from trade_flow_1m") == [(3, 3.0, False)]


def test_symbols_with_the_highest_turnover_are_collected_beside_the_traded_ones(world: World) -> None:
    world.rules["top_n"] = 1
    tickers = world.exchange._tickers
    turnover = {"BTCUSDT": "1", "SOLUSDT": "2"}

    def ranked(query: dict[str, str]) -> Any:
        answer = tickers(query)
        answer["list"] = [{**row, "turnover24h": turnover[row["symbol"]]} for row in answer["list"]]
        return answer

    world.exchange._tickers = ranked
    world.play(quotes(world, 100.0), until=lambda c: c.intake.counters.quotes == 1)
    assert {arg for message in world.sockets.asked for arg in message["args"]} == {
        f"{topic}.{symbol}" for topic in ("tickers", "publicTrade") for symbol in SYMBOLS
    }


def test_traded_symbol_that_is_delisted_does_not_cost_the_others_their_stream(world: World) -> None:
    del world.exchange.candles["BTCUSDT"]

    async def script(line: Line) -> None:
        await line.say(bybit_ticker("SOLUSDT", world.exchange.now, 1, price=10.0, whole=True))

    world.play(script, until=lambda c: c.intake.counters.quotes == 1)
    assert world.price("SOLUSDT") == 10.0
    assert {arg for message in world.sockets.asked for arg in message["args"]} == {
        "tickers.SOLUSDT",
        "publicTrade.SOLUSDT",
    }


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A database server of the test's own."""
    with tempfile.TemporaryDirectory(prefix="trading-tests-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
        yield server
        server.stop()


def test_database_that_goes_away_is_waited_for_and_gets_everything(
    exchange: FakeBybit, server: EmbeddedPostgres
) -> None:
    world = World(exchange, server.start())
    migrate(world.url)

    async def script(line: Line) -> None:
        at = world.exchange.now
        await line.say(bybit_ticker("BTCUSDT", at, 1, price=100.0, whole=True))
        await line.say(bybit_trades("BTCUSDT", ("a", at, 100.0, 1.0, "Buy")))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.stop)
        await line.say(bybit_ticker("BTCUSDT", at + SECOND, 2, price=101.0))
        await line.say(bybit_trades("BTCUSDT", ("b", at, 101.0, 1.0, "Buy")))
        await asyncio.sleep(1.0)
        world.url = await asyncio.to_thread(server.start)
        await line.say(bybit_ticker("BTCUSDT", at + 2 * SECOND, 3, price=102.0))

    world.rules["stall_seconds"] = 30
    with capture_logs() as lines:
        world.play(script, until=lambda c: c.intake.counters.quotes == 3)
    assert any(line["event"] == "collecting" and line["database"] for line in lines)
    assert world.price() == 102.0
    assert world.ask("select trades, volume, last_price from trade_flow_1m") == [(2, 2.0, 101.0)]


def market(world: World, connection: Connection) -> Market:
    instruments.save(connection, world.source.instruments())
    connection.commit()
    found = Market(connection, world.settings(), world.source)
    found.watch(SYMBOLS)
    return found


def test_fast_service_takes_fresh_streamed_quotes_and_asks_for_the_others(world: World) -> None:
    world.play(quotes(world, 123.0), until=lambda c: c.intake.counters.quotes == 1)
    with connect(world.url) as connection:
        connection.execute("update tickers set streamed_at = %s", (world.exchange.now,))
        connection.commit()
        watched = market(world, connection)
        world.exchange.requests.clear()
        watched.refresh()
        prices = {quote.symbol: quote.price for quote in watched.quotes.values()}
        assert prices["BTCUSDT"] == 123.0
        assert prices["SOLUSDT"] == world.exchange.candles["SOLUSDT"]["close"].iloc[-1]
        assert len(world.exchange.asked("/v5/market/tickers")) == 1


def test_fast_service_asks_for_a_streamed_quote_that_is_stale(world: World) -> None:
    world.play(quotes(world, 123.0), until=lambda c: c.intake.counters.quotes == 1)
    with connect(world.url) as connection:
        watched = market(world, connection)
        connection.execute("update tickers set streamed_at = %s", (world.exchange.now - 4 * SECOND,))
        connection.commit()
        watched.refresh()
        quote = watched.quotes[watched.ids["BTCUSDT"]]
        assert quote.price == world.exchange.candles["BTCUSDT"]["close"].iloc[-1]


def test_sigterm_ends_the_program_in_order(database: str, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRADING_")},
        "TRADING_DATABASE_URL": database,
        "TRADING_DATA_DIR": str(tmp_path),
        "TRADING_SIMULATION__SYMBOLS": '["BTCUSDT"]',
    }
    command = (sys.executable, "-m", "trading_pipelines.services.collector")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            with psycopg.connect(database, autocommit=True) as connection:
                wait_until(lambda: connection.execute("select 1 from trade_flow_1m where trades > 1").fetchone())
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    lines = [line for line in told.splitlines() if "[info]" in line]
    assert "collecting" in lines[-2]
    assert "stopped" in lines[-1]
    assert process.returncode == 0
    with psycopg.connect(database) as connection:
        ((stored,),) = connection.execute("select sum(trades) from trade_flow_1m").fetchall()
    assert f" trades={stored} " in lines[-2]


def test_source_without_a_stream_is_named(tmp_path: Path) -> None:
    environment = {"TRADING_SOURCE": "ccxt", "TRADING_EXCHANGE": "mexc", "TRADING_SYMBOLS": "BTCUSDT"}
    ended = subprocess.run(
        (sys.executable, "-m", "trading_pipelines.services.collector"),
        env={**os.environ, **environment, "TRADING_DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: TRADING_SOURCE: nothing streams from ccxt mexc; use simulated")
