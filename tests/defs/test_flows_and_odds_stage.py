"""Flows and odds through Dagster: a day's run fills its tables, its checks pass, and planted faults are found."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.defs.onchain import assets as onchain
from trading_pipelines.defs.onchain import checks as onchain_checks
from trading_pipelines.defs.onchain.schedules import flows_schedule, whale_alerts_schedule
from trading_pipelines.defs.prediction_markets import assets as markets
from trading_pipelines.defs.prediction_markets import checks as market_checks
from trading_pipelines.defs.prediction_markets.schedules import prediction_markets_schedule
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, OutsideResource
from trading_pipelines.store.connection import Connection

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
TODAY, YESTERDAY = "2026-03-10", "2026-03-09"
CHECKS = [
    onchain_checks.transactions_known_in_time,
    onchain_checks.flows_known_in_time,
    onchain_checks.flow_metrics_founded,
    onchain_checks.transaction_sources_answer,
    market_checks.no_market_forgotten,
    market_checks.odds_known_in_time,
    market_checks.distributions_founded,
]


@pytest.fixture
def market(connection: Connection) -> Connection:
    """Ten days of candles of two symbols."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT")), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=10), NOW)
    connection.commit()
    return connection


def _run(clock: ClockResource, day: str) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            onchain.whale_transactions,
            onchain.exchange_flows,
            onchain.flow_metrics,
            markets.prediction_odds,
            markets.implied_distributions,
            *CHECKS,
        ],
        resources={"clock": clock, "database": DatabaseResource(), "outside": OutsideResource()},
        partition_key=day,
        raise_on_error=False,
    )


@pytest.mark.usefixtures("platform")
def test_runs_of_two_days_fill_the_tables_and_pass_their_checks(market: Connection, clock: ClockResource) -> None:
    results = [_run(clock, day) for day in (YESTERDAY, TODAY, TODAY)]

    assert all(result.success for result in results)
    for result in results:
        evaluations = result.get_asset_check_evaluations()
        assert len(evaluations) == len(CHECKS)
        assert all(found.passed for found in evaluations)
    for table in ("whale_transactions", "exchange_flows", "prediction_odds", "implied_distributions"):
        row = market.execute(f"select count(*) from {table}".encode()).fetchone()
        assert row is not None
        assert row[0] > 0, table
    series = {name for (name,) in market.execute("select distinct series from observations").fetchall()}
    assert {"exchange_netflow_usd", "stablecoin_inflow_usd", "whale_score", "prediction_bias"} <= series


@pytest.mark.usefixtures("platform")
def test_run_tells_of_a_very_large_transaction_and_of_a_move_in_the_event_table(
    market: Connection, clock: ClockResource
) -> None:
    assert _run(clock, TODAY).success
    market.execute("delete from events")
    market.execute(
        "insert into whale_transactions values ('simulated', 'big', 'bitcoin', 'BTC', %(ts)s, %(ts)s, 200, 2e7, "
        "'UNKNOWN', 'someone', 'EXCHANGE', 'Northpool', 'INFLOW')",
        {"ts": NOW - timedelta(minutes=4)},
    )
    market.execute(
        "insert into prediction_odds select distinct on (source, market_id) source, market_id, %(now)s, %(now)s, "
        "case when probability > 0.5 then probability - 0.2 else probability + 0.2 end, 0.01, 1e6, 1e6 "
        "from prediction_odds join prediction_markets using (source, market_id) "
        "where status = 'OPEN' and kind = 'ABOVE' order by source, market_id, ts desc limit 1",
        {"now": NOW - timedelta(seconds=1)},
    )
    market.commit()

    results = [_run(clock, TODAY) for _ in range(2)]

    assert all(result.success for result in results)
    told = market.execute("select kind, severity, count(*) from events group by 1, 2 order by 1").fetchall()
    assert told == [("prediction_odds", "warning", 1), ("whale_transaction", "warning", 1)]


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize(
    ("statement", "check"),
    [
        (
            "update whale_transactions set available_at = available_at + interval '1 year'",
            onchain_checks.transactions_known_in_time,
        ),
        ("update exchange_flows set available_at = ts", onchain_checks.flows_known_in_time),
        (
            "update observations set value = value + 1 where series = 'exchange_netflow_usd'",
            onchain_checks.flow_metrics_founded,
        ),
        (
            "update exchange_flows set available_at = available_at + interval '1 minute'",
            onchain_checks.flow_metrics_founded,
        ),
        ("update prediction_odds set probability = 0.5", market_checks.distributions_founded),
        ("update prediction_odds set available_at = ts - interval '1 second'", market_checks.odds_known_in_time),
        (
            "update prediction_markets set status = 'OPEN', closed_at = null, outcome = null, "
            "expires_at = expires_at - interval '1 year', last_seen_at = last_seen_at - interval '8 days'",
            market_checks.no_market_forgotten,
        ),
    ],
    ids=[
        "from_the_future",
        "known_too_early",
        "other_sum",
        "known_later_than_summed",
        "other_odds",
        "early_odds",
        "forgotten",
    ],
)
def test_planted_fault_is_found(
    market: Connection, clock: ClockResource, statement: str, check: dg.AssetChecksDefinition
) -> None:
    assert _run(clock, TODAY).success
    market.execute(statement.encode())
    market.commit()

    job = dg.define_asset_job("checking", selection=dg.AssetSelection.checks(check))
    resources = {"clock": clock, "database": DatabaseResource(), "outside": OutsideResource()}
    definitions = dg.Definitions(asset_checks=[check], jobs=[job], resources=resources)
    result = definitions.resolve_job_def("checking").execute_in_process(
        tags={"dagster/partition": TODAY}, raise_on_error=False
    )

    assert [found.passed for found in result.get_asset_check_evaluations()] == [False]


@pytest.mark.parametrize(
    ("schedule", "tick", "day"),
    [
        (whale_alerts_schedule, datetime(2026, 3, 10, 0, 5, tzinfo=UTC), TODAY),
        (flows_schedule, datetime(2026, 3, 10, 0, 13, tzinfo=UTC), YESTERDAY),
        (flows_schedule, datetime(2026, 3, 10, 1, 13, tzinfo=UTC), TODAY),
        (prediction_markets_schedule, datetime(2026, 3, 10, 0, 2, tzinfo=UTC), TODAY),
    ],
)
def test_tick_asks_for_the_day_that_it_is_about(
    stored_instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition, tick: datetime, day: str
) -> None:
    with dg.build_schedule_context(stored_instance, scheduled_execution_time=tick) as context:
        request = schedule(context)

    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == day
