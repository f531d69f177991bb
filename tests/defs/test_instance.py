"""The instance of `dagster_home/dagster.yaml` on a real PostgreSQL."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

DAGSTER_HOME = Path(__file__).parents[2] / "dagster_home"


@dg.asset
def something() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@pytest.fixture
def configured_instance(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The platform's instance, on a database of this test's own."""
    name = f"dagster_{uuid.uuid4().hex[:12]}"
    at = conninfo_to_dict(server_url)
    monkeypatch.setenv(
        "DAGSTER_POSTGRES_URL",
        f"postgresql+psycopg2://{at['user']}:{at.get('password', '')}@{at['host']}:{at['port']}/{name}",
    )
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name}")
        with dg.DagsterInstance.from_config(str(DAGSTER_HOME)) as instance:
            yield instance
        connection.execute(f"drop database {name} with (force)")


def test_run_and_its_events_are_stored_in_postgresql(configured_instance: dg.DagsterInstance) -> None:
    result = dg.materialize([something], instance=configured_instance)
    assert result.success
    assert [run.status for run in configured_instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS]
    event = configured_instance.get_latest_materialization_event(dg.AssetKey("something"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["dagster/row_count"].value == 3


def test_queue_keeps_room_for_trading_beside_heavy_runs_and_backfills(
    configured_instance: dg.DagsterInstance,
) -> None:
    queue = configured_instance.get_concurrency_config().run_queue_config
    assert queue is not None
    limits = {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits}
    assert limits == {"trading/load": 1, "dagster/backfill": 1}
    assert queue.max_concurrent_runs > sum(limits.values())


def test_stuck_runs_end_and_nothing_is_sent_home(configured_instance: dg.DagsterInstance) -> None:
    assert configured_instance.run_monitoring_enabled
    assert configured_instance.run_monitoring_max_runtime_seconds > 0
    assert not configured_instance.telemetry_enabled
