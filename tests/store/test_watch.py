"""What the pages say about accounts, instructions and drills."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from trading_world import T0, World, build_world

from trading_pipelines.domain.execution.session import SessionMode
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models import watch
from trading_pipelines.store.read_models.sessions import compare_sessions, list_sessions
from trading_pipelines.store.repositories import instructions, kill_drills, sessions, truth
from trading_pipelines.store.repositories.instructions import InstructionKind, InstructionStatus


@pytest.fixture
def world(connection: Connection) -> World:
    return build_world(connection, mode=SessionMode.PAPER)


def compared(world: World, *, known: bool, reason: str = "", minutes_ago: float = 0) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    truth.write(
        world.connection,
        world.session.session_id,
        known=known,
        reason=reason,
        at=at,
        valid_until=at + timedelta(minutes=1),
        duration_ms=1.0,
    )


def state(world: World) -> tuple[bool, str]:
    found = watch.account_truth(world.connection, world.session.session_id)
    assert found is not None
    return found.allowed, found.reason


def test_account_is_held_back_before_the_first_comparison(world: World) -> None:
    assert state(world) == (False, "the account has not been compared with the exchange yet")


def test_known_account_may_trade(world: World) -> None:
    compared(world, known=True)

    assert state(world) == (True, "")


def test_unknown_account_says_why(world: World) -> None:
    compared(world, known=False, reason="a position differs")

    assert state(world) == (False, "a position differs")


def test_old_comparison_counts_no_more(world: World) -> None:
    compared(world, known=True, minutes_ago=12)

    assert state(world) == (False, "the fast service has not compared the account for 12 minutes")


def test_session_that_is_not_there_has_no_account(world: World) -> None:
    assert watch.account_truth(world.connection, uuid4()) is None


def test_verdict_keeps_the_time_since_when_it_holds(world: World) -> None:
    compared(world, known=True, minutes_ago=5)
    compared(world, known=True)

    found = watch.account_truth(world.connection, world.session.session_id)
    assert found is not None
    assert found.since is not None
    assert found.checked_at is not None
    assert found.checked_at - found.since > timedelta(minutes=4)


def test_instructions_are_listed_with_what_became_of_them(world: World) -> None:
    for number in range(2):
        asked = instructions.insert(
            world.connection,
            world.session.session_id,
            InstructionKind.CLOSE,
            str(number),
            {"symbol": "BTCUSDT"},
            requested_by="test",
            requested_at=T0 + timedelta(seconds=number),
            valid_until=T0 + timedelta(seconds=30),
        )
    instructions.close(world.connection, asked, InstructionStatus.REFUSED, "there is none", T0 + timedelta(seconds=3))

    found = watch.list_instructions(world.connection, world.session.session_id, 10)

    assert found[["subject", "status"]].to_numpy().tolist() == [["BTCUSDT", "REFUSED"], ["BTCUSDT", "PENDING"]]
    assert found["seconds"].iloc[0] == 2.0
    assert watch.instruction_state(world.connection, asked) == watch.InstructionState("REFUSED", "there is none")


def test_last_drill_is_the_newest(world: World) -> None:
    assert watch.last_drill(world.connection) is None
    for day, outcome in enumerate(("FAILED", "PASSED")):
        at = T0 + timedelta(days=day)
        kill_drills.insert(
            world.connection, kill_drills.DrillRow(uuid4(), at, at, outcome, "", 1.0, 2.0, 3.0, ["opened"])
        )

    found = watch.last_drill(world.connection)
    assert found is not None
    assert (found.outcome, found.flat_ms) == ("PASSED", 3.0)


def test_drills_are_no_sessions_to_choose_and_results_stand_side_by_side(world: World) -> None:
    drill = replace(world.session, session_id=uuid4(), name="drill-1")
    sessions.insert(world.connection, drill, clock=None, purpose="drill")
    world.rows("update sessions set start_capital = 5000 where name = %s returning 1", world.session.name)

    assert [s.name for s in list_sessions(world.connection)] == [world.session.name]
    [row] = compare_sessions(world.connection).to_dict("records")
    assert (row["name"], row["equity"], row["result"], row["open"]) == (world.session.name, 5000.0, 0.0, 0)
