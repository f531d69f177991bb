"""From what a strategy says to proposals that the gates can judge."""

from typing import Any

import numpy as np

from trading_pipelines.domain.scoring.composite import conflict, snapshot
from trading_pipelines.domain.signals.gates import UNKNOWN_TIME, Proposals
from trading_pipelines.domain.strategies.base import CompositeScores, Signals, Strategy, StrategyInput


def propose(strategy: Strategy, data: StrategyInput) -> tuple[Signals, Proposals]:
    """Ask the strategy at each close of one symbol; the answers of the warm-up are left out.

    Raises
    ------
    ValueError
        An array of the answer is not as long as the bars: a mistake in the strategy.
    """
    told = _after_warm_up(strategy, data)
    rows = slice(data.warm_up, None)
    n = len(told.entry)

    def same(value: Any) -> Any:
        """One value for all rows, stored once."""
        return np.broadcast_to(value, n)

    predictions = data.predictions if strategy.needs.predictions else None
    novelty = None if predictions is None else predictions.novelty
    scores = None if data.scores is None else data.scores.take(rows)
    return told, Proposals(
        closed_at=data.closed_at[rows],
        side=told.entry,
        reference_price=data.bars.close[rows],
        atr=told.atr,
        atr_ratio=same(np.nan) if told.atr_ratio is None else told.atr_ratio,
        probability=told.confidence if told.probability is None else told.probability,
        confidence=told.confidence,
        asks_model=same(predictions is not None),
        model_as_of=same(UNKNOWN_TIME) if predictions is None else predictions.as_of[rows],
        measures_volatility=same(told.atr_ratio is not None),
        anomaly=same(np.nan) if told.anomaly is None else told.anomaly,
        measures_anomaly=same(told.anomaly is not None),
        novelty=same(np.nan) if novelty is None else novelty[rows],
        measures_novelty=same(False) if novelty is None else ~np.isnan(novelty[rows]),
        consensus=same(np.nan) if scores is None else _consensus(scores, told.entry),
        known=same(0) if scores is None else scores.known,
        asks_score=same(strategy.needs.scores),
        conflict=same(np.nan) if scores is None else conflict(scores.values),
    )


def _consensus(scores: CompositeScores, side: Any) -> Any:
    """Factors that agree with each proposed side; NaN without a side or a score."""
    agreeing = np.where(side > 0, scores.bullish, scores.bearish)
    return np.where((side != 0) & (scores.known > 0), agreeing, np.nan)


def _after_warm_up(strategy: Strategy, data: StrategyInput) -> Signals:
    told = strategy.signals(data)
    optional = {name: getattr(told, name) for name in ("probability", "atr_ratio", "anomaly")}
    arrays = {name: getattr(told, name) for name in ("entry", "confidence", "exit", "atr")}
    arrays |= {name: values for name, values in optional.items() if values is not None}
    for name, values in (*arrays.items(), *told.factors.items()):
        if len(values) != len(data.bars):
            raise ValueError(f"strategy {strategy.name}: {name} has {len(values)} values for {len(data.bars)} bars")
    factors = {**told.factors, **_score_factors(data.scores)}
    return Signals(
        **{name: values[data.warm_up :] for name, values in arrays.items()},
        factors={name: values[data.warm_up :] for name, values in factors.items()},
    )


def _score_factors(scores: CompositeScores | None) -> dict[str, Any]:
    """The composite score and its factors, kept with every decision that could have read them."""
    return {} if scores is None else dict(snapshot(scores.score, scores.values.T))
