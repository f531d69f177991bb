"""End runs whose process is gone.

Dagster believes in a run until it says that it has ended. One that could not, because it was killed together with
the code server or died while the database was away, would hold a place in the queue, and sensors and schedules would
wait for it. `trading up` runs this before its daemon starts (``python -m trading_pipelines.defs.operations.orphans``);
after that a sensor does.

Belongs here: what nobody else clears up. Does not belong here: runs that hang, which run monitoring ends.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import psutil

from trading_pipelines.settings import settings

_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_BY_CODE_SERVER = ".dagster/grpc_info"
"""Tag of runs whose process is a child of the code server, in which sensors are evaluated too."""


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed every run that is under way without a process; their ids. Queued runs stay queued.

    Only for the machine on which all runs are executed, and before anything starts new ones.
    """
    return _fail_dead(instance, instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)))


@dg.sensor(
    name="orphaned_run_sensor",
    description="Ends runs of this code server whose process is gone, so that nothing waits for them.",
    minimum_interval_seconds=settings().orchestration.orphan_check_seconds,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def orphaned_run_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look only at runs that share this process's view of process ids and have had the time to announce theirs."""
    started = context.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    ended = _fail_dead(context.instance, [run for run in started if _BY_CODE_SERVER in run.tags])
    return dg.SkipReason(f"ended {', '.join(ended)}" if ended else "every run in progress has its process")


def _fail_dead(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> list[str]:
    dead = [run.run_id for run in runs if not _is_alive(instance, run)]
    # Read again: a process that has just ended may have told how while we looked.
    orphans = [run for run in map(instance.get_run_by_id, dead) if run is not None and not run.is_finished]
    for run in orphans:
        instance.report_run_failed(run, "The process of this run is gone.")
    return [run.run_id for run in orphans]


def _is_alive(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process that announced itself for the run still exists; a reused pid is younger."""
    announced = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for event in reversed(announced):
        pid = event.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is None:
            continue
        try:
            process = psutil.Process(int(str(pid.value)))
            return process.create_time() <= event.timestamp and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
    return False


if __name__ == "__main__":
    with dg.DagsterInstance.get() as configured:
        ended = fail_orphaned_runs(configured)
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        if ended:
            print(f"{stamp} ended {len(ended)} runs without a process: {', '.join(ended)}")  # noqa: T201 - a command's output
