"""What must be true of predictions before anything is decided on them.

Belongs here: checks of stored predictions. Does not belong here: whether they were right (`record_outcomes`).
"""

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import run_window, traded_symbols
from trading_pipelines.defs.tables import day_rows
from trading_pipelines.domain.market.timeframe import Timeframe
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


@dg.asset_check(
    asset="predictions",
    name="no_lookahead",
    blocking=True,
    description="Sampled predictions follow from the feature row and the version of their time; so do their outcomes.",
)
def predictions_no_lookahead(clock: ClockResource, database: DatabaseResource) -> dg.AssetCheckResult:
    """Predict and label some stored rows again; every run draws others.

    What has changed since is followed first, so that a corrected candle stops nothing.
    """
    from trading_pipelines.application.audit.corrections import trace_changes
    from trading_pipelines.application.audit.decision_path import check_assets

    with user_errors(), database.connect() as connection:
        trace_changes(connection, settings().exchange, Timeframe(settings().signal_timeframe))
        checks = check_assets(
            connection,
            settings(),
            traded_symbols(connection),
            settings().signal_timeframe,
            settings().orchestration.lookahead_samples,
            int(clock.now().timestamp()),
            ("labels", "predictions"),
        )
    found = {
        check.asset: [f"{f.symbol} {f.column} at {f.first:%Y-%m-%d %H:%M}: {f.cause}" for f in check.findings]
        for check in checks
        if check.findings
    }
    return dg.AssetCheckResult(
        passed=not found,
        metadata={
            "rows": sum(check.checked for check in checks),
            "leaks": found,
            "said_before_inputs_changed": {check.asset: len(check.superseded) for check in checks if check.superseded},
        },
    )
