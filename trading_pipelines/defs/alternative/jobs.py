"""Jobs that ask the outside.

Belongs here: what is asked for together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.alternative.assets import DATASETS

TEXTS = [dataset.name for dataset in DATASETS if dataset.table == "texts"]
FIGURES = [dataset.name for dataset in DATASETS if dataset.table != "texts"]

texts_job = dg.define_asset_job(
    "texts",
    selection=dg.AssetSelection.assets(*TEXTS),
    description="News and posts that have appeared since the last look.",
    tags={"dagster/max_runtime": "900"},
)
figures_job = dg.define_asset_job(
    "figures",
    selection=dg.AssetSelection.assets(*FIGURES),
    description="Indices and crowd figures of the chosen day.",
    tags={"dagster/max_runtime": "900"},
)
