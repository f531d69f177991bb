"""What must be true of figures and texts from outside.

Belongs here: checks of what was stored. Does not belong here: checks of single items, which are made when they are
read (`adapters.alternative.reading`, `domain.alternative.texts`).
"""

import json
from datetime import timedelta
from typing import LiteralString

import dagster as dg

from trading_pipelines.defs.alternative.assets import DATASETS, Dataset
from trading_pipelines.defs.collected import sources_answer
from trading_pipelines.defs.tables import broken_rows
from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.resources.platform import ClockResource, DatabaseResource

_LOOK_BACK = timedelta(days=2)
"""Rows that became known in this time are looked at; older ones have been."""
_NUMBERS_BEFORE_THEIR_TIME: LiteralString = """
select series, coin, source, ts, available_at from observations
where series = any(%(series)s) and available_at >= %(since)s
  and (available_at > %(now)s or available_at < ts + (%(periods)s::jsonb ->> series)::float * interval '1 second')
"""
_TEXTS_BEFORE_THEIR_TIME: LiteralString = """
select source, external_id, published_at, available_at from texts
where available_at >= %(since)s and (available_at > %(now)s or available_at < published_at)
"""


def _known_in_time(dataset: Dataset) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=dataset.spec.key,
        name="known_after_it_happened",
        blocking=True,
        description="Nothing was known before what it speaks of was over, and nothing is known from the future.",
    )
    def check(clock: ClockResource, database: DatabaseResource) -> dg.AssetCheckResult:
        now = clock.now()
        periods = {name: SERIES[name].period.total_seconds() for name in dataset.series}
        span = {"series": list(dataset.series), "periods": json.dumps(periods), "since": now - _LOOK_BACK, "now": now}
        query = _NUMBERS_BEFORE_THEIR_TIME if dataset.series else _TEXTS_BEFORE_THEIR_TIME
        with database.connect() as connection:
            return broken_rows(connection, query, span)

    return check


CHECKS = [
    *(_known_in_time(dataset) for dataset in DATASETS),
    *(sources_answer(dataset.spec, dataset.name) for dataset in DATASETS),
]
