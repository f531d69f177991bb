"""Model versions: which one is in production, how it was tested, how it does."""

from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
from psycopg.rows import dict_row

from trading_pipelines.store.connection import read_frame

_VERSIONS = """
select m.model_id, i.symbol, m.timeframe, m.train_from, m.as_of, m.created_at, m.code_version, m.training_key,
       coalesce(f.folds, 0) as folds, p.effective_from, p.reason as promotion_reason, p.requested_by,
       s.state, s.pinned, (m.metrics ->> 'auc')::float8 as auc, (m.metrics ->> 'skill')::float8 as skill,
       p.model_id is not null as promoted, s.state = 'production' as in_production
from model_versions m
join instruments i using (instrument_id)
join model_states s on s.model_id = m.model_id
left join (select training_key, count(*) as folds from model_folds group by 1) f using (training_key)
left join (
    select distinct on (model_id) model_id, effective_from, reason, requested_by
    from model_promotions where effective_from <= now()
    order by model_id, effective_from desc, promotion_id desc
) p on p.model_id = m.model_id
where i.exchange = %(exchange)s
order by s.state = 'production' desc, i.symbol, m.as_of desc
limit %(limit)s
"""


def list_versions(connection: psycopg.Connection[Any], exchange: str, limit: int) -> pd.DataFrame:
    """Model versions of an exchange, those in production now first."""
    return read_frame(connection, _VERSIONS, {"exchange": exchange, "limit": limit})


_DESCRIPTION = """
select m.model_id, i.exchange, i.symbol, m.timeframe, s.state, s.pinned, m.train_from, m.as_of, m.created_at,
       m.code_version, m.artefact_sha256, length(m.artefact) as artefact_bytes, f.definition_hash as feature_hash,
       cardinality(f.names) as features, m.training_key, m.spec, m.metrics,
       (select coalesce(jsonb_agg(to_jsonb(o) - 'probabilities' order by o.fold), '[]') from model_folds o
        where o.training_key = m.training_key) as folds,
       (select coalesce(jsonb_agg(to_jsonb(c) order by c.at), '[]') from (
            select effective_from as at, action, requested_by, reason from model_promotions
            where model_id = m.model_id
            union all select pinned_at, 'pin', requested_by, reason from model_pins where model_id = m.model_id
            union all select released_at, 'unpin', released_by, '' from model_pins
            where model_id = m.model_id and released_at is not null) c) as changes,
       (select coalesce(jsonb_agg(to_jsonb(d) order by d.day desc), '[]') from model_drift d
        where d.model_id = m.model_id) as drift
from model_versions m join instruments i using (instrument_id) join model_states s on s.model_id = m.model_id
join feature_sets f using (feature_set_id)
where m.model_id = %s
"""


def describe(connection: psycopg.Connection[Any], model_id: str) -> dict[str, Any] | None:
    """Everything that is kept of a version but its artefact; None for an unknown one."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_DESCRIPTION, (model_id,)).fetchone()


_DRIFT = """
select d.*, i.symbol from model_drift d join model_versions m using (model_id) join instruments i using (instrument_id)
where i.exchange = %(exchange)s and d.day >= %(since)s
order by d.day, i.symbol
"""


def drift(connection: psycopg.Connection[Any], exchange: str, since: datetime) -> pd.DataFrame:
    """What the versions in production met each day, against their training and their folds."""
    return read_frame(connection, _DRIFT, {"exchange": exchange, "since": since})


def feature_drift(connection: psycopg.Connection[Any], model_id: str, most: int) -> pd.DataFrame:
    """The features of a version that were furthest from its training on the newest day that was looked at."""
    return read_frame(
        connection,
        "select day, feature, psi, usual_psi, ks from feature_drift where model_id = %(model)s "
        "and day = (select max(day) from feature_drift where model_id = %(model)s) order by psi desc limit %(most)s",
        {"model": model_id, "most": most},
    )


def importance(connection: psycopg.Connection[Any], model_id: str) -> pd.DataFrame:
    """The strongest features of a version by gain, then by SHAP: feature, gain, shap, each a share of all.

    A feature that is among the strongest of one measure only has no number in the other.
    """
    row = connection.execute(
        "select coalesce(metrics -> 'importance', '{}'), coalesce(metrics -> 'shap', '{}') "
        "from model_versions where model_id = %s",
        (model_id,),
    ).fetchone()
    gain: dict[str, float] = row[0] if row else {}
    shap: dict[str, float] = row[1] if row else {}
    rows = [(name, gain.get(name), shap.get(name)) for name in {**gain, **shap}]
    shares = pd.DataFrame(rows, columns=["feature", "gain", "shap"]).astype({"gain": float, "shap": float})
    return shares.sort_values(["gain", "shap"], ascending=False, na_position="last", ignore_index=True)


_EXPLAINED = """
select i.symbol, g.ts, g.side, g.probability, g.status, s.name as session, g.factors
from signals g join instruments i using (instrument_id) join sessions s using (session_id)
where g.model_id = %(model)s order by g.created_at desc, i.symbol limit %(limit)s
"""


def explained_signals(connection: psycopg.Connection[Any], model_id: str, limit: int) -> pd.DataFrame:
    """The newest signals of a version with `factors`, the strongest contributions to the log-odds by feature."""
    return read_frame(connection, _EXPLAINED, {"model": model_id, "limit": limit})


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
