"""What becomes of a failed run."""

import dagster as dg
import pytest

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.operations.sensors import record_run_failure
from trading_pipelines.errors import UserError
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings
from trading_pipelines.store.connection import Connection

LIMIT = settings().orchestration.alert_after_failures


@dg.op(config_schema={"fail": bool})
def work(context: dg.OpExecutionContext) -> None:
    if context.op_config["fail"]:
        raise RuntimeError("the exchange is down")


@dg.job
def working() -> None:
    work()


def run(instance: dg.DagsterInstance, clock: ClockResource, *, fail: bool) -> None:
    """Run the job and, when it fails, let the sensor react as the daemon would."""
    result = working.execute_in_process(
        run_config={"ops": {"work": {"config": {"fail": fail}}}}, instance=instance, raise_on_error=False
    )
    if fail:
        context = dg.build_run_status_sensor_context(
            sensor_name="run_failure_sensor",
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            resources={"clock": clock, "database": DatabaseResource()},
        )
        record_run_failure(context.for_run_failure())


def severities(connection: Connection) -> list[str]:
    rows = connection.execute("select severity from events where kind = 'run_failed' order by event_id")
    return [severity for (severity,) in rows]


@pytest.mark.usefixtures("platform")
def test_failed_run_becomes_an_event_that_names_the_job(
    instance: dg.DagsterInstance, clock: ClockResource, connection: Connection
) -> None:
    run(instance, clock, fail=True)
    ts, subject, message, payload = (
        connection.execute("select ts, subject, message, payload from events where kind = 'run_failed'").fetchone()
        or (None,) * 4
    )
    assert (ts, subject) == (clock.now(), "working")
    assert "failure 1 in a row" in message
    assert payload["consecutive_failures"] == 1


@pytest.mark.usefixtures("platform")
def test_only_the_nth_consecutive_failure_is_critical(
    instance: dg.DagsterInstance, clock: ClockResource, connection: Connection
) -> None:
    for _ in range(LIMIT + 2):
        run(instance, clock, fail=True)
    assert severities(connection) == [*["warning"] * (LIMIT - 1), "critical", "warning", "warning"]


@pytest.mark.usefixtures("platform")
def test_success_starts_the_count_again(
    instance: dg.DagsterInstance, clock: ClockResource, connection: Connection
) -> None:
    for _ in range(LIMIT - 1):
        run(instance, clock, fail=True)
    run(instance, clock, fail=False)
    run(instance, clock, fail=True)
    assert "critical" not in severities(connection)


def test_mistake_of_the_user_is_not_retried() -> None:
    with pytest.raises(dg.Failure, match="run `trading ingest`") as raised, user_errors():
        raise UserError("no candles: run `trading ingest`")
    assert not raised.value.allow_retries


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ConnectionError), user_errors():
        raise ConnectionError
