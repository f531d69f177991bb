"""Jobs that train models and look back at what they predicted.

Belongs here: what one run does. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.models.assets import MODEL_VERSIONS

HEAVY = {"trading/load": "heavy"}
"""The run queue lets one such run through at a time, so that trading always has room."""

training_job = dg.define_asset_job(
    "training",
    selection=dg.AssetSelection.assets(MODEL_VERSIONS.key),
    description="Train a version per symbol and put it into production.",
    tags={"dagster/max_runtime": "7200", "dagster/max_retries": "2", **HEAVY},
)
