"""Upkeep.

Belongs here: regular work that makes no asset of its own. Does not belong here: anything that trading waits
for.
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.op
def record_prediction_outcomes(
    context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource
) -> None:
    """Note for every prediction whose horizon has passed which barrier was reached first."""
    from trading_pipelines.application.prediction import record_outcomes

    with user_errors(), database.connect() as connection:
        recorded = record_outcomes(
            connection,
            settings().exchange,
            traded_symbols(connection),
            settings().signal_timeframe,
            clock.now(),
            settings().training,
        )
    context.log_event(dg.AssetMaterialization("predictions", metadata={"outcomes_recorded": recorded}))


@dg.job(
    name="maintenance",
    description="Look back: were the predictions right?",
    tags={"dagster/max_runtime": "1800"},
)
def maintenance_job() -> None:
    record_prediction_outcomes()
