"""Trading sessions in a real database: which are served, and how they change."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from trading_world import BTC, T0

from trading_pipelines.application.sessions import live_sessions, new_session, paper_session, start_replay
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
