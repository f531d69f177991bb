"""Mappings of inputs, the join by knowledge, and the composite score."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trading_pipelines.domain.scoring.composite import agreeing, conflict, evaluate, in_words
from trading_pipelines.domain.scoring.inputs import (
    INPUTS,
    Known,
    change,
    funding,
    join,
    level,
    momentum,
    observed,
    surge,
)
from trading_pipelines.domain.scoring.spec import FACTORS, FactorWeights, ScoringSpec

DAY = 86_400_000_000
HOUR = 3_600_000_000
SPEC = ScoringSpec()


def _inputs(**values: float) -> tuple[np.ndarray, np.ndarray]:
    row = np.array([[values.get(each.name, np.nan) for each in INPUTS]])
    return row, np.where(np.isnan(row), np.nan, 5.0)


def _known(known_at: list[int], ts: list[int], values: list[float]) -> Known:
    return Known(np.array(known_at), np.array(ts), np.array(values), np.array(values))


some_value = st.one_of(st.just(np.nan), st.floats(-1, 1))


@given(st.lists(st.lists(some_value, min_size=len(INPUTS), max_size=len(INPUTS)), min_size=1, max_size=20))
@settings(max_examples=200)
def test_contributions_sum_to_the_score_and_weights_to_one(rows: list[list[float]]) -> None:
    values = np.array(rows)
    scores = evaluate(values, np.where(np.isnan(values), np.nan, 1.0), SPEC)
    told = np.isfinite(scores.score)
    assert np.allclose(50 + scores.contributions[told].sum(axis=1), scores.score[told])
    assert np.allclose(scores.weights[scores.coverage > 0].sum(axis=1), 1)
    assert ((scores.score[told] >= -1e-9) & (scores.score[told] <= 100 + 1e-9)).all()
    assert (scores.consensus <= scores.known).all()
    assert (told == (scores.coverage >= SPEC.min_coverage - 1e-9)).all()


@given(
    st.lists(some_value, min_size=len(INPUTS), max_size=len(INPUTS)), st.integers(0, len(INPUTS) - 1), st.floats(0, 1)
)
def test_a_higher_input_never_lowers_the_score(row: list[float], at: int, more: float) -> None:
    values = np.array([row, row])
    if np.isnan(values[0, at]):
        values[:, at] = 0.0
    values[1, at] = min(values[1, at] + more, 1.0)
    scores = evaluate(values, np.zeros_like(values), SPEC).score
    assert np.isnan(scores).all() or scores[1] >= scores[0] - 1e-9


def test_all_factors_at_their_best_give_a_hundred() -> None:
    scores = evaluate(np.ones((1, len(INPUTS))), np.zeros((1, len(INPUTS))), SPEC)
    assert (scores.score[0], scores.known[0], scores.consensus[0]) == (100.0, 5, 5)
    assert scores.confidence[0] == pytest.approx(1.0)


def test_a_missing_factor_is_left_out_and_the_others_weigh_more() -> None:
    values, ages = _inputs(technical=1.0, momentum=-1.0)
    scores = evaluate(values, ages, SPEC)
    assert scores.weights[0].tolist() == pytest.approx([0.8, 0, 0, 0, 0.2])
    assert scores.score[0] == pytest.approx(50 + 50 * 0.6)
    assert scores.confidence[0] == pytest.approx(0.5 + 0.30 * 0.5)
    assert (scores.known[0], scores.consensus[0]) == (2, 1)


def test_too_little_known_is_no_score() -> None:
    scores = evaluate(*_inputs(sentiment=1.0, fear_greed=1.0), SPEC)
    assert np.isnan(scores.score[0])
    assert scores.consensus[0] == 0


def test_funding_alone_is_no_market_context() -> None:
    market = FACTORS.index("market")
    assert np.isnan(evaluate(*_inputs(technical=1.0, momentum=1.0, funding=1.0), SPEC).values[0, market])
    both = evaluate(*_inputs(technical=1.0, fear_greed=1.0, funding=0.0, momentum=1.0), SPEC)
    assert both.values[0, market] == 0.5


def test_a_factor_is_as_old_as_its_oldest_input() -> None:
    values, ages = _inputs(whale_score=0.5, stablecoin_inflow_usd=0.5, technical=1.0)
    ages[0, [i for i, each in enumerate(INPUTS) if each.name == "whale_score"]] = 600.0
    assert evaluate(values, ages, SPEC).ages[0, FACTORS.index("on_chain")] == 600.0


def test_a_small_factor_agrees_with_no_side() -> None:
    factors = np.array([[0.5, 0.05, -0.5, np.nan, 0.2]])
    assert agreeing(factors, 1, 0.1).tolist() == [2]
    assert agreeing(factors, -1, 0.1).tolist() == [1]
    assert agreeing(np.zeros((1, 5)), 1, 0.0).tolist() == [0]


@pytest.mark.parametrize(
    ("technical", "sentiment", "strength"),
    [(0.8, -0.3, 0.3), (-0.4, 0.9, 0.4), (0.8, 0.3, 0.0), (0.8, np.nan, np.nan)],
)
def test_conflict_is_the_lesser_of_two_that_contradict(technical: float, sentiment: float, strength: float) -> None:
    found = conflict(np.array([[technical, sentiment, np.nan, np.nan, np.nan]]))
    assert found[0] == pytest.approx(strength, nan_ok=True)


def test_weights_have_to_sum_to_one() -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        FactorWeights(technical=0.9)


def test_words_name_the_largest_contribution_first_and_what_is_missing() -> None:
    values, ages = _inputs(technical=1.0, momentum=-0.5)
    s = evaluate(values, ages, SPEC)
    told = in_words(
        s.score[0], s.values[0].tolist(), s.ages[0].tolist(), s.contributions[0].tolist(), s.coverage[0], 1, SPEC
    )
    assert told[0] == "85.0 of 100, strong"
    assert told[1].startswith("charts +1.00, 5 min old: +40.0 points")
    assert "missing or too old: sentiment, on-chain, market context" in told[-1]


def test_level_is_full_at_its_end_and_at_the_mirror_image() -> None:
    mapped = level(50, 100)(np.arange(5), np.array([0.0, 25.0, 50.0, 75.0, 100.0]))
    assert mapped.tolist() == [-1, -0.5, 0, 0.5, 1]


def test_paid_funding_speaks_against_a_rise() -> None:
    ts = np.arange(4) * 8 * HOUR
    assert funding(ts, np.array([0.0001, 0.0006, -0.0004, 0.0011])).tolist() == pytest.approx([0, -1, 1, -1])


def test_four_hourly_funding_counts_twice() -> None:
    ts = np.array([0, 8, 12]) * HOUR
    assert funding(ts, np.array([0.0001, 0.0001, 0.0003])).tolist() == pytest.approx([0, 0, -1])


def test_an_unusual_flow_stands_out_against_its_norm() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 60)
    values[-1] = 6.0
    mapped = surge(-1, timedelta(days=1), timedelta(days=60))(np.arange(60) * DAY, values)
    assert mapped[-1] < -0.9
    assert np.isnan(mapped[:19]).all()


def test_flow_depends_only_on_its_norm_window() -> None:
    values = np.random.default_rng(2).normal(1e8, 1e7, 400)
    mapping, ts = surge(1, timedelta(days=1), timedelta(days=60)), np.arange(400) * DAY
    assert mapping(ts, values)[-1] == pytest.approx(mapping(ts[-70:], values[-70:])[-1], rel=1e-9)


def test_a_stock_that_stands_still_has_no_change() -> None:
    mapped = change(1, timedelta(days=1), timedelta(days=60))(np.arange(40) * DAY, np.full(40, 5.0))
    assert np.isnan(mapped).all()


def test_momentum_has_the_sign_of_the_move_and_needs_a_week() -> None:
    steps = np.random.default_rng(3).normal(0, 0.01, 400)
    rising = momentum(np.exp(np.cumsum(steps + 0.003)))
    assert np.isnan(rising[:168]).all()
    assert rising[-1] > 0.5
    assert momentum(np.exp(-np.cumsum(steps + 0.003)))[-1] == pytest.approx(-rising[-1])
    assert np.isnan(momentum(np.full(300, 7.0))).all()


def test_join_reads_nothing_before_it_was_known() -> None:
    value, _, age = join(_known([100, 200], [0, 50], [1.0, 2.0]), np.array([99, 100, 199, 200]), timedelta(days=1))
    assert np.isnan(value[0])
    assert value[1:].tolist() == [1, 1, 2]
    assert age[2] == pytest.approx(99 / 60_000_000)


def test_join_leaves_out_what_is_too_old() -> None:
    known = _known([0], [0], [1.0])
    value, _, _ = join(known, np.array([HOUR, HOUR + 1]), timedelta(hours=1))
    assert value[0] == 1
    assert np.isnan(value[1])


def test_a_late_value_of_an_earlier_time_does_not_replace_a_newer_one() -> None:
    value, _, _ = join(_known([10, 20], [8, 5], [1.0, 2.0]), np.array([15, 25]), timedelta(days=1))
    assert value.tolist() == [1, 1]


def test_a_revision_of_a_level_holds_once_it_is_known() -> None:
    fear = next(each for each in INPUTS if each.name == "fear_greed")
    known = observed(fear, np.array([10, 30]), np.array([5, 5]), np.array([60.0, 80.0]))
    _, raw, _ = join(known, np.array([20, 40]), fear.max_age)
    assert raw.tolist() == [60, 80]


def test_flows_are_read_as_first_published() -> None:
    flow = next(each for each in INPUTS if each.name == "exchange_netflow_usd")
    known = observed(flow, np.array([10, 30, 20, 25]), np.array([5, 5, 7, 6]), np.array([1.0, 9.0, 2.0, 4.0]))
    assert known.raw.tolist() == [1, 2]
    assert known.known_at.tolist() == [10, 20]


@given(st.integers(0, 399))
@settings(max_examples=50, deadline=None)
def test_what_becomes_known_later_changes_no_earlier_value(cut: int) -> None:
    rng = np.random.default_rng(5)
    flow = next(each for each in INPUTS if each.name == "exchange_netflow_usd")
    ts = np.arange(400) * HOUR
    known_at, values = ts + rng.integers(HOUR, 5 * HOUR, 400), rng.normal(0, 1, 400)
    at = int(ts[cut])
    there = known_at <= at
    full = join(observed(flow, known_at, ts, values), np.array([at]), flow.max_age)
    alone = join(observed(flow, known_at[there], ts[there], values[there]), np.array([at]), flow.max_age)
    assert np.allclose(full, alone, equal_nan=True)
