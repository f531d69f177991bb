"""Analysis through Dagster: a day's run fills its tables, its checks pass, and planted faults are found."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.defs.analysis import assets, checks
from trading_pipelines.defs.analysis.schedules import analysis_schedule, screener_schedule
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.store.connection import Connection

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
TODAY, YESTERDAY = "2026-03-10", "2026-03-09"


@pytest.fixture
def market(connection: Connection) -> Connection:
    """A hundred and forty days of two symbols."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT")), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=140), NOW)
    connection.commit()
    return connection


def _run(clock: ClockResource, day: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            assets.analysis,
            assets.screening,
            checks.levels_in_order,
            checks.anomalies_known_at_close,
            checks.ranks_complete,
        ],
        resources={"clock": clock, "database": DatabaseResource()},
        partition_key=day,
        raise_on_error=False,
    )


@pytest.mark.usefixtures("platform")
def test_run_of_a_day_fills_its_tables_and_passes_its_checks(market: Connection, clock: ClockResource) -> None:
    result = _run(clock, YESTERDAY)

    assert result.success
    counts = market.execute(
        "select (select count(*) from technical_signals), (select count(*) from screener_rankings)"
    ).fetchone()
    assert counts == (2 * 96, 2)
    assert all(found.passed for found in result.get_asset_check_evaluations())
    assert len(result.get_asset_check_evaluations()) == 3


@pytest.mark.usefixtures("platform")
def test_ranking_of_a_day_that_goes_on_is_left_to_its_end(market: Connection, clock: ClockResource) -> None:
    assert _run(clock, TODAY).success

    assert market.execute("select count(*) from screener_rankings").fetchone() == (0,)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("update technical_signals set side = 'SHORT', stop_price = 1 where side = 'LONG'", checks.levels_in_order),
        ("update technical_signals set available_at = ts", checks.levels_in_order),
        ("update screener_rankings set rank = 1", checks.ranks_complete),
        (
            "insert into anomalies select instrument_id, '15m', ts, 'PUMP', ts, 2, 0, 1 from technical_signals limit 1",
            checks.anomalies_known_at_close,
        ),
    ],
    ids=["levels", "known_too_early", "tie", "anomaly_known_too_early"],
)
def test_planted_fault_is_found(
    market: Connection, clock: ClockResource, statement: str, check: dg.AssetChecksDefinition
) -> None:
    assert _run(clock, YESTERDAY).success
    market.execute(statement.encode())
    market.commit()

    job = dg.define_asset_job("checking", selection=dg.AssetSelection.checks(check))
    resources = {"clock": clock, "database": DatabaseResource()}
    definitions = dg.Definitions(asset_checks=[check], jobs=[job], resources=resources)
    result = definitions.resolve_job_def("checking").execute_in_process(
        tags={"dagster/partition": YESTERDAY}, raise_on_error=False
    )

    assert [found.passed for found in result.get_asset_check_evaluations()] == [False]


@pytest.mark.parametrize(
    ("schedule", "tick", "day"),
    [
        (analysis_schedule, datetime(2026, 3, 10, 0, 1, tzinfo=UTC), YESTERDAY),
        (analysis_schedule, datetime(2026, 3, 10, 0, 16, tzinfo=UTC), TODAY),
        (screener_schedule, datetime(2026, 3, 10, 0, 24, tzinfo=UTC), YESTERDAY),
    ],
)
def test_tick_asks_for_the_day_of_the_newest_closed_bar(
    stored_instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition, tick: datetime, day: str
) -> None:
    request = schedule(dg.build_schedule_context(stored_instance, scheduled_execution_time=tick))

    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == day
