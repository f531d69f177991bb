"""Measure walk-forward training on stored candles; prints one JSON object.

Run with `python benchmarks/training.py`: on the recorded Bybit candles when TRADING_TEST_DATA names their folder, else
on a simulated market. `--folds` and `--symbols` make it shorter, `--no-search` leaves the second training out.

For each symbol in turn: a training as `trading train` does it (features, labels, folds, final fit, database), a plain
LightGBM loop over the same folds, rows, weights and parameters with LightGBM's own threads, and a training with a
parameter search. The two are compared fold by fold; `early` and `late` are the halves of the folds. The recipe (rounds,
priors, windows) was chosen on every other fold of the early half, so only the late half judges it.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

AS_OF = datetime(2025, 9, 28, tzinfo=UTC)


def main() -> None:
    """Train every symbol in both ways, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", default="BTCUSDT,ETHUSDT,SOLUSDT")
    parser.add_argument("--folds", type=int, default=67)
    parser.add_argument("--no-search", dest="search", action="store_false")
    options = parser.parse_args()
    symbols = tuple(options.symbols.split(","))
    spec = TrainingSpec(folds=options.folds)
    recorded = os.environ.get("TRADING_TEST_DATA")
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = server.start()
        try:
            migrate(url)
            with connect(url) as connection:
                result = measure(connection, recorded, symbols, spec, options.search)
        finally:
            server.stop()
    sys.stdout.write(json.dumps(result) + "\n")


def measure(
    connection: Connection, recorded: str | None, symbols: Sequence[str], spec: TrainingSpec, with_search: bool
) -> dict[str, Any]:
    """Ingest, then run the ways in turn."""
    days = spec.train_days + spec.folds * spec.test_days + 40
    source = open_source(recorded, symbols, days)
    ingest(
        connection, source, symbols, Timeframe.M15 if recorded else Timeframe.M5, AS_OF - timedelta(days=days), AS_OF
    )
    searching = spec.model_copy(update={"search": spec.search.model_copy(update={"enabled": True})})
    stopwatch = Stopwatch()
    scores: dict[str, dict[tuple[str, int], float]] = {"ours": {}, "plain": {}, "search": {}}
    figures: dict[str, Any] = {}
    for symbol in symbols:
        with stopwatch.measure("train"):
            report = train(connection, source.exchange, symbol, "15m", AS_OF, spec)
        figures[symbol] = selected(report.metrics)
        scores["ours"] |= stored_scores(connection, report.model_id, symbol)
        data = load_training_data(connection, source.exchange, symbol, "15m", AS_OF, spec)
        with stopwatch.measure("plain_loop"):
            scores["plain"] |= {(symbol, fold): score for fold, score in plain_loop(data, spec).items()}
        if with_search:
            with stopwatch.measure("train_with_search"):
                report = train(connection, source.exchange, symbol, "15m", AS_OF, searching)
            figures[f"{symbol}, search"] = selected(report.metrics)
            scores["search"] |= stored_scores(connection, report.model_id, symbol)
    return {
        "benchmark": "training",
        "market": "bybit, recorded" if recorded else "simulated",
        "symbols": len(symbols),
        "folds": spec.folds,
        "rows": len(data),
        "features": len(data.features),
        **{f"{name}_s": round(sum(wall), 1) for name, wall in stopwatch.wall.items()},
        **{f"{name}_cpu_s": round(sum(cpu), 1) for name, cpu in stopwatch.cpu.items()},
        "plain_loop_over_ours": round(
            statistics.median(
                p / o for p, o in zip(stopwatch.wall["plain_loop"], stopwatch.wall["train"], strict=True)
            ),
            2,
        ),
        "auc": {name: halves(values, spec.folds) for name, values in scores.items() if values},
        "auc_difference_to_plain": {
            name: difference(scores[name], scores["plain"], spec.folds) for name in ("ours", "search") if scores[name]
        },
        "figures": figures,
    }


class Stopwatch:
    """Wall and processor seconds by name; the latter, those of helper processes included, hardly feel other load."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the block's seconds, and show them on standard error."""
        wall, cpu = time.perf_counter(), _processor_seconds()
        yield
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.cpu.setdefault(name, []).append(_processor_seconds() - cpu)
        sys.stderr.write(f"{name}: {self.wall[name][-1]:.1f} s, {self.cpu[name][-1]:.1f} s of processors\n")


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def open_source(recorded: str | None, symbols: Sequence[str], days: int) -> MarketDataSource:
    """The recorded market if there is one."""
    if recorded:
        return ArchiveSource(Path(recorded) / "ohlcv", "bybit")
    return SimulatedSource(SimulatedMarketSpec(symbols=tuple(symbols), history_days=days + 1), lambda: AS_OF)


def plain_loop(data: TrainingData, spec: TrainingSpec) -> dict[int, float]:
    """Area under the curve per fold of one booster of fixed length, without early stopping and calibration."""
    parameters = {
        "objective": "binary",
        **training.booster_parameters(spec),
        "bagging_freq": 1,
        "max_bin": spec.max_bin,
        "seed": spec.seed,
        "verbosity": -1,
    }
    scores: dict[int, float] = {}
    for fold in training.folds_of(data, spec):
        if not training.is_enough(data, fold.train, spec) or len(fold.test) == 0:
            continue
        train_rows, test = data.samples.take(fold.train), data.samples.take(fold.test)
        matrix = lightgbm.Dataset(train_rows.features, train_rows.labels, weight=train_rows.weights)
        booster = lightgbm.train(parameters, matrix, spec.num_boost_round)
        if len(np.unique(test.labels)) == 2:
            scores[fold.number] = float(roc_auc_score(test.labels, np.asarray(booster.predict(test.features))))
    return scores


def stored_scores(connection: Connection, model_id: str, symbol: str) -> dict[tuple[str, int], float]:
    """Area under the curve per fold of a version."""
    rows = connection.execute(
        "select fold, (f.metrics ->> 'auc')::float8 from model_folds f join model_versions v using (training_key) "
        "where model_id = %s",
        (model_id,),
    )
    return {(symbol, fold): auc for fold, auc in rows if auc is not None}


def halves(scores: Mapping[tuple[str, int], float], folds: int) -> dict[str, float]:
    """Mean over all folds and over each half."""
    parts = {"all": range(folds), "early": range(folds // 2), "late": range(folds // 2, folds)}
    return {
        name: round(statistics.mean(score for (_, fold), score in scores.items() if fold in part), 4)
        for name, part in parts.items()
    }


def difference(
    ours: Mapping[tuple[str, int], float], plain: Mapping[tuple[str, int], float], folds: int
) -> dict[str, float]:
    """Mean paired difference, its standard error, and the share of folds that are at least as good."""
    paired = [ours[key] - plain[key] for key in sorted(ours.keys() & plain.keys())]
    late = [ours[key] - plain[key] for key in sorted(ours.keys() & plain.keys()) if key[1] >= folds // 2]
    return {
        "mean": round(statistics.mean(paired), 4),
        "standard_error": round(statistics.stdev(paired) / math.sqrt(len(paired)), 4),
        "late_mean": round(statistics.mean(late), 4),
        "late_standard_error": round(statistics.stdev(late) / math.sqrt(len(late)), 4),
        "not_worse": round(sum(d >= 0 for d in paired) / len(paired), 2),
    }


def selected(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a version that are worth a line."""
    names = ("auc", "skill", "log_loss", "brier", "calibration_error", "precision", "coverage", "trades", "net_profit")
    return {name: round(metrics[name], 5) for name in names if metrics[name] is not None}


if __name__ == "__main__":
    main()
