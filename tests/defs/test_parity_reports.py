"""The daily comparison as an asset: it reports, alerts, and holds nobody up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.defs.portfolio.parity import parity_job, parity_reports, parity_schedule, same_decisions
from trading_pipelines.resources.platform import ClockResource, DatabaseResource

NOW = datetime.now(UTC)


class Tomorrow(ClockResource):
    """The clock of the night after today."""

    def now(self) -> datetime:
        """Half past midnight."""
        return NOW.replace(hour=0, minute=30) + timedelta(days=1)


def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [parity_reports, same_decisions],
        resources={"clock": Tomorrow(), "database": DatabaseResource()},
        instance=instance,
    )


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_day_without_a_difference_passes_and_is_counted(books: Any, instance: dg.DagsterInstance) -> None:
    result = run(instance)
    assert result.success
    assert check(result).passed
    stored = books.connection.execute("select day, decisions, diverged, run_id from parity_reports").fetchall()
    assert stored == [(NOW.date(), 0, 0, result.run_id)]


def test_divergence_fails_the_check_but_not_the_run(books: Any, instance: dg.DagsterInstance) -> None:
    books.decide(NOW.replace(hour=0, minute=15, second=0, microsecond=0))  # of a bar that no candle tells of
    result = run(instance)
    assert result.success
    evaluation = check(result)
    assert not evaluation.passed
    assert not evaluation.blocking
    assert "BTCUSDT" in str(evaluation.metadata["examples"].value)
    (event,) = books.connection.execute("select severity, subject from events where kind = 'parity'").fetchall()
    assert event[0] == "critical"


def test_schedule_asks_every_night_unless_a_comparison_is_under_way(stored_instance: dg.DagsterInstance) -> None:
    context = dg.build_schedule_context(instance=stored_instance)
    assert isinstance(parity_schedule(context), dg.RunRequest)
    stored_instance.create_run_for_job(_resolved(), status=dg.DagsterRunStatus.STARTED)
    assert isinstance(parity_schedule(context), dg.SkipReason)


def _resolved() -> dg.JobDefinition:
    from trading_pipelines.definitions import defs

    return defs.resolve_job_def(parity_job.name)


@pytest.mark.parametrize("day", ["2025-02-30", "yesterday"])
def test_day_that_is_none_fails_with_its_name(books: Any, instance: dg.DagsterInstance, day: str) -> None:
    result = dg.materialize(
        [parity_reports],
        resources={"clock": Tomorrow(), "database": DatabaseResource()},
        run_config={"ops": {"compare_with_replay": {"config": {"day": day}}}},
        instance=instance,
        raise_on_error=False,
    )
    assert not result.success
