"""Lives of trades, step by step, and what may strike in them; what must be the same afterwards, whatever it was."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid5

import psycopg
import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.application.trading.execution import (
    ExecutionReport,
    execute_signals,
    resolve_pending,
    synchronise,
)
from trading_pipelines.application.trading.monitor import BarClose, ExitDecision, manage_at_close
from trading_pipelines.application.trading.protection import close_position, move_target
from trading_pipelines.domain.execution.amounts import on_grid
from trading_pipelines.domain.execution.orders import Leg
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import orders, positions
from trading_pipelines.store.repositories.positions import OpenPosition

Step = Callable[[Connection, World, PaperExchange], Any]

BARS = [(100, 102.5, 99.5, 102.2), (102.2, 103, 101.8, 102.8), (102.8, 103, 101.9, 102.9)]
"""TP1 in the first bar, then the stop trails; the position is closed by an exit at the open of the last."""


class Crash(BaseException):
    """The process is gone: no handler may run, and the connection is closed before it is raised."""


@dataclass
class Fault:
    """Let a connection die right before its n-th statement.

    Every boundary is met that way: a death after a statement but before its commit undoes the statement, and one
    after the commit comes before the next statement.
    """

    statement: int = 0
    count: int = 0

    def pass_by(self, connection: psycopg.Connection[Any]) -> None:
        self.count += 1
        if self.count == self.statement:
            self.strike(connection)

    def strike(self, connection: psycopg.Connection[Any]) -> None:
        connection.close()
        raise Crash

    def settle(self, database: str, backend: int) -> None:
        """Wait until what has struck is over."""
        await_end(database, backend)


class MortalCursor(psycopg.Cursor[Any]):
    """A cursor whose connection dies where its `Fault` says."""

    def execute(self, *args: Any, **options: Any) -> "MortalCursor":
        self.connection.fault.pass_by(self.connection)  # type: ignore[attr-defined]
        super().execute(*args, **options)
        return self

    def executemany(self, *args: Any, **options: Any) -> None:
        self.connection.fault.pass_by(self.connection)  # type: ignore[attr-defined]
        super().executemany(*args, **options)


def mortal_connection(database: str, fault: Fault) -> Connection:
    connection = connect(database, cursor_factory=MortalCursor)
    connection.fault = fault  # type: ignore[attr-defined]
    return connection


# The lives of trades as the steps that a driver takes


@dataclass(frozen=True)
class Life:
    """Steps with the time at which each is taken, in a world of its own; deaths begin with step `fragile`."""

    name: str
    steps: list[tuple[datetime, Step]]
    fragile: int = 0
    rules: dict[str, Any] = field(default_factory=dict)
    atr: float = 1.0

    def world(self, connection: Connection) -> World:
        """A world with the signal that the life begins with."""
        world = build_world(connection, **self.rules)
        world.signal(atr=self.atr)
        return world


def execute(connection: Connection, world: World, exchange: PaperExchange) -> ExecutionReport:
    return execute_signals(connection, world.session, exchange, T0, quotes=world.quotes(), kill=None)


def bar(index: int, *exits: ExitDecision, tape: list[Any] = BARS, volume: float | None = None) -> list[Any]:
    """One bar passes, fills are taken over, and its close is managed."""
    close = T0 + (index + 1) * BAR

    def pass_bar(_: Connection, world: World, exchange: PaperExchange) -> None:
        World(world.connection, world.session, exchange, world.ids).bar(index, *tape[index], volume=volume)

    def sync(connection: Connection, world: World, exchange: PaperExchange) -> None:
        synchronise(connection, world.session, exchange, close)

    def manage(connection: Connection, world: World, exchange: PaperExchange) -> None:
        closes = {world.ids["BTCUSDT"]: BarClose(close - BAR, close, tape[index][3], 1.0)}
        leaving = [ExitDecision(world.ids["BTCUSDT"], exit_.reason) for exit_ in exits]
        manage_at_close(connection, world.session, exchange, closes, close, exits=leaving)

    return [(close, pass_bar), (close, sync), (close, manage)]


def by_hand(index: int, act: Callable[..., Any]) -> tuple[datetime, Step]:
    """Something that a person does with the open position after bar `index`."""
    at = T0 + (index + 1) * BAR

    def step(connection: Connection, world: World, exchange: PaperExchange) -> None:
        [position] = positions.open_positions(connection, world.session.session_id)
        act(connection, world.session, exchange, position, at)

    return at, step


def close_half(
    connection: Connection, session: TradingSession, exchange: Any, held: OpenPosition, at: datetime
) -> None:
    half = on_grid(float(held.quantity_initial) / 2, held.quantity_step)
    close_position(
        connection, session, exchange, held, "MANUAL", at, quantity=half, trade_id=uuid5(session.session_id, "half")
    )


def lower_target(
    connection: Connection, session: TradingSession, exchange: Any, held: OpenPosition, at: datetime
) -> None:
    if orders.working_targets(connection, held.position_id)[Leg.TP2].trigger_price != Decimal("102.9"):
        move_target(connection, session, exchange, held, Leg.TP2, Decimal("102.9"), at)


def execute_addition(connection: Connection, world: World, exchange: PaperExchange) -> ExecutionReport:
    """A second signal, 4 % above the first, adds to the position; it is emitted once."""
    at = T0 + BAR
    if not world.rows("select from signals where session_id = %s and created_at = %s", world.session.session_id, at):
        world.signal(bar=1, price=104, atr=3)
    return execute_signals(connection, world.session, exchange, at, quotes=world.quotes(104), kill=None)


LIFE: list[Any] = [(T0, execute), *bar(0), *bar(1, ExitDecision(0, "TEST")), *bar(2)]
RISING = [(100, 105, 99.5, 104), (104.2, 107, 103.5, 106), (106, 106.5, 105, 106), (106, 106, 100, 101)]
SINKING = [
    (100, 100.5, 99.5, 100),
    (100, 100.5, 99.5, 100),
    (100, 102.5, 99.5, 102),
    (101, 102, 98, 98.5),
    (98, 99, 97, 98),
]
LIVES = [
    Life("one trade", LIFE),
    Life(
        "addition",
        [
            (T0, execute),
            *bar(0, tape=RISING),
            (T0 + BAR, execute_addition),
            *bar(1, tape=RISING),
            *bar(2, tape=RISING),
            *bar(3, tape=RISING),
        ],
        fragile=4,
        rules={"limits": RiskLimits(pyramiding=True, max_margin_per_trade=0.05)},
        atr=3.0,
    ),
    Life(
        "fills in parts",
        [
            (T0, execute),
            *bar(0, tape=SINKING, volume=200),
            *bar(1, tape=SINKING, volume=400),
            *bar(2, tape=SINKING, volume=60),
            *bar(3, tape=SINKING, volume=100),
            *bar(4, tape=SINKING, volume=4000),
        ],
        fragile=1,
        rules={"venue": VenueParams(liquidity_share=0.1)},
    ),
    Life(
        "by hand",
        [
            (T0, execute),
            *bar(0),
            by_hand(0, close_half),
            by_hand(0, lower_target),
            *bar(1, ExitDecision(0, "TEST")),
            *bar(2),
        ],
        fragile=4,
    ),
]


def live(database: str, world: World, life: Life, fault: Fault) -> int:
    """Take the steps until the fault strikes; how many were completed."""
    done = 0
    with connect(database) as connection:
        exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
        for _, step in life.steps[: life.fragile]:
            step(connection, world, exchange)
            done += 1
    connection = mortal_connection(database, fault)
    backend = connection.info.backend_pid
    exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
    try:
        for _, step in life.steps[done:]:
            step(connection, world, exchange)
            done += 1
    except (Crash, psycopg.OperationalError):
        assert connection.closed, "only the fault may end the life of a trade"
    finally:
        connection.close()
    fault.settle(database, backend)
    return done


def await_end(database: str, backend: int) -> None:
    """Wait until the server has noticed that a client is gone, and given its locks back.

    On a busy machine that takes a moment; until then a new process rightly takes the dead one for one at work.
    """
    with connect(database) as connection:
        for _ in range(1000):
            if not connection.execute("select from pg_stat_activity where pid = %s", (backend,)).fetchone():
                return
            connection.rollback()
            time.sleep(0.01)
    pytest.fail(f"server process {backend} is still there")


def go_on(database: str, world: World, life: Life, done: int) -> None:
    """Start again as a new process does: resolve, then repeat the step that was cut off, and the rest."""
    with connect(database) as connection:
        exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
        as_of = life.steps[min(done, len(life.steps) - 1)][0]
        assert resolve_pending(connection, world.session, exchange, as_of) == 0
        for _, step in life.steps[done:]:
            step(connection, world, exchange)


def history(world: World) -> list[list[tuple[Any, ...]]]:
    """What must be the same whether or not something died on the way; ids differ from trade to trade."""
    session = world.session.session_id
    return [
        world.rows(
            "select kind, ts, side, quantity, price, fee, realised_pnl from fills where session_id = %s "
            "order by sequence",
            session,
        ),
        world.rows(
            "select status, close_reason, quantity_open, realised_pnl, fees, funding, stop_price, opened_at, closed_at "
            "from positions where session_id = %s",
            session,
        ),
        world.rows("select ts, equity, cash, margin, peak from equity where session_id = %s order by ts", session),
        world.rows("select status from signals where session_id = %s order by created_at", session),
        world.rows("select cash from paper_accounts where session_id = %s", session),
        world.rows(
            "select leg, count(*) from paper_orders where session_id = %s and leg in ('ENTRY', 'ADD') group by 1 "
            "order by 1",
            session,
        ),
        world.rows(
            "select leg, status, count(*) from orders where session_id = %s and status in "
            "('INTENT', 'SENT', 'UNKNOWN', 'ACCEPTED', 'PARTIALLY_FILLED') group by 1, 2",
            session,
        ),
    ]


def unprotected_on_exchange(world: World) -> list[tuple[Any, ...]]:
    return world.rows(
        "select p.instrument_id from paper_positions p where p.session_id = %s and not exists (select from "
        "paper_orders o where o.session_id = p.session_id and o.instrument_id = p.instrument_id and o.leg = 'STOP' "
        "and o.status = 'OPEN' and o.quantity - o.filled_quantity = p.quantity)",
        world.session.session_id,
    )
