"""Drift asks for one training when it begins, and for none while it lasts or within the cooldown."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.defs.models import sensors
from trading_pipelines.store.repositories import drift
from trading_pipelines.store.repositories.drift import Drifting

NOW = datetime(2025, 6, 1, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    moment = NOW

    def now(self) -> datetime:
        return self.moment


class Database:
    """Hands out a connection that nobody uses: what drifts is given by the test."""

    def connect(self) -> "Database":
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def test_training_is_asked_for_at_the_edge_and_not_within_the_cooldown(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Drifting] = []
    monkeypatch.setattr(drift, "drifting", lambda *_: found)
    clock, cursor, instance = Clock(), None, dg.DagsterInstance.ephemeral()

    def tick(hours: float, drifts: bool) -> int:
        nonlocal cursor
        clock.moment = NOW + timedelta(hours=hours)
        found[:] = [Drifting("BTCUSDT", "15m", "v", NOW.date(), ["shifted"])] if drifts else []
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        function = sensors.retrain_on_drift._raw_fn  # the function without Dagster's resources around it
        result = function(context, clock, Database())
        cursor = result.cursor
        json.loads(cursor)
        return len(result.run_requests)

    assert [tick(0, False), tick(1, True), tick(2, True), tick(40, True)] == [0, 1, 0, 0]
    assert [tick(41, False), tick(42, True)] == [0, 1], "it had ended, and begins again after the cooldown"
    assert [tick(43, False), tick(44, True), tick(67, True)] == [0, 0, 1], "within the cooldown it waits"
