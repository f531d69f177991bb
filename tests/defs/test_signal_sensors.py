"""From what is stored to the runs that are asked for, over several ticks on a real database."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.application.signals.sessions import new_session
from trading_pipelines.definitions import defs
from trading_pipelines.defs.execution.jobs import signal_execution_job
from trading_pipelines.defs.execution.schedules import signal_execution_schedule
from trading_pipelines.defs.execution.sensors import signal_execution_sensor
from trading_pipelines.defs.market_data.jobs import market_data_job
from trading_pipelines.defs.signals.jobs import signal_emission_job
from trading_pipelines.defs.signals.sensors import signal_emission_sensor
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.resources.platform import ClockResource
from trading_pipelines.settings import settings
from trading_pipelines.store.repositories import sessions

BAR = timedelta(minutes=15)


class Daemon:
    """Evaluates a sensor, stores the runs it asks for as queued, and keeps its cursor."""

    def __init__(self, sensor: dg.SensorDefinition, instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
        self.sensor = sensor
        self.instance = instance
        self.resources = resources
        self.cursor: str | None = None
        self.run_keys: list[str | None] = []

    def tick(self) -> list[dg.DagsterRun]:
        # Entered and left, because resources bring an instance of their own, which would outlive the test.
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources=self.resources,
            repository_def=defs.get_repository_def(),
        ) as context:
            result = self.sensor.evaluate_tick(context)
        self.cursor = result.cursor
        new = [request for request in result.run_requests or [] if request.run_key not in self.run_keys]
        self.run_keys += [request.run_key for request in new]
        job = defs.resolve_job_def(self.sensor.job_name)
        return [
            self.instance.create_run_for_job(job, tags=request.tags, status=dg.DagsterRunStatus.STARTED)
            for request in new
        ]

    def finish(self, run: dg.DagsterRun, *, failed: bool = False) -> None:
        """End a run as its worker would, an hour before what the test's clock shows."""
        kind = dg.DagsterEventType.RUN_FAILURE if failed else dg.DagsterEventType.RUN_SUCCESS
        ended_at = self.resources["clock"].now() - timedelta(hours=1)
        self.instance.report_dagster_event(
            dg.DagsterEvent(event_type_value=kind.value, job_name=run.job_name),
            run.run_id,
            timestamp=ended_at.timestamp(),
        )


@pytest.fixture
def execution(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Daemon:
    return Daemon(signal_execution_sensor, instance, resources)


@pytest.fixture
def emission(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Daemon:
    return Daemon(signal_emission_sensor, instance, resources)


@pytest.fixture
def bar(clock: ClockResource) -> datetime:
    """Open time of the newest closed 15m bar."""
    return clock.now().replace(minute=0) - BAR


def test_without_features_nothing_is_emitted(books: Any, emission: Daemon) -> None:
    assert emission.tick() == []


def test_emission_is_requested_once_per_bar_and_not_again_when_decided(
    books: Any, emission: Daemon, bar: datetime
) -> None:
    books.feature_row(bar, symbol="BTCUSDT")
    books.feature_row(bar, symbol="ETHUSDT")
    (run,) = emission.tick()
    assert run.job_name == signal_emission_job.name
    assert emission.tick() == []
    assert emission.cursor is None
    books.decide(bar, symbol="BTCUSDT")
    books.decide(bar, symbol="ETHUSDT")
    emission.finish(run)
    assert emission.tick() == []
    assert emission.run_keys == [f"paper:{bar.isoformat()}"]


def test_next_bar_is_requested_when_it_has_features(books: Any, emission: Daemon, bar: datetime) -> None:
    books.feature_row(bar - BAR)
    (run,) = emission.tick()
    books.decide(bar - BAR)
    emission.finish(run)
    assert emission.tick() == []
    books.feature_row(bar)
    (run,) = emission.tick()
    assert emission.run_keys[-1] == f"paper:{bar.isoformat()}"


def test_bars_missed_during_a_pause_are_decided_by_one_run(books: Any, emission: Daemon, bar: datetime) -> None:
    for bars_ago in range(4):
        books.feature_row(bar - bars_ago * BAR)
    assert len(emission.tick()) == 1
    assert emission.run_keys == [f"paper:{bar.isoformat()}"]


def test_failed_emission_is_retried_with_a_fresh_run_key(books: Any, emission: Daemon, bar: datetime) -> None:
    books.feature_row(bar)
    (run,) = emission.tick()
    emission.finish(run, failed=True)
    assert len(emission.tick()) == 1
    assert emission.run_keys[1] == f"paper:{bar.isoformat()}:retry-1"
    assert emission.cursor is None


def test_bar_too_old_for_a_valid_signal_is_not_requested(books: Any, emission: Daemon, bar: datetime) -> None:
    books.feature_row(bar - timedelta(hours=6))
    assert emission.tick() == []


def test_work_of_several_sessions_goes_into_one_run(books: Any, emission: Daemon, bar: datetime) -> None:
    books.feature_row(bar)
    second = replace(new_session(books.connection, settings(), "second", SessionMode.PAPER), symbols=("BTCUSDT",))
    sessions.insert(books.connection, second, clock=None)
    books.connection.commit()
    (run,) = emission.tick()
    assert emission.run_keys == [f"paper+second:{bar.isoformat()}"]
    books.decide(bar)
    emission.finish(run)
    (rest,) = emission.tick()
    assert emission.run_keys[-1] == f"second:{bar.isoformat()}"
    emission.finish(rest)
    assert emission.tick() == []


def test_session_whose_strategy_is_missing_does_not_keep_others_from_deciding(
    books: Any, emission: Daemon, bar: datetime, resources: dict[str, Any]
) -> None:
    books.candle(bar, table="ohlcv_15m", available_at=bar + BAR)
    books.feature_row(bar)
    broken = new_session(books.connection, settings(), "broken", SessionMode.PAPER, limits=RiskLimits())
    sessions.insert(books.connection, replace(broken, strategies=("gone.py:Gone",)), clock=None)
    books.connection.commit()
    job = defs.resolve_job_def(signal_emission_job.name)
    result = job.execute_in_process(instance=emission.instance, resources=resources, raise_on_error=False)
    assert not result.success
    errors = [event.event_specific_data.error for event in result.filter_events(lambda e: e.is_step_failure)]
    assert any("session broken: there is no strategy file gone.py" in str(error) for error in errors)
    decided = books.connection.execute("select name from decisions join sessions using (session_id)").fetchall()
    assert decided == [("paper",)]


def test_paused_session_decides_nothing(books: Any, emission: Daemon, bar: datetime) -> None:
    books.feature_row(bar)
    sessions.set_status(books.connection, books.session_id, SessionStatus.PAUSED)
    books.connection.commit()
    assert emission.tick() == []


def test_emission_waits_until_the_market_data_run_has_made_its_predictions(
    books: Any, emission: Daemon, bar: datetime
) -> None:
    update = emission.instance.create_run_for_job(
        defs.resolve_job_def(market_data_job.name), status=dg.DagsterRunStatus.STARTED
    )
    books.feature_row(bar)
    assert emission.tick() == []
    emission.finish(update)
    assert len(emission.tick()) == 1


def test_without_signals_nothing_is_executed(books: Any, execution: Daemon) -> None:
    assert execution.tick() == []


def test_signal_is_executed_once_and_the_cursor_moves_when_the_run_has_succeeded(
    books: Any, execution: Daemon, clock: ClockResource
) -> None:
    signal = books.signal(clock.now())
    (run,) = execution.tick()
    assert run.job_name == signal_execution_job.name
    assert execution.tick() == []
    books.set_signal_status(signal, "EXECUTED")
    execution.finish(run)
    assert execution.tick() == []
    assert len(execution.run_keys) == 1


def test_all_signals_of_one_emission_go_into_one_run(books: Any, execution: Daemon, clock: ClockResource) -> None:
    books.signal(clock.now(), symbol="BTCUSDT")
    books.signal(clock.now(), symbol="ETHUSDT")
    assert len(execution.tick()) == 1


def test_failed_execution_is_retried_with_a_fresh_run_key(books: Any, execution: Daemon, clock: ClockResource) -> None:
    signal = books.signal(clock.now())
    (run,) = execution.tick()
    execution.finish(run, failed=True)
    (second,) = execution.tick()
    assert execution.run_keys[1] == f"{execution.run_keys[0]}:retry-1"
    books.set_signal_status(signal, "EXECUTED")
    execution.finish(second)
    assert execution.tick() == []


def test_signal_that_still_waits_after_a_successful_run_is_left_to_the_schedule(
    books: Any, stored_instance: dg.DagsterInstance, resources: dict[str, Any], clock: ClockResource
) -> None:
    daemon = Daemon(signal_execution_sensor, stored_instance, resources)
    books.signal(clock.now())
    (run,) = daemon.tick()
    daemon.finish(run)
    assert daemon.tick() == []
    assert daemon.cursor is not None
    with dg.build_schedule_context(
        instance=stored_instance, resources=resources, repository_def=defs.get_repository_def()
    ) as context:
        tick = signal_execution_schedule.evaluate_tick(context)
    assert len(tick.run_requests or []) == 1


def test_new_signal_is_executed_beside_one_that_still_waits(
    books: Any, execution: Daemon, clock: ClockResource
) -> None:
    books.signal(clock.now() - timedelta(minutes=15))
    (run,) = execution.tick()
    execution.finish(run)
    execution.tick()
    books.signal(clock.now(), symbol="ETHUSDT")
    assert len(execution.tick()) == 1


@pytest.mark.parametrize(
    ("status", "made_ago"),
    [("EXPIRED", timedelta(minutes=1)), ("CANCELLED", timedelta(minutes=1)), ("ACTIVE", timedelta(hours=5))],
)
def test_signal_that_is_over_is_not_executed(
    books: Any, execution: Daemon, clock: ClockResource, status: str, made_ago: timedelta
) -> None:
    signal = books.signal(clock.now() - made_ago)
    if status != "ACTIVE":
        books.set_signal_status(signal, status)
    assert execution.tick() == []


def test_paused_session_executes_nothing(books: Any, execution: Daemon, clock: ClockResource) -> None:
    books.signal(clock.now())
    sessions.set_status(books.connection, books.session_id, SessionStatus.PAUSED)
    books.connection.commit()
    assert execution.tick() == []


def test_execution_waits_until_emission_has_made_all_its_signals(
    books: Any, execution: Daemon, clock: ClockResource
) -> None:
    emission = execution.instance.create_run_for_job(
        defs.resolve_job_def(signal_emission_job.name), status=dg.DagsterRunStatus.STARTED
    )
    books.signal(clock.now())
    assert execution.tick() == []
    execution.finish(emission)
    assert len(execution.tick()) == 1
