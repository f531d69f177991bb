"""The job about prediction markets.

Belongs here: what is done together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.prediction_markets.assets import IMPLIED, MARKETS, ODDS

prediction_markets_job = dg.define_asset_job(
    "prediction_markets",
    selection=dg.AssetSelection.assets(MARKETS.key, ODDS.key, IMPLIED.key),
    description="Markets, odds and implied distributions of the chosen day; large moves are told of.",
    tags={"dagster/max_runtime": "1200"},
)
