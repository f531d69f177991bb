"""How sensors and schedules turn "there is something to do" into runs: soon, one at a time, not for ever.

Sensors react to the edge: work that is newer than all that is known to be done gets a run within seconds,
and a bounded number of further attempts when that run fails. Schedules look at the level: whatever is still
waiting, for example because the exchange was down longer than the attempts lasted, is asked for again at
each tick. The runs themselves are idempotent; what is here keeps them few.

Belongs here: what all stages share when they ask for runs. Does not belong here: what there is to do, which
the stage asks the application layer.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from trading_pipelines.settings import settings

WORK_TAG = "trading/work"
"""Names what a run was requested for; all attempts at the same work carry the same value."""
_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in _ENDED]


def is_under_way(instance: dg.DagsterInstance, *job_names: str) -> bool:
    """Whether a run of one of the jobs is queued, starting or in progress."""
    return any(instance.get_runs_count(dg.RunsFilter(job_name=job_name, statuses=_UNDER_WAY)) for job_name in job_names)


def request_at_edge(
    context: dg.SensorEvaluationContext,
    job_name: str,
    sessions: str,
    pending: Sequence[datetime],
    now: datetime,
) -> dg.SensorResult:
    """Ask for one run that does everything in `pending`, once for each newest time in it.

    The first request has the work's name as its run key: a sensor that is evaluated twice before its run is
    visible still gets one run. A failed run is followed by a request with a fresh run key, after a pause
    that doubles each time, until the attempts are used up. They are counted from the runs that Dagster has
    stored, so a crash forgets none. The cursor moves when a run of the work has succeeded, and never
    before.

    Parameters
    ----------
    sessions : str
        Names of the sessions in which something waits.
    pending : sequence of datetime
        When each piece of waiting work came up, ascending.
    """
    done = _done(context.cursor, sessions)
    if not pending or (done is not None and pending[-1] <= done):
        return dg.SensorResult(skip_reason=f"nothing new since {done}" if done else "nothing to do")
    if is_under_way(context.instance, job_name):
        return dg.SensorResult(skip_reason=f"a run of {job_name} is queued or in progress")
    work = work_name(sessions, pending)
    attempts = context.instance.get_run_records(dg.RunsFilter(job_name=job_name, tags={WORK_TAG: work}))
    if any(record.dagster_run.is_success for record in attempts):
        return dg.SensorResult(skip_reason=f"{work} is done", cursor=work)
    if len(attempts) >= settings().orchestration.max_attempts:
        return dg.SensorResult(skip_reason=f"gave up on {work} after {len(attempts)} runs")
    if attempts and now < (next_at := _next_attempt_at(attempts)):
        return dg.SensorResult(skip_reason=f"next attempt at {work} not before {next_at:%H:%M:%S}")
    run_key = f"{work}:retry-{len(attempts)}" if attempts else work
    return dg.SensorResult(run_requests=[dg.RunRequest(run_key=run_key, tags={WORK_TAG: work})])


def request_while_pending(
    context: dg.ScheduleEvaluationContext, job_name: str, sessions: str, pending: Sequence[datetime]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run as long as anything is pending, however often it was tried."""
    if not pending:
        return dg.SkipReason("nothing to do")
    if is_under_way(context.instance, job_name):
        return dg.SkipReason(f"a run of {job_name} is queued or in progress")
    return dg.RunRequest(tags={WORK_TAG: work_name(sessions, pending)})


def work_name(sessions: str, pending: Sequence[datetime]) -> str:
    """Name the work by its sessions and its newest piece."""
    return f"{sessions}:{pending[-1].astimezone(UTC).isoformat()}"


def _done(cursor: str | None, sessions: str) -> datetime | None:
    """Up to when the work of these sessions is known to be done; a cursor of others says nothing."""
    name, _, moment = (cursor or "").partition(":")
    return datetime.fromisoformat(moment) if moment and name == sessions else None


def _next_attempt_at(attempts: Sequence[dg.RunRecord]) -> datetime:
    ended = max(record.end_time or record.create_timestamp.timestamp() for record in attempts)
    pause = settings().orchestration.retry_delay_seconds * 2 ** (len(attempts) - 1)
    return datetime.fromtimestamp(ended, UTC) + timedelta(seconds=pause)
