"""Measure walk-forward training on stored candles; prints one JSON object.

Run with `python benchmarks/training.py`: on the recorded Bybit candles when TRADING_TEST_DATA names their folder, else
on a simulated market. `--folds`, `--symbols` and `--repeats` make it shorter, `--no-search` leaves the second training
out.

In each repeat, with another seed, and for each symbol in turn: a training as `trading train` does it (features, labels,
folds, final fit, database), a plain LightGBM loop over the same folds, rows, weights and parameters with LightGBM's own
threads, and, in the first repeat, a training with a parameter search. Seconds are those of all symbols, the median of
the repeats. The two are compared fold by fold; `early` and `late` are the halves of the folds. The recipe (rounds,
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
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.training import load_training_data, train
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling import training
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.modelling.training import TrainingData
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

AS_OF = datetime(2025, 9, 28, tzinfo=UTC)
Key = tuple[str, int, int]
"""Symbol, fold, repeat."""


def main() -> None:
    """Train every symbol in both ways, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--symbols", default="BTCUSDT,ETHUSDT,SOLUSDT")
    parser.add_argument("--folds", type=int, default=67)
    parser.add_argument("--repeats", type=int, default=3)
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
                result = measure(connection, recorded, symbols, spec, options.repeats, options.search)
        finally:
            server.stop()
    sys.stdout.write(json.dumps(result) + "\n")


def measure(
    connection: Connection,
    recorded: str | None,
    symbols: Sequence[str],
    given: TrainingSpec,
    repeats: int,
    with_search: bool,
) -> dict[str, Any]:
    """Ingest, then run the ways in turn."""
    spec = given
    days = spec.train_days + spec.folds * spec.test_days + 40
    source = open_source(recorded, symbols, days)
    ingest(
        connection, source, symbols, Timeframe.M15 if recorded else Timeframe.M5, AS_OF - timedelta(days=days), AS_OF
    )
    stopwatch = Stopwatch()
    scores: dict[str, dict[Key, float]] = {"ours": {}, "plain": {}, "search": {}}
    figures: dict[str, Any] = {}
    for repeat in range(repeats):
        spec = given.model_copy(update={"seed": given.seed + repeat})
        for symbol in symbols:
            with stopwatch.measure("train", repeat):
                report = train(connection, source.exchange, symbol, "15m", AS_OF, spec)
            figures.setdefault(symbol, selected(report.metrics))
            scores["ours"] |= stored_scores(connection, report.model_id, symbol, repeat)
            data = load_training_data(connection, source.exchange, symbol, "15m", AS_OF, spec)
            with stopwatch.measure("plain_loop", repeat):
                plain = plain_loop(data, spec)
            scores["plain"] |= {(symbol, fold, repeat): score for fold, score in plain.items()}
            if with_search and repeat == 0:
                searching = spec.model_copy(update={"search": spec.search.model_copy(update={"enabled": True})})
                with stopwatch.measure("train_with_search", repeat):
                    report = train(connection, source.exchange, symbol, "15m", AS_OF, searching)
                figures[f"{symbol}, search"] = selected(report.metrics)
                scores["search"] |= stored_scores(connection, report.model_id, symbol, repeat)
    return {
        "benchmark": "training",
        "market": "bybit, recorded" if recorded else "simulated",
        "symbols": len(symbols),
        "folds": spec.folds,
        "rows": len(data),
        "features": len(data.features),
        "repeats": repeats,
        **{f"{name}_s": round(statistics.median(wall.values()), 1) for name, wall in stopwatch.wall.items()},
        **{f"{name}_cpu_s": round(statistics.median(cpu.values()), 1) for name, cpu in stopwatch.cpu.items()},
        "plain_loop_over_ours": ratio(stopwatch.wall),
        "plain_loop_over_ours_cpu": ratio(stopwatch.cpu),
        "auc": {name: halves(values, spec.folds) for name, values in scores.items() if values},
        "auc_difference_to_plain": {
            name: difference(scores[name], scores["plain"], spec.folds) for name in ("ours", "search") if scores[name]
        },
        "figures": figures,
    }


def ratio(seconds: Mapping[str, Mapping[int, float]]) -> float:
    """How many times as long the plain loop takes, the median of the repeats."""
    pairs = zip(seconds["plain_loop"].values(), seconds["train"].values(), strict=True)
    return round(statistics.median(plain / ours for plain, ours in pairs), 2)


class Stopwatch:
    """Wall and processor seconds by name and repeat; the latter, helper processes included, hardly feel other load."""

    def __init__(self) -> None:
        self.wall: dict[str, dict[int, float]] = {}
        self.cpu: dict[str, dict[int, float]] = {}

    @contextmanager
    def measure(self, name: str, repeat: int) -> Iterator[None]:
        """Add the block's seconds, and show them on standard error."""
        began = time.perf_counter(), _processor_seconds()
        yield
        spent = time.perf_counter() - began[0], _processor_seconds() - began[1]
        for kept, seconds in zip((self.wall, self.cpu), spent, strict=True):
            of_name = kept.setdefault(name, {})
            of_name[repeat] = of_name.get(repeat, 0.0) + seconds
        sys.stderr.write(f"{name}: {spent[0]:.1f} s, {spent[1]:.1f} s of processors\n")


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


def stored_scores(connection: Connection, model_id: str, symbol: str, repeat: int) -> dict[Key, float]:
    """Area under the curve per fold of a version."""
    rows = connection.execute(
        "select fold, (f.metrics ->> 'auc')::float8 from model_folds f join model_versions v using (training_key) "
        "where model_id = %s",
        (model_id,),
    )
    return {(symbol, fold, repeat): auc for fold, auc in rows if auc is not None}


def halves(scores: Mapping[Key, float], folds: int) -> dict[str, float]:
    """Mean over all folds and over each half."""
    parts = {"all": range(folds), "early": range(folds // 2), "late": range(folds // 2, folds)}
    return {
        name: round(statistics.mean(score for (_, fold, _), score in scores.items() if fold in part), 4)
        for name, part in parts.items()
    }


def difference(ours: Mapping[Key, float], plain: Mapping[Key, float], folds: int) -> dict[str, float]:
    """Mean paired difference, its standard error, and the share of folds that are at least as good.

    Repeats of a fold are not independent: they are averaged first.
    """
    by_fold: dict[tuple[str, int], list[float]] = {}
    for key in sorted(ours.keys() & plain.keys()):
        by_fold.setdefault(key[:2], []).append(ours[key] - plain[key])
    paired = [statistics.mean(values) for values in by_fold.values()]
    late = [statistics.mean(values) for (_, fold), values in by_fold.items() if fold >= folds // 2]
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
