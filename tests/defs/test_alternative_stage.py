"""Alternative data through Dagster: runs fill the tables, failures stay where they are, checks find what is wrong."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.adapters.alternative.base import AlternativeSource, Delivery, NotConfiguredError
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.definitions import defs
from trading_pipelines.defs.alternative import assets, checks
from trading_pipelines.defs.alternative.schedules import figures_schedule, texts_schedule
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, OutsideResource
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import observations

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
TODAY, EARLIER = "2026-03-10", "2026-03-02"


class Failing:
    """A source that raises."""

    def __init__(self, name: str, error: Exception) -> None:
        self.name = name
        self._error = error

    def fetch(self, since: datetime, until: datetime) -> Delivery[Any]:
        raise self._error


class Outside(OutsideResource):
    """The simulated sources, and failing ones instead or beside them."""

    refusing: bool = False
    keyless: bool = False
    alone: bool = True

    def open(self, dataset: str) -> tuple[AlternativeSource[Any], ...]:
        found: list[AlternativeSource[Any]] = []
        if self.refusing:
            found.append(Failing("down", SourceError("down does not answer")))
        if self.keyless:
            found.append(Failing("keyless", NotConfiguredError("set TRADING_ALTERNATIVE__X__API_KEY")))
        return tuple(found) if found and self.alone else (*found, *super().open(dataset))


def run(
    clock: ClockResource, names: Sequence[str], day: str | None = None, outside: OutsideResource | None = None
) -> dg.ExecuteInProcessResult:
    wanted = {dg.AssetKey(name) for name in names}
    return dg.materialize(
        [
            *(asset for asset in assets.COLLECTED if asset.keys & wanted),
            *(check for check in checks.CHECKS if {key.asset_key for key in check.check_keys} & wanted),
        ],
        resources={"clock": clock, "database": DatabaseResource(), "outside": outside or Outside()},
        partition_key=day,
        raise_on_error=False,
    )


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(f"collect_{name}")
    return {key: value.value for key, value in event.metadata.items()}


@pytest.mark.usefixtures("platform")
def test_figures_of_a_past_day_can_be_collected_again_and_again(connection: Connection, clock: ClockResource) -> None:
    names = [d.name for d in assets.DATASETS if d.daily]
    first, again = run(clock, names, EARLIER), run(clock, names, EARLIER)
    assert first.success
    assert again.success
    assert all(metadata(first, name)["new"] > 0 for name in names)
    assert all(metadata(again, name)["new"] == 0 for name in names)
    assert all(found.passed for found in first.get_asset_check_evaluations())
    newest = connection.execute("select max(available_at) from observations").fetchone()
    assert newest is not None
    assert newest[0] <= datetime(2026, 3, 3, tzinfo=UTC)


@pytest.mark.usefixtures("platform")
def test_texts_are_collected_up_to_now_with_their_refused_ones(connection: Connection, clock: ClockResource) -> None:
    result = run(clock, ["news", "posts", "coin_metrics"])
    assert result.success
    assert metadata(result, "news")["new"] > 20
    assert metadata(result, "news")["known_today"] > 5
    latest = connection.execute("select max(available_at), count(*) filter (where title ~ '<script') from texts")
    known, running = latest.fetchone() or (None, None)
    assert known is not None
    assert known <= NOW
    assert running == 0


@pytest.mark.usefixtures("platform", "connection")
def test_source_without_a_key_is_shown_and_fails_nothing(clock: ClockResource) -> None:
    result = run(clock, ["posts"], outside=Outside(keyless=True))
    assert result.success
    assert metadata(result, "posts")["sources"] == {"keyless": "NOT_CONFIGURED"}


@pytest.mark.usefixtures("platform", "connection")
def test_failing_source_beside_a_sound_one_warns(clock: ClockResource) -> None:
    result = run(clock, ["news"], outside=Outside(refusing=True, alone=False))
    assert result.success
    assert metadata(result, "news")["sources"] == {"down": "FAILING", "simulated_news": "OK"}
    (answering,) = [found for found in result.get_asset_check_evaluations() if found.check_name == "sources_answer"]
    assert (answering.passed, answering.severity) == (False, dg.AssetCheckSeverity.WARN)


@pytest.mark.usefixtures("platform", "connection")
def test_run_fails_with_the_reason_when_no_source_answers(clock: ClockResource) -> None:
    result = run(clock, ["news"], outside=Outside(refusing=True))
    assert not result.success


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("early_by", [timedelta(minutes=1), timedelta(days=400)])
def test_number_that_was_known_too_early_blocks(
    connection: Connection, clock: ClockResource, early_by: timedelta
) -> None:
    known = NOW - timedelta(hours=1)
    observations.add(connection, [Observation("fear_greed", MARKET, SIMULATED, known + early_by, known, 50.0)])
    connection.commit()
    result = run(clock, ["fear_greed"], TODAY)
    assert not all(
        found.passed for found in result.get_asset_check_evaluations() if found.check_name == "known_after_it_happened"
    )


def test_figures_are_asked_for_hourly_for_the_day_and_texts_without_one(stored_instance: dg.DagsterInstance) -> None:
    at = datetime(2026, 3, 10, 0, 6, tzinfo=UTC)
    with dg.build_schedule_context(instance=stored_instance, scheduled_execution_time=at) as context:
        figures = figures_schedule(context)
    with dg.build_schedule_context(instance=stored_instance, scheduled_execution_time=at) as context:
        texts = texts_schedule(context)
    assert isinstance(figures, dg.RunRequest)
    assert isinstance(texts, dg.RunRequest)
    assert (figures.partition_key, texts.partition_key) == (TODAY, None)


@pytest.mark.usefixtures("platform", "connection")
def test_job_of_the_figures_runs_for_a_day_with_what_has_partitions_and_what_has_none() -> None:
    today = datetime.now(UTC).date().isoformat()
    result = defs.resolve_job_def("figures").execute_in_process(partition_key=today)
    assert result.success
    assert {
        event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key
    } == {
        "fear_greed",
        "coin_metrics",
        "social_metrics",
        "derivatives_sentiment",
    }
