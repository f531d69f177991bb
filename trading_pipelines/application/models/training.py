"""Train a model version per symbol, remember it, and decide whether it goes into production."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
import psycopg
from pydantic import ValidationError

from trading_pipelines.application.features.building import (
    build_features,
    current_feature_set,
    features_between,
    to_aware,
    to_naive,
)
from trading_pipelines.application.models.registry import promote_earned
from trading_pipelines.application.models.tasks import (
    Helpers,
    OnProgress,
    TrainingProgress,
    final_spec,
    layout,
    run_tasks,
)
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.domain.labeling.triple_barrier import RowLabels, label_bars
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.classifier import Classifier
from trading_pipelines.domain.modelling.metrics import Metrics, mean_log_loss
from trading_pipelines.domain.modelling.novelty import reference_of
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import candles, instruments, models, trainings
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories.models import ModelVersion, StoredFold
from trading_pipelines.store.repositories.trainings import Training

__all__ = ["TrainingProgress", "TrainingReport", "resume", "train", "train_many"]

_STRONGEST = 20
"""Features whose importance is kept with a version."""
_SHAP_ROWS = 1_000
"""Rows of the training, evenly spread, over which contributions are averaged."""
_NOT_THE_RECIPE = {
    "processes",
    "helpers_from_s",
    "folds",
    "cost_rate",
    "confidence_threshold",
    "min_skill",
    "min_improvement",
    "min_refresh",
    "min_comparison_rows",
}


@dataclass(frozen=True)
class TrainingReport:
    """What one training ended with.

    Attributes
    ----------
    reused : bool
        The same training had been done before; nothing was fitted.
    promoted : bool
        The version is in production from its as-of time on.
    verdict : str
        Why it was promoted or not, in words.
    """

    symbol: str
    model_id: str
    metrics: dict[str, Any]
    folds: int
    reused: bool
    promoted: bool
    verdict: str
    seconds: float


def train_many(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
    *,
    force: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> list[TrainingReport]:
    """Train every symbol, one after the other; the folds of one are shared by the spec's processes."""
    with Helpers(connection, spec.processes - 1) as helpers:
        return [
            _train(connection, helpers, exchange, symbol, timeframe, as_of, spec, force, on_progress)
            for symbol in symbols
        ]


def train(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
    *,
    force: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> TrainingReport:
    """Train one symbol with what was known at `as_of`, and promote the version if it has earned it (or by `force`).

    Walk-forward folds judge the recipe out of sample, then the final fit uses the newest window. Each fold is
    committed when it is done, so an interrupted training goes on where it stopped, and any number of processes that ask
    for the same training share its folds; one that has been done with the same data and spec returns its version.

    Raises
    ------
    UserError
        Unknown symbol, or too little history.
    """
    return train_many(connection, exchange, [symbol], timeframe, as_of, spec, force=force, on_progress=on_progress)[0]


def resume(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbols: Sequence[str] = (),
    *,
    processes: int | None = None,
    force: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> list[TrainingReport]:
    """Take part in every training that has no version yet, interrupted or under way elsewhere, and finish it.

    Parameters
    ----------
    symbols : sequence of str
        Those to look at; none means all.
    processes : int or None
        Processes on this machine, None as the training was begun with.
    """
    reports: list[TrainingReport] = []
    for waiting in trainings.unfinished(connection, exchange, symbols):
        spec = _readable(waiting)
        if spec is not None:
            own = spec.model_copy(update={"processes": processes or spec.processes})
            with Helpers(connection, own.processes - 1) as helpers:
                reports.append(
                    _train(
                        connection,
                        helpers,
                        exchange,
                        waiting.symbol,
                        waiting.timeframe,
                        waiting.as_of,
                        own,
                        force,
                        on_progress,
                    )
                )
        # Candles that have been corrected since make it another training: nobody will finish the first.
        trainings.finish(connection, waiting.training_key)
        connection.commit()
    return reports


def read_shared_training(
    connection: psycopg.Connection[Any], training_key: str
) -> tuple[Training, TrainingData, TrainingSpec] | None:
    """What another process needs to take part; None where it would work on other data than the first one."""
    work = trainings.find(connection, training_key)
    spec = None if work is None else _readable(work)
    if work is None or spec is None:
        return None
    data = _read_training_data(connection, work.instrument_id, work.timeframe, work.as_of, spec)
    same = _training_key(work.exchange, work.symbol, work.timeframe, work.as_of, spec, data) == training_key
    return (work, data, spec) if same else None


def _train(
    connection: psycopg.Connection[Any],
    helpers: Helpers,
    exchange: str,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
    force: bool,
    on_progress: OnProgress,
) -> TrainingReport:
    began = time.monotonic()
    instrument = instruments.by_symbol(connection, exchange).get(symbol)
    if instrument is None:
        raise UserError(f"{symbol} is not stored for {exchange}: run `trading ingest` first")
    data = load_training_data(connection, exchange, symbol, timeframe, as_of, spec)
    key = _training_key(exchange, symbol, timeframe, as_of, spec, data)
    work = Training(key, exchange, symbol, instrument.instrument_id, timeframe, as_of, spec.model_dump(mode="json"))
    trainings.begin(connection, work, layout(spec))
    connection.commit()
    run_tasks(connection, work, data, spec, helpers, on_progress)
    # Whoever comes second finds the version.
    trainings.lock(connection, key)
    existing = models.by_training_key(connection, key)
    folds = models.saved_folds(connection, key)
    version_row = existing or _fit_version(connection, work, spec, data, folds)
    promoted, verdict = _promote_if_earned(connection, version_row, spec, force, data, folds)
    trainings.finish(connection, key)
    connection.commit()
    return TrainingReport(
        symbol,
        version_row.model_id,
        version_row.metrics,
        len(folds),
        existing is not None,
        promoted,
        verdict,
        time.monotonic() - began,
    )


def load_training_data(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
) -> TrainingData:
    """Features and labels that were known at `as_of`: a label counts only once its end had passed.

    Missing feature rows are built first.
    """
    instrument_id = instruments.by_symbol(connection, exchange)[symbol].instrument_id
    build_features(connection, exchange, [symbol], timeframe, _oldest(timeframe, as_of, spec), as_of)
    data = _read_training_data(connection, instrument_id, timeframe, as_of, spec)
    if not training.is_enough(data, training.final_rows(data, to_naive(as_of), spec), spec):
        have = len(data) * Timeframe(timeframe).minutes / 1440
        raise UserError(
            f"{symbol}: {have:.0f} days of usable {timeframe} candles before {as_of:%Y-%m-%d}, "
            f"training wants {_days(spec)}: ingest more history or lower TRADING_TRAINING__TRAIN_DAYS"
        )
    return data


def recompute_training_data(
    connection: psycopg.Connection[Any],
    exchange: str,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
) -> TrainingData:
    """The same from the candles and other inputs, without storing anything: what a repeated training would read."""
    instrument_id = instruments.by_symbol(connection, exchange)[symbol].instrument_id
    frame, since = Timeframe(timeframe), _oldest(timeframe, as_of, spec)
    matrix = features_between(connection, exchange, symbol, frame, since, as_of)
    known = int(np.searchsorted(matrix.available_at, to_naive(as_of), side="right"))
    matrix = FeatureMatrix(matrix.ts[:known], matrix.available_at[:known], matrix.values[:known])
    return _labelled(connection, instrument_id, timeframe, matrix, as_of, spec)


def _read_training_data(
    connection: psycopg.Connection[Any], instrument_id: int, timeframe: str, as_of: datetime, spec: TrainingSpec
) -> TrainingData:
    matrix = feature_store.read_features(
        connection,
        instrument_id,
        current_feature_set(connection),
        timeframe,
        len(registry.NAMES),
        _oldest(timeframe, as_of, spec),
        as_of,
        as_of,
    )
    return _labelled(connection, instrument_id, timeframe, matrix, as_of, spec)


def _labelled(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: str,
    matrix: FeatureMatrix,
    as_of: datetime,
    spec: TrainingSpec,
) -> TrainingData:
    labels = label_rows(connection, instrument_id, Timeframe(timeframe), matrix, as_of, spec)
    inputs = training.model_inputs(registry.NAMES, registry.PRICE_SCALED, spec)
    names = tuple(registry.NAMES[i] for i in inputs)
    return training.assemble(matrix.available_at, matrix.values[:, inputs], names, labels)


def _days(spec: TrainingSpec) -> int:
    """Days of candles that a training reads."""
    return spec.train_days + spec.folds * spec.test_days + 2


def _oldest(timeframe: str, as_of: datetime, spec: TrainingSpec) -> datetime:
    return Timeframe(timeframe).floor(as_of - timedelta(days=_days(spec)))


def _readable(work: Training) -> TrainingSpec | None:
    """The spec of a training that was begun elsewhere; None where that was another version of the program."""
    try:
        return TrainingSpec.model_validate(work.spec)
    except ValidationError:
        return None


def label_rows(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    timeframe: Timeframe,
    matrix: FeatureMatrix,
    as_of: datetime,
    spec: TrainingSpec,
) -> RowLabels:
    """Labels of feature rows from the candles that had closed at `as_of`.

    There may be candles whose features are not built yet: they belong to the path of earlier bars and have no label
    themselves.
    """
    if len(matrix.ts) == 0:
        return RowLabels.none()
    bars = candles.read_candles(connection, instrument_id, timeframe, to_aware(matrix.ts[0]), as_of)
    ts = bars["ts"].to_numpy("datetime64[us]")
    closed = int(np.searchsorted(ts + np.timedelta64(timeframe.minutes, "m"), to_naive(as_of), side="right"))
    rows = np.searchsorted(ts[:closed], matrix.ts)
    if closed < len(matrix.ts) or not np.array_equal(ts[rows], matrix.ts):
        raise UserError("there are features without candles: build the features of that range again")
    open_, high, low, close = (bars[c].to_numpy(np.float64)[:closed] for c in ("open", "high", "low", "close"))
    atr = np.full(closed, np.nan)
    atr[rows] = matrix.values[:, registry.NAMES.index("atr_14")]
    closes_at = ts[:closed] + np.timedelta64(timeframe.minutes, "m")
    horizon = np.timedelta64(spec.label_horizon_minutes, "m")
    labels = label_bars(closes_at, open_, high, low, close, atr, spec.label_barrier_atr, horizon)
    return RowLabels.of(labels, closes_at, rows)


def _fit_version(
    connection: psycopg.Connection[Any],
    work: Training,
    spec: TrainingSpec,
    data: TrainingData,
    folds: Sequence[StoredFold],
) -> ModelVersion:
    tuned = final_spec(connection, work.training_key, spec)
    classifier = training.fit_final(data, to_naive(work.as_of), tuned)
    if classifier is None:
        raise UserError(
            f"{work.symbol}: too few labelled bars before {work.as_of:%Y-%m-%d} to train: ingest more history"
        )
    artefact = classifier.to_bytes()
    learnt = data.samples.features[training.final_rows(data, to_naive(work.as_of), tuned)]
    version_row = ModelVersion(
        model_id=_free_id(connection, work.symbol, work.timeframe, work.as_of, work.training_key),
        instrument_id=work.instrument_id,
        timeframe=work.timeframe,
        feature_set_id=current_feature_set(connection),
        training_key=work.training_key,
        as_of=work.as_of,
        metrics={
            **_pooled(folds),
            "importance": _strongest(classifier.importance()),
            "shap": _strongest(classifier.mean_contribution(learnt[:: max(len(learnt) // _SHAP_ROWS, 1)])),
            "parameters": training.booster_parameters(tuned),
            "rounds": classifier.rounds,
            "calibration": classifier.factor,
        },
        artefact_sha256=hashlib.sha256(artefact).hexdigest(),
    )
    models.insert(
        connection,
        version_row,
        spec=spec.model_dump(mode="json"),
        train_from=to_aware(data.known_at[0]),
        artefact=artefact,
        code_version=version("trading-pipelines"),
    )
    week = 7 * 1440 // Timeframe(work.timeframe).minutes
    models.save_reference(connection, version_row.model_id, reference_of(data.features, learnt, week).to_dict())
    return version_row


def _strongest(shares: dict[str, float]) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda item: -item[1])[:_STRONGEST])


def _pooled(folds: Sequence[StoredFold]) -> dict[str, Any]:
    if not folds:
        return {}
    pooled = training.pool([Metrics(**fold.metrics) for fold in folds])
    return asdict(pooled) | {"skill": pooled.skill}


def _promote_if_earned(
    connection: psycopg.Connection[Any],
    version_row: ModelVersion,
    spec: TrainingSpec,
    force: bool,
    data: TrainingData,
    folds: Sequence[StoredFold],
) -> tuple[bool, str]:
    """Promote a version that was good enough out of sample, from its as-of time on."""
    current = models.in_production(connection, version_row.instrument_id, version_row.timeframe, version_row.as_of)
    if current is not None and current.model_id == version_row.model_id:
        return True, "in production already"
    refusal = _worse_than_naive(version_row, spec)
    if refusal is None and current is not None:
        refusal = _worse_than_incumbent(connection, version_row, current, spec, data, folds)
    if refusal is None:
        reason = _described(version_row)
    elif force:
        reason = f"{refusal}; promoted all the same because it was asked for"
    else:
        return False, f"not promoted: {refusal}"
    pinned = promote_earned(connection, version_row, reason)
    return (True, f"promoted: {reason}") if pinned is None else (False, f"not promoted: {pinned}")


def _worse_than_naive(candidate: ModelVersion, spec: TrainingSpec) -> str | None:
    """Why a version is no better than saying the base rate or 0.5 all the time, None if it is."""
    skill = _skill(candidate)
    if skill is None:
        return "no fold could be judged out of sample"
    return None if skill > spec.min_skill else f"{_described(candidate)}, wanted more than {spec.min_skill:+.2%}"


def _worse_than_incumbent(
    connection: psycopg.Connection[Any],
    candidate: ModelVersion,
    current: ModelVersion,
    spec: TrainingSpec,
    data: TrainingData,
    folds: Sequence[StoredFold],
) -> str | None:
    """Why a version does not take the place of the one in production, None if it does.

    Both are judged on the bars since the training of the one in production: new to it, and to the folds' models. With
    too few such bars the same recipe simply takes over with its newer data, and another one has to be better by the
    folds of each.
    """
    same = _recipe(models.spec_of(connection, current.model_id)) == _recipe(spec.model_dump(mode="json"))
    wanted = spec.min_refresh if same else spec.min_improvement
    gain, rows = _gain_on_new_bars(connection, current, data, folds, spec)
    if gain is not None:
        if gain >= wanted:
            return None
        return f"log loss {gain:+.2%} better than {current.model_id} on {rows} new bars, wanted {wanted:+.2%}"
    skill, rival = _skill(candidate), _skill(current)
    if same or skill is None or rival is None or skill >= rival + wanted:
        return None
    return f"{_described(candidate)}, {current.model_id} has {rival:+.2%}, wanted {wanted:.2%} more"


def _gain_on_new_bars(
    connection: psycopg.Connection[Any],
    current: ModelVersion,
    data: TrainingData,
    folds: Sequence[StoredFold],
    spec: TrainingSpec,
) -> tuple[float | None, int]:
    """Share of the log loss of the version in production that the folds' models save, and the bars it is over."""
    if current.feature_set_id != current_feature_set(connection) or not folds:
        return None, 0
    splits = training.folds_of(data, spec)
    rows = np.concatenate([splits[fold.fold].test for fold in folds])
    ours = np.concatenate([fold.probabilities for fold in folds])
    new = data.known_at[rows] > to_naive(current.as_of)
    incumbent = Classifier.from_bytes(models.artefact(connection, current.model_id))
    if int(new.sum()) < spec.min_comparison_rows or not set(incumbent.features) <= set(data.features):
        return None, int(new.sum())
    columns = [data.features.index(name) for name in incumbent.features]
    theirs = incumbent.probability(data.samples.features[rows[new]][:, columns])
    labels = data.samples.labels[rows[new]]
    return 1 - mean_log_loss(ours[new], labels) / mean_log_loss(theirs, labels), int(new.sum())


def _skill(version_row: ModelVersion) -> float | None:
    return version_row.metrics.get("skill")


def _described(version_row: ModelVersion) -> str:
    return f"log loss {_skill(version_row):+.2%} better than a naive forecast out of sample"


def _recipe(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a spec shapes the model, and not how it is computed or judged."""
    return {k: v for k, v in spec.items() if k not in _NOT_THE_RECIPE}


def _free_id(connection: psycopg.Connection[Any], symbol: str, timeframe: str, as_of: datetime, key: str) -> str:
    base, quote = split_symbol(symbol)
    name = f"{base}_{quote}_{timeframe}_{as_of.astimezone(UTC):%Y%m%d_%H%M%S}"
    return name if models.find(connection, name) is None else f"{name}_{key[:4]}"


def _training_key(
    exchange: str, symbol: str, timeframe: str, as_of: datetime, spec: TrainingSpec, data: TrainingData
) -> str:
    identity = [
        exchange,
        symbol,
        timeframe,
        as_of.astimezone(UTC).isoformat(),
        spec.model_dump(mode="json", exclude={"processes", "helpers_from_s"}),
        registry.definition_hash(),
        data.sha256,
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
