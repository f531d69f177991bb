"""Jobs about the composite score.

Belongs here: what one run does. Does not belong here: scoring itself, which is part of bringing market data up to date
(`defs.market_data.jobs`).
"""

import dagster as dg

from trading_pipelines.defs.models.jobs import HEAVY
from trading_pipelines.defs.scoring.assets import CALIBRATIONS, INPUTS, SCORES

scoring_job = dg.define_asset_job(
    "scoring",
    selection=dg.AssetSelection.assets(INPUTS.key, SCORES.key),
    description="Composite scores of the chosen days, for example after history was loaded.",
    tags={"dagster/max_runtime": "1800"},
)
score_calibration_job = dg.define_asset_job(
    "score_calibration",
    selection=dg.AssetSelection.assets(CALIBRATIONS.key),
    description="Choose the weights of the score walk-forward and measure them out of sample.",
    tags={"dagster/max_runtime": "7200", **HEAVY},
)
