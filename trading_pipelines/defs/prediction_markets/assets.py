"""Prediction markets, their odds, and the distributions that ladders imply.

Belongs here: the tables, a partition per UTC day. Does not belong here: how a source is asked (`adapters.alternative`)
and how a distribution is implied (`domain.prediction_markets`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.collected import outcome
from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.onchain.assets import OWNER, simulated
from trading_pipelines.defs.scope import DAYS, run_window
from trading_pipelines.defs.tables import table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, OutsideResource
from trading_pipelines.settings import settings

MARKETS = table_spec(
    "prediction_markets",
    group="alternative",
    owner=OWNER,
    description="Prediction markets about coins: what they ask, until when, and how they ended.",
    kinds={"python"},
    fresh_within=timedelta(hours=3),
)
ODDS = table_spec(
    "prediction_odds",
    group="alternative",
    owner=OWNER,
    description="What the markets think each hour, with spread, liquidity and volume.",
    kinds={"python"},
    fresh_within=timedelta(hours=3),
)
IMPLIED = table_spec(
    "implied_distributions",
    group="alternative",
    owner=OWNER,
    description="Prices that ladders of markets expect of a coin at an expiry, and how far they lean.",
    deps=["prediction_odds", f"ohlcv_{settings().signal_timeframe}"],
    fresh_within=timedelta(hours=4),
)


@dg.multi_asset(
    name="collect_prediction_odds",
    specs=[MARKETS, ODDS],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=TRANSIENT,
    pool="source_prediction_odds",
)
def prediction_odds(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource, outside: OutsideResource
) -> Iterator[dg.MaterializeResult]:
    """Store markets and odds of the run's days, find out what became of missing markets, and tell of moves."""
    from trading_pipelines.application.alternative.alternative_data import OVERLAP, CollectionReport, collect
    from trading_pipelines.application.alternative.odds import LooksUp, follow_up, raise_odds_alerts

    now, policy = clock.now(), settings().alternative.polymarket.policy
    window, found = run_window(context, now), (0, 0)
    with user_errors(), database.connect() as connection:
        reports: list[CollectionReport] = []
        for source in outside.open("prediction_odds"):
            report = collect(connection, source, window.start - OVERLAP, window.end, now=now)
            reports.append(report)
            if report.status == "OK" and isinstance(source, LooksUp):
                found = follow_up(connection, source, now)
        alerts = raise_odds_alerts(connection, now, policy, simulated=simulated())
    metadata = outcome(context, reports)
    yield dg.MaterializeResult(asset_key=MARKETS.key, metadata={"looked_up": found[0], "vanished": found[1]})
    yield dg.MaterializeResult(asset_key=ODDS.key, metadata={**metadata, "alerts": alerts})


@dg.multi_asset(
    name="imply_distributions",
    specs=[IMPLIED],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def implied_distributions(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Imply the distributions of each hour of the run's days."""
    from trading_pipelines.application.alternative.odds import update_odds

    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = update_odds(connection, settings(), window.start, window.end)
    return dg.MaterializeResult(asset_key=IMPLIED.key, metadata={"new": report.ladders, "leans": report.biases})
