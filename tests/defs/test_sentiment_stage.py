"""Sentiment through Dagster: a day's run fills its tables, its checks pass, and planted faults are found."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.defs.sentiment import assets, checks
from trading_pipelines.defs.sentiment.schedules import sentiment_schedule
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.alternative.texts import TextItem, TextKind
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import texts

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
TODAY, YESTERDAY = "2026-03-10", "2026-03-09"


ALARMS = (
    "Bitcoin crashes as the exchange is hacked",
    "Bitcoin plummets after a fraud comes to light",
    "Panic: Bitcoin collapses, traders liquidated",
    "Bankrupt lender dumps its Bitcoin",
    "Thieves have stolen thousands of Bitcoin",
    "Bitcoin plunges through the floor",
    "Bitcoin wiped out in a death spiral, analysts say",
    "Ponzi scheme with Bitcoin exposed, prison for its founder",
)


@pytest.fixture
def written(connection: Connection) -> Connection:
    """Three texts a day since the day before yesterday."""
    items = []
    for hours in range(4, 60, 8):
        published = NOW - timedelta(hours=hours)
        title = f"Bitcoin {'soars' if hours % 3 else 'crashes'} {hours}"
        items.append(TextItem(SIMULATED, str(hours), TextKind.NEWS, title, "", None, None, published, published))
    texts.add(connection, items)
    connection.commit()
    return connection


def _run(clock: ClockResource, day: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            assets.sentiment,
            checks.every_text_read,
            checks.scores_known_after_the_text,
            checks.sentiment_as_it_was_known,
        ],
        resources={"clock": clock, "database": DatabaseResource()},
        partition_key=day,
        raise_on_error=False,
    )


def _instants(connection: Connection) -> int:
    row = connection.execute("select count(*) from sentiment where coin = 'BTC'").fetchone()
    connection.commit()
    assert row is not None
    return row[0]


@pytest.mark.usefixtures("platform")
def test_run_of_today_continues_from_the_first_text_and_passes_its_checks(
    written: Connection, clock: ClockResource
) -> None:
    result = _run(clock, TODAY)

    assert result.success
    assert _instants(written) == 2 * 52
    assert [found.passed for found in result.get_asset_check_evaluations()] == [True, True, True]
    found = {e.asset_key.to_user_string(): e for e in result.get_asset_materialization_events()}
    assert found["text_mentions"].materialization.metadata["read"].value == 7
    assert _run(clock, TODAY).success
    assert _instants(written) == 2 * 52


@pytest.mark.usefixtures("platform")
def test_run_tells_of_a_turn_in_the_event_table_once(written: Connection, clock: ClockResource) -> None:
    published = [NOW - timedelta(minutes=20 + n) for n in range(8)]
    alarms = [
        TextItem(SIMULATED, f"alarm {n}", TextKind.NEWS, title, "", None, None, at, at)
        for n, (at, title) in enumerate(zip(published, ALARMS, strict=True))
    ]
    texts.add(written, alarms)
    written.commit()

    results = [_run(clock, TODAY) for _ in range(2)]

    assert all(result.success for result in results)
    told = written.execute("select subject, severity from events where kind = 'sentiment_turn' order by 1").fetchall()
    assert told == [("BTC", "warning"), ("MARKET", "warning")]


@pytest.mark.usefixtures("platform")
def test_run_of_a_day_that_has_ended_computes_its_instants(written: Connection, clock: ClockResource) -> None:
    result = _run(clock, YESTERDAY)

    assert result.success
    assert _instants(written) == 48
    compared = [e.metadata["compared"].value for e in result.get_asset_check_evaluations() if "compared" in e.metadata]
    assert compared[0] > 8  # type: ignore[operator]  # a number


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("update sentiment set score = -score / 2 - 0.1", checks.sentiment_as_it_was_known),
        ("update text_scores set available_at = available_at + interval '3 hours'", checks.sentiment_as_it_was_known),
        ("update text_scores set available_at = available_at - interval '1 hour'", checks.scores_known_after_the_text),
        ("update texts set fingerprint = null where text_id = 1", checks.every_text_read),
    ],
    ids=["another_score", "score_used_too_early", "score_before_its_text", "unread"],
)
def test_planted_fault_is_found(
    written: Connection, clock: ClockResource, statement: str, check: dg.AssetChecksDefinition
) -> None:
    assert _run(clock, YESTERDAY).success
    written.execute(statement.encode())
    written.commit()

    job = dg.define_asset_job("checking", selection=dg.AssetSelection.checks(check))
    resources = {"clock": clock, "database": DatabaseResource()}
    definitions = dg.Definitions(asset_checks=[check], jobs=[job], resources=resources)
    result = definitions.resolve_job_def("checking").execute_in_process(
        tags={"dagster/partition": YESTERDAY}, raise_on_error=False
    )

    assert [found.passed for found in result.get_asset_check_evaluations()] == [False]


def test_tick_asks_for_the_day_that_goes_on(stored_instance: dg.DagsterInstance) -> None:
    tick = datetime(2026, 3, 10, 0, 12, tzinfo=UTC)
    with dg.build_schedule_context(stored_instance, scheduled_execution_time=tick) as context:
        request = sentiment_schedule(context)

    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == TODAY
