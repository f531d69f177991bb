"""Training as partitions of symbol and timeframe, and runs that share one training."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.definitions import defs
from trading_pipelines.defs.models.assets import TrainingConfig, training
from trading_pipelines.defs.models.jobs import training_help_job, training_job
from trading_pipelines.defs.models.partitions import add_symbols, partition_key, split_partition_key
from trading_pipelines.defs.models.progress import TAG
from trading_pipelines.defs.models.schedules import training_schedule
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.settings import settings

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
CONFIG = dg.RunConfig(ops={"train": TrainingConfig(as_of=AS_OF.isoformat())})
SHORT = {"TRAIN_DAYS": "14", "TEST_DAYS": "1", "FOLDS": "2", "NUM_BOOST_ROUND": "10", "PROCESSES": "1"}


@pytest.fixture
def market(books: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Candles of both symbols, and a training that takes a moment."""
    for name, value in SHORT.items():
        monkeypatch.setenv(f"TRADING_TRAINING__{name}", value)
    settings.cache_clear()
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT")), clock=lambda: AS_OF)
    books.connection.rollback()
    ingest(books.connection, source, ("BTCUSDT", "ETHUSDT"), Timeframe.M5, AS_OF - timedelta(days=35), AS_OF)
    books.connection.commit()
    return books


def _versions(books: Any) -> list[tuple[str, str]]:
    rows = books.connection.execute(
        "select symbol, timeframe from model_versions join instruments using (instrument_id) order by 1, 2"
    ).fetchall()
    books.connection.rollback()
    return rows


def test_partition_names_a_symbol_and_a_timeframe() -> None:
    assert split_partition_key(partition_key("BTCUSDT", "1h")) == (("BTCUSDT",), "1h")


def test_run_of_a_partition_trains_its_symbol_and_tells_how_far_it_is(
    market: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    add_symbols(instance, ("BTCUSDT", "ETHUSDT"))
    key = partition_key("ETHUSDT", "15m")
    result = dg.materialize([training], partition_key=key, run_config=CONFIG, resources=resources, instance=instance)
    assert result.success
    assert _versions(market) == [("ETHUSDT", "15m")]
    (event,) = result.asset_materializations_for_node("train")
    assert event.partition == key
    assert event.metadata["folds"].value == {"ETHUSDT": 2}
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[TAG].startswith("ETHUSDT: 2 of 2 searches and folds")


def test_night_asks_for_one_run_per_symbol_with_the_time_of_the_tick(
    market: Any, resources: dict[str, Any], stored_instance: dg.DagsterInstance
) -> None:
    context = dg.build_schedule_context(
        instance=stored_instance,
        scheduled_execution_time=AS_OF + timedelta(hours=1, minutes=35),
        repository_def=defs.get_repository_def(),
        resources={"database": resources["database"]},
    )
    requests = training_schedule.evaluate_tick(context).run_requests or []
    assert [request.partition_key for request in requests] == [
        partition_key(symbol, "15m") for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    assert {r.run_config["ops"]["train"]["config"]["as_of"] for r in requests} == {"2026-03-10T01:35:00+00:00"}
    job = defs.resolve_job_def(training_job.name)
    stored_instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert "has not ended" in str(training_schedule.evaluate_tick(context).skip_message)


def test_run_elsewhere_finishes_what_another_one_left(
    market: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    assert dg.materialize([training], run_config=CONFIG, resources=resources, instance=instance).success
    whole = market.connection.execute("select model_id, artefact_sha256 from model_versions order by 1").fetchall()
    market.connection.execute("update trainings set finished_at = null")
    market.connection.execute("update training_tasks set done_at = null where number = 1")
    market.connection.execute("delete from model_folds where fold = 1")
    market.connection.execute("delete from model_promotions")
    market.connection.execute("delete from model_versions")
    market.connection.commit()
    job = dg.Definitions(jobs=[training_help_job], resources=resources).resolve_job_def(training_help_job.name)
    assert job.execute_in_process(instance=instance).success
    again = market.connection.execute("select model_id, artefact_sha256 from model_versions order by 1").fetchall()
    assert again == whole
    assert market.connection.execute("select count(*) from model_folds").fetchone() == (4,)
