"""Features of closed bars.

Belongs here: the feature table of the signal timeframe. Does not belong here: how a feature is computed
(`domain.features`).
"""

from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.market_data.assets import BASE_TABLE, DERIVED_TABLES
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

TABLE = f"features_{settings().signal_timeframe}"
SPEC = table_spec(
    TABLE,
    group="features",
    owner="team:research",
    description=(
        f"Indicators of every closed {settings().signal_timeframe} bar, computed from nothing that was not "
        "known at its close; one array per bar in the order of `feature_sets.names`."
    ),
    deps=[BASE_TABLE, *DERIVED_TABLES, "funding_rates"],
    fresh_within=timedelta(minutes=45),
)


@dg.multi_asset(
    name="build_features", specs=[SPEC], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def features(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Build the features of the run's days from the stored candles."""
    from trading_pipelines.application.features import build_features

    exchange, timeframe = settings().exchange, settings().signal_timeframe
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        symbols = traded_symbols(connection)
        build_features(connection, exchange, symbols, timeframe, window.start, window.end)
        return dg.MaterializeResult(asset_key=SPEC.key, metadata=partition_rows(connection, TABLE, window, exchange))
