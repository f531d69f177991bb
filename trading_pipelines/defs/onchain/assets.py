"""Large transactions, flows of exchanges, and what sums of them say.

Belongs here: the tables, a partition per UTC day. Does not belong here: how a source is asked (`adapters.alternative`)
and the formulas (`domain.onchain`).
"""

from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.collected import outcome
from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.scope import DAYS, run_window
from trading_pipelines.defs.tables import table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, OutsideResource
from trading_pipelines.settings import SourceName, settings

OWNER = "team:market-data"
WHALE_TRANSACTIONS = table_spec(
    "whale_transactions",
    group="alternative",
    owner=OWNER,
    description="Large transactions on chains, with the kinds of owners at both ends.",
    kinds={"python"},
    fresh_within=timedelta(minutes=30),
)
EXCHANGE_FLOWS = table_spec(
    "exchange_flows",
    group="alternative",
    owner=OWNER,
    description="What went to exchanges and from them each hour, as sources publish it.",
    kinds={"python"},
    fresh_within=timedelta(hours=6),
)
FLOW_METRICS = table_spec(
    "observations",
    key="flow_metrics",
    group="alternative",
    owner=OWNER,
    description="Hourly net flow of each coin, inflow of stablecoins, and the daily whale score.",
    deps=["whale_transactions", "exchange_flows", "ohlcv_1h"],
    fresh_within=timedelta(hours=4),
)


def simulated() -> bool:
    """Whether the settings trade the simulated market."""
    return settings().source is SourceName.SIMULATED


@dg.multi_asset(
    name="collect_whale_transactions",
    specs=[WHALE_TRANSACTIONS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=TRANSIENT,
    pool="source_whale_transactions",
)
def whale_transactions(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource, outside: OutsideResource
) -> dg.MaterializeResult:
    """Store the transactions of the run's days and tell of very large new ones."""
    from trading_pipelines.application.alternative.alternative_data import OVERLAP, collect
    from trading_pipelines.application.alternative.flows import raise_whale_alerts

    now, thresholds = clock.now(), settings().alternative.flows.thresholds
    window = run_window(context, now)
    with user_errors(), database.connect() as connection:
        reports = [
            collect(connection, source, window.start - OVERLAP, window.end, now=now)
            for source in outside.open("whale_transactions")
        ]
        alerts = raise_whale_alerts(connection, now, thresholds, simulated=simulated())
    return dg.MaterializeResult(
        asset_key=WHALE_TRANSACTIONS.key, metadata={**outcome(context, reports), "alerts": alerts}
    )


@dg.multi_asset(
    name="collect_exchange_flows",
    specs=[EXCHANGE_FLOWS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=TRANSIENT,
    pool="source_exchange_flows",
)
def exchange_flows(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource, outside: OutsideResource
) -> dg.MaterializeResult:
    """Store the flows of the run's days."""
    from trading_pipelines.application.alternative.alternative_data import OVERLAP, collect

    now = clock.now()
    window = run_window(context, now)
    with user_errors(), database.connect() as connection:
        reports = [
            collect(connection, source, window.start - OVERLAP, window.end, now=now)
            for source in outside.open("exchange_flows")
        ]
    return dg.MaterializeResult(asset_key=EXCHANGE_FLOWS.key, metadata=outcome(context, reports))


@dg.multi_asset(
    name="derive_flow_metrics",
    specs=[FLOW_METRICS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def flow_metrics(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Sum what moved in the run's days; a period that has not ended has no value."""
    from trading_pipelines.application.alternative.flows import update_flows

    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = update_flows(connection, settings(), window.start, window.end)
    return dg.MaterializeResult(asset_key=FLOW_METRICS.key, metadata={"new": report.new, "values": report.values})
