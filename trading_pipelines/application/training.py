"""Train a model version per symbol, remember it, and decide whether it goes into production."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import numpy as np
import psycopg

from trading_pipelines.application.features import build_features, current_feature_set, to_aware, to_naive
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import FeatureMatrix
from trading_pipelines.domain.labeling.triple_barrier import RowLabels, label_bars
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.metrics import Metrics
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import candles, instruments, models
from trading_pipelines.store.repositories import features as feature_store
from trading_pipelines.store.repositories.models import ModelVersion


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training has come; `eta_s` is None until one fold is done."""

    symbol: str
    done: int
    total: int
    eta_s: float | None


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


OnProgress = Callable[[TrainingProgress], None]


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
    """Train every symbol, one after the other; the folds of one run side by side."""
    return [
        train(connection, exchange, symbol, timeframe, as_of, spec, force=force, on_progress=on_progress)
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
    committed when it is done, so an interrupted training goes on where it stopped; a training that has been done with
    the same data and spec returns its version.

    Raises
    ------
    UserError
        Unknown symbol, or too little history.
    """
    began = time.monotonic()
    instrument = instruments.by_symbol(connection, exchange).get(symbol)
    if instrument is None:
        raise UserError(f"{symbol} is not stored for {exchange}: run `trading ingest` first")
    data = load_training_data(connection, exchange, symbol, timeframe, as_of, spec)
    set_id = current_feature_set(connection)
    key = _training_key(exchange, symbol, timeframe, as_of, spec, data)
    existing = models.by_training_key(connection, key)
    metrics, folds = _evaluate(connection, symbol, data, key, spec, on_progress)
    version = existing or _fit_version(
        connection, instrument.instrument_id, set_id, symbol, timeframe, as_of, spec, data, key, metrics
    )
    promoted, verdict = _promote_if_earned(connection, version, spec, force)
    connection.commit()
    return TrainingReport(
        symbol,
        version.model_id,
        version.metrics,
        folds,
        existing is not None,
        promoted,
        verdict,
        time.monotonic() - began,
    )


def promote(connection: psycopg.Connection[Any], model_id: str, effective_from: datetime, reason: str) -> None:
    """Put a version into production from `effective_from` on, and commit; an older one to roll back.

    Raises
    ------
    UserError
        Unknown version, or a moment at which it did not exist: it has learnt from what came later.
    """
    version_row = models.find(connection, model_id)
    if version_row is None:
        raise UserError(f"there is no model version {model_id}: `trading train` makes one")
    if effective_from < version_row.as_of:
        raise UserError(f"{model_id} has learnt from data up to {version_row.as_of:%Y-%m-%d %H:%M}: promote it later")
    models.promote(connection, version_row, effective_from, reason)
    connection.commit()


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
    frame = Timeframe(timeframe)
    stored = instruments.by_symbol(connection, exchange)[symbol]
    days = spec.train_days + spec.folds * spec.test_days + 2
    start = frame.floor(as_of - timedelta(days=days))
    build_features(connection, exchange, [symbol], timeframe, start, as_of)
    matrix = feature_store.read_features(
        connection,
        stored.instrument_id,
        current_feature_set(connection),
        timeframe,
        len(registry.NAMES),
        start,
        as_of,
        as_of,
    )
    labels = label_rows(connection, stored.instrument_id, frame, matrix, as_of, spec)
    inputs = training.model_inputs(registry.NAMES, registry.PRICE_SCALED, spec)
    names = tuple(registry.NAMES[i] for i in inputs)
    data = training.assemble(matrix.available_at, matrix.values[:, inputs], names, labels)
    if len(data) < training.MINIMUM_ROWS + spec.early_stopping_days * 1440 // frame.minutes:
        have = len(data) * frame.minutes / 1440
        raise UserError(
            f"{symbol}: {have:.0f} days of usable {timeframe} candles before {as_of:%Y-%m-%d}, "
            f"training wants {days}: ingest more history or lower TRADING_TRAINING__TRAIN_DAYS"
        )
    return data


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


def _evaluate(
    connection: psycopg.Connection[Any],
    symbol: str,
    data: TrainingData,
    key: str,
    spec: TrainingSpec,
    on_progress: OnProgress,
) -> tuple[Metrics | None, int]:
    """Run the folds that are not checkpointed yet, side by side; pooled metrics and number of folds."""
    began = time.monotonic()
    done = models.saved_folds(connection, key)
    folds = [f for f in training.splitter(spec).split(data.known_at, data.label_end) if f.number not in done]
    results = {number: Metrics(**metrics) for number, metrics in done.items()}
    on_progress(TrainingProgress(symbol, len(results), spec.folds, None))
    # Threads suffice: LightGBM works outside the interpreter's lock, and they share the data.
    with ThreadPoolExecutor(spec.processes) as workers:
        futures = [workers.submit(training.evaluate_fold, data, fold, spec) for fold in folds]
        for finished, future in enumerate(as_completed(futures), start=1):
            result = future.result()
            if result is not None:
                window = (result.train_from, result.train_until, result.test_from, result.test_until)
                a, b, c, d = (to_aware(moment) for moment in window)
                models.save_fold(connection, key, result.number, (a, b, c, d), asdict(result.metrics))
                connection.commit()
                results[result.number] = result.metrics
            left = (time.monotonic() - began) / finished * (len(folds) - finished)
            on_progress(TrainingProgress(symbol, spec.folds - len(folds) + finished, spec.folds, left))
    pooled = training.pool([results[n] for n in sorted(results)]) if results else None
    return pooled, len(results)


def _fit_version(
    connection: psycopg.Connection[Any],
    instrument_id: int,
    set_id: int,
    symbol: str,
    timeframe: str,
    as_of: datetime,
    spec: TrainingSpec,
    data: TrainingData,
    key: str,
    metrics: Metrics | None,
) -> ModelVersion:
    classifier = training.fit_final(data, to_naive(as_of), spec)
    if classifier is None:
        raise UserError(f"{symbol}: too few labelled bars before {as_of:%Y-%m-%d} to train: ingest more history")
    artefact = classifier.to_bytes()
    figures: dict[str, Any] = {} if metrics is None else asdict(metrics) | {"skill": metrics.skill}
    importance = sorted(classifier.importance().items(), key=lambda item: -item[1])
    version_row = ModelVersion(
        model_id=_free_id(connection, symbol, timeframe, as_of, key),
        instrument_id=instrument_id,
        timeframe=timeframe,
        feature_set_id=set_id,
        training_key=key,
        as_of=as_of,
        metrics=figures | {"importance": dict(importance[:20])},
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
    return version_row


def _promote_if_earned(
    connection: psycopg.Connection[Any], version_row: ModelVersion, spec: TrainingSpec, force: bool
) -> tuple[bool, str]:
    """Promote a version that was good enough out of sample, from its as-of time on."""
    current = models.in_production(connection, version_row.instrument_id, version_row.timeframe, version_row.as_of)
    if current is not None and current.model_id == version_row.model_id:
        return True, "in production already"
    refusal = _refusal(connection, version_row, current, spec)
    if refusal is None:
        reason = _described(version_row)
    elif force:
        reason = f"{refusal}; promoted all the same because it was asked for"
    else:
        return False, f"not promoted: {refusal}"
    models.promote(connection, version_row, version_row.as_of, reason)
    return True, f"promoted: {reason}"


def _refusal(
    connection: psycopg.Connection[Any], candidate: ModelVersion, current: ModelVersion | None, spec: TrainingSpec
) -> str | None:
    """Why a version does not belong into production, None if it does.

    It has to be better than the base rate. The same recipe with newer data then simply takes over; another recipe has
    to be better than the one in production on top, each judged by its own out-of-sample folds.
    """
    skill = _skill(candidate)
    if skill is None:
        return "no fold could be judged out of sample"
    if skill < spec.min_skill:
        return f"{_described(candidate)}, wanted {spec.min_skill:+.2%}"
    rival = None if current is None else _skill(current)
    if current is None or rival is None or skill >= rival + spec.min_improvement:
        return None
    if _recipe(models.spec_of(connection, current.model_id)) == _recipe(spec.model_dump(mode="json")):
        return None
    return f"{_described(candidate)}, {current.model_id} has {rival:+.2%}, wanted {spec.min_improvement:.2%} more"


def _skill(version_row: ModelVersion) -> float | None:
    return version_row.metrics.get("skill")


def _described(version_row: ModelVersion) -> str:
    return f"log loss {_skill(version_row):+.2%} better than the base rate out of sample"


def _recipe(spec: dict[str, Any]) -> dict[str, Any]:
    """What of a spec shapes the model, and not how it is computed or judged."""
    return {k: v for k, v in spec.items() if k not in ("processes", "min_skill", "min_improvement")}


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
        spec.model_dump(mode="json", exclude={"processes"}),
        registry.definition_hash(),
        data.sha256,
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
