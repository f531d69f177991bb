"""Composite scores through Dagster: a day's run fills both tables, its checks pass, and planted faults are found."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.defs.scoring import assets, checks
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import observations

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
TODAY = "2026-03-10"
BARS = 2 * 48
"""Closed bars of two symbols since midnight."""
CHECKS = [checks.inputs_within_bounds, checks.contributions_add_up, checks.scores_no_lookahead]


@pytest.fixture
def market(connection: Connection) -> Connection:
    """Two symbols with charts, a mood and a sentiment."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT")), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=70), NOW)
    hours = [NOW.replace(minute=0) - n * timedelta(hours=1) for n in range(24)]
    rows = [Observation("sentiment", coin, SIMULATED, at, at, 0.4) for coin in ("BTC", "ETH") for at in hours]
    midnight = NOW.replace(hour=0, minute=0)
    rows += [
        Observation("fear_greed", MARKET, SIMULATED, at, at, 70.0) for at in (midnight, midnight - timedelta(days=1))
    ]
    observations.add(connection, rows)
    connection.commit()
    return connection


def _run(clock: ClockResource) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [assets.scoring, *CHECKS],
        resources={"clock": clock, "database": DatabaseResource()},
        partition_key=TODAY,
        raise_on_error=False,
    )


@pytest.mark.usefixtures("platform")
def test_run_of_today_scores_every_closed_bar_and_passes_its_checks(market: Connection, clock: ClockResource) -> None:
    results = [_run(clock) for _ in range(2)]

    assert all(result.success for result in results)
    for result in results:
        evaluations = result.get_asset_check_evaluations()
        assert {found.check_name: found.passed for found in evaluations} == {
            "within_bounds": True,
            "contributions_add_up": True,
            "no_lookahead": True,
        }
    found = {e.asset_key.to_user_string(): e for e in results[0].get_asset_materialization_events() if e.asset_key}
    for table in ("factor_values", "composite_scores"):
        assert found[table].materialization.metadata["dagster/partition_row_count"].value == BARS
        row = market.execute(f"select count(*) from {table}".encode()).fetchone()
        assert row == (BARS,)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("update factor_values set mapped[2] = 1.2", checks.inputs_within_bounds),
        ("update factor_values set ages[2] = 361.5", checks.inputs_within_bounds),
        ("update factor_values set ages[2] = -1", checks.inputs_within_bounds),
        ("update composite_scores set contributions[1] = contributions[1] + 1", checks.contributions_add_up),
        ("update composite_scores set available_at = available_at + interval '1 minute'", checks.contributions_add_up),
        ("update factor_values set mapped[2] = mapped[2] + 0.1", checks.scores_no_lookahead),
        (
            "update observations set available_at = available_at + interval '1 day' where series = 'sentiment'",
            checks.scores_no_lookahead,
        ),
    ],
    ids=["beyond_one", "too_old", "from_the_future", "other_points", "known_later", "other_input", "input_known_later"],
)
def test_planted_fault_is_found(
    market: Connection, clock: ClockResource, statement: str, check: dg.AssetChecksDefinition
) -> None:
    assert _run(clock).success
    market.execute(statement.encode())
    market.commit()

    job = dg.define_asset_job("checking", selection=dg.AssetSelection.checks(check))
    resources = {"clock": clock, "database": DatabaseResource()}
    definitions = dg.Definitions(asset_checks=[check], jobs=[job], resources=resources)
    result = definitions.resolve_job_def("checking").execute_in_process(
        tags={"dagster/partition": TODAY}, raise_on_error=False
    )

    assert [found.passed for found in result.get_asset_check_evaluations()] == [False]
