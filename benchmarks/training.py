"""Measure walk-forward training on stored candles; prints one JSON object.

Run with `python benchmarks/training.py`: on the recorded Bybit candles when TRADING_TEST_DATA names their folder, else
on a simulated market. A plain loop over the same folds with the same LightGBM parameters, all of them given to
LightGBM's own threads, runs in turn with ours.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lightgbm
import numpy as np
from sklearn.metrics import roc_auc_score

from trading_pipelines.adapters.sources.archive import ArchiveSource
from trading_pipelines.adapters.sources.base import MarketDataSource
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.ingestion import ingest
from trading_pipelines.application.training import load_training_data, train
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.validation.walk_forward import Fold
from trading_pipelines.store.connection import connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
AS_OF = datetime(2025, 9, 28, tzinfo=UTC)
SPEC = TrainingSpec(folds=67)
REPEATS = 3
DAYS = SPEC.train_days + SPEC.folds * SPEC.test_days + 40


def main() -> None:
    """Train everything once through the database, then the folds alone in turn with the plain loop."""
    recorded = os.environ.get("TRADING_TEST_DATA")
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        try:
            migrate(url)
            whole, versions, data = through_the_database(url, recorded)
        finally:
            server.stop()
    rounds = [{"folds_s": 0.0, "plain_loop_s": 0.0} for _ in range(REPEATS)]
    plain_auc = 0.0
    for times in rounds:
        for one in data:
            began = time.perf_counter()
            fold_by_fold(one)
            times["folds_s"] += time.perf_counter() - began
        began = time.perf_counter()
        plain_auc = statistics.mean(plain_loop(one) for one in data)
        times["plain_loop_s"] += time.perf_counter() - began
    medians = {name: round(statistics.median(r[name] for r in rounds), 2) for name in rounds[0]}
    result = {
        "benchmark": "training",
        "market": "bybit, recorded" if recorded else "simulated",
        "symbols": len(SYMBOLS),
        "folds": SPEC.folds,
        "rows": [len(one) for one in data],
        "features": len(data[0].features),
        "train_s": round(whole, 2),
        **medians,
        "auc": {symbol: round(auc, 4) for symbol, auc in versions.items()},
        "plain_loop_auc": round(plain_auc, 4),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def through_the_database(url: str, recorded: str | None) -> tuple[float, dict[str, float], list[TrainingData]]:
    """Seconds of a training of all symbols (features, labels, folds, versions), its scores, and the data."""
    source = open_source(recorded)
    timeframe = Timeframe.M15 if recorded else Timeframe.M5
    since = AS_OF - timedelta(days=DAYS)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, timeframe, since, AS_OF)
        began = time.perf_counter()
        reports = [train(connection, source.exchange, symbol, "15m", AS_OF, SPEC) for symbol in SYMBOLS]
        whole = time.perf_counter() - began
        data = [load_training_data(connection, source.exchange, symbol, "15m", AS_OF, SPEC) for symbol in SYMBOLS]
    return whole, {report.symbol: report.metrics["auc"] for report in reports}, data


def open_source(recorded: str | None) -> MarketDataSource:
    """The recorded market if there is one."""
    if recorded:
        return ArchiveSource(Path(recorded) / "ohlcv", "bybit")
    return SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS, history_days=DAYS + 1), lambda: AS_OF)


def fold_by_fold(data: TrainingData) -> None:
    """The folds as a training evaluates them."""
    with ThreadPoolExecutor(SPEC.processes) as workers:
        list(workers.map(lambda fold: training.evaluate_fold(data, fold, SPEC), folds_of(data)))


def plain_loop(data: TrainingData) -> float:
    """Mean area under the curve of one booster per fold, without early stopping and calibration."""
    parameters = {
        "objective": "binary",
        "learning_rate": SPEC.learning_rate,
        "num_leaves": SPEC.num_leaves,
        "min_data_in_leaf": SPEC.min_data_in_leaf,
        "feature_fraction": SPEC.feature_fraction,
        "bagging_fraction": SPEC.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": SPEC.lambda_l2,
        "seed": SPEC.seed,
        "verbosity": -1,
    }
    scores: list[float] = []
    for fold in folds_of(data):
        if len(fold.train) < training.MINIMUM_ROWS:
            continue
        train_rows, test = data.samples.take(fold.train), data.samples.take(fold.test)
        matrix = lightgbm.Dataset(train_rows.features, train_rows.labels, weight=train_rows.weights)
        booster = lightgbm.train(parameters, matrix, SPEC.num_boost_round)
        if len(np.unique(test.labels)) == 2:
            scores.append(float(roc_auc_score(test.labels, np.asarray(booster.predict(test.features)))))
    return statistics.mean(scores)


def folds_of(data: TrainingData) -> list[Fold]:
    """The walk-forward folds of the spec."""
    return list(training.splitter(SPEC).split(data.known_at, data.label_end))


if __name__ == "__main__":
    main()
