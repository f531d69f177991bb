"""The drill of the kill switch: what it measures, that it harms nobody, and that it can fail."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from trading_world import BTC, ETH, T0

from trading_pipelines.application.signals.sessions import live_sessions
from trading_pipelines.application.trading.kill_drill import run_drill
from trading_pipelines.application.trading.kill_switch import KillState, KillSwitch
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import instruments

QUOTES = {"BTCUSDT": 100.0, "ETHUSDT": 50.0, "SOLUSDT": 10.0}


@pytest.fixture
def settings(tmp_path: Path, database: str, connection: Connection) -> Settings:
    instruments.save(connection, [BTC, ETH, replace(BTC, symbol="SOLUSDT", base="SOL")])
    connection.commit()
    return load_settings(
        data_dir=tmp_path,
        database_url=database,
        exchange="bybit",
        symbols=("BTCUSDT",),
        trader={"drill_seconds": 1.0},
    )


@pytest.fixture
def kill(settings: Settings, database: str) -> KillSwitch:
    return KillSwitch(settings.data_dir, lambda: connect(database))


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """A clock that moves on by a second with every look."""
    seconds: Iterator[int] = count()
    return lambda: T0 + timedelta(seconds=next(seconds))


@pytest.mark.parametrize("symbols", [1, 2, 3])
def test_drill_refuses_cancels_and_closes_and_says_how_fast(
    connection: Connection, settings: Settings, kill: KillSwitch, clock: Callable[[], datetime], symbols: int
) -> None:
    quotes = dict(list(QUOTES.items())[:symbols])

    row = run_drill(connection, settings, kill, quotes, clock, lambda _: None)

    assert (row.outcome, row.reason) == ("PASSED", "")
    taken = [0.0 if ms is None else ms for ms in (row.refused_ms, row.cancelled_ms, row.flat_ms)]
    assert 0 < taken[0] <= taken[1] <= taken[2]
    assert connection.execute("select outcome, refused_ms, flat_ms from kill_drills").fetchall() == [
        ("PASSED", row.refused_ms, row.flat_ms)
    ]


def test_drill_touches_neither_the_platform_s_switch_nor_other_sessions(
    connection: Connection, settings: Settings, kill: KillSwitch, clock: Callable[[], datetime]
) -> None:
    live_sessions(connection, settings)

    run_drill(connection, settings, kill, QUOTES, clock, lambda _: None)

    assert not kill.state().engaged
    assert [s.name for s in live_sessions(connection, settings)] == ["paper"]
    assert connection.execute("select name, status from sessions").fetchall() == [("paper", "RUNNING")]
    assert connection.execute("select severity from events where kind = 'kill_drill'").fetchall() == [("info",)]


def test_drill_while_the_switch_is_engaged_is_refused(
    connection: Connection, settings: Settings, kill: KillSwitch, clock: Callable[[], datetime]
) -> None:
    kill.engage("for real")

    with pytest.raises(UserError, match="nothing to drill"):
        run_drill(connection, settings, kill, QUOTES, clock, lambda _: None)


class Deaf(KillSwitch):
    """A switch that nobody heeds, as after a mistake in the code."""

    def state(self, *_: object, **__: object) -> KillState:
        return KillState(False, "deaf")


def test_switch_without_effect_fails_the_drill_and_alerts(
    connection: Connection, settings: Settings, database: str, clock: Callable[[], datetime]
) -> None:
    deaf = Deaf(settings.data_dir, lambda: connect(database))

    row = run_drill(connection, settings, deaf, QUOTES, clock, lambda _: None)

    assert row.outcome == "FAILED"
    assert "although the switch was engaged" in row.reason
    assert connection.execute("select severity from events where kind = 'kill_drill'").fetchall() == [("critical",)]
    assert connection.execute("select purpose, status from sessions where name like 'drill-%'").fetchall() == [
        ("drill", "PAUSED")
    ]
