"""Runs that a crash has left behind."""

import os
import subprocess
import sys

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from trading_pipelines.defs.operations.orphans import fail_orphaned_runs, orphaned_run_sensor


@dg.job
def working() -> None:
    """A job without work; only its run records matter."""


def run_in_process(instance: dg.DagsterInstance, pid: int, **tags: str) -> str:
    """A run in progress whose worker has announced itself."""
    run = instance.create_run_for_job(working, status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_run_of_a_dead_process_fails(instance: dg.DagsterInstance, dead_pid: int) -> None:
    run_id = run_in_process(instance, dead_pid)
    assert fail_orphaned_runs(instance) == [run_id]
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE


def test_run_of_a_living_process_goes_on(instance: dg.DagsterInstance) -> None:
    run_id = run_in_process(instance, os.getpid())
    assert fail_orphaned_runs(instance) == []
    assert status(instance, run_id) is dg.DagsterRunStatus.STARTED


def test_run_that_never_got_a_process_fails(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(working, status=dg.DagsterRunStatus.STARTING)
    assert fail_orphaned_runs(instance) == [run.run_id]


def test_run_that_has_ended_or_waits_is_left_alone(instance: dg.DagsterInstance) -> None:
    done = instance.create_run_for_job(working, status=dg.DagsterRunStatus.SUCCESS)
    waiting = instance.create_run_for_job(working, status=dg.DagsterRunStatus.NOT_STARTED)
    assert fail_orphaned_runs(instance) == []
    assert status(instance, done.run_id) is dg.DagsterRunStatus.SUCCESS
    assert status(instance, waiting.run_id) is dg.DagsterRunStatus.NOT_STARTED


def test_sensor_ends_only_dead_runs_of_the_code_server(instance: dg.DagsterInstance, dead_pid: int) -> None:
    by_code_server = {".dagster/grpc_info": "{}"}
    dead = run_in_process(instance, dead_pid, **by_code_server)
    elsewhere = run_in_process(instance, dead_pid)
    alive = run_in_process(instance, os.getpid(), **by_code_server)
    tick = orphaned_run_sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert dead in str(tick.skip_message)
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert status(instance, elsewhere) is dg.DagsterRunStatus.STARTED
    assert status(instance, alive) is dg.DagsterRunStatus.STARTED
