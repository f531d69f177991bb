"""The model registry: versions, fold checkpoints, promotions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb


@dataclass(frozen=True)
class ModelVersion:
    """One trained version without its artefact."""

    model_id: str
    instrument_id: int
    timeframe: str
    feature_set_id: int
    training_key: str
    as_of: datetime
    metrics: dict[str, Any]
    artefact_sha256: str


_COLUMNS = "model_id, instrument_id, timeframe, feature_set_id, training_key, as_of, metrics, artefact_sha256"


def by_training_key(connection: psycopg.Connection[Any], training_key: str) -> ModelVersion | None:
    """The version that came out of exactly this training, None when there is none yet."""
    return _one(connection, f"select {_COLUMNS} from model_versions where training_key = %s", (training_key,))


def find(connection: psycopg.Connection[Any], model_id: str) -> ModelVersion | None:
    """The version of that id."""
    return _one(connection, f"select {_COLUMNS} from model_versions where model_id = %s", (model_id,))


def in_production(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, as_of: datetime
) -> ModelVersion | None:
    """The version in production at `as_of`: the newest promotion that was effective by then."""
    columns = ", ".join(f"m.{name.strip()}" for name in _COLUMNS.split(","))
    return _one(
        connection,
        f"""
        select {columns} from model_promotions p join model_versions m using (model_id)
        where p.instrument_id = %s and p.timeframe = %s and p.effective_from <= %s
        order by p.effective_from desc, p.promotion_id desc limit 1
        """,
        (instrument_id, timeframe, as_of),
    )


def promotions(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, feature_set_id: int, before: datetime
) -> list[tuple[datetime, str | None]]:
    """When each version came into production, ascending; of several at one moment the newest counts.

    A version that was trained on another feature set cannot read today's rows: it is in production and None here.
    """
    rows = connection.execute(
        """
        select distinct on (p.effective_from)
               p.effective_from, case when m.feature_set_id = %(features)s then m.model_id end
        from model_promotions p join model_versions m using (model_id)
        where p.instrument_id = %(instrument)s and p.timeframe = %(timeframe)s and p.effective_from < %(before)s
        order by p.effective_from, p.promotion_id desc
        """,
        {"instrument": instrument_id, "timeframe": timeframe, "features": feature_set_id, "before": before},
    )
    return [(effective_from, model_id) for effective_from, model_id in rows]


def spec_of(connection: psycopg.Connection[Any], model_id: str) -> dict[str, Any]:
    """The recipe that a version was trained with; `LookupError` for an unknown id."""
    return _column(connection, model_id, "spec")


def artefact_sha256(connection: psycopg.Connection[Any], model_id: str) -> str:
    """Hash of the stored artefact; `LookupError` for an unknown id."""
    return _column(connection, model_id, "artefact_sha256")


def artefact(connection: psycopg.Connection[Any], model_id: str) -> bytes:
    """The stored artefact; `LookupError` for an unknown id."""
    return bytes(_column(connection, model_id, "artefact"))


def insert(
    connection: psycopg.Connection[Any],
    version: ModelVersion,
    *,
    spec: dict[str, Any],
    train_from: datetime,
    artefact: bytes,
    code_version: str,
) -> None:
    """Store a new version."""
    connection.execute(
        f"""
        insert into model_versions ({_COLUMNS}, spec, train_from, artefact, code_version)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            *({**vars(version), "metrics": Jsonb(version.metrics)}.values()),
            Jsonb(spec),
            train_from,
            artefact,
            code_version,
        ),
    )


def promote(connection: psycopg.Connection[Any], version: ModelVersion, effective_from: datetime, reason: str) -> None:
    """Put a version into production from `effective_from` on."""
    connection.execute(
        """
        insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason)
        values (%s, %s, %s, %s, %s)
        """,
        (version.model_id, version.instrument_id, version.timeframe, effective_from, reason),
    )


def change(
    connection: psycopg.Connection[Any], wanted: str, model_id: str, requested_by: str, reason: str, at: datetime
) -> str:
    """Promote, roll back, pin or unpin by the database's own function; the version that is concerned in the end."""
    row = connection.execute(
        "select change_model(%s, %s, %s, %s, %s)", (wanted, model_id, requested_by, reason, at)
    ).fetchone()
    assert row is not None
    return row[0]


def pinned(connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, at: datetime) -> str | None:
    """The version that was pinned at a moment, None when none was."""
    row = connection.execute(
        "select model_id from model_pins where instrument_id = %s and timeframe = %s and pinned_at <= %s "
        "and (released_at is null or released_at > %s)",
        (instrument_id, timeframe, at, at),
    ).fetchone()
    return None if row is None else row[0]


def save_reference(connection: psycopg.Connection[Any], model_id: str, content: dict[str, Any]) -> None:
    """Keep the distribution of the features that a version has learnt from."""
    connection.execute(
        "insert into model_references values (%s, %s) on conflict do nothing", (model_id, Jsonb(content))
    )


def reference(connection: psycopg.Connection[Any], model_id: str) -> dict[str, Any] | None:
    """That distribution, None for a version from before it was kept."""
    row = connection.execute("select content from model_references where model_id = %s", (model_id,)).fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True)
class StoredFold:
    """A checkpointed fold; `probabilities` are those of the labelled rows of its test window, in order of time."""

    fold: int
    train_from: datetime
    train_until: datetime
    test_from: datetime
    test_until: datetime
    metrics: dict[str, Any]
    parameters: dict[str, Any]
    rounds: int
    calibration: float
    probabilities: npt.NDArray[np.float64]


def save_fold(connection: psycopg.Connection[Any], training_key: str, fold: StoredFold) -> None:
    """Checkpoint one fold."""
    row = vars(fold) | {
        "training_key": training_key,
        "metrics": Jsonb(fold.metrics),
        "parameters": Jsonb(fold.parameters),
        "probabilities": fold.probabilities.astype("<f8").tobytes(),
    }
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join(map(sql.Placeholder, row))
    connection.execute(
        sql.SQL("insert into model_folds ({}) values ({}) on conflict do nothing").format(names, marks), row
    )


def saved_folds(connection: psycopg.Connection[Any], training_key: str) -> list[StoredFold]:
    """The folds that are done, in order."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """
            select fold, train_from, train_until, test_from, test_until, metrics, parameters, rounds, calibration,
                   probabilities
            from model_folds where training_key = %s order by fold
            """,
            (training_key,),
        ).fetchall()
    for row in rows:
        row["probabilities"] = np.frombuffer(row["probabilities"], dtype="<f8")
    return [StoredFold(**row) for row in rows]


def _one(connection: psycopg.Connection[Any], query: LiteralString, arguments: tuple[Any, ...]) -> ModelVersion | None:
    with connection.cursor(row_factory=class_row(ModelVersion)) as cursor:
        return cursor.execute(query, arguments).fetchone()


def _column(connection: psycopg.Connection[Any], model_id: str, name: str) -> Any:
    query = sql.SQL("select {} from model_versions where model_id = %s").format(sql.Identifier(name))
    row = connection.execute(query, (model_id,)).fetchone()
    if row is None:
        raise LookupError(f"no model version {model_id}")
    return row[0]
