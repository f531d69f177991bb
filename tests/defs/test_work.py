"""Edge and level: when a sensor or a schedule asks for a run and when it does not."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.defs.work import WORK_TAG, request_at_edge, request_while_pending
from trading_pipelines.settings import settings

BAR = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LATER_BAR = BAR + timedelta(minutes=15)
LIMITS = settings().orchestration


@dg.op(config_schema={"fail": dg.Field(bool, default_value=False)})
def work(context: dg.OpExecutionContext) -> None:
    if context.op_config["fail"]:
        raise RuntimeError("the exchange is down")


@dg.job
def working() -> None:
    work()


class Sensor:
    """Ticks like the daemon: keeps the cursor, drops a request whose run key was already used, runs the rest."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.run_keys: list[str] = []

    def tick(
        self, pending: Sequence[datetime], *, fail: bool = False, after: timedelta = timedelta(0)
    ) -> dg.SensorResult:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = request_at_edge(context, "working", "paper", pending, datetime.now(UTC) + after)
        self.cursor = result.cursor or self.cursor
        for request in result.run_requests or []:
            assert request.run_key not in self.run_keys
            self.run_keys.append(str(request.run_key))
            working.execute_in_process(
                run_config={"ops": {"work": {"config": {"fail": fail}}}},
                instance=self.instance,
                tags=request.tags,
                raise_on_error=False,
            )
        return result


@pytest.fixture
def sensor(instance: dg.DagsterInstance) -> Sensor:
    return Sensor(instance)


def test_nothing_pending_asks_for_nothing(sensor: Sensor) -> None:
    assert not sensor.tick([]).run_requests


def test_new_bar_is_asked_for_once_and_the_cursor_moves_after_success(sensor: Sensor) -> None:
    assert sensor.tick([BAR]).run_requests
    assert sensor.cursor is None
    assert not sensor.tick([BAR]).run_requests
    assert sensor.cursor == f"paper:{BAR.isoformat()}"
    assert not sensor.tick([BAR]).run_requests
    assert sensor.run_keys == [f"paper:{BAR.isoformat()}"]


def test_later_bar_is_asked_for_after_an_earlier_one_is_done(sensor: Sensor) -> None:
    sensor.tick([BAR])
    sensor.tick([BAR])
    assert sensor.tick([BAR, LATER_BAR]).run_requests
    assert sensor.run_keys[-1] == f"paper:{LATER_BAR.isoformat()}"


def test_failed_run_is_retried_with_a_fresh_run_key_and_the_cursor_stays(sensor: Sensor) -> None:
    sensor.tick([BAR], fail=True)
    assert sensor.tick([BAR], after=timedelta(minutes=1)).run_requests
    assert sensor.run_keys == [f"paper:{BAR.isoformat()}", f"paper:{BAR.isoformat()}:retry-1"]
    assert sensor.cursor is None
    sensor.tick([BAR])
    assert sensor.cursor == f"paper:{BAR.isoformat()}"


def test_failed_run_is_not_retried_before_its_pause_is_over(sensor: Sensor) -> None:
    sensor.tick([BAR], fail=True)
    assert not sensor.tick([BAR]).run_requests


def test_pause_doubles_with_each_attempt(sensor: Sensor) -> None:
    pause = timedelta(seconds=LIMITS.retry_delay_seconds)
    sensor.tick([BAR], fail=True)
    sensor.tick([BAR], fail=True, after=pause * 1.1)
    assert not sensor.tick([BAR], after=pause * 1.9).run_requests
    assert sensor.tick([BAR], after=pause * 2.1).run_requests


def test_attempts_are_bounded_and_the_cursor_stays(sensor: Sensor) -> None:
    for _ in range(LIMITS.max_attempts + 3):
        sensor.tick([BAR], fail=True, after=timedelta(days=1))
    assert len(sensor.run_keys) == LIMITS.max_attempts
    assert sensor.cursor is None


def test_new_bar_gets_attempts_of_its_own_after_an_earlier_one_was_given_up(sensor: Sensor) -> None:
    for _ in range(LIMITS.max_attempts + 1):
        sensor.tick([BAR], fail=True, after=timedelta(days=1))
    assert sensor.tick([BAR, LATER_BAR]).run_requests


def test_lost_cursor_does_not_repeat_what_is_done(sensor: Sensor) -> None:
    sensor.tick([BAR])
    sensor.cursor = None
    assert not sensor.tick([BAR]).run_requests


def test_cursor_of_another_session_is_not_believed(sensor: Sensor) -> None:
    sensor.cursor = f"other:{LATER_BAR.isoformat()}"
    assert sensor.tick([BAR]).run_requests


@pytest.mark.parametrize(
    "status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
)
def test_run_under_way_stops_requests_of_sensor_and_schedule(
    stored_instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    stored_instance.create_run_for_job(working, status=status)
    assert not Sensor(stored_instance).tick([BAR]).run_requests
    schedule = dg.build_schedule_context(instance=stored_instance)
    assert isinstance(request_while_pending(schedule, "working", "paper", [BAR]), dg.SkipReason)


def test_schedule_asks_again_where_the_sensor_has_given_up(stored_instance: dg.DagsterInstance) -> None:
    sensor = Sensor(stored_instance)
    for _ in range(LIMITS.max_attempts + 1):
        sensor.tick([BAR], fail=True, after=timedelta(days=1))
    schedule = dg.build_schedule_context(instance=stored_instance)
    request = request_while_pending(schedule, "working", "paper", [BAR])
    assert isinstance(request, dg.RunRequest)
    assert request.tags[WORK_TAG] == f"paper:{BAR.isoformat()}"


def test_schedule_asks_for_nothing_when_nothing_is_pending(stored_instance: dg.DagsterInstance) -> None:
    schedule = dg.build_schedule_context(instance=stored_instance)
    assert isinstance(request_while_pending(schedule, "working", "paper", []), dg.SkipReason)
