"""Jobs about what moves on chains.

Belongs here: what is done together. Does not belong here: when (`schedules.py`).
"""

import dagster as dg

from trading_pipelines.defs.onchain.assets import EXCHANGE_FLOWS, FLOW_METRICS, WHALE_TRANSACTIONS

whale_alerts_job = dg.define_asset_job(
    "whale_alerts",
    selection=dg.AssetSelection.assets(WHALE_TRANSACTIONS.key),
    description="Large transactions of the chosen day; very large new ones are told of at once.",
    tags={"dagster/max_runtime": "600"},
)
flows_job = dg.define_asset_job(
    "flows",
    selection=dg.AssetSelection.assets(EXCHANGE_FLOWS.key, FLOW_METRICS.key),
    description="Flows of exchanges of the chosen day, net flows and whale scores.",
    tags={"dagster/max_runtime": "900"},
)
