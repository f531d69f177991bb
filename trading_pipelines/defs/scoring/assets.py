"""The composite score of every symbol, and the inputs behind it.

Belongs here: the tables that scoring fills, a partition per UTC day. Does not belong here: mappings and weights
(`domain.scoring`), and signals that follow from a score (`defs.signals`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

OWNER = "team:research"
_FRAME = settings().signal_timeframe
INPUTS = table_spec(
    "factor_values",
    group="scoring",
    owner=OWNER,
    description="What the factors of the composite score were made of: raw value, mapped value and age of each input.",
    deps=list(dict.fromkeys((f"ohlcv_{_FRAME}", "ohlcv_1h", "technical_signals", "funding_rates"))),
)
SCORES = table_spec(
    "composite_scores",
    group="scoring",
    owner=OWNER,
    description="0 to 100 per symbol and close: charts, sentiment, on-chain, market context and momentum, weighted.",
    deps=[INPUTS.key],
    fresh_within=timedelta(minutes=45),
)


@dg.multi_asset(
    name="score", specs=[INPUTS, SCORES], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def scoring(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> Iterator[dg.MaterializeResult]:
    """Score the run's days from what was known at each close."""
    from trading_pipelines.application.scoring import score_range

    exchange = settings().exchange
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        symbols = traded_symbols(connection)
        report = score_range(connection, exchange, symbols, _FRAME, window.start, window.end, settings().scoring)
        rows = partition_rows(connection, "factor_values", window, exchange)
        yield dg.MaterializeResult(asset_key=INPUTS.key, metadata=rows)
        rows = partition_rows(connection, "composite_scores", window, exchange)
        yield dg.MaterializeResult(
            asset_key=SCORES.key,
            metadata={
                "new": report.counts.inserted,
                "changed": report.counts.updated,
                "seconds": report.seconds,
                **rows,
            },
        )
