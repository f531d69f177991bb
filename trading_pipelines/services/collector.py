"""The collector: newest quotes and sums of trades over the exchange's sockets.

One stream at a time, started again after pauses that grow from 5 to 60 seconds when it ends or falls silent. What
arrives is written once a second in batches; the counters stand in the heartbeat, and in a log line every five minutes.
Run it alone with ``trading stream``.

Belongs here: when streams are started, watched, given up and written down. Does not belong here: what a message
means (`adapters.streams`) and how it is stored (`application.alternative.collection`).
"""

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from trading_pipelines.adapters.sources import MarketDataSource, open_source
from trading_pipelines.adapters.streams import Intake, MarketStream, StreamDownError, check_stream, open_stream
from trading_pipelines.adapters.streams.base import Channel
from trading_pipelines.adapters.streams.intake import Arrivals
from trading_pipelines.application.alternative.collection import (
    SERVICE,
    CollectionStore,
    Received,
    choose_collected,
    describe_intake,
)
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.errors import UserError
from trading_pipelines.logging import configure_logging
from trading_pipelines.settings import CollectorSettings, Settings, load_settings
from trading_pipelines.store.connection import Connection, connect, resolve_url

log = structlog.get_logger(__name__)


@dataclass
class Backoff:
    """Pauses between attempts: the first one, then twice as long each time, up to the longest."""

    first_seconds: float
    longest_seconds: float
    _next: float = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin with the first pause again."""
        self._next = self.first_seconds

    def take(self) -> float:
        """The pause that is due."""
        seconds, self._next = self._next, min(2 * self._next, self.longest_seconds)
        return seconds


class Collector:
    """Collects from one exchange until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        source: MarketDataSource,
        open_connection: Callable[[], Connection],
        make_stream: Callable[[], MarketStream] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._rules: CollectorSettings = settings.collector
        self._traded = settings.symbols
        self._source = source
        self._open_connection = open_connection
        self._make_stream = make_stream or (lambda: open_stream(settings, source))
        self._clock = clock
        self.intake = Intake(clock)
        self._channels = [Channel(name) for name in self._rules.streams]
        self._started_at = clock()
        self._stop = asyncio.Event()
        self._store: CollectionStore | None = None
        self._ids: dict[str, int] = {}
        self._chosen: list[Instrument] = []
        self._problem: str | None = None
        self._database_problem: str | None = None
        self._told_at = self._started_at
        self._reported = Counter[tuple[str, str]]()
        self._reported_at = self._started_at

    def stop(self) -> None:
        """Let `run` end in order: sockets closed, everything written."""
        self._stop.set()

    async def run(self) -> None:
        """Collect until stopped.

        Raises
        ------
        UserError
            The settings do not fit, or somebody else collects from this exchange.
        """
        streaming = asyncio.create_task(self._keep_streaming())
        try:
            while not self._stop.is_set() and not streaming.done():
                await self._flush()
                await self._pause(self._rules.flush_seconds)
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
            await self._finish()
        if not streaming.cancelled():
            streaming.result()

    async def _finish(self) -> None:
        """Write what is left and say so, once more if the database has just been away."""
        if self._store is None and self._database_problem is None:
            return
        await self._flush()
        await self._report()
        if self._store is not None:
            self._store.connection.close()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _keep_streaming(self) -> None:
        """Choose the symbols, stream, and begin again whenever that ends."""
        backoff = Backoff(self._rules.first_backoff_seconds, self._rules.max_backoff_seconds)
        while True:
            received = self.intake.counters.messages
            try:
                await self._choose()
                stream = await asyncio.to_thread(self._make_stream)
                await self._stream_once(stream)
                continue  # other symbols are wanted
            except (StreamDownError, UserError) as error:
                self._problem = _first_line(error)
            if self.intake.counters.messages > received:
                backoff.reset()
            seconds = backoff.take()
            self.intake.counters.reconnects += 1
            log.warning("the stream has ended", why=self._problem, again_in_s=seconds)
            await asyncio.sleep(seconds)

    async def _choose(self) -> None:
        """Decide what to collect, and wait until the database knows it."""
        self._chosen = await asyncio.to_thread(choose_collected, self._source, self._traded, self._rules.top_n)
        await self._measure_clock()
        while any(instrument.symbol not in self._ids for instrument in self._chosen):
            await asyncio.sleep(min(self._rules.flush_seconds, 1.0) / 4)

    async def _stream_once(self, stream: MarketStream) -> None:
        """Stream the chosen symbols; returns when others are to be chosen.

        Raises
        ------
        StreamDownError
            The stream has ended, or nothing has arrived for too long.
        """
        symbols = [instrument.symbol for instrument in self._chosen]
        log.info("streaming", exchange=stream.exchange, symbols=len(symbols), channels=self._rules.streams)
        task = asyncio.ensure_future(stream.run(symbols, self._channels, self.intake))
        watch = asyncio.ensure_future(self._watch(symbols))
        try:
            await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (task, watch):
                if ended.done():
                    ended.result()
        finally:
            task.cancel()
            watch.cancel()
            await asyncio.gather(task, watch, return_exceptions=True)

    async def _watch(self, symbols: Sequence[str]) -> None:
        """Return when other symbols are wanted; raise when the stream has fallen silent."""
        loop = asyncio.get_running_loop()
        stall, seen, seen_at = self._rules.stall_seconds, self.intake.counters.messages, loop.time()
        choose_at = loop.time() + self._rules.universe_seconds
        while True:
            await asyncio.sleep(min(stall / 4, 1.0))
            if self.intake.counters.messages != seen:
                seen, seen_at = self.intake.counters.messages, loop.time()
                self._problem = None
            elif loop.time() - seen_at > stall:
                raise StreamDownError(f"nothing has arrived for {stall:g} s")
            if loop.time() >= choose_at:
                choose_at = loop.time() + self._rules.universe_seconds
                if await self._wants_others(symbols):
                    return

    async def _wants_others(self, symbols: Sequence[str]) -> bool:
        try:
            chosen = await asyncio.to_thread(choose_collected, self._source, self._traded, self._rules.top_n)
        except UserError as error:
            log.warning("the symbols stay as they are", why=_first_line(error))
            return False
        return [instrument.symbol for instrument in chosen] != list(symbols)

    async def _measure_clock(self) -> None:
        """Find out how far the exchange's clock is ahead of ours; delays are measured by it."""
        theirs = await asyncio.to_thread(self._source.now)
        self.intake.offset = theirs - self._clock()

    async def _flush(self) -> None:
        """Write what has arrived and say that we live; without a database everything waits for the next time."""
        self.intake.flow.settle(self.intake.now())
        arrivals = self.intake.take()
        try:
            await asyncio.to_thread(self._write, arrivals, self._chosen, self._detail())
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.intake.give_back(arrivals)
            self._lose_database(_first_line(error))
        else:
            if self._database_problem is not None:
                log.info("the database is back")
            self._database_problem = None
        if (self._clock() - self._told_at).total_seconds() >= self._rules.heartbeat_seconds:
            await self._report()

    def _lose_database(self, why: str) -> None:
        if self._database_problem is None:
            log.warning("no database, what arrives waits", error=why)
        self._database_problem = why
        if self._store is not None:
            self._store.connection.close()
            self._store = None

    def _write(self, arrivals: Arrivals, chosen: Sequence[Instrument], detail: dict[str, Any]) -> None:
        """Everything that a flush does with the database; runs in a thread of its own."""
        store = self._store or self._open_store()
        if any(instrument.symbol not in self._ids for instrument in chosen):
            self._adopt(store, chosen)
        store.save(arrivals, self._ids)
        store.beat(self._clock(), self._started_at, detail)

    def _open_store(self) -> CollectionStore:
        store = CollectionStore(self._open_connection(), self._source.name, self._source.exchange)
        try:
            store.claim()
        except BaseException:
            store.connection.close()
            raise
        self._store = store
        return store

    def _adopt(self, store: CollectionStore, chosen: Sequence[Instrument]) -> None:
        """Get the ids of new instruments, and their sums of the current minutes; nothing of them arrives before."""
        ids = store.prepare(chosen)
        new = {ids[i.symbol]: i.symbol for i in chosen if i.symbol not in self._ids}
        for (instrument_id, _), flow in store.stored_flows(self.intake.now() - self.intake.flow.keeps).items():
            if instrument_id in new:
                self.intake.flow.restore(new[instrument_id], flow)
        self._ids = {**self._ids, **ids}

    def _detail(self) -> dict[str, Any]:
        return {"symbols": len(self._chosen), "problem": self._problem, **describe_intake(self.intake)}

    async def _report(self) -> None:
        """The line of every five minutes and, where there is a database, the state of each symbol."""
        now = self._told_at = self._clock()
        log.info("collecting", since=self._started_at.isoformat(), database=self._database_problem, **self._detail())
        if (store := self._store) is None:
            return
        seconds = max((now - self._reported_at).total_seconds(), 1e-3)
        received = [
            Received(channel, symbol, newest, self.intake.arrived[channel, symbol] - self._reported[channel, symbol])
            for (channel, symbol), newest in sorted(self.intake.newest.items())
        ]
        arrived = self.intake.arrived.copy()
        try:
            await asyncio.to_thread(store.report, received, seconds, self._problem)
            await asyncio.to_thread(store.forget, self.intake.now(), self._rules.keep_days)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._lose_database(_first_line(error))
        else:
            self._reported, self._reported_at = arrived, now


async def collect(settings: Settings) -> None:
    """Collect until SIGTERM or Ctrl-C.

    Raises
    ------
    UserError
        There is no stream for the source, or somebody else collects.
    """
    check_stream(settings)
    source = open_source(settings)
    collector = Collector(settings, source, lambda: connect(resolve_url(settings), application_name=SERVICE))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, collector.stop)
    await collector.run()


def main() -> None:
    """Run the collector in this process until SIGTERM or Ctrl-C."""
    settings = load_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    asyncio.run(collect(settings))
    log.info("stopped")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)
