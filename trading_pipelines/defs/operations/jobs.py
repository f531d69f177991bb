"""Upkeep.

Belongs here: regular work that makes no asset of its own. Does not belong here: anything that trading waits
for.
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.resources.platform import ClockResource, DatabaseResource, SourceResource
from trading_pipelines.settings import settings


@dg.op
def record_prediction_outcomes(
    context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource
) -> None:
    """Note for every prediction whose horizon has passed which barrier was reached first."""
    from trading_pipelines.application.models.prediction import record_outcomes

    with user_errors(), database.connect() as connection:
        symbols, timeframe = traded_symbols(connection), settings().signal_timeframe
        recorded = record_outcomes(connection, settings().exchange, symbols, timeframe, clock.now())
    context.log_event(dg.AssetMaterialization("predictions", metadata={"outcomes_recorded": recorded}))


@dg.job(
    name="maintenance",
    description="Look back: were the predictions right?",
    tags={"dagster/max_runtime": "1800"},
)
def maintenance_job() -> None:
    record_prediction_outcomes()


@dg.op
def drill_kill_switch(
    context: dg.OpExecutionContext, clock: ClockResource, database: DatabaseResource, source: SourceResource
) -> None:
    """Do a drill at the current prices; a failed drill fails the run, so that it is alerted twice."""
    from trading_pipelines.application.trading.kill_drill import run_drill
    from trading_pipelines.application.trading.kill_switch import KillSwitch

    with user_errors(), database.connect() as connection:
        quotes = {ticker.symbol: ticker.price for ticker in source.open().tickers(traded_symbols(connection))}
        kill = KillSwitch(settings().data_dir, database.connect)
        drill = run_drill(connection, settings(), kill, quotes, clock.now)
    context.log.info("%s: %s", drill.outcome, "; ".join(drill.steps))
    if drill.reason:
        raise dg.Failure(f"the drill of the kill switch has failed: {drill.reason}")


@dg.job(
    name="kill_drill",
    description="Does the kill switch work, and how fast? Tried on a throw-away paper session.",
    tags={"dagster/max_runtime": "180"},
)
def kill_drill_job() -> None:
    drill_kill_switch()
