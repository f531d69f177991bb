"""The searches and folds of a training, shared by any number of processes on any number of machines.

Belongs here: what there is to do, taking it, doing it, and how long it will still take. Does not belong here: what is
trained on and what becomes of it (`application.models.training`), and how a fold or a search works
(`domain.modelling`).
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from trading_pipelines.application.features.building import to_aware, to_naive
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.search import search
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import FoldResult, TrainingData
from trading_pipelines.store.repositories import models, trainings
from trading_pipelines.store.repositories.models import StoredFold
from trading_pipelines.store.repositories.trainings import FOLD, SEARCH, Task, Training

POLL_S = 0.1
"""Pause before looking again when others hold all tasks that could be taken."""
WORKER = "trading_pipelines.application.models.worker"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training has come; searches and folds count alike, `eta_s` is None until one of each kind is done."""

    symbol: str
    done: int
    total: int
    eta_s: float | None


OnProgress = Callable[[TrainingProgress], None]


def layout(spec: TrainingSpec) -> list[Task]:
    """Everything there is to do in a training before its final fit."""
    if not spec.search.enabled:
        return [Task(FOLD, number, None) for number in range(spec.folds)]
    every = spec.search.every
    searches = [Task(SEARCH, number, None) for number in (*range(0, spec.folds, every), spec.folds)]
    return searches + [Task(FOLD, number, number - number % every) for number in range(spec.folds)]


def final_spec(connection: psycopg.Connection[Any], training_key: str, spec: TrainingSpec) -> TrainingSpec:
    """The spec of the final fit: with the parameters of its own search, if there is one."""
    if not spec.search.enabled:
        return spec
    return training.tuned(spec, trainings.parameters(connection, training_key, spec.folds))


class Helpers:
    """Processes on this machine that take tasks beside us.

    They are fresh interpreters: a fork of a process in which LightGBM's threads have run would hang. Each learns by its
    standard input which trainings there are, and stops after its task when that closes, so none outlives us for long
    however we end.
    """

    def __init__(self, connection: psycopg.Connection[Any], count: int) -> None:
        self._url = _address(connection)
        self._count = count
        self._processes: list[subprocess.Popen[str]] = []
        self._told: str | None = None

    def __enter__(self) -> "Helpers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(0 if kind is not None else 2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def join(self, training_key: str) -> None:
        """Let them take part in a training, starting them if need be."""
        if self._told == training_key:
            return
        if not self._processes:
            self._processes = [self._start() for _ in range(self._count)]
        for process in self._processes:
            self._tell(process, training_key)
        self._told = training_key

    def _start(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-m", WORKER], stdin=subprocess.PIPE, text=True)
        self._tell(process, json.dumps({"url": self._url}))
        return process

    @staticmethod
    def _tell(process: "subprocess.Popen[str]", line: str) -> None:
        """Write a line; one that is gone will be missed by nobody, the others do its work."""
        if process.stdin is not None and process.poll() is None:
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                return


def run_tasks(
    connection: psycopg.Connection[Any],
    work: Training,
    data: TrainingData,
    spec: TrainingSpec,
    helpers: Helpers,
    on_progress: OnProgress,
) -> None:
    """Do what is left of a training, with whoever else is at it, and return when all of it is done."""
    began = _database_time(connection)
    on_progress(progress(connection, work, began)[0])
    while True:
        task = run_one(connection, work, data, spec)
        state, left_s = progress(connection, work, began)
        connection.rollback()
        if task is not None:
            on_progress(state)
        if state.done == state.total:
            return
        if left_s > spec.helpers_from_s:
            helpers.join(work.training_key)
        if task is None:
            time.sleep(POLL_S)


def run_one(connection: psycopg.Connection[Any], work: Training, data: TrainingData, spec: TrainingSpec) -> Task | None:
    """Take a task that is free, do it and commit; None when there is none to take now."""
    task = trainings.claim(connection, work.training_key)
    if task is None:
        connection.rollback()
        return None
    began = time.monotonic()
    found: dict[str, Any] | None = None
    if task.kind == SEARCH:
        found = _search(data, task, to_naive(work.as_of), spec)
    else:
        _fold(connection, work.training_key, data, task, spec)
    trainings.complete(connection, work.training_key, task, worker_name(), time.monotonic() - began, found)
    connection.commit()
    return task


def progress(connection: psycopg.Connection[Any], work: Training, began: datetime) -> tuple[TrainingProgress, float]:
    """How far a training has come, and the seconds of work left as far as they can be told.

    The time left follows from how much work all processes together have done per second since `began`.
    """
    shares = trainings.shares(connection, work.training_key, began)
    left = [(share.total - share.done, share.mean_seconds) for share in shares]
    left_s = sum(count * mean for count, mean in left if mean is not None)
    elapsed = (_database_time(connection) - began).total_seconds()
    pace = sum(share.recent_seconds for share in shares) / elapsed if elapsed > 0 else 0.0
    known = pace > 0 and all(mean is not None for count, mean in left if count)
    total, done = sum(share.total for share in shares), sum(share.done for share in shares)
    return TrainingProgress(work.symbol, done, total, left_s / pace if known else None), left_s


def is_complete(connection: psycopg.Connection[Any], training_key: str) -> bool:
    """Whether every task is done."""
    shares = trainings.shares(connection, training_key, _database_time(connection))
    return all(share.done == share.total for share in shares)


def worker_name() -> str:
    """This process, as it is shown beside what it has done."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _search(data: TrainingData, task: Task, as_of: Any, spec: TrainingSpec) -> dict[str, Any]:
    """The best parameters for the window of a fold, or of the final fit; the spec's own where it has too few rows."""
    if task.number == spec.folds:
        rows = training.final_rows(data, as_of, spec)
    else:
        rows = training.folds_of(data, spec)[task.number].train
    if not training.is_enough(data, rows, spec):
        return training.booster_parameters(spec)
    return search(data, rows, spec, seed=spec.seed + task.number).parameters


def _fold(
    connection: psycopg.Connection[Any], training_key: str, data: TrainingData, task: Task, spec: TrainingSpec
) -> None:
    if task.needs is not None:
        spec = training.tuned(spec, trainings.parameters(connection, training_key, task.needs))
    result = training.evaluate_fold(data, training.folds_of(data, spec)[task.number], spec)
    if result is not None:
        models.save_fold(connection, training_key, _stored(result))


def _stored(result: FoldResult) -> StoredFold:
    return StoredFold(
        result.number,
        to_aware(result.train_from),
        to_aware(result.train_until),
        to_aware(result.test_from),
        to_aware(result.test_until),
        asdict(result.metrics),
        result.parameters,
        result.rounds,
        result.calibration,
        result.probabilities,
    )


def _address(connection: psycopg.Connection[Any]) -> str:
    """Where the connection leads, for processes of our own."""
    info = connection.info
    return make_conninfo(**{**info.get_parameters(), "password": info.password or None})


def _database_time(connection: psycopg.Connection[Any]) -> datetime:
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # it always answers
    return row[0]
