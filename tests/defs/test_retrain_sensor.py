"""Drift asks for one training when it begins, and for none while it lasts or within the cooldown."""

import json
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.definitions import defs
from trading_pipelines.defs.models.jobs import training_job
from trading_pipelines.defs.models.partitions import SYMBOLS
from trading_pipelines.defs.models.sensors import retrain_on_drift
from trading_pipelines.resources.platform import ClockResource
from trading_pipelines.store.repositories import drift
from trading_pipelines.store.repositories.drift import DriftDay


class MovingClock(ClockResource):
    """A clock that the daemon below moves."""

    shows: str

    def now(self) -> datetime:
        """The time that was set."""
        return datetime.fromisoformat(self.shows)


class Daemon:
    """Looks at the market every so many hours as Dagster does, and keeps the sensor's cursor."""

    def __init__(self, books: Any, instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
        self.books = books
        self.instance = instance
        self.resources = resources
        self.began: datetime = resources["clock"].now()
        self.cursor: str | None = None

    def version(self, symbol: str, model_id: str, since: timedelta) -> None:
        """A version that is in production from so long after the beginning on."""
        before = self.began + since
        key = {"model_id": model_id, "instrument_id": self.books.ids[symbol], "timeframe": "15m"}
        self.books.insert(
            "model_versions",
            **key,
            **{"feature_set_id": current_feature_set(self.books.connection), "spec": "{}", "training_key": model_id},
            **{"train_from": before, "as_of": before, "metrics": "{}", "artefact": b"", "artefact_sha256": ""},
            code_version="1",
        )
        self.books.insert("model_promotions", **key, effective_from=before, reason="better")

    def look_at(self, symbol: str, hours: float, reasons: list[str]) -> None:
        """What the daily comparison has written by then."""
        at = self.began + timedelta(hours=hours)
        nothing = dict.fromkeys(
            ("novelty", "hit_rate", "expected_hit_rate", "log_loss", "expected_log_loss", "calibration_error")
        )
        day = DriftDay(f"{symbol}_15m", at.date(), at, 672, 80, 30, outcomes=0, reasons=reasons, **nothing)
        drift.save(self.books.connection, day, [])
        self.books.connection.commit()

    def tick(self, hours: float, *drifting: str) -> list[dg.RunRequest]:
        for symbol in self.books.ids:
            self.look_at(symbol, hours, ["features"] if symbol in drifting else [])
        shows = (self.began + timedelta(hours=hours)).isoformat()
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={**self.resources, "clock": MovingClock(shows=shows)},
            repository_def=defs.get_repository_def(),
        ) as context:
            result = retrain_on_drift(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return list(result.run_requests or [])


@pytest.fixture
def daemon(books: Any, instance: dg.DagsterInstance, resources: dict[str, Any]) -> Daemon:
    """Two markets with a version each."""
    daemon = Daemon(books, instance, resources)
    for symbol in books.ids:
        daemon.version(symbol, f"{symbol}_15m", timedelta(days=-1))
    return daemon


def test_training_is_asked_for_at_the_edge_and_not_within_the_cooldown(daemon: Daemon) -> None:
    drifts = [(0, False), (1, True), (2, True), (40, True)]
    assert [len(daemon.tick(hours, *["BTCUSDT"] * drifting)) for hours, drifting in drifts] == [0, 1, 0, 0]
    drifts = [(41, False), (42, True)]
    asked = [len(daemon.tick(hours, *["BTCUSDT"] * drifting)) for hours, drifting in drifts]
    assert asked == [0, 1], "it had ended, and begins again after the cooldown"
    drifts = [(43, False), (44, True), (67, True)]
    asked = [len(daemon.tick(hours, *["BTCUSDT"] * drifting)) for hours, drifting in drifts]
    assert asked == [0, 0, 1], "within the cooldown it waits"


def test_each_market_has_its_own_edge_and_is_trained_as_a_partition(daemon: Daemon) -> None:
    (first,) = daemon.tick(0, "BTCUSDT")
    (second,) = daemon.tick(1, "BTCUSDT", "ETHUSDT")

    keys = [first.partition_key, second.partition_key]
    assert keys == ["BTCUSDT|15m", "ETHUSDT|15m"]
    assert set(daemon.instance.get_dynamic_partitions(str(SYMBOLS.name))) == {"BTCUSDT", "ETHUSDT"}
    assert first.tags["trading/reason"] == "features"
    assert first.run_config["ops"]["train"]["config"]["as_of"] == daemon.began.isoformat()
    assert retrain_on_drift.job_name == training_job.name


def test_a_version_that_no_longer_predicts_asks_for_nothing(daemon: Daemon) -> None:
    daemon.version("BTCUSDT", "BTCUSDT_15m_newer", timedelta(hours=-1))
    assert [request.partition_key for request in daemon.tick(0, "BTCUSDT", "ETHUSDT")] == ["ETHUSDT|15m"]


def test_cursor_names_what_was_asked_for_and_what_drifted(daemon: Daemon) -> None:
    daemon.tick(0, "BTCUSDT")
    assert daemon.cursor is not None
    kept = json.loads(daemon.cursor)
    assert kept["drifting"] == list(kept["asked"]) == ["BTCUSDT|15m"]
