"""The job that executes signals.

Belongs here: what one run does. Does not belong here: when it is asked for (`sensors.py`, `schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.execution.assets import FILLS, ORDERS, POSITIONS
from trading_pipelines.defs.portfolio.assets import EQUITY

signal_execution_job = dg.define_asset_job(
    "signal_execution",
    selection=dg.AssetSelection.assets(ORDERS.key, FILLS.key, POSITIONS.key)
    | dg.AssetSelection.checks_for_assets(EQUITY.key),
    description="Send the orders of active signals and take over what became of them.",
    tags={"dagster/max_runtime": "180", "dagster/priority": "10"},
)
