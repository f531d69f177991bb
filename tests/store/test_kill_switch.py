"""The kill switch: row or file engages it, not knowing engages it, and only entries are held back."""

import os
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.application.trading.execution import ExecutionReport, execute_signals, synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.monitor import enforce_kill_switch
from trading_pipelines.application.trading.protection import Sent, close_position
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.session import SessionMode
from trading_pipelines.errors import UserError
from trading_pipelines.settings import TraderSettings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import positions

NOWHERE = "host=127.0.0.1 port=1 dbname=nothing connect_timeout=1"


@pytest.fixture
def kill(database: str, tmp_path: Path) -> KillSwitch:
    return KillSwitch(tmp_path, lambda: connect(database))


@pytest.fixture
def cut_off(tmp_path: Path) -> KillSwitch:
    """A switch whose database does not answer."""
    return KillSwitch(tmp_path, lambda: connect(NOWHERE))


@pytest.fixture
def world(connection: Connection) -> World:
    """An account of which everything is known."""
    world = build_world(connection, mode=SessionMode.PAPER)
    assert reconcile(connection, world.session, world.exchange, T0, TraderSettings()).known
    return world


def execute(world: World, kill: KillSwitch) -> ExecutionReport:
    return execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=kill)


# State


def test_new_platform_is_not_engaged(kill: KillSwitch) -> None:
    assert not kill.state().engaged


def test_engaging_writes_row_and_file_and_releasing_clears_both(kill: KillSwitch, connection: Connection) -> None:
    kill.engage("test", flatten=True)

    state = kill.state()
    assert (state.engaged, state.reason, state.cancel, state.flatten) == (True, "test", True, True)
    assert kill.file.exists()
    assert connection.execute("select engaged, reason, flatten from kill_switch").fetchone() == (True, "test", True)
    connection.rollback()

    kill.release("over")
    assert not kill.state().engaged
    assert not kill.file.exists()


def test_touched_file_engages(kill: KillSwitch) -> None:
    kill.file.touch()

    state = kill.state()

    assert (state.engaged, state.cancel, state.flatten) == (True, True, False)


def test_row_alone_engages(kill: KillSwitch, connection: Connection) -> None:
    connection.execute("update kill_switch set engaged = true, reason = 'from psql'")
    connection.commit()

    assert kill.state().reason == "from psql"


@pytest.mark.parametrize("damage", ["delete from kill_switch", "drop table kill_switch"])
def test_unreadable_row_counts_as_engaged(kill: KillSwitch, connection: Connection, damage: str) -> None:
    connection.execute(damage.encode())
    connection.commit()

    assert kill.state().engaged


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX paths")
def test_unreadable_file_counts_as_engaged(kill: KillSwitch) -> None:
    kill.file.mkdir()

    assert "cannot be read" in kill.state().reason


def test_touched_file_does_not_hide_that_the_row_asks_for_flattening(kill: KillSwitch) -> None:
    kill.engage("test", flatten=True)
    kill.file.write_text("")

    assert kill.state().flatten


def test_damaged_file_counts_as_engaged(kill: KillSwitch) -> None:
    kill.file.write_text('{"reason": ')

    assert kill.state().engaged


def test_unreachable_database_counts_as_engaged(cut_off: KillSwitch) -> None:
    state = cut_off.state()

    assert (state.engaged, state.flatten) == (True, False)


def test_engaging_works_while_the_database_is_down(cut_off: KillSwitch, kill: KillSwitch) -> None:
    cut_off.engage("no database")

    assert kill.state().reason == "no database"


def test_releasing_while_the_database_is_down_fails_and_stays_engaged(cut_off: KillSwitch, kill: KillSwitch) -> None:
    kill.engage("test")

    with pytest.raises(UserError, match="still engaged"):
        cut_off.release("over")

    assert kill.state().engaged


def test_engaging_with_an_unwritable_folder_still_writes_the_row(database: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    kill = KillSwitch(blocked / "below-a-file", lambda: connect(database))

    kill.engage("row only")

    with connect(database) as connection:
        assert connection.execute("select reason from kill_switch where engaged").fetchone() == ("row only",)


def test_engaging_that_reaches_neither_file_nor_row_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()

    with pytest.raises(UserError, match="could not be engaged"):
        KillSwitch(blocked / "below-a-file", lambda: connect(NOWHERE)).engage("test")


# In the order path


@pytest.mark.parametrize("how", ["file", "row"])
def test_engaged_switch_holds_the_entry_back_until_it_is_released(world: World, kill: KillSwitch, how: str) -> None:
    signal_id = world.signal()
    if how == "file":
        kill.file.touch()
    else:
        world.rows("update kill_switch set engaged = true returning 1")

    held_back = execute(world, kill)
    assert held_back.waiting == (signal_id,)
    assert world.exchange.fetch_open_orders() == []

    kill.release("over")
    assert execute(world, kill).executed == (signal_id,)


def test_switch_is_looked_at_before_each_send_not_once_per_call(world: World, kill: KillSwitch) -> None:
    first, second = world.signal("BTCUSDT", confidence=0.9), world.signal("ETHUSDT", confidence=0.8)

    class EngagesOnTheWay:
        def __getattr__(self, name: str) -> object:
            if name == "create_bracket":
                kill.engage("while the first was being sent")
            return getattr(world.exchange, name)

    on_the_way: object = EngagesOnTheWay()
    report = execute_signals(
        world.connection,
        world.session,
        on_the_way,  # type: ignore[arg-type]
        T0,
        quotes=world.quotes(),
        kill=kill,
    )

    assert (report.executed, report.waiting) == ((first,), (second,))


def test_exits_are_allowed_and_flattening_closes_every_position(world: World, kill: KillSwitch) -> None:
    world.signal()
    execute(world, kill)
    world.bar(0, 100, 100.5, 99.5, 100)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    kill.engage("flatten", flatten=True)

    closing = enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0 + BAR)
    again = enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0 + BAR)
    world.bar(1, 100, 100, 100, 100)
    synchronise(world.connection, world.session, world.exchange, T0 + 2 * BAR)

    assert (closing, again) == (1, 0)
    assert world.rows("select status, close_reason from positions") == [("CLOSED", "KILL_SWITCH")]


def test_engaging_cancels_an_entry_that_waits_for_its_fill(world: World, kill: KillSwitch) -> None:
    signal_id = world.signal()
    execute(world, kill)
    kill.engage("test")

    done = enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0)

    assert done == 1
    assert world.exchange.fetch_open_orders() == []
    assert world.signal_status(signal_id) == "CLOSED"
    assert set(world.statuses(signal_id).values()) == {"CANCELLED"}


def test_stops_and_targets_stay_while_the_switch_is_engaged(world: World, kill: KillSwitch) -> None:
    world.signal()
    execute(world, kill)
    world.bar(0, 100, 100.5, 99.5, 100)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    kill.engage("test")

    assert enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0 + BAR) == 0
    assert len(world.exchange.fetch_open_orders()) == 4


def test_released_switch_has_nothing_to_enforce(world: World, kill: KillSwitch) -> None:
    assert enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0) == 0


@pytest.mark.parametrize("damage", ["delete from kill_switch", "drop table kill_switch"])
def test_unreadable_state_holds_entries_back_but_cancels_and_closes_nothing(
    world: World, kill: KillSwitch, damage: str
) -> None:
    world.signal()
    execute(world, kill)
    signal_id = world.signal("ETHUSDT")
    world.connection.execute(damage.encode())
    world.connection.commit()

    assert execute(world, kill).waiting == (signal_id,)
    assert enforce_kill_switch(world.connection, world.session, world.exchange, kill, T0) == 0
    assert len(world.exchange.fetch_open_orders()) == 5


def test_database_that_goes_away_during_the_check_counts_as_engaged(kill: KillSwitch, database: str) -> None:
    broken = connect(database)
    broken.close()

    assert kill.state(broken).engaged


def test_switch_of_a_session_holds_back_its_own_entries_only(world: World, kill: KillSwitch) -> None:
    signal_id = world.signal()
    kill.engage_for(world.session.session_id, "this one only")

    assert execute(world, kill).waiting == (signal_id,)
    assert not kill.state().engaged
    assert not kill.state(session_id=uuid4()).engaged


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("delete from account_truth", "has not been compared"),
        ("update account_truth set known = false, reason = 'a position differs'", "a position differs"),
        ("update account_truth set valid_until = '2024-03-04 11:59+00'", "was last compared"),
        ("drop table account_truth", "cannot be read"),
    ],
)
def test_account_that_is_not_known_holds_entries_back_and_lets_exits_through(
    world: World, kill: KillSwitch, change: str, reason: str
) -> None:
    world.signal("ETHUSDT")
    execute(world, kill)
    world.bar(0, 100, 100.5, 99.5, 100, "ETHUSDT")
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    signal_id = world.signal()
    world.connection.execute(change.encode())
    world.connection.commit()

    assert reason in (kill.refusal(world.connection, world.session.session_id, T0) or "")
    world.connection.rollback()
    assert execute(world, kill).waiting == (signal_id,)
    [position] = positions.open_positions(world.connection, world.session.session_id)
    sent = close_position(world.connection, world.session, world.exchange, position, "TEST", T0 + BAR)
    assert sent is Sent.PLACED


def test_replay_does_not_ask_the_switch(world: World, kill: KillSwitch) -> None:
    world.signal()
    kill.engage("for the live account only")
    replay = replace(world.session, mode=SessionMode.REPLAY)

    report = execute_signals(world.connection, replay, world.exchange, T0, quotes=world.quotes(), kill=None)

    assert len(report.executed) == 1


def test_legal_row_is_kept_to_one(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("insert into kill_switch (engaged, reason) values (false, 'a second one')")
