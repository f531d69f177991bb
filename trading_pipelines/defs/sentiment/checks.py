"""What must be true of what was read out of texts.

Belongs here: checks of stored scores and sentiment. Does not belong here: whether they are worth anything.
"""

from datetime import timedelta
from typing import LiteralString

import dagster as dg

from trading_pipelines.defs.scope import run_window
from trading_pipelines.defs.sentiment.assets import MENTIONS, SCORES, SENTIMENT
from trading_pipelines.defs.tables import compared, rows_check
from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

_INSTANTS = 6
"""Instants of the run's days that are computed again."""
_UNREAD: LiteralString = """
select source, external_id, available_at from texts
where fingerprint is null and available_at < %(now)s - interval '30 minutes'
"""
_BEFORE_ITS_TEXT: LiteralString = """
select t.source, t.external_id, s.scorer, s.available_at, t.available_at as text_available_at
from text_scores s join texts t using (text_id)
where t.available_at >= %(start)s and t.available_at < %(end)s
  and (s.available_at < t.available_at or s.available_at > %(now)s)
"""


every_text_read = rows_check(
    MENTIONS.key,
    "every_text_read",
    _UNREAD,
    "No text has waited for half an hour to be read.",
    severity=dg.AssetCheckSeverity.WARN,
)


scores_known_after_the_text = rows_check(
    SCORES.key,
    "known_after_the_text",
    _BEFORE_ITS_TEXT,
    "No score was known before its text, and none is known from the future.",
    blocking=True,
)


@dg.asset_check(
    asset=SENTIMENT.key,
    name="no_lookahead",
    blocking=True,
    description="Sentiment computed again from the scores that were known at its instant equals the stored one.",
)
def sentiment_as_it_was_known(
    context: dg.AssetCheckExecutionContext, clock: ClockResource, database: DatabaseResource
) -> dg.AssetCheckResult:
    """Name the instants of the run's days at which something else is stored than was known."""
    from trading_pipelines.application.alternative.sentiment import differing_instants

    window = run_window(context, clock.now())
    spec = settings().sentiment.aggregation
    instants = [at for at in spec.grid(window.start, window.end) if at < window.end - timedelta(minutes=1)]
    chosen = instants[:: max(1, len(instants) // _INSTANTS)]
    with database.connect() as connection:
        found = differing_instants(connection, chosen, simulated=settings().exchange == SIMULATED, spec=spec)
    return compared(found)
