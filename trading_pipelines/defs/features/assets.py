"""Features of closed bars, and the market breadth that they join.

Belongs here: the feature table of the signal timeframe. Does not belong here: how a feature is computed
(`domain.features`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.market_data.assets import BASE_TABLE, DERIVED_TABLES
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

TABLE = f"features_{settings().signal_timeframe}"
BREADTH = table_spec(
    "market_breadth",
    group="features",
    owner="team:research",
    description="Which share of the majors rises, at each close; a fixed basket, whatever symbols are traded.",
    deps=[f"ohlcv_{settings().signal_timeframe}"],
)
SPEC = table_spec(
    TABLE,
    group="features",
    owner="team:research",
    description=(
        f"Indicators of every closed {settings().signal_timeframe} bar, computed from nothing that was not "
        "known at its close; one array per bar in the order of `feature_sets.names`."
    ),
    deps=[BASE_TABLE, *DERIVED_TABLES, "funding_rates", BREADTH.key],
    fresh_within=timedelta(minutes=45),
)


@dg.multi_asset(
    name="build_features", specs=[BREADTH, SPEC], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def features(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Build the features of the run's days from the stored candles."""
    from trading_pipelines.application.features.building import build_features

    exchange, timeframe = settings().exchange, settings().signal_timeframe
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        symbols = traded_symbols(connection)
        report = build_features(connection, exchange, symbols, timeframe, window.start, window.end)
        yield dg.MaterializeResult(asset_key=BREADTH.key, metadata={"changed": report.breadth_changed})
        yield dg.MaterializeResult(
            asset_key=SPEC.key,
            metadata={**partition_rows(connection, TABLE, window, exchange), "inputs_hash": report.inputs_hash},
            data_version=dg.DataVersion(report.inputs_hash),
        )
