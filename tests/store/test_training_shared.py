"""Folds as shared work: killed, resumed and split over processes, a training gives the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.tasks import layout
from trading_pipelines.application.models.training import resume, train
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.spec import SearchSpec, TrainingSpec
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.read_models.training import training_folds, training_progress
from trading_pipelines.store.repositories import trainings
from trading_pipelines.store.repositories.trainings import Task, Training

SYMBOL = "AVAXUSDT"
END = datetime(2025, 6, 1, tzinfo=UTC)
SPEC = TrainingSpec(
    **{"train_days": 30, "test_days": 1, "folds": 12, "num_boost_round": 60, "min_boost_round": 30},
    processes=1,
    search=SearchSpec(enabled=True, trials=3, every=6, startup_trials=2),
)
PROGRAM = """
import json, sys
from datetime import datetime
from trading_pipelines.application.models.training import train
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.store.connection import connect
url, symbol, as_of, spec = json.loads(sys.stdin.readline())
print("ready", flush=True)
sys.stdin.readline()
with connect(url) as connection:
    train(connection, "simulated", symbol, "15m", datetime.fromisoformat(as_of), TrainingSpec.model_validate(spec))
"""


@pytest.fixture(scope="module")
def market(server_url: str, template: str) -> Iterator[str]:
    """Name of a database with candles and features."""
    name = f"shared_training_{os.getpid()}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {template}")
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", SYMBOL)), clock=lambda: END)
    with connect(make_conninfo(server_url, dbname=name)) as connection:
        ingest(connection, source, ("BTCUSDT", SYMBOL), Timeframe.M5, END - timedelta(days=75), END)
        build_features(connection, "simulated", (SYMBOL,), "15m", END - timedelta(days=46), END)
    yield name
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"drop database {name} with (force)")


@contextmanager
def _copy(server_url: str, market: str) -> Iterator[str]:
    name = f"{market}_{time.monotonic_ns()}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database {name} template {market}")
    try:
        yield make_conninfo(server_url, dbname=name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def url(server_url: str, market: str) -> Iterator[str]:
    """A copy of the market."""
    with _copy(server_url, market) as address:
        yield address


@pytest.fixture(scope="module")
def undisturbed(server_url: str, market: str) -> list[object]:
    """What a training in one go leaves behind."""
    with _copy(server_url, market) as address, connect(address) as connection:
        train(connection, "simulated", SYMBOL, "15m", END, SPEC)
        return _outcome(connection)


def _outcome(connection: Connection) -> list[object]:
    """The artefact, and everything of the folds that does not say when and by whom."""
    versions = connection.execute(
        "select model_id, training_key, artefact_sha256, artefact, metrics from model_versions order by 1"
    ).fetchall()
    folds = connection.execute(
        "select fold, train_from, train_until, test_from, test_until, metrics, parameters, rounds, calibration, "
        "probabilities from model_folds order by fold"
    ).fetchall()
    searches = connection.execute(
        "select number, parameters from training_tasks where kind = 'search' order by number"
    ).fetchall()
    return [versions, folds, searches]


@contextmanager
def _training(url: str, spec: TrainingSpec = SPEC) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains once it is told to begin; killed in the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _tell(process, json.dumps([url, SYMBOL, END.isoformat(), spec.model_dump(mode="json")]))
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _done(connection: Connection) -> int:
    row = connection.execute("select count(*) from training_tasks where done_at is not null").fetchone()
    connection.rollback()
    return int(row[0]) if row else 0


def _wait_for_tasks(connection: Connection, number: int) -> None:
    deadline = time.monotonic() + 60
    while _done(connection) < number:
        assert time.monotonic() < deadline, "the training does not get on"
        time.sleep(0.01)


def test_same_inputs_give_the_same_bytes_with_a_search_too(url: str, undisturbed: list[object]) -> None:
    with connect(url) as connection:
        train(connection, "simulated", SYMBOL, "15m", END, SPEC)
        assert _outcome(connection) == undisturbed


def test_killed_training_loses_at_most_one_fold_and_ends_with_the_same_bytes(
    url: str, undisturbed: list[object]
) -> None:
    with connect(url) as connection:
        with _training(url) as process:
            _tell(process, "begin")
            _wait_for_tasks(connection, 5)
            process.send_signal(signal.SIGKILL)
            process.wait()
        kept = dict(connection.execute("select number, done_at from training_tasks where kind = 'fold'").fetchall())
        done = [number for number, at in kept.items() if at is not None]
        assert 2 <= len(done) < SPEC.folds
        assert connection.execute("select count(*) from model_folds").fetchone() == (len(done),)
        connection.rollback()
        (report,) = resume(connection, "simulated")
        assert report.folds == SPEC.folds
        again = dict(connection.execute("select number, done_at from training_tasks where kind = 'fold'").fetchall())
        assert {number: again[number] for number in done} == {number: kept[number] for number in done}
        assert _outcome(connection) == undisturbed
        assert resume(connection, "simulated") == []


def test_two_processes_split_the_folds_and_do_none_twice(url: str, undisturbed: list[object]) -> None:
    with _training(url) as first, _training(url) as second:
        for process in (first, second):
            _tell(process, "begin")
        assert (first.wait(120), second.wait(120)) == (0, 0)
        pids = {str(first.pid), str(second.pid)}
    with connect(url) as connection:
        rows = connection.execute("select worker, kind, number from training_tasks").fetchall()
        assert len(rows) == len(layout(SPEC))
        assert {worker.rsplit(":", 1)[1] for worker, _, _ in rows} == pids
        assert connection.execute("select count(*) from model_versions").fetchone() == (1,)
        assert _outcome(connection) == undisturbed


def test_helper_processes_take_folds_and_change_nothing(url: str, undisturbed: list[object]) -> None:
    spec = SPEC.model_copy(update={"processes": 2, "helpers_from_s": 0.0})
    with connect(url) as connection:
        report = train(connection, "simulated", SYMBOL, "15m", END, spec)
        again = train(connection, "simulated", SYMBOL, "15m", END, spec)
        assert (again.model_id, again.reused) == (report.model_id, True)
        (versions, folds, searches), expected = _outcome(connection), undisturbed
        assert (folds, searches) == (expected[1], expected[2])
        assert [row[2] for row in versions] == [row[2] for row in expected[0]]  # type: ignore[attr-defined]  # rows


def test_progress_and_folds_are_told_while_others_train(url: str) -> None:
    with connect(url) as connection, _training(url) as process:
        _tell(process, "begin")
        _wait_for_tasks(connection, 6)
        process.kill()
        process.wait()
        (row,) = training_progress(connection, "simulated", 10).to_dict("records")
        assert (row["symbol"], row["state"], row["searches"], row["folds"]) == (SYMBOL, "running", 3, 12)
        assert row["searches_done"] == 3
        assert 3 <= row["folds_done"] <= 12
        assert row["eta_s"] > 0
        assert row["workers"] == 1
        folds = training_folds(connection, row["training_key"])
        assert len(folds) == row["folds_done"]
        assert set(folds["worker"].str.rsplit(":", n=1).str[1]) == {str(process.pid)}
        assert (folds["seconds"] > 0).all()
        connection.rollback()
        resume(connection, "simulated")
        assert training_progress(connection, "simulated", 10)["state"].tolist() == ["finished"]


def _laid_out(connection: Connection) -> str:
    instrument = connection.execute("select instrument_id from instruments where symbol = %s", (SYMBOL,)).fetchone()
    assert instrument is not None
    work = Training("key", "simulated", SYMBOL, instrument[0], "15m", END, SPEC.model_dump(mode="json"))
    trainings.begin(connection, work, layout(SPEC.model_copy(update={"folds": 2})))
    connection.commit()
    return "key"


def test_folds_wait_for_their_search_and_a_claim_ends_with_its_transaction(url: str) -> None:
    with connect(url) as one, connect(url) as two:
        key = _laid_out(one)
        assert trainings.claim(one, key) == Task("search", 0, None)
        assert trainings.claim(two, key) == Task("search", 2, None)
        with connect(url) as third:
            assert trainings.claim(third, key) is None
        trainings.complete(one, key, Task("search", 0, None), "one", 1.0, {})
        one.commit()
        assert trainings.claim(one, key) == Task("fold", 0, 0)
        two.rollback()
        assert trainings.claim(two, key) == Task("search", 2, None)
