"""Backtest: load what is stored, let a strategy trade over it, keep everything that came out.

Belongs here: from a request to stored rows. Does not belong here: what happens to orders and positions
(`domain.simulation`, `domain.engine`), searching for parameters (`application.research.search`), and the files of a
result (`application.research.backtest_files`).
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg

from trading_pipelines.application.analysis.scoring import bring_up_to_date
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.features.strategy_inputs import load_input, to_bars
from trading_pipelines.application.models.prediction import predict
from trading_pipelines.application.signals.strategies import build_strategy
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.portfolio.performance import ClosedPositions, Performance, measure
from trading_pipelines.domain.research.benchmark import held
from trading_pipelines.domain.research.history import MarketHistory
from trading_pipelines.domain.research.refusals import together
from trading_pipelines.domain.signals.policy import Direction
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import Bars, Needs, Strategy, StrategyInput
from trading_pipelines.domain.validation.strategy_check import StrategyCheck, check_strategy
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings
from trading_pipelines.store.repositories import backtests, candles, instruments, settlements

Floats = npt.NDArray[np.float64]

_NAMESPACE = UUID("5b0f1e4e-3f0c-5d5a-9a54-6d1f7f0f5f2d")
_NO_POSITIONS = ClosedPositions.of([])


@dataclass(frozen=True)
class BacktestRequest:
    """What to test.

    Attributes
    ----------
    strategy : str
        As `build_strategy` takes it.
    start, end : datetime
        The bars that open in [start, end) are traded; what the strategy needs before them is loaded as well.
    finer : Timeframe or None
        Fills are made on the bars of this timeframe; decisions stay on `timeframe`.
    """

    strategy: str
    exchange: str
    symbols: tuple[str, ...]
    timeframe: Timeframe
    start: datetime
    end: datetime
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    capital: float = 10_000.0
    finer: Timeframe | None = None
    direction: Direction = Direction.BOTH


@dataclass(frozen=True)
class Benchmark:
    """What was bought and held over the same time; `equity` is marked when the backtest's is."""

    symbol: str
    equity: Floats
    performance: Performance


@dataclass(frozen=True)
class Backtest:
    """A finished backtest, as it is stored."""

    backtest_id: UUID
    request: BacktestRequest
    strategy: Strategy
    config: Mapping[str, Any]
    input_hash: str
    data: BacktestInput
    result: BacktestResult
    benchmark: Benchmark | None
    check: StrategyCheck | None


def backtest(
    connection: psycopg.Connection[Any],
    settings: Settings,
    request: BacktestRequest,
    *,
    check: bool = True,
    run_id: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Backtest:
    """Run one backtest and store it; the caller commits. The same of the same data again replaces its rows.

    Features, predictions and scores are brought up to date, and committed, first where the strategy reads them.

    Parameters
    ----------
    check : bool
        Ask the strategy with less data whether it looks ahead and whether its warm-up is long enough.

    Raises
    ------
    UserError
        Unknown strategy, parameter or symbol, or no candles in the range.
    """
    strategy = build_strategy(request.strategy, request.params)
    prepare(connection, settings, request, strategy.needs, on_progress)
    on_progress("loading")
    data = load_history(connection, request, strategy.needs).whole()
    on_progress("trading")
    result = run_on(data, settings, request, strategy)
    checked = None
    if check:
        on_progress("checking the strategy")
        checked = check_strategy(
            strategy, data.inputs[: settings.backtest.check_symbols], settings.backtest.check_samples
        )
    config, digest = rules(settings, request, strategy), input_hash(data)
    finished = Backtest(
        backtest_id=result_id(request, strategy.name, parameters(strategy), config, digest),
        request=request,
        strategy=strategy,
        config=config,
        input_hash=digest,
        data=data,
        result=result,
        benchmark=load_benchmark(connection, settings, request, pd.DatetimeIndex(result.equity_curve.index)),
        check=checked,
    )
    on_progress("storing")
    save(connection, finished, run_id=run_id)
    return finished


def prepare(
    connection: psycopg.Connection[Any],
    settings: Settings,
    request: BacktestRequest,
    needs: Needs,
    on_progress: Callable[[str], None],
) -> None:
    """Bring stored features, predictions and scores up to date where they are read."""
    where = connection, request.exchange, request.symbols, request.timeframe.value, request.start, request.end
    if needs.features or needs.predictions:
        on_progress("features")
        build_features(*where)
    if needs.predictions:
        on_progress("predictions")
        predict(*where)
    on_progress("scores")
    bring_up_to_date(*where, settings.scoring, asked=needs.scores)


def load_history(connection: psycopg.Connection[Any], request: BacktestRequest, needs: Needs) -> MarketHistory:
    """Load candles, funding, rounding steps and what strategies of these needs see.

    Raises
    ------
    UserError
        Unknown symbol, no candles in the range, or a finer timeframe that is not finer.
    """
    ids, steps = _instruments(connection, request)
    span = request.start, request.end
    inputs = {s: load_input(connection, i, s, request.timeframe, needs, *span) for s, i in ids.items()}
    for symbol, seen in inputs.items():
        if len(seen.bars) == seen.warm_up:
            raise _no_candles(request, symbol, request.timeframe)
    rates = {symbol: settlements.read_settlements(connection, i, *span) for symbol, i in ids.items()}
    return MarketHistory(request.timeframe, inputs, rates, steps, _finer(connection, request, ids))


def run_on(
    data: BacktestInput, settings: Settings, request: BacktestRequest, strategy: Strategy, capital: float | None = None
) -> BacktestResult:
    """Let a strategy trade on loaded data by the configured rules."""
    limits, policy = strategy.limits(settings.risk), strategy.policy(settings.signals)
    start = request.capital if capital is None else capital
    return run_backtest(data, strategy, settings.execution, limits, start, policy, request.direction)


def load_benchmark(
    connection: psycopg.Connection[Any], settings: Settings, request: BacktestRequest, times: pd.DatetimeIndex
) -> Benchmark | None:
    """Bitcoin bought and held on the same exchange; None where its candles are not stored."""
    stored = instruments.by_symbol(connection, request.exchange).items()
    bitcoins = sorted((s != "BTCUSDT", s, row.instrument_id) for s, row in stored if row.instrument.base == "BTC")
    if not bitcoins:
        return None
    _, symbol, instrument_id = bitcoins[0]
    frame = candles.read_candles(connection, instrument_id, request.timeframe, request.start, request.end)
    if frame.empty:
        return None
    bars = to_bars(symbol, frame)
    length = request.timeframe.microseconds
    equity = held(bars, length, times.as_unit("us").asi8, request.capital, settings.execution)
    figures = measure(times, equity, _NO_POSITIONS, request.capital)
    return Benchmark(symbol, equity, dataclasses.replace(figures, exposure=1.0))


def rules(settings: Settings, request: BacktestRequest, strategy: Strategy) -> dict[str, Any]:
    """The numbers that were in force, as they are stored."""
    return {
        "execution": settings.execution.model_dump(mode="json"),
        "limits": strategy.limits(settings.risk).model_dump(mode="json"),
        "policy": strategy.policy(settings.signals).model_dump(mode="json"),
        "capital": request.capital,
        "strategy_source": source_hash(strategy),
    }


def parameters(strategy: Strategy) -> dict[str, Any]:
    """All parameters of a strategy, defaults included, as JSON holds them."""
    values = {f.name: getattr(strategy, f.name) for f in dataclasses.fields(strategy) if f.init}  # type: ignore[arg-type]  # `build_strategy` makes dataclasses only
    return json.loads(json.dumps(values, default=str))


def source_hash(strategy: Strategy) -> str:
    """SHA-256 of the file in which the strategy is written."""
    return hashlib.sha256(Path(inspect.getfile(type(strategy))).read_bytes()).hexdigest()


def input_hash(data: BacktestInput) -> str:
    """SHA-256 over everything that a backtest reads."""
    digest = hashlib.sha256(f"{data.symbols} {data.grid}".encode())
    for column in data.market[: data.market._fields.index("correlation")]:
        digest.update(np.ascontiguousarray(column).tobytes())
    for seen in data.inputs:
        models = () if seen.predictions is None else seen.predictions.model_ids
        digest.update(f"{seen.timeframe} {seen.warm_up} {list(seen.features)} {list(seen.higher)} {models}".encode())
        for column in _columns(seen):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def save(
    connection: psycopg.Connection[Any],
    finished: Backtest,
    *,
    run_id: str | None = None,
) -> None:
    """Store a backtest with trades, fills and equity; the caller commits."""
    request, result, held_ = finished.request, finished.result, finished.benchmark
    backtests.replace(
        connection,
        backtests.BacktestRow(
            backtest_id=finished.backtest_id,
            search_id=None,
            exchange=request.exchange,
            symbols=list(request.symbols),
            timeframe=request.timeframe.value,
            finer=None if request.finer is None else request.finer.value,
            starts_at=request.start,
            ends_at=request.end,
            strategy=finished.strategy.name,
            params=parameters(finished.strategy),
            direction=request.direction.value,
            start_capital=request.capital,
            config=finished.config,
            code_version=version("trading-pipelines"),
            input_hash=finished.input_hash,
            bars=int(np.isfinite(finished.data.market.close).sum()),
            candidates=len(result.candidates),
            refusals=together(result.refusals, result.gate_refusals),
            metrics=dataclasses.asdict(result.performance),
            benchmark=None if held_ is None else held_.symbol,
            benchmark_metrics=None if held_ is None else dataclasses.asdict(held_.performance),
            strategy_check=None if finished.check is None else check_report(finished.check),
            run_id=run_id,
        ),
        result.trades,
        result.fills,
        pd.DataFrame(
            {
                "ts": pd.DatetimeIndex(result.equity_curve.index),
                "equity": result.equity,
                "benchmark": np.nan if held_ is None else held_.equity,
            }
        ),
    )


def check_report(check: StrategyCheck) -> dict[str, Any]:
    """What a strategy's check found, as it is stored."""
    return {
        "passed": check.passed,
        "lookahead_samples": check.lookahead_samples,
        "warm_up_samples": check.warm_up_samples,
        "decisions": check.decisions,
        "findings": [str(finding) for finding in check.findings],
    }


def result_id(
    request: BacktestRequest, strategy: str, params: Mapping[str, Any], config: Mapping[str, Any], digest: str
) -> UUID:
    """An id that the same question to the same data and code gets again."""
    asked = [
        request.exchange,
        request.symbols,
        request.timeframe,
        request.finer,
        request.start.isoformat(),
        request.end.isoformat(),
        request.direction,
        strategy,
        params,
        config,
        digest,
        version("trading-pipelines"),
    ]
    return uuid5(_NAMESPACE, json.dumps(asked, sort_keys=True))


def _instruments(
    connection: psycopg.Connection[Any], request: BacktestRequest
) -> tuple[dict[str, int], dict[str, Any]]:
    stored = instruments.by_symbol(connection, request.exchange)
    for symbol in request.symbols:
        if symbol not in stored:
            known = ", ".join(sorted(stored)) or "none"
            raise UserError(f"{symbol} is not stored for {request.exchange} (stored: {known}): run `trading ingest`")
    ids = {symbol: stored[symbol].instrument_id for symbol in request.symbols}
    return ids, {symbol: stored[symbol].instrument for symbol in request.symbols}


def _finer(
    connection: psycopg.Connection[Any], request: BacktestRequest, ids: Mapping[str, int]
) -> tuple[Timeframe, dict[str, pd.DataFrame]] | None:
    finer = request.finer
    if finer is None:
        return None
    if request.timeframe not in finer.longer():
        raise UserError(f"--finer {finer} is not finer than the strategy's timeframe {request.timeframe}")
    frames = {s: candles.read_candles(connection, i, finer, request.start, request.end) for s, i in ids.items()}
    for symbol, frame in frames.items():
        if frame.empty:
            raise _no_candles(request, symbol, finer)
    return finer, frames


def _no_candles(request: BacktestRequest, symbol: str, timeframe: Timeframe) -> UserError:
    return UserError(
        f"no {timeframe} candles of {symbol} on {request.exchange} between {request.start:%Y-%m-%d} and "
        f"{request.end:%Y-%m-%d}: run `trading ingest` for that range first"
    )


def _columns(seen: StrategyInput) -> Iterable[npt.NDArray[Any]]:
    for bars in (seen.bars, *seen.higher.values()):
        yield from _bar_columns(bars)
    yield from seen.features.values()
    if seen.predictions is not None:
        yield from (seen.predictions.probability, seen.predictions.model, seen.predictions.as_of)
        yield from () if seen.predictions.novelty is None else (seen.predictions.novelty,)
    if seen.scores is not None:
        yield from vars(seen.scores).values()


def _bar_columns(bars: Bars) -> Sequence[npt.NDArray[Any]]:
    return [bars.ts, *(getattr(bars, name) for name in _PRICES)]


_PRICES = ("open", "high", "low", "close", "volume")
