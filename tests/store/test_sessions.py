"""Trading sessions in a real database: which are served, and how they change."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from trading_world import BTC, T0

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.signals.emission import pending_bars
from trading_pipelines.application.signals.sessions import (
    create_session,
    find_session,
    live_sessions,
    new_session,
    paper_session,
    pause_session,
    start_replay,
    start_session,
)
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import instruments, sessions


@pytest.fixture
def settings(tmp_path: Path, database: str, connection: Connection) -> Settings:
    instruments.save(connection, [BTC])
    connection.commit()
    return load_settings(data_dir=tmp_path, database_url=database, exchange="bybit", symbols=("BTCUSDT",))


def add(connection: Connection, settings: Settings, name: str, **changes: object) -> None:
    session = new_session(connection, settings, name, SessionMode.PAPER)
    sessions.insert(connection, replace(session, session_id=uuid4(), **changes), clock=None)
    connection.commit()


def test_first_call_creates_the_session_of_the_settings(connection: Connection, settings: Settings) -> None:
    assert [s.name for s in live_sessions(connection, settings)] == ["paper"]
    assert [s.name for s in live_sessions(connection, settings)] == ["paper"]


def test_running_and_paused_sessions_are_served_the_one_of_the_settings_first(
    connection: Connection, settings: Settings
) -> None:
    add(connection, settings, "b-paused", status=SessionStatus.PAUSED)
    add(connection, settings, "a-running")
    add(connection, settings, "z-stopped", status=SessionStatus.STOPPED)
    add(connection, settings, "elsewhere", exchange="binance")
    start_replay(connection, new_session(connection, settings, "replayed", SessionMode.REPLAY), T0)
    assert [s.name for s in live_sessions(connection, settings)] == ["paper", "a-running", "b-paused"]


def test_served_session_of_the_settings_has_their_current_rules(connection: Connection, settings: Settings) -> None:
    paper_session(connection, settings)
    stricter = settings.model_copy(update={"risk": settings.risk.model_copy(update={"max_open_positions": 2})})
    assert live_sessions(connection, stricter)[0].limits.max_open_positions == 2


BAR = timedelta(minutes=15)


def test_session_begins_with_the_bar_that_has_closed_last_when_it_is_first_started(
    connection: Connection, settings: Settings
) -> None:
    assert paper_session(connection, settings, T0 + 0.9 * BAR).begins_at == T0 - BAR
    assert paper_session(connection, settings, T0 + BAR).begins_at == T0 - BAR
    assert create_session(connection, settings, "at once", start_at=T0).begins_at == T0 - BAR
    waiting = create_session(connection, settings, "later")
    assert waiting.begins_at is None
    start_session(connection, waiting, T0 + BAR)
    pause_session(connection, waiting)
    start_session(connection, waiting, T0 + 2 * BAR)
    assert find_session(connection, "later").begins_at == T0
    start_replay(connection, new_session(connection, settings, "replayed", SessionMode.REPLAY), T0)
    assert find_session(connection, "replayed").begins_at == T0


def test_bars_that_closed_before_the_session_began_wait_for_no_decision(
    connection: Connection, settings: Settings
) -> None:
    instrument_id = instruments.by_symbol(connection, "bybit")["BTCUSDT"].instrument_id
    for number in range(8):
        ts = T0 + number * BAR
        connection.execute(
            "insert into features_15m values (%s, %s, %s, %s, '{}')",
            (instrument_id, current_feature_set(connection), ts, ts + BAR),
        )
    now = T0 + 8 * BAR
    unlimited = paper_session(connection, settings)
    assert pending_bars(connection, unlimited, now) == [T0 + number * BAR for number in range(8)]
    begun = replace(unlimited, begins_at=T0 + 6 * BAR)
    assert pending_bars(connection, begun, now) == [T0 + 6 * BAR, T0 + 7 * BAR]
