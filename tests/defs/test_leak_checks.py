"""The nightly point-in-time checks: of every table at once, in a run of their own, and red on what is planted."""

from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.definitions import defs
from trading_pipelines.defs.leaks.checks import CHECKED_BY, NAME, leaks
from trading_pipelines.defs.leaks.jobs import leak_check_job, leak_check_schedule
from trading_pipelines.resources.platform import ClockResource

CANDLES = {"ohlcv_1h", "ohlcv_4h", "ohlcv_1d"}


@pytest.fixture
def hour(clock: ClockResource) -> datetime:
    """The hour before the clock's."""
    return clock.now().replace(minute=0) - timedelta(hours=1)


def run(resources: dict[str, Any], *tables: str) -> dict[str, dg.AssetCheckEvaluation]:
    keys = [dg.AssetCheckKey(dg.AssetKey(table), NAME) for table in tables or CHECKED_BY]
    job = dg.define_asset_job("looking", selection=dg.AssetSelection.checks(*keys))
    definitions = dg.Definitions(asset_checks=[leaks], jobs=[job], resources=resources)
    result = definitions.resolve_job_def("looking").execute_in_process(raise_on_error=False)
    return {e.asset_key.to_user_string(): e for e in result.get_asset_check_evaluations()}


def test_candle_that_is_not_made_of_its_own_span_is_found_in_its_table_alone(
    books: Any, resources: dict[str, Any], hour: datetime
) -> None:
    for minutes in (0, 15, 30, 45):
        books.candle(hour + timedelta(minutes=minutes), table="ohlcv_15m", volume=1.0)
    books.candle(hour, table="ohlcv_1h", volume=4.0)
    assert all(evaluation.passed for evaluation in run(resources).values())

    books.connection.execute("update ohlcv_1h set high = 150")
    books.connection.commit()
    found = run(resources)

    assert {table for table, evaluation in found.items() if not evaluation.passed} == {"ohlcv_1h"}
    assert "BTCUSDT 1h.high" in str(found["ohlcv_1h"].metadata["leaks"].value)


def test_decision_before_the_close_of_its_bar_is_found(books: Any, resources: dict[str, Any], hour: datetime) -> None:
    setup = '{"side": "LONG", "reference_price": 100, "atr": 2, "probability": 0.6}'
    books.decide(hour)
    books.connection.execute("update decisions set strategy = 'model_signals', setup = %s", (setup,))
    books.connection.commit()

    (evaluation,) = run(resources, "decisions").values()

    assert not evaluation.passed
    assert "model_signals.decided_at" in str(evaluation.metadata["leaks"].value)


def test_only_what_is_asked_for_is_looked_at(books: Any, resources: dict[str, Any]) -> None:
    assert set(run(resources, "model_versions")) == {"model_versions"}
    assert set(run(resources)) == set(CHECKED_BY) >= CANDLES


def test_they_run_at_night_and_in_no_run_that_fills_a_table() -> None:
    repository = defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if "leaks" in {node.name for node in job.graph.nodes}}
    assert {name for name in jobs if not name.startswith("__")} == {leak_check_job.name}


def test_a_second_run_waits_for_the_first(stored_instance: dg.DagsterInstance, hour: datetime) -> None:
    with dg.build_schedule_context(stored_instance, scheduled_execution_time=hour) as context:
        asked = leak_check_schedule(context)
        assert isinstance(asked, dg.RunRequest)
        job = defs.resolve_job_def(leak_check_job.name)
        stored_instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert isinstance(leak_check_schedule(context), dg.SkipReason)
