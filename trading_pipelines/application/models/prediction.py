"""Predict closed bars with the version that was in production at their close, and join the outcomes later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features.building import current_feature_set, to_aware, to_naive
from trading_pipelines.application.models.training import label_rows
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.classifier import Classifier
from trading_pipelines.domain.modelling.novelty import Reference
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories import instruments, models, predictions
from trading_pipelines.store.repositories.predictions import OpenPredictions, Prediction

_MOST_CLASSIFIERS = 256
_classifiers: dict[str, Classifier] = {}
"""Parsed versions of this process by the hash of their artefact."""
_references: dict[str, Reference] = {}


@dataclass(frozen=True)
class PredictionReport:
    """How many predictions were new, and which symbols had no version in production for some bar."""

    rows: int
    without_model: tuple[str, ...]


def predict(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    start: datetime,
    end: datetime,
) -> PredictionReport:
    """Predict the bars that open in [start, end) from their stored features; commit per symbol.

    Each bar is judged by the version in production at its close. What was predicted before stays.
    """
    stored = instruments.by_symbol(connection, exchange)
    set_id = current_feature_set(connection)
    rows, without = 0, []
    for symbol in symbols:
        instrument_id = stored[symbol].instrument_id
        matrix = feature_store.read_features(
            connection, instrument_id, set_id, timeframe, len(registry.NAMES), start, end
        )
        new = list(_predictions(connection, instrument_id, timeframe, set_id, matrix))
        if len(new) < len(matrix.ts):
            without.append(symbol)
        with connection.cursor() as cursor:
            rows += predictions.insert(cursor, new)
        connection.commit()
    return PredictionReport(rows, tuple(without))


def record_outcomes(
    connection: psycopg.Connection[Any], exchange: str, symbols: Sequence[str], timeframe: str, as_of: datetime
) -> int:
    """Join predictions with the labels that are known at `as_of`; how many bars were joined.

    A prediction is judged by the barriers that its version has learnt, whatever the settings say by now.
    """
    stored = instruments.by_symbol(connection, exchange)
    joined = 0
    for symbol in symbols:
        instrument_id = stored[symbol].instrument_id
        for waiting in predictions.without_outcome(connection, instrument_id, timeframe, as_of):
            known = _known_labels(connection, instrument_id, timeframe, as_of, waiting)
            with connection.cursor() as cursor:
                predictions.set_outcomes(cursor, instrument_id, timeframe, waiting.model_ids, known)
            connection.commit()
            joined += len(known)
    return joined


def _known_labels(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, as_of: datetime, waiting: OpenPredictions
) -> list[tuple[datetime, int, datetime]]:
    """Open time, label and when it was known, of the bars since the first that waits."""
    set_id, width = current_feature_set(connection), len(registry.NAMES)
    matrix = feature_store.read_features(
        connection, instrument_id, set_id, timeframe, width, waiting.first, as_of, as_of
    )
    spec = TrainingSpec(
        label_barrier_atr=waiting.label_barrier_atr, label_horizon_minutes=waiting.label_horizon_minutes
    )
    labels = label_rows(connection, instrument_id, Timeframe(timeframe), matrix, as_of, spec)
    return [
        (to_aware(matrix.ts[i]), int(labels.value[i]), to_aware(labels.known_at[i]))
        for i in np.flatnonzero(labels.value >= 0).tolist()
    ]


def explain(
    connection: psycopg.Connection[Any],
    model_id: str,
    instrument_id: int,
    timeframe: str,
    ts: datetime,
    most: int = 8,
) -> dict[str, float]:
    """The features that moved one prediction most: contributions to the log-odds of the upper barrier."""
    matrix = feature_store.read_features(
        connection,
        instrument_id,
        current_feature_set(connection),
        timeframe,
        len(registry.NAMES),
        ts,
        ts + timedelta(seconds=1),
    )
    if len(matrix.ts) == 0:
        return {}
    classifier = load_classifier(connection, model_id)
    contributions = classifier.contributions(_columns(matrix, classifier))[0] * classifier.factor
    order = np.argsort(-np.abs(contributions))[:most]
    return {classifier.features[i]: round(float(contributions[i]), 6) for i in order}


def load_classifier(connection: psycopg.Connection[Any], model_id: str) -> Classifier:
    """The stored version; one that this process has used before is not read again."""
    sha256 = models.artefact_sha256(connection, model_id)
    if sha256 not in _classifiers:
        if len(_classifiers) >= _MOST_CLASSIFIERS:
            _classifiers.clear()
        _classifiers[sha256] = Classifier.from_bytes(models.artefact(connection, model_id))
    return _classifiers[sha256]


def load_reference(connection: psycopg.Connection[Any], model_id: str) -> Reference | None:
    """What the stored version has learnt from, None for one from before that was kept; read once per process."""
    sha256 = models.artefact_sha256(connection, model_id)
    if sha256 not in _references:
        if len(_references) >= _MOST_CLASSIFIERS:
            _references.clear()
        content = models.reference(connection, model_id)
        if content is None:
            return None
        _references[sha256] = Reference.from_dict(content)
    return _references[sha256]


def _predictions(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, set_id: int, matrix: FeatureMatrix
) -> Iterator[Prediction]:
    """Cut the rows at the promotions; each stretch belongs to one version."""
    if len(matrix.ts) == 0:
        return
    until = to_aware(matrix.available_at[-1]) + timedelta(microseconds=1)
    history = models.promotions(connection, instrument_id, timeframe, set_id, until)
    starts = [int(np.searchsorted(matrix.available_at, to_naive(since))) for since, _ in history]
    for (_, model_id), first, last in zip(history, starts, [*starts[1:], len(matrix.ts)], strict=False):
        if model_id is not None and first < last:
            part = FeatureMatrix(matrix.ts[first:last], matrix.available_at[first:last], matrix.values[first:last])
            yield from _stretch(connection, instrument_id, timeframe, model_id, part)


def _stretch(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, model_id: str, matrix: FeatureMatrix
) -> Iterator[Prediction]:
    classifier = load_classifier(connection, model_id)
    columns = _columns(matrix, classifier)
    probabilities = classifier.probability(columns).tolist()
    reference = load_reference(connection, model_id)
    novelty = [None] * len(columns) if reference is None else reference.novelty(columns).tolist()
    for ts, available_at, p, new in zip(matrix.ts, matrix.available_at, probabilities, novelty, strict=True):
        side = "LONG" if p >= 0.5 else "SHORT"
        yield Prediction(
            instrument_id, timeframe, to_aware(ts), model_id, to_aware(available_at), p, max(p, 1 - p), side, new
        )


def _columns(matrix: FeatureMatrix, classifier: Classifier) -> Any:
    """The classifier's columns of the stored rows, by name."""
    return matrix.values[:, [registry.NAMES.index(name) for name in classifier.features]]
