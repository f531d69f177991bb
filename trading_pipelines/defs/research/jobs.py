"""Jobs of research, started by hand with what to test as their configuration.

Belongs here: what one run does. Does not belong here: when, for nobody waits for a backtest.
"""

import dagster as dg

from trading_pipelines.defs.models.jobs import HEAVY
from trading_pipelines.defs.research.assets import BACKTESTS, SEARCHES

_TAGS = {"dagster/max_runtime": "7200", **HEAVY}

backtest_job = dg.define_asset_job(
    "backtest",
    selection=dg.AssetSelection.assets(BACKTESTS.key),
    description="Let a strategy trade over stored candles.",
    tags=_TAGS,
)
search_job = dg.define_asset_job(
    "backtest_search",
    selection=dg.AssetSelection.assets(SEARCHES.key),
    description="Choose parameters walk-forward and measure how much of the result is chance.",
    tags=_TAGS,
)
