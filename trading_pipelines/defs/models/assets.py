"""Model versions and what they predict.

Belongs here: the tables that training and prediction fill. Does not belong here: labels, folds and boosters
(`domain.labeling`, `domain.modelling`).
"""

from datetime import datetime, timedelta

import dagster as dg
from pydantic import Field

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.features.assets import TABLE as FEATURE_TABLE
from trading_pipelines.defs.market_data.assets import BASE_TABLE
from trading_pipelines.defs.models.partitions import MODELS, split_partition_key
from trading_pipelines.defs.models.progress import ProgressLog, training_spec
from trading_pipelines.defs.scope import DAYS, run_window, traded_symbols
from trading_pipelines.defs.tables import partition_rows, table_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

OWNER = "team:research"
MODEL_VERSIONS = table_spec(
    "model_versions",
    group="models",
    owner=OWNER,
    description="Trained models: artefact, walk-forward metrics, and the time up to which they have read.",
    kinds={"lightgbm"},
    deps=[dg.AssetDep(table, partition_mapping=dg.AllPartitionMapping()) for table in (FEATURE_TABLE, BASE_TABLE)],
)
PREDICTIONS = table_spec(
    "predictions",
    group="models",
    owner=OWNER,
    description="Calibrated probability per closed bar, by the version that was in production at its close.",
    kinds={"lightgbm"},
    deps=[FEATURE_TABLE, dg.AssetDep("model_versions", partition_mapping=dg.AllPartitionMapping())],
    fresh_within=timedelta(minutes=45),
)


class TrainingConfig(dg.Config):
    """What to train; a run of a partition trains that one, any other run everything that is traded."""

    symbols: list[str] = Field(default_factory=list)
    """For runs without a partition; empty means all symbols of the platform."""
    as_of: str | None = None
    """ISO time with zone up to which the training may read; none means now. Runs with the same share the folds."""
    search: bool | None = None
    """Search booster parameters; none means as the settings say."""


@dg.multi_asset(name="train", specs=[MODEL_VERSIONS], partitions_def=MODELS)
def training(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    clock: ClockResource,
    database: DatabaseResource,
) -> dg.MaterializeResult:
    """Train the partition's symbol, or every symbol, and put each version into production that has earned it."""
    from trading_pipelines.application.models.training import train_many

    as_of = datetime.fromisoformat(config.as_of) if config.as_of else clock.now()
    with user_errors(), database.connect() as connection:
        if context.has_partition_key:
            symbols, timeframe = split_partition_key(context.partition_key)
        else:
            symbols, timeframe = tuple(config.symbols) or traded_symbols(connection), settings().signal_timeframe
        reports = train_many(
            connection,
            settings().exchange,
            symbols,
            timeframe,
            as_of,
            training_spec(config.search),
            on_progress=ProgressLog(context),
        )
        return dg.MaterializeResult(
            asset_key="model_versions",
            metadata={
                "as_of": as_of.isoformat(),
                "promoted": sorted(r.symbol for r in reports if r.promoted),
                "verdicts": {r.symbol: r.verdict for r in reports},
                "folds": {r.symbol: r.folds for r in reports},
                "auc": {r.symbol: r.metrics.get("auc") for r in reports},
                "seconds": {r.symbol: round(r.seconds, 1) for r in reports},
                **table_rows(connection, "model_versions"),
            },
        )


@dg.multi_asset(
    name="predict", specs=[PREDICTIONS], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def prediction(
    context: dg.AssetExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Predict the bars of the run's days, each by the version that was in production at its close."""
    from trading_pipelines.application.models.prediction import predict

    exchange, timeframe = settings().exchange, settings().signal_timeframe
    window = run_window(context, clock.now())
    with user_errors(), database.connect() as connection:
        report = predict(connection, exchange, traded_symbols(connection), timeframe, window.start, window.end)
        rows = partition_rows(connection, "predictions", window, exchange)
        return dg.MaterializeResult(
            asset_key="predictions",
            metadata={"new": report.rows, "without_model": list(report.without_model), **rows},
        )
