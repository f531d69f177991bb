"""What must be true of a score before anything is decided from it.

Belongs here: checks of stored scores. Does not belong here: whether they are worth anything, which
`score_calibrations` measures.
"""

import json

import dagster as dg

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import run_window, traded_symbols
from trading_pipelines.defs.scoring.assets import INPUTS, SCORES
from trading_pipelines.defs.tables import broken_rows, rows_check
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_OUT_OF_BOUNDS = """
select i.symbol, f.ts, d.inputs[n] as input, f.mapped[n] as mapped, f.ages[n] as age
from factor_values f join instruments i using (instrument_id) join score_definitions d using (definition_id),
     generate_subscripts(f.mapped, 1) n
where i.exchange = %(exchange)s and f.ts >= %(start)s and f.ts < %(end)s and f.mapped[n] <> 'NaN' and (
    abs(f.mapped[n]) > 1 + 1e-9 or f.ages[n] < 0 or f.ages[n] = 'NaN'
    or f.ages[n] > (%(oldest)s::jsonb ->> d.inputs[n])::float)
"""
_UNBALANCED = """
select i.symbol, s.ts, s.score, s.coverage
from composite_scores s join instruments i using (instrument_id)
where i.exchange = %(exchange)s and s.ts >= %(start)s and s.ts < %(end)s and s.score <> 'NaN' and (
    abs(50 + (select sum(c) from unnest(s.contributions) c) - s.score) > 1e-6
    or abs((select sum(w) from unnest(s.weights) w) - 1) > 1e-6
    or s.available_at <> s.ts + s.bar_minutes * interval '1 minute')
"""


@dg.asset_check(
    asset=INPUTS.key,
    name="within_bounds",
    blocking=True,
    description="Every input that counts is between -1 and 1, was known, and is not older than it may be.",
)
def inputs_within_bounds(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Name the inputs of the run's days that are out of their bounds."""
    from trading_pipelines.domain.scoring.inputs import INPUTS as ALL

    window = run_window(context, clock.now())
    settling = settings().scoring.settling_seconds / 60
    oldest = {each.name: each.max_age.total_seconds() / 60 + settling + 1e-6 for each in ALL}
    span = {"exchange": settings().exchange, "start": window.start, "end": window.end, "oldest": json.dumps(oldest)}
    with database.connect() as connection:
        return broken_rows(connection, _OUT_OF_BOUNDS, span)


contributions_add_up = rows_check(
    SCORES.key,
    "contributions_add_up",
    _UNBALANCED,
    "Contributions sum to the score, weights to one, and a score is known at the close of its bar.",
    blocking=True,
)


@dg.asset_check(
    asset=SCORES.key,
    name="no_lookahead",
    blocking=True,
    description="Sampled scores equal what follows from the rows that were known at their time.",
)
def scores_no_lookahead(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Compute some scores of the run's days again as of their time; every run draws others."""
    from trading_pipelines.application.analysis.scoring import check_scores

    now = clock.now()
    window = run_window(context, now)
    with user_errors(), database.connect() as connection:
        checked, leaks = check_scores(
            connection,
            settings().exchange,
            traded_symbols(connection),
            settings().signal_timeframe,
            settings().orchestration.lookahead_samples,
            int(now.timestamp()),
            settings().scoring,
            window.start,
            window.end,
        )
    found = {
        symbol: [f"{leak.column} at {leak.first}: {leak.stored} instead of {leak.recomputed}" for leak in several]
        for symbol, several in leaks.items()
    }
    return dg.AssetCheckResult(passed=not found, metadata={"rows": checked, "leaks": found})
