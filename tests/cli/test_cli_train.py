"""`trading train`: its options, and going on with what was begun."""

from datetime import UTC, datetime, timedelta

import psycopg
from command_line import Run

from trading_pipelines.domain.market.timeframe import Timeframe

MIDNIGHT = Timeframe.D1.floor(datetime.now(UTC))


def day(ago: int) -> str:
    return f"{MIDNIGHT - timedelta(days=ago):%Y-%m-%d}"


def test_training_with_a_search_is_resumed_after_an_interruption(
    run: Run, on_database: str, small_market: None
) -> None:
    assert run("ingest", "--from", day(58), "--to", day(0)).code == 0
    command = (
        "train",
        "--symbols",
        "BTCUSDT",
        "--to",
        day(1),
        "--folds",
        "2",
        "--trials",
        "2",
        "--every",
        "2",
        "--json",
    )
    trained = run(*command)
    assert trained.code == 0
    (version,) = trained.json["versions"]
    assert version["folds"] == 2
    assert "training BTCUSDT" in trained.err
    assert run("train", "--resume", "--json").json["versions"] == []

    with psycopg.connect(on_database) as connection:
        tasks = connection.execute("select kind, count(*)::int from training_tasks group by 1 order by 1").fetchall()
        assert tasks == [("fold", 2), ("search", 2)]
        connection.execute("update trainings set finished_at = null")
        connection.execute("update training_tasks set done_at = null where kind = 'fold' and number = 1")
        connection.execute("delete from model_folds where fold = 1")
    resumed = run("train", "--resume", "--symbols", "BTCUSDT", "--json").json["versions"]
    assert [(v["model_id"], v["folds"], v["reused"]) for v in resumed] == [(version["model_id"], 2, True)]


def test_resumed_training_takes_no_options_of_a_new_one(run: Run, on_database: str) -> None:
    outcome = run("train", "--resume", "--folds", "3")
    assert outcome.code == 2
    assert "--resume goes on with what was begun" in outcome.err
