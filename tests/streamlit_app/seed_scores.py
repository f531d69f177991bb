"""Composite scores and the figures of the whole market for the filled database of the page tests."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.scoring.composite import evaluate
from trading_pipelines.domain.scoring.inputs import INPUT_NAMES
from trading_pipelines.domain.scoring.spec import ScoringSpec
from trading_pipelines.store.repositories import scores


def seed_scores(connection: psycopg.Connection[Any], now: datetime) -> None:
    """Scores of the last hour: the first symbol strong, the second one to avoid, of the last too little is known."""
    ids = [row[0] for row in connection.execute("select instrument_id from instruments order by symbol").fetchall()]
    newest = Timeframe.M15.last_closed(now).replace(tzinfo=None)
    definition = scores.definition_id(connection, ScoringSpec())
    levels = [0.8, -0.8, *(0.1 for _ in ids[2:])]
    for place, (instrument_id, level) in enumerate(zip(ids, levels, strict=True)):
        mapped = np.full((4, len(INPUT_NAMES)), level)
        mapped[:, INPUT_NAMES.index("sentiment")] = np.nan
        if place == len(ids) - 1:
            mapped[:, [INPUT_NAMES.index(name) for name in ("technical", "momentum")]] = np.nan
        ages = np.where(np.isnan(mapped), np.nan, 90.0)
        ts = np.array([newest - n * timedelta(minutes=15) for n in range(4)], dtype="datetime64[us]")[::-1]
        found = evaluate(mapped, ages, ScoringSpec())
        inputs = {"raw": mapped, "mapped": mapped, "ages": ages}
        scores.save(connection, definition, Timeframe.M15, np.full(4, instrument_id), ts, found, inputs)
    _seed_indices(connection, now)
    connection.commit()


def _seed_indices(connection: psycopg.Connection[Any], now: datetime) -> None:
    """Fear & Greed and dominance of twelve days, the newest an hour old."""
    for back in range(12):
        ts = now - timedelta(days=back, hours=1)
        for series, value in (("fear_greed", 48.0 - 2 * back), ("btc_dominance", 54.25 + 0.25 * back)):
            connection.execute(
                "insert into observations values (%s, 'MARKET', 'simulated', %s, %s, %s)", (series, ts, ts, value)
            )
