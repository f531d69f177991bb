"""What a backtest must show before it is believed.

Belongs here: checks of stored backtests. Does not belong here: the questions put to a strategy
(`domain.validation.strategy_check`).
"""

import dagster as dg

from trading_pipelines.defs.tables import broken_rows
from trading_pipelines.resources.platform import DatabaseResource

_DISHONEST = """
select backtest_id, strategy, strategy_check->'findings'->>0 as finding
from backtests where run_id = %(run)s and not (strategy_check->>'passed')::bool
"""


@dg.asset_check(
    asset="backtests",
    name="no_lookahead",
    description="The strategy decides the same without what came later, and with no more history than it needs.",
)
def backtests_no_lookahead(context: dg.AssetCheckExecutionContext, database: DatabaseResource) -> dg.AssetCheckResult:
    """Look at the backtests of this run."""
    with database.connect() as connection:
        return broken_rows(connection, _DISHONEST, {"run": context.run.run_id})
