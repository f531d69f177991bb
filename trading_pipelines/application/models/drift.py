"""Compare what the versions in production meet with what they have learnt from, once a day.

Belongs here: loading, comparing, storing, telling. Does not belong here: the measures and their thresholds
(`domain.validation.drift`), and the training that follows (`defs.models.sensors`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.models.prediction import load_reference
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.metrics import Metrics
from trading_pipelines.domain.validation import drift
from trading_pipelines.domain.validation.drift import DriftSpec
from trading_pipelines.store.repositories import drift as drift_store
from trading_pipelines.store.repositories import events, instruments, models
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories.drift import DriftDay
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.models import ModelVersion
from trading_pipelines.store.transaction import committed


@dataclass(frozen=True)
class DriftReport:
    """What was found by symbol; symbols without a version that could be compared are left out."""

    days: dict[str, DriftDay]

    @property
    def drifting(self) -> dict[str, list[str]]:
        """Reasons of the symbols that drift."""
        return {symbol: day.reasons for symbol, day in self.days.items() if day.reasons}


def measure_drift(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    as_of: datetime,
    spec: DriftSpec,
) -> DriftReport:
    """Compare the last days' rows and predictions with the training of the version in production; commit per symbol.

    A second run of the same day replaces the first. The event is written when drift begins, not while it lasts.
    """
    stored, days = instruments.by_symbol(connection, exchange), dict[str, DriftDay]()
    for symbol in symbols:
        version = models.in_production(connection, stored[symbol].instrument_id, timeframe, as_of)
        if version is None or version.feature_set_id != current_feature_set(connection):
            continue
        with committed(connection):
            day = _measure(connection, version, as_of, spec)
            if day is not None:
                days[symbol] = day
                _tell(connection, symbol, day, as_of)
    return DriftReport(days)


def _measure(
    connection: psycopg.Connection[Any],
    version: ModelVersion,
    as_of: datetime,
    spec: DriftSpec,
) -> DriftDay | None:
    reference = load_reference(connection, version.model_id)
    if reference is None:
        return None
    frame, since = Timeframe(version.timeframe), as_of - timedelta(days=spec.window_days)
    matrix = feature_store.read_features(
        connection,
        version.instrument_id,
        version.feature_set_id,
        version.timeframe,
        len(registry.NAMES),
        since,
        as_of,
        as_of,
    )
    if len(matrix.ts) == 0:
        return None
    recent = matrix.values[:, [registry.NAMES.index(name) for name in reference.features]]
    found = drift.feature_drift(drift.bin_shares(recent, reference.edges), reference.shares)
    shifted = drift.shifted(found, reference.usual_psi, spec)
    predicted = drift_store.predicted(connection, version.model_id, since, as_of, as_of)
    known = [p for p in predicted if p.outcome is not None]
    decay = drift.decay_of(
        np.array([p.probability for p in known]), np.array([p.outcome for p in known], dtype=np.float64)
    )
    folds = [Metrics(**fold.metrics) for fold in models.saved_folds(connection, version.training_key)]
    hit_rate = _expected_hit_rate(folds)
    log_loss = float(np.average([f.log_loss for f in folds], weights=[f.samples for f in folds])) if folds else None
    overlap = models.spec_of(connection, version.model_id)["label_horizon_minutes"] / frame.minutes
    row = DriftDay(
        model_id=version.model_id,
        day=as_of.date(),
        computed_at=as_of,
        rows=len(recent),
        features=len(reference.features),
        drifted_features=int(shifted.sum()),
        novelty=float(reference.novelty(recent).mean()),
        outcomes=len(known),
        hit_rate=None if decay is None else decay.hit_rate,
        expected_hit_rate=hit_rate,
        log_loss=None if decay is None else decay.log_loss,
        expected_log_loss=log_loss,
        calibration_error=None if decay is None else decay.calibration_error,
        reasons=list(drift.reasons(float(shifted.mean()), decay, hit_rate, log_loss, overlap, spec)),
    )
    features = zip(reference.features, found.psi.tolist(), reference.usual_psi.tolist(), found.ks.tolist(), strict=True)
    drift_store.save(connection, row, features)
    return row


def _expected_hit_rate(folds: Sequence[Metrics]) -> float | None:
    """Share of right sides over the folds' tests: what their reliability bins hold on the better side of one half."""
    right = samples = 0.0
    for fold in folds:
        for _, count, probability, ones in fold.reliability:
            samples += count
            right += ones if probability >= count / 2 else count - ones
    return right / samples if samples else None


def _tell(connection: psycopg.Connection[Any], symbol: str, day: DriftDay, as_of: datetime) -> None:
    before = connection.execute(
        "select cardinality(reasons) > 0 from model_drift where model_id = %s and day < %s order by day desc limit 1",
        (day.model_id, day.day),
    ).fetchone()
    if day.reasons and not (before and before[0]):
        events.append(
            connection,
            as_of,
            "model_drift",
            symbol,
            f"{day.model_id}: {'; '.join(day.reasons)}",
            severity=Severity.WARNING,
        )
