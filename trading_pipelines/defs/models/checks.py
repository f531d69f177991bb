"""What must be true of predictions before anything is decided on them.

Belongs here: checks of stored predictions. Does not belong here: whether they were right (`record_outcomes`).
"""

import dagster as dg

from trading_pipelines.defs.scope import run_window
from trading_pipelines.defs.tables import day_rows
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings


@dg.asset_check(
    asset="predictions",
    name="within_bounds",
    blocking=True,
    description="Probabilities lie between 0 and 1; confidence and side follow from them.",
)
def predictions_within_bounds(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Look at every prediction of the run's days."""
    from trading_pipelines.defs.schemas import PREDICTIONS, violations

    with database.connect() as connection:
        frame = day_rows(connection, "predictions", run_window(context, clock.now()), settings().exchange)
    broken = violations(PREDICTIONS, frame)
    return dg.AssetCheckResult(passed=not broken, metadata={"rows": len(frame), "broken": broken})
