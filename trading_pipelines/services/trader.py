"""The fast service: what must happen within seconds, and must not depend on Dagster or on the dashboard.

Every two seconds it looks at prices, lets the paper exchange live through them, takes over fills, does what the kill
switch asks for and says that it is alive; at each close of a bar it trails stops and marks equity. Run it alone with
``trading service``.

Belongs here: when each of this is done, and how the loop survives what it meets. Does not belong here: what is done
(`application`). Signals are made and executed by Dagster.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import FrameType

import psycopg
import structlog

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OutcomeUnknown
from trading_pipelines.adapters.exchanges.paper import FundingEvent, MarketEvent, PaperExchange
from trading_pipelines.adapters.sources import MarketDataSource, choose_timeframe, open_source
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.execution import resolve_pending, synchronise
from trading_pipelines.application.features import features_between
from trading_pipelines.application.ingestion import ingest
from trading_pipelines.application.kill_switch import KillSwitch
from trading_pipelines.application.market_events import market_events
from trading_pipelines.application.monitor import BarClose, enforce_kill_switch, manage_at_close, mark_positions
from trading_pipelines.application.sessions import paper_session
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError
from trading_pipelines.logging import configure_logging, log_context
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect, resolve_url
from trading_pipelines.store.repositories import candles, funding, heartbeats, instruments, positions, tickers
from trading_pipelines.store.transaction import committed

SERVICE = "trader"
AWAY = timedelta(seconds=30)
"""After a pause of this length the bars in between are applied before the next price."""
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0

log = structlog.get_logger(__name__)


@dataclass
class Trader:
    """One connection's worth of work; everything that matters is in the database, so a new one goes on at once.

    `tick` is the body of the loop and takes the time as an argument.
    """

    connection: Connection
    settings: Settings
    source: MarketDataSource
    kill: KillSwitch
    started_at: datetime
    _quotes: dict[int, Ticker] = field(default_factory=dict[int, Ticker])
    _funding: dict[int, tuple[FundingEvent, ...]] = field(default_factory=dict[int, tuple[FundingEvent, ...]])
    _managed: datetime | None = None
    _next_management: datetime | None = None
    _next_reconciliation: datetime | None = None
    _problem: str | None = None

    def __post_init__(self) -> None:
        self._open_session()
        self.base = choose_timeframe(self.source, list(self.ids), self.settings.base_timeframe)

    def tick(self, now: datetime) -> None:
        """Do everything that is due at `now`.

        Protection does not wait for prices: without them only what needs a price is left out.
        """
        self._problem = None
        with self._outages_noted():
            enforce_kill_switch(self.connection, self.session, self.exchange, self.kill, now)
        with self._outages_noted():
            if self._next_reconciliation is None or now >= self._next_reconciliation:
                self._reconcile(now)
            if self._apply_prices(now):
                synchronise(self.connection, self.session, self.exchange, now)
        with self._outages_noted():
            self._manage_close(now)
        self._beat(now)

    def _open_session(self) -> None:
        self.session = paper_session(self.connection, self.settings)
        stored = instruments.by_symbol(self.connection, self.session.exchange)
        self.connection.commit()
        self.ids = {symbol: stored[symbol].instrument_id for symbol in self.session.symbols if symbol in stored}
        self.exchange = PaperExchange(self.connection, self.session.session_id, self.session.execution)

    def _reconcile(self, now: datetime) -> None:
        """Settle with the exchange what is in doubt, and follow changes of the session's rules.

        Comes before any price: after a pause the bars in between have to be lived through first.
        """
        self._open_session()
        if unresolved := resolve_pending(self.connection, self.session, self.exchange, now):
            log.warning("orders are unresolved", orders=unresolved)
        self._catch_up(now)
        synchronise(self.connection, self.session, self.exchange, now)
        self._next_reconciliation = now + timedelta(seconds=self.settings.trader.reconcile_seconds)

    def _catch_up(self, now: datetime) -> None:
        """Let the exchange live through the bars that nobody watched, so that no stop is passed unseen."""
        reached = self.exchange.advanced_to()
        behind = {i: reached[i] for i in self.ids.values() if i in reached and now - reached[i] > AWAY}
        if not behind:
            return
        start = self.base.floor(min(behind.values()))
        self._ingest(start, now)
        events = market_events(self.connection, behind, self.base, start, now)
        self.connection.commit()
        missed = [e for e in events if behind[e.instrument_id] < e.ts_close <= now]
        if missed:
            log.info("bars were missed", since=min(behind.values()).isoformat(), bars=len(missed))
            self.exchange.advance(missed)

    def _apply_prices(self, now: datetime) -> int:
        """Store the newest quotes and let the exchange and the marks move; how many fills that made."""
        quotes = {self.ids[t.symbol]: t for t in self.source.tickers(list(self.ids)) if t.symbol in self.ids}
        with committed(self.connection):
            tickers.save(self.connection, quotes)
        self._quotes = quotes
        moves = [MarketEvent.tick(i, t.ts, t.price, self._funding.get(i, ())) for i, t in sorted(quotes.items())]
        filled = self.exchange.advance(moves)
        mark_positions(self.connection, self.session, {i: t.price for i, t in quotes.items()}, now)
        return filled

    def _manage_close(self, now: datetime) -> None:
        """Trail stops and mark equity at the newest close, once all of its bars are there.

        The bars are fetched here and not waited for: stops move although Dagster may be down. A bar that the source
        does not publish within one base bar is done without.
        """
        frame = Timeframe(self.session.timeframe)
        ts = frame.last_closed(now - timedelta(seconds=self.settings.trader.bar_delay_seconds))
        due = self._next_management is None or now >= self._next_management
        if not self.ids or ts == self._managed or not due:
            return
        self._next_management = now + timedelta(seconds=self.settings.trader.reconcile_seconds)
        self._ingest(ts, now)
        self._funding = self._read_funding(now)
        bars = self._closes(frame, ts)
        if len(bars) < len(self.ids) and now < ts + frame.delta + self.base.delta:
            return
        with committed(self.connection):
            held = {p.instrument_id for p in positions.open_positions(self.connection, self.session.session_id)}
        closes = {i: self._bar_close(frame, ts, i, close, i in held) for i, close in bars.items()}
        report = manage_at_close(self.connection, self.session, self.exchange, closes, now)
        self._managed = ts
        log.info("bar closed", bar=ts.isoformat(), stops_moved=report.stops_moved, equity=round(report.equity, 2))

    def _ingest(self, start: datetime, end: datetime) -> None:
        self.connection.commit()
        report = ingest(self.connection, self.source, list(self.ids), self.base, start, end)
        if report.errors:
            raise SourceError(report.errors[0])

    def _closes(self, frame: Timeframe, ts: datetime) -> dict[int, float]:
        found = candles.latest_bars(self.connection, list(self.ids.values()), frame, ts + frame.delta)
        self.connection.commit()
        newest = zip(found["instrument_id"], found["ts"], found["close"], strict=True)
        return {int(instrument_id): float(close) for instrument_id, opened, close in newest if opened == ts}

    def _bar_close(self, frame: Timeframe, ts: datetime, instrument_id: int, close: float, held: bool) -> BarClose:
        """A closed bar; its ATR, which only a stop that trails needs, is that of the stored features to the digit."""
        atr = self._atr(frame, ts, instrument_id) if held else float("nan")
        return BarClose(ts, ts + frame.delta, close, atr)

    def _atr(self, frame: Timeframe, ts: datetime, instrument_id: int) -> float:
        symbol = next(symbol for symbol, known in self.ids.items() if known == instrument_id)
        matrix = features_between(self.connection, self.session.exchange, symbol, frame, ts, ts + frame.delta)
        self.connection.commit()
        return float(matrix.values[-1, registry.NAMES.index("atr_14")]) if len(matrix.ts) else float("nan")

    def _read_funding(self, now: datetime) -> dict[int, tuple[FundingEvent, ...]]:
        """Settlements of the last day; the exchange knows which of them it has booked."""
        found: dict[int, tuple[FundingEvent, ...]] = {}
        for instrument_id in self.ids.values():
            rates = funding.read_rates(self.connection, instrument_id, now - timedelta(days=1), now)
            settled = zip(rates["ts"], rates["rate"], strict=True)
            found[instrument_id] = tuple(FundingEvent(ts.to_pydatetime(), float(rate)) for ts, rate in settled)
        self.connection.commit()
        return found

    def _beat(self, now: datetime) -> None:
        detail = {"session": self.session.name, "quotes": len(self._quotes), "problem": self._problem}
        with committed(self.connection):
            heartbeats.beat(self.connection, SERVICE, now, self.started_at, detail)

    @contextlib.contextmanager
    def _outages_noted(self) -> Iterator[None]:
        """Give up a step, until the next tick, when source or exchange cannot be reached."""
        try:
            yield
        except (SourceError, ExchangeUnavailable, OutcomeUnknown) as error:
            self.connection.rollback()
            self._problem = str(error)
            log.warning("no answer from outside", error=str(error))


class TraderLoop:
    """Runs a `Trader` until it is told to stop; a lost database is waited for."""

    def __init__(
        self,
        settings: Settings,
        source: MarketDataSource,
        open_connection: Callable[[], Connection],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._source = source
        self._open_connection = open_connection
        self._clock = clock
        self._started_at = clock()
        self._stop = threading.Event()
        self._logged_at = self._started_at

    def stop(self, *_: int | FrameType | None) -> None:
        """Let the loop end after the tick that it is in."""
        self._stop.set()

    def run(self) -> None:
        """Tick until stopped.

        Raises
        ------
        UserError
            The settings do not fit what is stored.
        """
        pause = FIRST_RETRY_S
        while not self._stop.is_set():
            connection = self._connect()
            if connection is None:
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_RETRY_S)
                continue
            pause = FIRST_RETRY_S
            with contextlib.closing(connection):
                try:
                    self._run_connected(connection)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    log.warning("the database is gone", error=_first_line(error))

    def _connect(self) -> Connection | None:
        try:
            return self._open_connection()
        except UserError as error:
            log.warning("no database", error=str(error))
            return None

    def _run_connected(self, connection: Connection) -> None:
        kill = KillSwitch(self._settings.data_dir, self._open_connection)
        trader = Trader(connection, self._settings, self._source, kill, self._started_at)
        log.info("trading", session=trader.session.name, symbols=len(trader.ids), source=self._source.name)
        with log_context(session=trader.session.name):
            while not self._stop.is_set():
                now = self._clock()
                trader.tick(now)
                if (now - self._logged_at).total_seconds() >= self._settings.trader.log_seconds:
                    self._logged_at = now
                    log.info("alive", since=self._started_at.isoformat())
                spent = (self._clock() - now).total_seconds()
                self._stop.wait(max(0.0, self._settings.trader.interval_seconds - spent))


def main() -> None:
    """Run the service in this process until SIGTERM or Ctrl-C."""
    settings = load_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    loop = TraderLoop(settings, open_source(settings), lambda: connect(resolve_url(settings), application_name=SERVICE))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, loop.stop)
    loop.run()
    log.info("stopped")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


if __name__ == "__main__":
    try:
        main()
    except UserError as problem:
        sys.stderr.write(f"error: {problem}\n")
        sys.exit(2)
