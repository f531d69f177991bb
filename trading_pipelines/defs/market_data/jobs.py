"""Jobs that bring market data up to date.

Belongs here: what is refreshed together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.features.assets import BREADTH
from trading_pipelines.defs.features.assets import SPEC as FEATURES
from trading_pipelines.defs.leaks.checks import CHECKS as LEAK_CHECKS
from trading_pipelines.defs.market_data.assets import SPECS, IngestConfig
from trading_pipelines.defs.models.assets import PREDICTIONS
from trading_pipelines.defs.scoring.assets import INPUTS, SCORES

WHAT_IS_MISSING = dg.RunConfig(ops={"ingest": IngestConfig(refetch=False)})

candles_job = dg.define_asset_job(
    "candles",
    selection=dg.AssetSelection.assets(*(spec.key for spec in SPECS)) - LEAK_CHECKS,
    description="Fetch candles and funding of the chosen days where they are missing.",
    config=WHAT_IS_MISSING,
    tags={"dagster/max_runtime": "1800"},
)
market_data_job = dg.define_asset_job(
    "market_data",
    selection=dg.AssetSelection.assets(
        *(spec.key for spec in SPECS), BREADTH.key, FEATURES.key, PREDICTIONS.key, INPUTS.key, SCORES.key
    )
    - LEAK_CHECKS,
    description="Candles, funding, features, predictions and scores of the chosen days, with their checks.",
    config=WHAT_IS_MISSING,
    tags={"dagster/max_runtime": "600", "dagster/priority": "1"},
)
