"""Which partition a tick asks for."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from trading_pipelines.definitions import defs
from trading_pipelines.defs.market_data.jobs import market_data_job
from trading_pipelines.defs.market_data.schedules import (
    candles_schedule,
    day_close_schedule,
    market_data_schedule,
    recheck_schedule,
)
from trading_pipelines.defs.operations.schedules import maintenance_schedule
from trading_pipelines.defs.signals.schedules import signal_expiry_schedule


def tick(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime
) -> tuple[list[dg.RunRequest], str | None]:
    """The runs that a tick asks for, and why there are none."""
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, repository_def=defs.get_repository_def()
    )
    result = schedule.evaluate_tick(context)
    return list(result.run_requests or []), result.skip_message


@pytest.mark.parametrize(
    ("at", "partition"),
    [
        (datetime(2026, 3, 10, 12, 5, tzinfo=UTC), "2026-03-10"),
        (datetime(2026, 3, 10, 0, 5, tzinfo=UTC), "2026-03-10"),
        (datetime(2026, 3, 10, 0, 0, tzinfo=UTC), "2026-03-09"),
    ],
)
def test_update_asks_for_the_day_of_the_newest_closed_bar(
    stored_instance: dg.DagsterInstance, at: datetime, partition: str
) -> None:
    ((request,), _) = tick(market_data_schedule, stored_instance, at)
    assert request.partition_key == partition


@pytest.mark.parametrize("schedule", [candles_schedule, day_close_schedule, recheck_schedule])
def test_repairs_ask_for_the_day_before(stored_instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition) -> None:
    ((request,), _) = tick(schedule, stored_instance, datetime(2026, 3, 1, 0, 22, tzinfo=UTC))
    assert request.partition_key == "2026-02-28"


def test_day_before_is_asked_for_again_once_a_day(stored_instance: dg.DagsterInstance) -> None:
    ((request,), _) = tick(recheck_schedule, stored_instance, datetime(2026, 3, 1, 1, 52, tzinfo=UTC))
    assert request.run_config["ops"] == {"ingest": {"config": {"refetch": True}}}


@pytest.mark.parametrize("schedule", [maintenance_schedule, signal_expiry_schedule])
def test_other_ticks_ask_for_one_run_without_a_partition(
    stored_instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition
) -> None:
    ((request,), _) = tick(schedule, stored_instance, datetime(2026, 3, 10, 1, 35, tzinfo=UTC))
    assert request.partition_key is None


def test_update_waits_for_the_one_before_it(stored_instance: dg.DagsterInstance) -> None:
    job = defs.resolve_job_def(market_data_job.name)
    stored_instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    requests, reason = tick(market_data_schedule, stored_instance, datetime(2026, 3, 10, 12, 5, tzinfo=UTC))
    assert not requests
    assert "has not ended" in str(reason)
