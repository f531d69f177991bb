"""The job that reads texts.

Belongs here: what is done together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.sentiment.assets import MENTIONS, SCORES, SENTIMENT

sentiment_job = dg.define_asset_job(
    "sentiment",
    selection=dg.AssetSelection.assets(MENTIONS.key, SCORES.key, SENTIMENT.key),
    description="New texts read and scored, and the sentiment of the chosen days.",
    tags={"dagster/max_runtime": "1800"},
)
