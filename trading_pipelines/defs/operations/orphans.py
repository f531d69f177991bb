"""End runs whose process is gone.

After a crash of the whole platform Dagster still believes in the runs that were in progress: they would hold places
in the queue, and sensors would wait for them. Run it before the daemon starts, on the machine that ran them:
``python -m trading_pipelines.defs.operations.orphans``.

Belongs here: what nobody else can clear up. Does not belong here: runs that hang, which run monitoring ends.
"""

from datetime import UTC, datetime

import dagster as dg
import psutil

_UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed every run that is under way without a process; their ids. Queued runs stay queued."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    orphans = [run for run in runs if not _is_alive(instance, run)]
    for run in orphans:
        instance.report_run_failed(run, "The process of this run is gone: the platform was stopped meanwhile.")
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
