"""Search parameters walk-forward over stored candles, and keep what was tried and what came of it out of sample.

Belongs here: from a request to stored rows. Does not belong here: the search itself (`domain.research.search`) and the
measures of overfitting (`domain.research.overfitting`).
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.application.features.strategy_inputs import to_microseconds
from trading_pipelines.application.research.backtest import (
    BacktestRequest,
    Benchmark,
    input_hash,
    load_benchmark,
    load_history,
    prepare,
    result_id,
    rules,
    run_on,
)
from trading_pipelines.application.signals.strategies import build_strategy
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.portfolio.performance import daily_returns
from trading_pipelines.domain.research.history import MarketHistory
from trading_pipelines.domain.research.overfitting import (
    deflated_sharpe,
    overfitting_probability,
    probabilistic_sharpe,
)
from trading_pipelines.domain.research.refusals import together
from trading_pipelines.domain.research.search import (
    Fold,
    Objective,
    Stitched,
    Trial,
    Window,
    combinations,
    side_by_side,
    stitch,
    walk_forward,
    windows,
)
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult
from trading_pipelines.domain.strategies.base import Needs
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import backtests


@dataclass(frozen=True)
class SearchRequest:
    """What to search.

    Attributes
    ----------
    base : BacktestRequest
        Strategy, market, time and the parameters that stay as they are.
    space : mapping
        The values to try, by parameter.
    folds, train_ratio, trials : optional
        Windows, length of their first part, and how many combinations to try at most; from the settings if None.
    """

    base: BacktestRequest
    space: Mapping[str, Sequence[Any]]
    objective: Objective = Objective.SHARPE
    folds: int | None = None
    train_ratio: float | None = None
    trials: int | None = None


@dataclass(frozen=True)
class Search:
    """A finished search, as it is stored."""

    search_id: UUID
    backtest_id: UUID
    strategy: str
    config: Mapping[str, Any]
    input_hash: str
    bars: int
    parts: tuple[Window, ...]
    trials: tuple[Trial, ...]
    refused: int
    folds: tuple[Fold, ...]
    stitched: Stitched
    overfitting: Mapping[str, Any]


def search(
    connection: psycopg.Connection[Any],
    settings: Settings,
    request: SearchRequest,
    *,
    run_id: str | None = None,
    on_progress: Callable[[str, float | None], None] = lambda *_: None,
) -> Search:
    """Search and store; the caller commits. The same search of the same data again replaces its rows.

    Raises
    ------
    UserError
        What a backtest raises; a space without combinations that the strategy accepts, or too little time.
    """
    base = request.base
    tried, refused = _tried(settings, request)
    strategies = [build_strategy(base.strategy, params) for params in tried]
    parts = _windows(settings, request)
    needs = _needs([strategy.needs for strategy in strategies])
    prepare(connection, settings, base, needs, lambda stage: on_progress(stage, None))
    on_progress("loading", None)
    history = load_history(connection, base, needs)
    runner = _Runner(settings, base, history)
    trials, folds = walk_forward(
        runner,
        tried,
        parts,
        request.objective,
        base.capital,
        lambda done: on_progress("combinations", done / len(tried)),
    )
    stitched = stitch(folds)
    config, digest = rules(settings, base, strategies[0]), input_hash(history.whole())
    search_id = _search_id(request, strategies[0].name, tried, parts, config, digest)
    finished = Search(
        search_id=search_id,
        backtest_id=result_id(base, strategies[0].name, {"out of sample": str(search_id)}, config, digest),
        strategy=strategies[0].name,
        config=config,
        input_hash=digest,
        bars=sum(runner.bars(part) for part in parts),
        parts=tuple(parts),
        trials=tuple(trials),
        refused=refused,
        folds=tuple(folds),
        stitched=stitched,
        overfitting=_overfitting(settings, trials, stitched, base.capital),
    )
    on_progress("storing", None)
    _save(connection, settings, request, finished, run_id)
    return finished


def objective_named(name: str) -> Objective:
    """What to maximise, by its name.

    Raises
    ------
    UserError
        There is no such figure.
    """
    try:
        return Objective(name)
    except ValueError:
        raise UserError(f"--objective: no figure {name!r}; use {', '.join(Objective)}") from None


@dataclass
class _Runner:
    """Runs backtests on parts of one loaded history; a part is cut once for all combinations."""

    settings: Settings
    base: BacktestRequest
    history: MarketHistory

    def __post_init__(self) -> None:
        self._cut = dict[tuple[datetime, datetime], BacktestInput]()

    def __call__(self, params: Mapping[str, Any], start: datetime, end: datetime, capital: float) -> BacktestResult:
        strategy = build_strategy(self.base.strategy, params)
        return run_on(self._data(start, end), self.settings, self.base, strategy, capital)

    def bars(self, part: Window) -> int:
        """Bars of all symbols that are traded out of sample."""
        return int(np.isfinite(self._data(part.start, part.end).market.close).sum())

    def _data(self, start: datetime, end: datetime) -> BacktestInput:
        if (start, end) not in self._cut:
            data = self.history.between(to_microseconds(start), to_microseconds(end))
            if data is None:
                raise UserError(f"no candles between {start:%Y-%m-%d} and {end:%Y-%m-%d}: choose fewer windows")
            self._cut[start, end] = data
        return self._cut[start, end]


def _tried(settings: Settings, request: SearchRequest) -> tuple[list[dict[str, Any]], int]:
    """The combinations that the strategy accepts, and the number of those that it refuses."""
    limit = request.trials or settings.backtest.search_trials
    try:
        drawn = combinations(request.space, limit, settings.backtest.search_seed)
    except ValueError as error:
        raise UserError(f"--space: {error}, for example fast=5,10,20") from error
    accepted, errors = list[dict[str, Any]](), list[UserError]()
    for combination in drawn:
        params = {**request.base.params, **combination}
        try:
            build_strategy(request.base.strategy, params)
        except UserError as error:
            errors.append(error)
        else:
            accepted.append(params)
    if len(accepted) < 2:
        raise errors[0] if errors and not accepted else UserError("a search needs at least two combinations to choose")
    return accepted, len(errors)


def _windows(settings: Settings, request: SearchRequest) -> list[Window]:
    base, configured = request.base, settings.backtest
    folds, ratio = request.folds or configured.search_folds, request.train_ratio or configured.search_train_ratio
    try:
        return windows(base.start, base.end, folds, ratio, base.timeframe.delta)
    except ValueError as error:
        raise UserError(f"{error}: choose a longer time or fewer --folds") from error


def _needs(asked: Sequence[Needs]) -> Needs:
    """What serves all combinations."""
    higher = dict[Timeframe, int]()
    for needs in asked:
        for timeframe, bars in needs.higher.items():
            higher[timeframe] = max(higher.get(timeframe, 0), bars)
    return Needs(
        warm_up=max(needs.warm_up for needs in asked),
        higher=higher,
        features=tuple(dict.fromkeys(name for needs in asked for name in needs.features)),
        predictions=any(needs.predictions for needs in asked),
        scores=any(needs.scores for needs in asked),
    )


def _search_id(
    request: SearchRequest,
    strategy: str,
    tried: Sequence[Mapping[str, Any]],
    parts: Sequence[Window],
    config: Mapping[str, Any],
    digest: str,
) -> UUID:
    """An id that the same search of the same data and code gets again."""
    asked = {"objective": request.objective, "tried": tried, "parts": [str(part) for part in parts]}
    return result_id(request.base, strategy, json.loads(json.dumps(asked, default=str)), config, digest)


def _overfitting(settings: Settings, trials: Sequence[Trial], stitched: Stitched, capital: float) -> Mapping[str, Any]:
    """The measures, and what they were made from; None where the span is too short or nothing was traded."""
    returns = side_by_side(trials)
    blocks = min(settings.backtest.overfitting_blocks, len(returns) // 4 * 2)
    found = overfitting_probability(returns, blocks) if blocks >= 2 else None
    judged = deflated_sharpe(returns)
    outside = daily_returns(stitched.times, stitched.equity, capital)
    return {
        "probability": None if found is None else found.probability,
        "loss": None if found is None else found.loss,
        "splits": 0 if found is None else found.splits,
        "days": len(returns),
        "deflated_sharpe": None if judged is None else dataclasses.asdict(judged),
        "out_of_sample_probability": probabilistic_sharpe(outside),
    }


def _save(
    connection: psycopg.Connection[Any],
    settings: Settings,
    request: SearchRequest,
    finished: Search,
    run_id: str | None,
) -> None:
    base, stitched = request.base, finished.stitched
    common: dict[str, Any] = {
        "search_id": finished.search_id,
        "exchange": base.exchange,
        "symbols": list(base.symbols),
        "timeframe": base.timeframe.value,
        "strategy": finished.strategy,
        "config": finished.config,
        "code_version": version("trading-pipelines"),
        "input_hash": finished.input_hash,
        "run_id": run_id,
    }
    backtests.replace_search(
        connection,
        backtests.SearchRow(
            **common,
            starts_at=base.start,
            ends_at=base.end,
            space={name: list(values) for name, values in request.space.items()},
            plan={
                "objective": request.objective.value,
                "trials": len(finished.trials),
                "refused": finished.refused,
                "fixed": dict(base.params),
                "capital": base.capital,
            },
            folds=list(_fold_rows(finished)),
            overfitting=finished.overfitting,
        ),
        [
            backtests.TrialRow(n, trial.params, trial.in_sample, dataclasses.asdict(trial.performance))
            for n, trial in enumerate(finished.trials)
        ],
    )
    traded = replace(base, start=finished.parts[0].start, end=finished.parts[-1].end)
    held = load_benchmark(connection, settings, traded, stitched.times)
    backtests.replace(
        connection,
        backtests.BacktestRow(
            **common,
            backtest_id=finished.backtest_id,
            finer=None if base.finer is None else base.finer.value,
            starts_at=traded.start,
            ends_at=traded.end,
            params={**base.params, **dict.fromkeys(request.space, "chosen")},
            direction=base.direction.value,
            start_capital=base.capital,
            bars=finished.bars,
            candidates=sum(len(fold.result.candidates) for fold in finished.folds),
            refusals=together(
                _summed([fold.result.refusals for fold in finished.folds]),
                _summed([fold.result.gate_refusals for fold in finished.folds]),
            ),
            metrics=dataclasses.asdict(stitched.performance),
            benchmark=None if held is None else held.symbol,
            benchmark_metrics=None if held is None else dataclasses.asdict(held.performance),
            strategy_check=None,
        ),
        stitched.trades,
        stitched.fills,
        _marks(stitched, held),
    )


def _fold_rows(finished: Search) -> Iterator[dict[str, Any]]:
    for k, fold in enumerate(finished.folds):
        chosen = finished.trials[fold.chosen]
        yield {
            "train_start": fold.window.train_start.isoformat(),
            "start": fold.window.start.isoformat(),
            "end": fold.window.end.isoformat(),
            "trial": fold.chosen,
            "params": chosen.params,
            "in_sample": chosen.in_sample[k],
            "out_of_sample": dataclasses.asdict(fold.result.performance),
        }


def _marks(stitched: Stitched, held: Benchmark | None) -> pd.DataFrame:
    return pd.DataFrame(
        {"ts": stitched.times, "equity": stitched.equity, "benchmark": np.nan if held is None else held.equity}
    )


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total = dict[str, int]()
    for some in counts:
        for name, count in some.items():
            total[name] = total.get(name, 0) + count
    return total
