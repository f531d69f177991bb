"""Fixtures for Dagster definitions: the platform's settings pointed at the test's own database and folder."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from trading_pipelines.resources.platform import ClockResource
from trading_pipelines.settings import settings


class StandingClock(ClockResource):
    """A clock that shows what the test says."""

    shows: str = "2026-03-10T12:01:00+00:00"

    def now(self) -> datetime:
        """The time that was set."""
        return datetime.fromisoformat(self.shows)


@pytest.fixture
def clock() -> ClockResource:
    """A clock that stands at noon of some day."""
    return StandingClock()


@pytest.fixture
def platform(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the resources that resolve settings find the test's database and data folder."""
    monkeypatch.setenv("TRADING_DATABASE_URL", database)
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRADING_SYMBOLS", "BTCUSDT,ETHUSDT")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def stored_instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in a folder; schedules accept no other."""
    with dg.instance_for_test() as stored:
        yield stored


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
