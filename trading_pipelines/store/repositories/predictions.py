"""The prediction log: what each version said about each bar, and what came of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True)
class Prediction:
    """One prediction; `probability` is that of the upper barrier being reached first."""

    instrument_id: int
    timeframe: str
    ts: datetime
    model_id: str
    available_at: datetime
    probability: float
    confidence: float
    side: str
    novelty: float | None


def insert(cursor: psycopg.Cursor[Any], rows: Iterable[Prediction]) -> int:
    """Log predictions; one that is there stays as it was made. Returns how many were new."""
    names = "instrument_id, timeframe, ts, model_id, available_at, probability, confidence, side, novelty"
    cursor.execute(f"create temp table staging_predictions on commit drop as select {names} from predictions limit 0")
    with cursor.copy(f"copy staging_predictions ({names}) from stdin") as copy:
        for row in rows:
            copy.write_row(tuple(vars(row).values()))
    cursor.execute(f"insert into predictions ({names}) select {names} from staging_predictions on conflict do nothing")
    inserted = cursor.rowcount
    cursor.execute("drop table staging_predictions")
    return inserted


@dataclass(frozen=True)
class OpenPredictions:
    """Predictions that wait for their outcome, of versions with the same barriers.

    Attributes
    ----------
    label_barrier_atr, label_horizon_minutes : number
        What these versions have learnt to foretell, see `TrainingSpec`.
    first : datetime
        Open time of the oldest bar.
    """

    label_barrier_atr: float
    label_horizon_minutes: int
    model_ids: list[str]
    first: datetime


def without_outcome(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, as_of: datetime
) -> list[OpenPredictions]:
    """Predictions whose outcome is not known yet."""
    with connection.cursor(row_factory=class_row(OpenPredictions)) as cursor:
        return cursor.execute(
            """
            select (m.spec ->> 'label_barrier_atr')::float8 as label_barrier_atr,
                   (m.spec ->> 'label_horizon_minutes')::int as label_horizon_minutes,
                   array_agg(distinct m.model_id) as model_ids, min(p.ts) as first
            from predictions p join model_versions m using (model_id)
            where p.instrument_id = %s and p.timeframe = %s and p.outcome is null and p.available_at <= %s
            group by 1, 2 order by 1, 2
            """,
            (instrument_id, timeframe, as_of),
        ).fetchall()


def set_outcomes(
    cursor: psycopg.Cursor[Any],
    instrument_id: int,
    timeframe: str,
    model_ids: Sequence[str],
    outcomes: Sequence[tuple[datetime, int, datetime]],
) -> None:
    """Join predictions of these versions with what happened: (ts, outcome 0 or 1, when it was known)."""
    cursor.executemany(
        """
        update predictions set outcome = %s, outcome_at = %s
        where instrument_id = %s and timeframe = %s and ts = %s and model_id = any(%s) and outcome is null
        """,
        [(outcome, at, instrument_id, timeframe, ts, list(model_ids)) for ts, outcome, at in outcomes],
    )


@dataclass(frozen=True)
class ProductionPrediction:
    """What the version in production at a bar's close said about it."""

    ts: datetime
    model_id: str
    model_as_of: datetime
    probability: float
    novelty: float | None


def in_production(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, start: datetime, end: datetime
) -> list[ProductionPrediction]:
    """Predictions of the bars that open in [start, end), each by the version in production at its close, ascending."""
    with connection.cursor(row_factory=class_row(ProductionPrediction)) as cursor:
        return cursor.execute(
            """
            select p.ts, p.model_id, m.as_of as model_as_of, p.probability, p.novelty
            from predictions p join model_versions m using (model_id)
            where p.instrument_id = %(instrument)s and p.timeframe = %(timeframe)s
              and p.ts >= %(start)s and p.ts < %(end)s
              and p.model_id = (
                  select o.model_id from model_promotions o
                  where o.instrument_id = %(instrument)s and o.timeframe = %(timeframe)s
                    and o.effective_from <= p.available_at
                  order by o.effective_from desc, o.promotion_id desc limit 1)
            order by p.ts
            """,
            {"instrument": instrument_id, "timeframe": timeframe, "start": start, "end": end},
        ).fetchall()
