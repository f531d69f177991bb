"""Candles and funding rates, from the source into the database.

Belongs here: the tables that ingestion fills. Does not belong here: how a candle is validated or derived
(`application.market_data.ingestion`) and what a healthy table looks like (`checks.py`).
"""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from trading_pipelines.defs.failures import TRANSIENT, user_errors
from trading_pipelines.defs.scope import DAYS, run_window
from trading_pipelines.defs.tables import partition_rows, table_spec
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.settings import settings

OWNER = "team:market-data"
BASE = Timeframe(settings().base_timeframe)
BASE_TABLE = f"ohlcv_{BASE}"
DERIVED_TABLES = tuple(f"ohlcv_{timeframe}" for timeframe in BASE.longer())
POOL = f"exchange_{settings().exchange}"
"""Runs that ask the same exchange wait for each other."""

SPECS = [
    table_spec(
        BASE_TABLE,
        group="market_data",
        owner=OWNER,
        description=f"{BASE} candles as fetched, validated row by row; refused rows are in quarantine.",
        kinds={settings().source},
        fresh_within=timedelta(minutes=30),
    ),
    *(
        table_spec(
            table,
            group="market_data",
            owner=OWNER,
            description=f"Candles derived from `{BASE_TABLE}`, closed buckets only.",
            deps=[BASE_TABLE],
            fresh_within=timedelta(minutes=30),
        )
        for table in DERIVED_TABLES
    ),
    table_spec(
        "funding_rates",
        group="market_data",
        owner=OWNER,
        description="Funding settled by perpetual contracts, as fraction of the notional paid by longs.",
        kinds={settings().source},
        fresh_within=timedelta(minutes=30),
    ),
]


class IngestConfig(dg.Config):
    """How to fetch."""

    refetch: bool = True
    """Ask again for what is stored, so that a backfill rebuilds a day; the regular jobs fetch what is missing."""


@dg.multi_asset(
    name="ingest",
    specs=SPECS,
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    retry_policy=TRANSIENT,
    pool=POOL,
)
def candles(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    clock: ClockResource,
    database: DatabaseResource,
    source: SourceResource,
) -> Iterator[dg.MaterializeResult]:
    """Fetch the run's days, then derive the longer timeframes."""
    from trading_pipelines.application.market_data.ingestion import ingest
    from trading_pipelines.store.repositories.gaps import Proof

    market = source.open()
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = ingest(
            connection,
            market,
            settings().symbols,
            BASE,
            window.start,
            window.end,
            refetch=config.refetch,
            proof=Proof(settings().repair.times, timedelta(hours=settings().repair.hours)),
        )
        problems = [*report.errors, *(f"{symbol} is not listed any more" for symbol in report.vanished)]
        if all(symbol.errors for symbol in report.symbols):
            raise dg.Failure("no symbol could be fetched: " + "; ".join(problems))
        for problem in problems:
            context.log.warning(problem)
        outcome = {
            "inserted": report.inserted,
            "corrected": report.corrected,
            "quarantined": report.quarantined,
            "errors": problems,
        }
        for spec in SPECS:
            rows = partition_rows(connection, spec.key.to_user_string(), window, market.exchange)
            yield dg.MaterializeResult(
                asset_key=spec.key, metadata={**rows, **(outcome if spec.key == SPECS[0].key else {})}
            )
