"""What must be true of odds and of what was implied by them.

Belongs here: checks of stored rows against what was known. Does not belong here: checks of single items, which are
made when they are read (`adapters.alternative.polymarket`).
"""

from typing import LiteralString

import dagster as dg

from trading_pipelines.defs.collected import sources_answer
from trading_pipelines.defs.prediction_markets.assets import IMPLIED, MARKETS, ODDS
from trading_pipelines.defs.scope import run_window
from trading_pipelines.defs.tables import compared, rows_check
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_FORGOTTEN: LiteralString = """
select source, market_id, expires_at, last_seen_at from prediction_markets
where status = 'OPEN' and greatest(expires_at, last_seen_at) < %(now)s - interval '7 days'
"""
_ODDS: LiteralString = """
select source, market_id, ts, available_at from prediction_odds
where ts >= %(start)s and ts < %(end)s and (available_at < ts or available_at > %(now)s)
"""


no_market_forgotten = rows_check(
    MARKETS.key,
    "none_forgotten",
    _FORGOTTEN,
    "Every market that is over was seen to be resolved or to have vanished within a week.",
    severity=dg.AssetCheckSeverity.WARN,
)


odds_known_in_time = rows_check(
    ODDS.key,
    "known_after_it_happened",
    _ODDS,
    "No odds were known before their time, and none are known from the future.",
    blocking=True,
)


@dg.asset_check(
    asset=IMPLIED.key,
    name="no_lookahead",
    blocking=True,
    description="Every stored distribution follows from the odds that were known at its time.",
)
def distributions_founded(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Imply the distributions of the run's days again, each from what was known at its time."""
    from trading_pipelines.application.alternative.odds import check_ladders

    window = run_window(context, clock.now())
    with database.connect() as connection:
        found = check_ladders(connection, settings(), window.start, window.end)
    return compared(found)


odds_sources_answer = sources_answer(ODDS, "prediction_odds")
