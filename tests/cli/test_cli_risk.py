"""`trading risk` as a person types it."""

from datetime import UTC, datetime, timedelta

import pytest
from command_line import Run

from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.protections import Lock, LockReason
from trading_pipelines.store.connection import connect
from trading_pipelines.store.repositories import risk_locks


@pytest.fixture
def locked(on_database: str) -> str:
    """Name of a session with one lock of a symbol's longs and one of everything."""
    from trading_world import build_world

    now = datetime.now(UTC)
    with connect(on_database) as connection:
        world = build_world(connection)
        held = now - timedelta(hours=1), now + timedelta(hours=1)
        for lock in (
            Lock(LockReason.STOP, *held, world.ids["BTCUSDT"], PositionSide.LONG),
            Lock(LockReason.STOP_GUARD, *held, numbers={"stops": 4.0}),
            Lock(LockReason.COOLDOWN, now - timedelta(hours=2), held[0], world.ids["BTCUSDT"]),
        ):
            assert risk_locks.insert(connection, world.session.session_id, lock)
        connection.commit()
    return world.session.name


def test_locks_that_hold_are_shown(run: Run, locked: str) -> None:
    found = run("risk", "locks", "--session", locked, "--json").json
    assert [(lock["reason"], lock["symbol"], lock["side"]) for lock in found["locks"]] == [
        ("STOP", "BTCUSDT", "LONG"),
        ("STOP_GUARD", None, None),
    ]
    assert found["locks"][1]["numbers"] == {"stops": 4.0}
    shown = run("risk", "locks", "--session", locked).out
    assert "STOP_GUARD" in shown
    assert "all" in shown


def test_lifted_lock_no_longer_holds(run: Run, locked: str) -> None:
    first = run("risk", "locks", "--session", locked, "--json").json["locks"][0]["lock_id"]
    assert run("risk", "lift", str(first), "--session", locked).out == "1 lifted\n"
    assert run("risk", "lift", "--session", locked, "--json").json["lifted"] == 1
    assert run("risk", "locks", "--session", locked, "--json").json["locks"] == []
    again = run("risk", "lift", str(first), "--session", locked)
    assert again.code == 2
    assert "does not hold" in again.err


def test_unknown_session_is_named(run: Run, on_database: str) -> None:
    outcome = run("risk", "locks", "--session", "nowhere")
    assert outcome.code == 2
    assert "nowhere" in outcome.err
