"""What makes failures known.

Belongs here: events about runs. Does not belong here: the channels through which a person hears of an event.
"""

from itertools import takewhile

import dagster as dg

from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.run_failure_sensor(
    name="run_failure_sensor",
    description="Records each failed run as an event; the Nth failure of a job in a row is critical.",
    minimum_interval_seconds=settings().orchestration.sensor_interval_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def record_run_failure(context: dg.RunFailureSensorContext, clock: ClockResource, database: DatabaseResource) -> None:
    """Write an event for each failed run; the Nth consecutive failure of a job is critical, the others warn.

    Critical exactly once per series: an alert that repeats every five minutes is not read.
    """
    from trading_pipelines.store.repositories import events

    run = context.dagster_run
    series = consecutive_failures(context.instance, run)
    critical = series == settings().orchestration.alert_after_failures
    with database.connect() as connection:
        events.append(
            connection,
            clock.now(),
            "run_failed",
            run.job_name,
            f"failure {series} in a row: {context.failure_event.message}",
            severity=events.Severity.CRITICAL if critical else events.Severity.WARNING,
            payload={"run_id": run.run_id, "consecutive_failures": series, "tags": dict(run.tags)},
        )


def consecutive_failures(instance: dg.DagsterInstance, failed: dg.DagsterRun) -> int:
    """How many runs of the job have failed since its last success, up to and including `failed`."""
    ended = instance.get_runs(
        dg.RunsFilter(job_name=failed.job_name, statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]),
        limit=100,
    )
    ids = [run.run_id for run in ended]
    return sum(1 for _ in takewhile(lambda run: run.is_failure, ended[ids.index(failed.run_id) :]))
