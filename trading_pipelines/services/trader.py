"""The fast service: what must happen within seconds, and must not depend on Dagster or on the dashboard.

Every two seconds it looks at prices, lets the paper exchange live through them, takes over fills, does what the kill
switch, the strategies and people ask for, and says that it is alive; every ten it compares each account with its
exchange; at each close of a bar it trails stops and marks equity. Run it alone with ``trading service``.

Belongs here: the loop over all sessions, and how it survives what it meets. Does not belong here: what is due for one
session (`services.desk`) and what is done then (`application`). Signals are made and executed by Dagster.
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
from trading_pipelines.adapters.sources import MarketDataSource, open_source
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.signals.sessions import live_sessions
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.monitor import ManagementReport
from trading_pipelines.errors import UserError
from trading_pipelines.logging import configure_logging, log_context
from trading_pipelines.services.dagster_reports import DagsterReports
from trading_pipelines.services.desk import SessionDesk
from trading_pipelines.services.market import Market
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect, resolve_url
from trading_pipelines.store.repositories import events, heartbeats
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.transaction import committed

SERVICE = "trader"
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
    reports: DagsterReports | None = None
    desks: list[SessionDesk] = field(default_factory=list[SessionDesk])
    _next_look: datetime | None = None
    _problem: str | None = None

    def __post_init__(self) -> None:
        self.market = Market(self.connection, self.settings, self.source)
        self._look_for_sessions(self.started_at)

    def tick(self, now: datetime) -> None:
        """Do everything that is due at `now`, for each session apart: what fails for one is done for the others.

        Protection does not wait for prices: without them only what needs a price is left out.
        """
        self._problem = None
        with self._outages_noted():
            if self._next_look is None or now >= self._next_look:
                self._look_for_sessions(now)
                self._next_look = now + timedelta(seconds=self.settings.trader.reconcile_seconds)
        for desk in self.desks:
            desk.problem = None
            with self._alone(desk, now):
                desk.enforce(now)
        with self._outages_noted():
            self.market.refresh()
        for desk in self.desks:
            with self._alone(desk, now):
                desk.compare(now)
                desk.follow_prices(now)
                desk.tell(now)
            with self._alone(desk, now):
                if desk.obey(now):
                    self._next_look = None
        closed = {desk.session.name: report for desk in self.desks if (report := self._manage_close(desk, now))}
        self._report(closed)
        self._beat(now)

    def _look_for_sessions(self, now: datetime) -> None:
        """Serve the sessions that there are now, under the rules that they have now."""
        sessions = live_sessions(self.connection, self.settings, now)
        self.market.watch({symbol for session in sessions for symbol in session.symbols})
        known = {desk.session.session_id: desk for desk in self.desks}
        for session in sessions:
            if (desk := known.get(session.session_id)) is not None and desk.session != session:
                desk.follow(session)
        self.desks = [
            known.get(session.session_id)
            or SessionDesk(self.connection, session, self.market, self.kill, self.settings.trader, self.settings.alerts)
            for session in sessions
        ]

    def _manage_close(self, desk: SessionDesk, now: datetime) -> ManagementReport | None:
        with self._alone(desk, now):
            return desk.manage_close(now)
        return None

    def _report(self, closed: dict[str, ManagementReport]) -> None:
        if self.reports is None or not closed:
            return
        self.reports.materialised("equity", {f"equity of {name}": report.equity for name, report in closed.items()})
        self.reports.materialised("positions", {f"open in {name}": report.held for name, report in closed.items()})

    def _beat(self, now: datetime) -> None:
        troubled = (desk.problem or desk.unknown for desk in self.desks)
        problem = self._problem or next((problem for problem in troubled if problem is not None), None)
        detail = {
            "sessions": [desk.session.name for desk in self.desks],
            "quotes": len(self.market.quotes),
            "problem": problem,
            "dagster_ms": None if self.reports is None else self.reports.last_ms,
        }
        with committed(self.connection):
            heartbeats.beat(self.connection, SERVICE, now, self.started_at, detail)

    @contextlib.contextmanager
    def _outages_noted(self) -> Iterator[None]:
        """Give up a step, until the next tick, when the source cannot be reached or a setting does not fit."""
        try:
            yield
        except (SourceError, UserError) as error:
            if isinstance(error, psycopg.Error):
                raise
            self.connection.rollback()
            self._problem = str(error)
            log.warning("left out", error=str(error))

    @contextlib.contextmanager
    def _alone(self, desk: SessionDesk, now: datetime) -> Iterator[None]:
        """Keep what goes wrong in a session inside it, until the next tick; only a lost database is passed on."""
        with log_context(session=desk.session.name):
            try:
                yield
            except (SourceError, ExchangeUnavailable, OutcomeUnknown) as error:
                self.connection.rollback()
                desk.problem = str(error)
                log.warning("no answer from outside", error=str(error))
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Exception as error:
                self.connection.rollback()
                desk.problem = f"{type(error).__name__}: {_first_line(error)}"
                log.exception("a step of a session has failed")
                with committed(self.connection):
                    events.append_once(
                        self.connection,
                        now,
                        "session_failed",
                        desk.session.name,
                        desk.problem,
                        session_id=desk.session.session_id,
                        severity=Severity.CRITICAL,
                    )


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
        self._reports = DagsterReports(settings.trader.dagster_url or f"http://127.0.0.1:{settings.ports.dagster}")

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
        trader = Trader(connection, self._settings, self._source, kill, self._started_at, self._reports)
        names = [desk.session.name for desk in trader.desks]
        log.info("trading", sessions=names, symbols=len(trader.market.ids), source=self._source.name)
        while not self._stop.is_set():
            now = self._clock()
            trader.tick(now)
            if (now - self._logged_at).total_seconds() >= self._settings.trader.log_seconds:
                self._logged_at = now
                log.info("alive", since=self._started_at.isoformat(), sessions=len(trader.desks))
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
