"""Try the kill switch out: on a throw-away session, with real orders on the paper exchange, timed.

A drill opens a position, leaves an entry waiting, engages the switch for its own session alone and measures how long it
takes until a new order is refused, nothing waits any more and nothing is open. The switch of the platform and all other
sessions stay as they are.

Belongs here: what a drill does and when it has failed. Does not belong here: when it is due (`defs.operations`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from trading_pipelines.adapters.exchanges.paper import MarketEvent, PaperExchange
from trading_pipelines.application.signals.sessions import new_session
from trading_pipelines.application.trading import instructions, manual
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.manual import Desk
from trading_pipelines.application.trading.monitor import enforce_kill_switch
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus, TradingSession
from trading_pipelines.domain.signals.policy import Direction
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import events, instruments, kill_drills, orders, positions, sessions
from trading_pipelines.store.repositories import instructions as instruction_store
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.instructions import InstructionKind, InstructionStatus
from trading_pipelines.store.repositories.kill_drills import DrillRow
from trading_pipelines.store.repositories.orders import StoredOrder
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed

STOP_DISTANCE = 0.01
"""Stop of the drill's trades as a share of the price; any will do."""
PAUSE_S = 0.05
"""Between two looks while the drill waits for what it has asked for."""


def run_drill(
    connection: psycopg.Connection[Any],
    settings: Settings,
    kill: KillSwitch,
    quotes: Mapping[str, float],
    clock: Callable[[], datetime],
    wait: Callable[[float], None] = time.sleep,
) -> DrillRow:
    """Do a drill at the given prices, store how it went, and tell of it; a failed one is a critical event.

    Parameters
    ----------
    quotes : mapping
        Current prices by symbol. With three symbols or more everything is tried; two do without the order that is
        refused on its way, one without the waiting entry as well.

    Raises
    ------
    UserError
        There are no prices, or the platform's own switch is engaged, so that a drill would show nothing.
    """
    if (state := kill.state(connection)).engaged:
        raise UserError(f"the kill switch is engaged ({state.reason}): there is nothing to drill")
    connection.commit()
    session = _throw_away_session(connection, settings, quotes, clock())
    drill = _Drill(connection, session, kill, settings, quotes, clock, wait)
    reason = drill.run()
    row = DrillRow(
        drill_id=session.session_id,
        started_at=drill.started_at,
        finished_at=clock(),
        outcome="FAILED" if reason else "PASSED",
        reason=reason,
        refused_ms=drill.refused_ms,
        cancelled_ms=drill.cancelled_ms,
        flat_ms=drill.flat_ms,
        steps=drill.steps,
    )
    _store(connection, session, row)
    return row


def _throw_away_session(
    connection: psycopg.Connection[Any], settings: Settings, quotes: Mapping[str, float], now: datetime
) -> TradingSession:
    stored = instruments.by_symbol(connection, settings.exchange)
    symbols = tuple(symbol for symbol in sorted(quotes) if symbol in stored)[:3]
    if not symbols:
        raise UserError("a drill needs the current price of at least one stored symbol: run `trading ingest` first")
    name = f"drill-{now:%Y%m%d-%H%M%S}-{uuid4().hex[:4]}"
    session = new_session(connection, settings, name, SessionMode.PAPER, symbols=symbols, direction=Direction.BOTH)
    sessions.insert(connection, session, clock=None, purpose="drill")
    connection.commit()
    return session


def _store(connection: psycopg.Connection[Any], session: TradingSession, row: DrillRow) -> None:
    """Keep the result; the session goes when the drill passed, and stays for a look when it failed."""
    passed = row.outcome == "PASSED"
    with committed(connection):
        kill_drills.insert(connection, row)
        if passed:
            sessions.delete(connection, session.session_id)
        else:
            sessions.set_status(connection, session.session_id, SessionStatus.PAUSED)
        events.append(
            connection,
            row.finished_at,
            "kill_drill",
            session.name,
            f"passed: flat after {row.flat_ms:.0f} ms"
            if passed and row.flat_ms is not None
            else f"failed: {row.reason}",
            severity=Severity.INFO if passed else Severity.CRITICAL,
            payload={"drill_id": str(row.drill_id), "steps": list(row.steps)},
        )


class _Failed(Exception):  # noqa: N818 - says what became of the drill
    """A step of the drill did not come out as it must."""


@dataclass
class _Drill:
    connection: psycopg.Connection[Any]
    session: TradingSession
    kill: KillSwitch
    settings: Settings
    quotes: Mapping[str, float]
    clock: Callable[[], datetime]
    wait: Callable[[float], None]
    started_at: datetime = field(init=False)
    steps: list[str] = field(default_factory=list[str])
    refused_ms: float | None = None
    cancelled_ms: float | None = None
    flat_ms: float | None = None

    def __post_init__(self) -> None:
        self.started_at = self.clock()
        stored = instruments.by_symbol(self.connection, self.session.exchange)
        self.connection.commit()
        self.ids = {symbol: stored[symbol].instrument_id for symbol in self.session.symbols}
        self.prices = {self.ids[symbol]: self.quotes[symbol] for symbol in self.session.symbols}
        self.exchange = PaperExchange(self.connection, self.session.session_id, self.session.execution)
        self.desk = Desk(self.session, self.exchange, self.kill, self.prices)

    def run(self) -> str:
        """Take all steps; why the drill failed, empty when it passed."""
        try:
            self._prepare()
            self._engage_and_watch()
        except _Failed as failure:
            return str(failure)
        except psycopg.OperationalError:
            raise
        except Exception as error:
            self.connection.rollback()
            return f"{type(error).__name__}: {error}"
        return ""

    def _prepare(self) -> None:
        """A position, an entry that waits, and a signal that nobody has sent yet."""
        held, *others = self.session.symbols
        self._move(self.session.symbols)
        reconcile(self.connection, self.session, self.exchange, self.clock(), self.settings.trader)
        self._open(held)
        self._until(lambda: self._move([held]) or bool(self._positions()), "the first position did not open")
        self.steps.append(f"opened {held}")
        if others:
            self._open(others[0])
            self.steps.append(f"left an entry of {others[0]} waiting")
        self.signal_id = self._propose(others[1]) if len(others) > 1 else None

    def _engage_and_watch(self) -> None:
        engaged_at, began = self.clock(), time.perf_counter()

        def elapsed() -> float:
            return round(1000 * (time.perf_counter() - began), 3)

        self.kill.engage_for(self.session.session_id, "kill switch drill", flatten=True)
        self.steps.append("engaged the switch of the session")
        self._expect_refusal()
        self.refused_ms = elapsed()
        self.steps.append("a new order was refused")

        def wound_down() -> bool:
            enforce_kill_switch(self.connection, self.session, self.exchange, self.kill, self.clock())
            if self.cancelled_ms is None and not self._entries():
                self.cancelled_ms = elapsed()
                self.steps.append("nothing waits any more")
            self._move(self.session.symbols)
            return not self._positions() and not self.exchange.fetch_positions() and not self._entries()

        self._until(wound_down, "something was still open or waiting")
        self.flat_ms = elapsed()
        self.steps.append("flat")
        with committed(self.connection):
            sent = kill_drills.entries_sent_after(self.connection, self.session.session_id, engaged_at)
        if sent:
            raise _Failed(f"{sent} entries were sent after the switch was engaged")

    def _expect_refusal(self) -> None:
        """The order path must keep back a signal that was there already, and refuse a new instruction."""
        if self.signal_id is not None:
            report = execute_signals(
                self.connection,
                self.session,
                self.exchange,
                self.clock(),
                quotes=self.prices,
                kill=self.kill,
                signal_ids=[self.signal_id],
            )
            if report.executed or report.unresolved:
                raise _Failed("the order path sent an entry although the switch was engaged")
        status, outcome = self._instruct(self.session.symbols[-1])
        if status is not InstructionStatus.REFUSED:
            raise _Failed(f"a new order was not refused but {status}: {outcome}")

    def _open(self, symbol: str) -> None:
        status, outcome = self._instruct(symbol)
        if status is not InstructionStatus.DONE:
            raise _Failed(f"{symbol} could not be opened: {outcome}")

    def _instruct(self, symbol: str) -> tuple[InstructionStatus, str]:
        self._submit(symbol)
        handled = instructions.carry_out(self.connection, self.desk, self.clock())
        return (handled[-1].status, handled[-1].outcome) if handled else (InstructionStatus.PENDING, "still waiting")

    def _propose(self, symbol: str) -> UUID:
        """A signal as emission leaves it, without an instruction that would be carried out with it."""
        submitted = self._submit(symbol)
        with committed(self.connection):
            found = instruction_store.find(self.connection, submitted)
            assert found is not None  # submitted just now
            instruction_store.close(
                self.connection, found.instruction_id, InstructionStatus.DONE, "left as a signal", self.clock()
            )
        manual.propose(self.connection, self.desk, found, self.clock())
        return manual.signal_id_of(found)

    def _submit(self, symbol: str) -> UUID:
        return instructions.submit(
            self.connection,
            self.session.session_id,
            InstructionKind.OPEN,
            {"symbol": symbol, "side": "LONG", "stop": self.quotes[symbol] * (1 - STOP_DISTANCE)},
            key=uuid4().hex,
            by="drill",
            as_of=self.clock(),
            valid_seconds=self.settings.trader.instruction_seconds,
        )

    def _move(self, symbols: Sequence[str]) -> None:
        """Let a price trade once and take over what it filled."""
        now = self.clock()
        self.exchange.advance([MarketEvent.tick(self.ids[symbol], now, self.quotes[symbol]) for symbol in symbols])
        synchronise(self.connection, self.session, self.exchange, now)

    def _until(self, done: Callable[[], bool], failure: str) -> None:
        limit = time.perf_counter() + self.settings.trader.drill_seconds
        while not done():
            if time.perf_counter() > limit:
                raise _Failed(f"{failure} after {self.settings.trader.drill_seconds:g} s")
            self.wait(PAUSE_S)

    def _positions(self) -> list[OpenPosition]:
        with committed(self.connection):
            return positions.open_positions(self.connection, self.session.session_id)

    def _entries(self) -> list[StoredOrder]:
        """Entries that may still fill; an intent that was never sent cannot."""
        with committed(self.connection):
            found = orders.entries_under_way(self.connection, self.session.session_id)
        return [order for order in found if order.sent_at is not None]
