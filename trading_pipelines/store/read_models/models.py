"""Model versions: which one is in production, how it was tested, how it does."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.store.connection import read_frame

_VERSIONS = """
select m.model_id, i.symbol, m.timeframe, m.train_from, m.as_of, m.created_at, m.code_version, m.training_key,
       coalesce(f.folds, 0) as folds, p.effective_from, p.reason as promotion_reason,
       p.model_id is not null as promoted, coalesce(p.current, false) as in_production
from model_versions m
join instruments i using (instrument_id)
left join (select training_key, count(*) as folds from model_folds group by 1) f using (training_key)
left join (
    select distinct on (model_id) model_id, effective_from, reason, newest = promotion_id as current
    from (
        select *, first_value(promotion_id) over (
            partition by instrument_id, timeframe order by effective_from desc, promotion_id desc) as newest
        from model_promotions where effective_from <= now()
    ) ranked
    order by model_id, effective_from desc, promotion_id desc
) p using (model_id)
where i.exchange = %(exchange)s
order by coalesce(p.current, false) desc, i.symbol, m.as_of desc
limit %(limit)s
"""


def list_versions(connection: psycopg.Connection[Any], exchange: str, limit: int) -> pd.DataFrame:
    """Model versions of an exchange, those in production now first."""
    return read_frame(connection, _VERSIONS, {"exchange": exchange, "limit": limit})


def version_metrics(connection: psycopg.Connection[Any], model_id: str) -> dict[str, float]:
    """The numbers stored with a version, by name; anything that is not a number is left out."""
    row = connection.execute("select metrics from model_versions where model_id = %s", (model_id,)).fetchone()
    return {} if row is None else _numbers(row[0])


def version_folds(connection: psycopg.Connection[Any], training_key: str) -> pd.DataFrame:
    """The walk-forward folds of a training: fold, train_from, test_from, test_until and one column per metric."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            select fold, train_from, test_from, test_until, metrics from model_folds
            where training_key = %s order by fold
            """,
            (training_key,),
        ).fetchall()
    metrics = [_numbers(row.pop("metrics")) for row in rows]
    return pd.DataFrame([row | numbers for row, numbers in zip(rows, metrics, strict=True)])


def _numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


_CALIBRATION = """
select width_bucket(p.probability, 0, 1, 20) as bin, avg(p.probability)::float8 as predicted,
       avg(p.outcome)::float8 as observed, count(*) as predictions
from predictions p
join instruments i using (instrument_id)
where i.exchange = %(exchange)s and p.outcome is not null and p.available_at >= %(since)s
  and (%(symbol)s::text is null or i.symbol = %(symbol)s)
group by 1
order by 1
"""


def calibration(
    connection: psycopg.Connection[Any], exchange: str, symbol: str | None, since: datetime
) -> pd.DataFrame:
    """Resolved predictions in bands of five points of probability: predicted, observed (share of hits), predictions."""
    return read_frame(connection, _CALIBRATION, {"exchange": exchange, "symbol": symbol, "since": since})
