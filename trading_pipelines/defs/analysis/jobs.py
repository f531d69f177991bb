"""Jobs that look at the whole market.

Belongs here: what is looked at together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.analysis.assets import ANOMALIES, SCREENER, TECHNICAL

analysis_job = dg.define_asset_job(
    "analysis",
    selection=dg.AssetSelection.assets(TECHNICAL.key, ANOMALIES.key),
    description="Technical signals and anomalies of the chosen days.",
    tags={"dagster/max_runtime": "600"},
)
screener_job = dg.define_asset_job(
    "screener",
    selection=dg.AssetSelection.assets(SCREENER.key),
    description="The ranking of the universe at the end of the chosen days.",
    tags={"dagster/max_runtime": "600"},
)
