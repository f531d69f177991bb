"""Calibrate the weights of the composite score on stored history, and tell what several factors add to charts alone.

Belongs here: from stored candles and observations to a report, and keeping it. Does not belong here: the choice
(`domain.scoring.calibration`) and using it, which is a person's decision (`TRADING_SCORING__WEIGHTS__...`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg

from trading_pipelines.application.analysis import scoring
from trading_pipelines.application.features.strategy_inputs import from_microseconds, to_microseconds
from trading_pipelines.domain.features.context import Bars, wilder_bars
from trading_pipelines.domain.labeling.triple_barrier import label_bars, trade_return
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.research.ablation import Comparison, ablate, compare
from trading_pipelines.domain.scoring import calibration
from trading_pipelines.domain.scoring.calibration import Fold, Moments, Outcomes, Rules
from trading_pipelines.domain.scoring.composite import evaluate
from trading_pipelines.domain.scoring.inputs import INPUT_NAMES
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import candles, scores
from trading_pipelines.store.repositories.instruments import StoredInstrument

Floats = npt.NDArray[np.float64]

CHARTS_ONLY = tuple(float(name == "technical") for name in FACTORS)
_FEWEST_KNOWN = 0.05
"""Share of the moments at which an input or factor has to be known to be judged."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class CalibrationRequest:
    """What to calibrate on.

    Attributes
    ----------
    train_days, test_days : int
        Lengths of the window in which weights are chosen and of the one in which they are tried.
    min_consensus : int
        Factors that have to agree with a score of several factors.
    block_days : int
        Mean length of the stretches of days that the intervals draw.
    """

    exchange: str
    symbols: tuple[str, ...]
    timeframe: Timeframe
    start: datetime
    end: datetime
    train_days: int = 365
    test_days: int = 90
    step: float = 0.1
    min_consensus: int = 3
    cooldown_minutes: int = 240
    block_days: int = 5
    samples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Variant:
    """What the signals of one way of scoring brought out of sample; returns are shares of the notional after costs.

    Attributes
    ----------
    versus_charts : dict of Comparison
        Per day against charts alone: fewer false signals, net return. Empty for charts alone.
    """

    name: str
    signals: int
    false_signals: int
    false_share: float
    hit_rate: float
    mean_net: float
    total_net: float
    versus_charts: dict[str, Comparison]


@dataclass(frozen=True)
class SourceEffect:
    """What one input adds out of sample, as net return per day with it minus without it; charts are never left out."""

    source: str
    known: float
    rank_correlation: float
    comparison: Comparison


@dataclass(frozen=True)
class FoldChoice:
    """The weights that were chosen for one test window."""

    test_from: datetime
    test_until: datetime
    weights: dict[str, float]
    chosen: bool
    mark: float


@dataclass(frozen=True)
class CalibrationReport:
    """What was chosen and what came of it.

    Attributes
    ----------
    factors : dict of float
        Share of the moments at which each factor was known.
    at_marks, at_equal_counts : tuple of Variant
        With the configured marks and the asked consensus, and without consensus with marks chosen in each training
        window so that every variant signals as often there as charts alone do: fewer signals alone are no merit.
    weights : dict of float
        Chosen in the last fold.
    false_signals_change : float
        Of the calibrated weights against charts alone, at equal counts: relative change of the share of false signals.
    """

    exchange: str
    symbols: tuple[str, ...]
    timeframe: str
    start: datetime
    end: datetime
    moments: int
    out_of_sample_from: datetime
    factors: dict[str, float]
    folds: tuple[FoldChoice, ...]
    at_marks: tuple[Variant, ...]
    at_equal_counts: tuple[Variant, ...]
    sources: tuple[SourceEffect, ...]
    weights: dict[str, float]
    false_signals_change: float


@dataclass(frozen=True)
class _Loaded:
    moments: Moments
    mapped: Floats
    """(moments, inputs)"""
    move: Floats
    """What the price did over the life of the label, as a share."""


def calibrate(
    connection: psycopg.Connection[Any],
    request: CalibrationRequest,
    spec: ScoringSpec,
    training: TrainingSpec,
    now: datetime,
    *,
    run_id: str | None = None,
    on_progress: Callable[[str, float | None], None] = lambda *_: None,
) -> CalibrationReport:
    """Choose weights walk-forward, measure them out of sample, keep the report, and commit.

    The outcome of a signal is the triple-barrier label of the models: same barriers, horizon and cost.

    Raises
    ------
    UserError
        A symbol that is not stored, no candles, or too little time for one fold.
    """
    on_progress("factors", None)
    loaded = _load(connection, request, spec, training)
    windows = _folds(request, training)
    on_progress("weights", None)
    report = _report(request, spec, loaded, windows, on_progress)
    weights = [report.weights[name] for name in FACTORS]
    scores.save_calibration(
        connection,
        scores.CalibrationRow(
            now,
            request.exchange,
            list(request.symbols),
            request.timeframe.value,
            request.start,
            request.end,
            weights,
            asdict(report),
            run_id,
        ),
    )
    connection.commit()
    return report


def _load(
    connection: psycopg.Connection[Any], request: CalibrationRequest, spec: ScoringSpec, training: TrainingSpec
) -> _Loaded:
    stored = scoring.stored_instruments(connection, request.exchange, request.symbols)
    parts = [_load_symbol(connection, request, spec, training, {s: row}) for s, row in stored.items()]
    found = [part for part in parts if len(part.moments)]
    if not found:
        raise UserError(
            f"no {request.timeframe} candles of {request.exchange} between {request.start:%Y-%m-%d} and "
            f"{request.end:%Y-%m-%d}: run `trading ingest` for that range first"
        )
    columns = {
        name: np.concatenate([getattr(part.moments, name) for part in found]) for name in Moments.__dataclass_fields__
    }
    mapped, move = (np.concatenate([getattr(part, name) for part in found]) for name in ("mapped", "move"))
    return _Loaded(Moments(**columns), mapped, move)


def _load_symbol(
    connection: psycopg.Connection[Any],
    request: CalibrationRequest,
    spec: ScoringSpec,
    training: TrainingSpec,
    stored: Mapping[str, StoredInstrument],
) -> _Loaded:
    ((_, row),) = stored.items()
    frame = request.timeframe
    found = scoring.compute(
        connection, request.exchange, stored, frame, request.start, request.end, spec, from_candles=True
    )
    horizon = np.timedelta64(training.label_horizon_minutes, "m")
    since = request.start - wilder_bars(14) * frame.delta
    until = request.end + timedelta(minutes=training.label_horizon_minutes) + 2 * frame.delta
    columns = candles.read_many(connection, [row.instrument_id], frame, since, until)[row.instrument_id]
    bars = Bars(frame, **columns)
    labels = label_bars(
        bars.closes_at, bars.open, bars.high, bars.low, bars.close, bars.atr(), training.label_barrier_atr, horizon
    )
    at = np.searchsorted(bars.ts.astype("datetime64[us]").astype(np.int64), found.ts)
    move, end = labels.move[at], labels.end[at]
    known_at = bars.closes_at.astype("datetime64[us]").astype(np.int64)[np.maximum(end, 0)]
    known = end >= 0
    costs = training.cost_rate
    return _Loaded(
        Moments(
            found.instrument_id.astype(np.int64),
            found.ts + frame.microseconds,
            np.where(known, known_at, np.iinfo(np.int64).max),
            found.scores.values,
            np.where(known, trade_return(np.ones(len(move), np.bool_), move, costs), np.nan),
            np.where(known, trade_return(np.zeros(len(move), np.bool_), move, costs), np.nan),
        ),
        found.mapped,
        move,
    )


def _folds(request: CalibrationRequest, training: TrainingSpec) -> list[Fold]:
    embargo = timedelta(minutes=training.label_horizon_minutes + training.embargo_minutes)
    spans = (timedelta(days=request.train_days), timedelta(days=request.test_days), embargo)
    windows = list(
        calibration.folds(
            to_microseconds(request.start), to_microseconds(request.end), *(span // _MICROSECOND for span in spans)
        )
    )
    if not windows:
        raise UserError(
            f"{(request.end - request.start).days} days are too few for {request.train_days} days of training: choose "
            "an earlier --from or fewer --train-days"
        )
    return windows


def _report(
    request: CalibrationRequest,
    spec: ScoringSpec,
    loaded: _Loaded,
    windows: Sequence[Fold],
    on_progress: Callable[[str, float | None], None],
) -> CalibrationReport:
    moments, default = loaded.moments, spec.weights.in_order()
    several = calibration.default_rules(spec, request.min_consensus, request.cooldown_minutes)
    charts = calibration.default_rules(spec, 0, request.cooldown_minutes)
    shares = {name: float(np.isfinite(moments.factors[:, i]).mean()) for i, name in enumerate(FACTORS)}
    known = [name for name, share in shares.items() if share >= _FEWEST_KNOWN]
    candidates = {}
    combinations = calibration.grid(known, request.step)
    for n, weights in enumerate(combinations):
        lean = calibration.leans(moments, weights, several)
        candidates[weights] = lean, calibration.signals(moments, lean, several)
        on_progress("weights", (n + 1) / len(combinations))
    chosen = [calibration.choose(moments, candidates, fold) for fold in windows]
    per_fold = {
        "charts": [CHARTS_ONLY] * len(windows),
        "default": [default] * len(windows),
        "calibrated": [weights or default for weights in chosen],
    }
    on_progress("outcomes", None)
    rules = {"charts": charts, "default": several, "calibrated": several}
    marked = {n: _out_of_sample(moments, per_fold[n], windows, rules[n], None) for n in per_fold}
    counts = [_trained(moments, CHARTS_ONLY, charts, fold) for fold in windows]
    equal = {n: _out_of_sample(moments, per_fold[n], windows, charts, counts) for n in per_fold}
    variants, evenly = (_variants(request, found, windows) for found in (marked, equal))
    on_progress("sources", None)
    base, best = (next(v for v in evenly if v.name == name) for name in ("charts", "calibrated"))
    last = {str(name): weight for name, weight in zip(FACTORS, per_fold["calibrated"][-1], strict=True)}
    return CalibrationReport(
        exchange=request.exchange,
        symbols=request.symbols,
        timeframe=request.timeframe.value,
        start=request.start,
        end=request.end,
        moments=len(moments),
        out_of_sample_from=from_microseconds(windows[0].test_from),
        factors=shares,
        folds=tuple(
            FoldChoice(
                from_microseconds(fold.test_from),
                from_microseconds(fold.test_until),
                dict(zip(FACTORS, weights, strict=True)),
                found is not None,
                _mark(moments, weights, charts, fold, wanted),
            )
            for fold, weights, found, wanted in zip(windows, per_fold["calibrated"], chosen, counts, strict=True)
        ),
        at_marks=variants,
        at_equal_counts=evenly,
        sources=_sources(request, spec, loaded, windows, charts, counts),
        weights=last,
        false_signals_change=best.false_share / base.false_share - 1 if base.false_share else float("nan"),
    )


def _trained(moments: Moments, weights: Sequence[float], rules: Rules, fold: Fold) -> int:
    """How many signals there were in the training window."""
    rows = calibration.signals(moments, calibration.leans(moments, weights, rules), rules)
    closed = moments.closed_at[rows]
    return int(((closed >= fold.train_from) & (closed < fold.train_until)).sum())


def _mark(moments: Moments, weights: Sequence[float], rules: Rules, fold: Fold, wanted: int) -> float:
    return calibration.mark_for(moments, calibration.leans(moments, weights, rules), rules, fold, wanted)


def _out_of_sample(
    moments: Moments,
    per_fold: Sequence[Sequence[float]],
    windows: Sequence[Fold],
    rules: Rules,
    counts: Sequence[int] | None,
) -> Outcomes:
    """Outcomes of all test windows, each with its weights; with `counts`, with the mark of its training window."""
    parts = list[Outcomes]()
    for n, (fold, weights) in enumerate(zip(windows, per_fold, strict=True)):
        lean = calibration.leans(moments, weights, rules)
        mark = rules.mark if counts is None else calibration.mark_for(moments, lean, rules, fold, counts[n])
        own = Rules(mark, rules.min_consensus, rules.cooldown, rules.agreement, rules.min_coverage)
        rows = calibration.signals(moments, lean, own)
        end = np.iinfo(np.int64).max - 1
        parts.append(calibration.outcomes(moments, lean, rows, fold.test_from, fold.test_until, int(end)))
    return calibration.join(parts)


def _variants(
    request: CalibrationRequest, found: Mapping[str, Outcomes], windows: Sequence[Fold]
) -> tuple[Variant, ...]:
    span = windows[0].test_from, windows[-1].test_until
    charts = found["charts"].by_day(*span)

    def against(name: str, daily: pd.DataFrame) -> dict[str, Comparison]:
        if name == "charts":
            return {}
        drawn = {"block": request.block_days, "samples": request.samples, "seed": request.seed}
        return {
            "fewer_false_signals_per_day": compare(-daily["false"], -charts["false"], **drawn),
            "net_per_day": compare(daily["net"], charts["net"], **drawn),
        }

    return tuple(
        Variant(
            name,
            of.signals,
            of.false_signals,
            1 - of.hit_rate,
            of.hit_rate,
            of.mean_net,
            float(of.net.sum()),
            against(name, of.by_day(*span)),
        )
        for name, of in found.items()
    )


def _sources(
    request: CalibrationRequest,
    spec: ScoringSpec,
    loaded: _Loaded,
    windows: Sequence[Fold],
    rules: Rules,
    counts: Sequence[int],
) -> tuple[SourceEffect, ...]:
    """Leave each input out in turn, with the configured weights and as many signals as charts alone give."""
    known = {
        name: float(np.isfinite(loaded.mapped[:, i]).mean())
        for i, name in enumerate(INPUT_NAMES)
        if name != "technical" and np.isfinite(loaded.mapped[:, i]).mean() >= _FEWEST_KNOWN
    }
    weights = [spec.weights.in_order()] * len(windows)
    span = windows[0].test_from, windows[-1].test_until
    results = dict[str, Any]()
    for name in ("all", *known):
        mapped = loaded.mapped.copy()
        if name != "all":
            mapped[:, INPUT_NAMES.index(name)] = np.nan
        factors = evaluate(mapped, np.zeros_like(mapped), spec).values
        found = _out_of_sample(loaded.moments.with_factors(factors), weights, windows, rules, counts)
        results[name] = found.by_day(*span)["net"]
    effects = ablate(results, "all", block=request.block_days, samples=request.samples, seed=request.seed)
    tested = (loaded.moments.closed_at >= span[0]) & (loaded.moments.closed_at < span[1])
    return tuple(
        SourceEffect(
            effect.source,
            known[effect.source],
            _rank_correlation(loaded.mapped[tested, INPUT_NAMES.index(effect.source)], loaded.move[tested]),
            effect.comparison,
        )
        for effect in effects
    )


def _rank_correlation(value: Floats, move: Floats) -> float:
    """Spearman's, over the moments at which both are known; their outcomes overlap."""
    both = np.isfinite(value) & np.isfinite(move)
    if both.sum() < 100 or np.ptp(value[both]) == 0:
        return float("nan")
    first, second = (pd.Series(each[both]).rank() for each in (value, move))
    return float(first.corr(second))
