"""What versions in production met, day by day, against their training and their folds."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class DriftDay:
    """A row of `model_drift`; `reasons` is empty without drift."""

    model_id: str
    day: date
    computed_at: datetime
    rows: int
    features: int
    drifted_features: int
    novelty: float | None
    outcomes: int
    hit_rate: float | None
    expected_hit_rate: float | None
    log_loss: float | None
    expected_log_loss: float | None
    calibration_error: float | None
    reasons: list[str]


def save(
    connection: psycopg.Connection[Any], row: DriftDay, features: Iterable[tuple[str, float, float, float]]
) -> None:
    """Keep one day of one version with its features (name, PSI, usual PSI, KS), in place of what was kept before."""
    connection.execute("delete from model_drift where model_id = %s and day = %s", (row.model_id, row.day))
    connection.execute(
        "insert into model_drift (model_id, day, computed_at, rows, features, drifted_features, novelty, outcomes, "
        "hit_rate, expected_hit_rate, log_loss, expected_log_loss, calibration_error, reasons) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        tuple(vars(row).values()),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into feature_drift (model_id, day, feature, psi, usual_psi, ks) values (%s, %s, %s, %s, %s, %s)",
            [(row.model_id, row.day, *feature) for feature in features],
        )


@dataclass(frozen=True)
class Outcome:
    """One prediction; `outcome` is None while it is not known."""

    probability: float
    outcome: int | None
    novelty: float | None


def predicted(
    connection: psycopg.Connection[Any], model_id: str, start: datetime, end: datetime, as_of: datetime
) -> list[Outcome]:
    """Predictions of a version that were made in [start, end), with what was known of them at `as_of`."""
    with connection.cursor(row_factory=class_row(Outcome)) as cursor:
        return cursor.execute(
            "select probability, case when outcome_at <= %s then outcome end as outcome, novelty from predictions "
            "where model_id = %s and available_at >= %s and available_at < %s order by available_at",
            (as_of, model_id, start, end),
        ).fetchall()


@dataclass(frozen=True)
class Drifting:
    """A market whose version in production met something else than its training."""

    symbol: str
    timeframe: str
    model_id: str
    day: date
    reasons: list[str]


def drifting(connection: psycopg.Connection[Any], exchange: str) -> list[Drifting]:
    """Versions in production now that had drifted on the newest day that was looked at."""
    with connection.cursor(row_factory=class_row(Drifting)) as cursor:
        return cursor.execute(
            """
            select i.symbol, s.timeframe, d.model_id, d.day, d.reasons
            from model_states s join instruments i using (instrument_id)
            join lateral (select * from model_drift where model_id = s.model_id order by day desc limit 1) d on true
            where s.state = 'production' and i.exchange = %s and cardinality(d.reasons) > 0
            order by 1, 2
            """,
            (exchange,),
        ).fetchall()
