"""Whatever dies in the order path: afterwards one entry on the exchange, and no position without its stop."""

import multiprocessing
import os
import signal as os_signal
import threading
from typing import Any

import pytest
from lives import LIFE, LIVES, Fault, Life, execute, go_on, history, live, unprotected_on_exchange
from trading_world import BAR, T0, World

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OutcomeUnknown
from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.application.trading.execution import ExecutionReport, execute_signals, resolve_pending
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.store.connection import Connection, connect

PARTS = 4
"""The deaths are shared among so many tests, to keep each of them short."""


def new_world(connection: Connection) -> World:
    return LIVES[0].world(connection)


@pytest.mark.parametrize(
    ("life", "kinds", "reason", "openings"),
    [
        (LIVES[0], ["ENTRY", "TP1", "EXIT"], "TEST", [("ENTRY", 1)]),
        (LIVES[1], ["ENTRY", "ENTRY", "TP1", "STOP"], "TRAILING_STOP", [("ADD", 1), ("ENTRY", 1)]),
        (LIVES[2], ["ENTRY", "ENTRY", "TP1", "TP1", "STOP", "STOP"], "TRAILING_STOP", [("ENTRY", 1)]),
        (LIVES[3], ["ENTRY", "TP1", "EXIT", "TP2", "EXIT"], "TEST", [("ENTRY", 1)]),
    ],
    ids=lambda value: value.name if isinstance(value, Life) else "",
)
def test_trade_without_faults_has_the_expected_history(
    connection: Connection, database: str, life: Life, kinds: list[str], reason: str, openings: list[tuple[str, int]]
) -> None:
    world = life.world(connection)

    assert live(database, world, life, Fault()) == len(life.steps)

    fills, stored, _, signals, _, entries, pending = history(world)
    assert [fill[0] for fill in fills] == kinds
    assert stored[0][:3] == ("CLOSED", reason, 0)
    assert set(signals) <= {("CLOSED",), ("HIT_SL",)}
    assert (entries, pending) == (openings, [])


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("life", LIVES, ids=lambda life: life.name)
def test_death_at_every_statement_leaves_one_entry_and_the_same_history(
    connection: Connection, database: str, life: Life, part: int
) -> None:
    undisturbed = life.world(connection)
    counter = Fault()
    live(database, undisturbed, life, counter)
    expected = history(undisturbed)
    assert counter.count > 100

    for statement in range(1 + part, counter.count + 1, PARTS):
        world = life.world(connection)
        done = live(database, world, life, Fault(statement))
        where = f"died before statement {statement} of {counter.count}"
        assert unprotected_on_exchange(world) == [], where

        go_on(database, world, life, done)

        assert history(world) == expected, where


# Replies that are lost


class Flaky:
    """An exchange whose n-th request of a kind fails, before or after the exchange has acted on it."""

    def __init__(self, exchange: PaperExchange, method: str, error: type[Exception], *, after: bool) -> None:
        self._exchange = exchange
        self._method = method
        self._error = error
        self._after = after
        self.struck = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._exchange, name)
        if name != self._method or self.struck:
            return method

        def fail(*args: Any) -> None:
            self.struck = True
            if self._after:
                method(*args)
            raise self._error("no reply")

        return fail


@pytest.mark.parametrize("after", [False, True])
def test_lost_reply_to_the_bracket_is_resolved_by_asking(connection: Connection, after: bool) -> None:
    world = new_world(connection)
    flaky: Any = Flaky(world.exchange, "create_bracket", OutcomeUnknown, after=after)

    first = execute(connection, world, flaky)
    [(status, count)] = world.rows("select status, count(*) from orders group by 1")
    second = execute(connection, world, flaky)

    assert (len(first.unresolved), status, count) == (1, "UNKNOWN", 5)
    assert len(second.executed) == (0 if after else 1)
    assert world.rows("select leg, status from orders where status <> 'ACCEPTED'") == []
    assert world.rows("select count(*) from paper_orders where leg = 'ENTRY'") == [(1,)]
    assert world.rows("select status from signals") == [("EXECUTED",)]


def test_nothing_new_is_sent_while_an_order_is_unresolved(connection: Connection) -> None:
    world = new_world(connection)
    execute(connection, world, Flaky(world.exchange, "create_bracket", OutcomeUnknown, after=True))  # type: ignore[arg-type]
    world.signal("ETHUSDT")
    silent: Any = Flaky(world.exchange, "fetch_order", OutcomeUnknown, after=False)

    report = execute(connection, world, silent)

    assert report.blocked == "5 earlier orders are unresolved"
    assert world.rows("select count(*) from orders") == [(5,)]


@pytest.mark.parametrize("method", ["create_bracket", "fetch_order"])
def test_exchange_out_of_reach_delays_and_doubles_nothing(connection: Connection, method: str) -> None:
    world = new_world(connection)
    flaky: Any = Flaky(world.exchange, method, ExchangeUnavailable, after=False)

    execute(connection, world, flaky)
    execute(connection, world, flaky)

    assert world.rows("select status from signals") == [("EXECUTED",)]
    assert world.rows("select count(*) from paper_orders where leg = 'ENTRY'") == [(1,)]


@pytest.mark.parametrize("error", [OutcomeUnknown, ExchangeUnavailable])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["replace_order", "create_order"])
def test_lost_reply_to_a_moved_stop_or_an_exit_leaves_the_position_protected(
    connection: Connection, method: str, after: bool, error: type[Exception]
) -> None:
    world = new_world(connection)
    flaky: Any = Flaky(world.exchange, method, error, after=after and error is OutcomeUnknown)

    for number, (_, step) in enumerate(LIFE):
        step(connection, world, flaky)
        assert unprotected_on_exchange(world) == []
        resolve_pending(connection, world.session, flaky, T0 + ((number + 2) // 3) * BAR)

    assert flaky.struck
    [(status, reason)] = world.rows("select status, close_reason from positions")
    assert (status, reason) == ("CLOSED", "TEST")
    assert world.rows("select kind from fills order by sequence") == [("ENTRY",), ("TP1",), ("EXIT",)]


# Two at once, and real deaths


def test_two_workers_at_once_make_one_bracket_per_signal(connection: Connection, database: str) -> None:
    world = new_world(connection)
    world.signal("ETHUSDT")
    together = threading.Barrier(4)
    reports: list[ExecutionReport] = []

    def work() -> None:
        with connect(database) as own:
            exchange = PaperExchange(own, world.session.session_id, world.session.execution)
            together.wait()
            reports.append(execute(own, world, exchange))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(len(report.executed) for report in reports) == [0, 0, 0, 2]
    assert world.rows("select instrument_id, count(*) from paper_orders where leg = 'ENTRY' group by 1 order by 1") == [
        (world.ids["BTCUSDT"], 1),
        (world.ids["ETHUSDT"], 1),
    ]
    assert world.rows("select distinct status from orders") == [("ACCEPTED",)]


def test_resolving_leaves_the_orders_of_a_busy_worker_alone(connection: Connection, database: str) -> None:
    world = new_world(connection)
    seen: list[int] = []

    class Busy(Flaky):
        def __getattr__(self, name: str) -> Any:
            if name == "create_bracket":
                with connect(database) as other:
                    second = PaperExchange(other, world.session.session_id, world.session.execution)
                    seen.append(resolve_pending(other, world.session, second, T0))
            return super().__getattr__(name)

    busy: Any = Busy(world.exchange, "nothing", OutcomeUnknown, after=False)

    assert len(execute(connection, world, busy).executed) == 1
    assert seen == [5]


def _die_while_sending(database: str, session: TradingSession, quotes: dict[int, float], after: bool) -> None:
    """Run in a process of its own, which kills itself while the bracket is being sent."""

    class Deadly(Flaky):
        def __getattr__(self, name: str) -> Any:
            method = super().__getattr__(name)
            if name != "create_bracket":
                return method

            def die(*args: Any) -> None:
                if after:
                    method(*args)
                os.kill(os.getpid(), os_signal.SIGKILL)

            return die

    connection = connect(database)
    exchange = PaperExchange(connection, session.session_id, session.execution)
    deadly: Any = Deadly(exchange, "nothing", OutcomeUnknown, after=False)
    execute_signals(connection, session, deadly, T0, quotes=quotes, kill=None)


@pytest.fixture(params=[False, True], ids=["before", "after"])
def killed_world(connection: Connection, database: str, request: pytest.FixtureRequest) -> World:
    """A world in which a process was killed with signal 9 before or after the exchange had the bracket."""
    world = new_world(connection)
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_sending, args=(database, world.session, world.quotes(), request.param)
    )
    process.start()
    process.join()
    assert process.exitcode == -os_signal.SIGKILL
    return world


def test_killed_process_is_followed_by_one_that_goes_on(killed_world: World, connection: Connection) -> None:
    assert killed_world.rows("select distinct status from orders") == [("SENT",)]

    execute(connection, killed_world, killed_world.exchange)

    assert killed_world.rows("select count(*) from paper_orders where leg = 'ENTRY'") == [(1,)]
    assert killed_world.rows("select distinct status from orders") == [("ACCEPTED",)]
    assert killed_world.rows("select status from signals") == [("EXECUTED",)]
