"""The strategy that trades the composite score, and the gates that ask it for all strategies."""

from dataclasses import replace

import numpy as np
import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.signals.gates import Verdicts, judge_history
from trading_pipelines.domain.signals.policy import Direction, SignalPolicy
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Bars, CompositeScores, StrategyInput
from trading_pipelines.domain.strategies.composite import Composite
from trading_pipelines.domain.strategies.ema_cross import EmaCross
from trading_pipelines.domain.strategies.proposals import propose
from trading_pipelines.domain.validation.strategy_check import check_strategy
from trading_pipelines.errors import UserError

WARM_UP = Composite().needs.warm_up
N = 60
AGREED = (0.8, 0.5, 0.4, 0.3, 0.2)


def _bars(n: int = WARM_UP + N) -> Bars:
    rng = np.random.default_rng(4)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    high, low = close * (1 + rng.uniform(0.001, 0.01, n)), close * (1 - rng.uniform(0.001, 0.01, n))
    ts = np.arange(n) * Timeframe.M15.microseconds
    return Bars("BTCUSDT", ts, close, high, low, close, rng.uniform(50, 150, n))


def _input(scores: dict[int, float], values: tuple[float, ...] = AGREED, confidence: float = 0.9) -> StrategyInput:
    """Sixty bars after the warm-up; those named have a score, from factors of `values` in its direction."""
    n = WARM_UP + N
    score, factors = np.full(n, np.nan), np.full((n, len(values)), np.nan)
    for bar, value in scores.items():
        score[WARM_UP + bar] = value
        factors[WARM_UP + bar] = np.array(values) * (1 if value > 50 else -1)
    told = CompositeScores(
        score=score,
        confidence=np.where(np.isnan(score), np.nan, confidence),
        known=np.isfinite(factors).sum(axis=1),
        bullish=(factors >= 0.1).sum(axis=1),
        bearish=(factors <= -0.1).sum(axis=1),
        values=factors,
    )
    return StrategyInput(_bars(), Timeframe.M15, warm_up=WARM_UP, scores=told)


def _judged(data: StrategyInput, **changes: float | None) -> Verdicts:
    policy = SignalPolicy(min_net_profit=None, cooldown_minutes=0).model_copy(update=changes)
    strategy = Composite()
    _, proposals = propose(strategy, data)
    return judge_history(proposals, strategy.policy(policy), ExecutionParams(), Direction.BOTH)


def test_a_strong_score_proposes_a_rise_and_one_to_avoid_a_fall() -> None:
    told, _ = propose(Composite(), _input({0: 70.1, 1: 70.0, 2: 29.9, 3: 30.0, 4: 50.0}))
    assert told.entry[:6].tolist() == [1, 0, -1, 0, 0, 0]


def test_a_position_is_left_when_the_score_has_gone_to_the_other_side() -> None:
    told, _ = propose(Composite(), _input({0: 39.0, 1: 41.0, 2: 61.0, 3: 59.0}))
    assert told.exit[:5].tolist() == [CLOSE_LONG, 0, CLOSE_SHORT, 0, 0]


def test_a_score_that_all_factors_carry_passes() -> None:
    verdicts = _judged(_input({0: 80.0}))
    assert verdicts.passed[0]
    assert {gate.name: gate.value for gate in verdicts.row(0)}["consensus"] == 5


@pytest.mark.parametrize(
    ("values", "confidence", "refused_by"),
    [
        ((0.9, 0.05, 0.5, 0.05, 0.05), 0.9, "consensus"),
        ((0.9, np.nan, 0.5, np.nan, np.nan), 0.9, "consensus"),
        ((0.9, -0.3, 0.9, 0.9, 0.9), 0.9, "conflict"),
        (AGREED, 0.64, "confidence"),
    ],
)
def test_the_gate_that_refuses_is_named(values: tuple[float, ...], confidence: float, refused_by: str) -> None:
    assert _judged(_input({0: 80.0}, values, confidence)).refusal(0) == refused_by


def test_a_weak_contradiction_is_none() -> None:
    assert _judged(_input({0: 80.0}, (0.9, -0.15, 0.9, 0.9, 0.9))).passed[0]


def test_gates_that_are_off_refuse_nothing() -> None:
    data = _input({0: 80.0}, (0.9, -0.8, 0.05, 0.05, 0.05))
    assert _judged(data, min_consensus=None, max_conflict=None).passed[0]


def test_other_strategies_are_asked_only_where_enough_factors_are_known() -> None:
    bars = _bars()
    trades = EmaCross(fast=5, slow=12)
    without = StrategyInput(bars, Timeframe.M15, warm_up=WARM_UP)
    told, _ = propose(trades, without)
    entry = int(np.flatnonzero(told.entry)[0])
    against = 20.0 if told.entry[entry] > 0 else 80.0
    policy = SignalPolicy(min_net_profit=None, min_expected_value=None, cooldown_minutes=0)
    for values, refusal in ((AGREED, "consensus"), ((0.9, np.nan, np.nan, np.nan, 0.9), None)):
        data = replace(_input({entry: against}, values), bars=bars)
        _, proposals = propose(trades, data)
        assert judge_history(proposals, policy, ExecutionParams(), Direction.BOTH).refusal(entry) == refusal


def test_every_decision_keeps_the_score_and_its_factors() -> None:
    told, _ = propose(Composite(), _input({0: 80.0}))
    assert told.factors["score"][0] == 80
    assert told.factors["score_sentiment"][0] == 0.5


def test_the_strategy_decides_from_what_was_known() -> None:
    scores = {bar: 80.0 if bar % 3 else 20.0 for bar in range(0, N, 2)}
    assert check_strategy(Composite(), [_input(scores)]).passed


@pytest.mark.parametrize("parameters", [{"strong": 45.0}, {"avoid": 60.0}, {"leave": 51.0}, {"min_confidence": 0.4}])
def test_marks_that_make_no_sense_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(UserError, match="composite needs"):
        Composite(**parameters)
