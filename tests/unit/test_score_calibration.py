"""Weights chosen by the past alone, and what they bring out of sample."""

import numpy as np
import pytest

from trading_pipelines.domain.scoring import calibration
from trading_pipelines.domain.scoring.calibration import DAY, Fold, Moments, Outcomes, Rules
from trading_pipelines.domain.scoring.composite import evaluate
from trading_pipelines.domain.scoring.inputs import INPUTS
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec

HOUR = 3_600_000_000
RULES = Rules(mark=20.0, min_consensus=0, cooldown=4 * HOUR, agreement=0.1, min_coverage=0.5)
CHARTS = (1.0, 0.0, 0.0, 0.0, 0.0)
MOOD = (0.0, 1.0, 0.0, 0.0, 0.0)


def _moments(n: int = 4000, seed: int = 1) -> Moments:
    """Charts say nothing about what follows, sentiment says much."""
    draw = np.random.default_rng(seed)
    factors = np.clip(draw.normal(0, 0.5, (n, len(FACTORS))), -1, 1)
    factors[:, 2:4] = np.nan
    move = 0.02 * factors[:, 1] + draw.normal(0, 0.01, n)
    closed = np.arange(n) * HOUR
    return Moments(np.zeros(n, np.int64), closed, closed + 4 * HOUR, factors, move - 0.002, -move - 0.002)


def test_leans_are_those_of_the_score() -> None:
    draw = np.random.default_rng(2)
    values = np.where(draw.random((50, len(INPUTS))) < 0.4, np.nan, draw.uniform(-1, 1, (50, len(INPUTS))))
    spec = ScoringSpec()
    scores = evaluate(values, np.zeros_like(values), spec)
    none = np.zeros(50)
    moments = Moments(none.astype(np.int64), none.astype(np.int64), none.astype(np.int64), scores.values, none, none)
    lean = calibration.leans(moments, spec.weights.in_order(), calibration.default_rules(spec, 3, 240))
    assert np.allclose(lean + 50, scores.score, equal_nan=True)


def test_signals_of_a_symbol_keep_the_cooldown_and_do_not_touch_another() -> None:
    closed = np.array([0, 1, 4, 5, 8, 0, 3]) * HOUR
    symbol = np.array([1, 1, 1, 1, 1, 2, 2])
    n = len(closed)
    moments = Moments(symbol, closed, closed, np.ones((n, 5)), np.zeros(n), np.zeros(n))
    assert calibration.signals(moments, np.full(n, 30.0), RULES).tolist() == [0, 2, 4, 5]


def test_consensus_and_mark_are_asked() -> None:
    factors = np.array([[0.9, 0.9, 0.9, 0.0, 0.0], [0.9, 0.9, 0.05, 0.0, 0.0]])
    moments = Moments(np.array([1, 2]), np.zeros(2, np.int64), np.zeros(2, np.int64), factors, np.zeros(2), np.zeros(2))
    strict = Rules(20.0, 3, 0, 0.1, 0.5)
    assert calibration.signals(moments, np.array([30.0, 30.0]), strict).tolist() == [0]
    assert calibration.signals(moments, np.array([20.0, 30.0]), RULES).tolist() == [1]


def test_the_factor_that_says_something_gets_the_weight() -> None:
    moments = _moments()
    fold = Fold(0, 3000 * HOUR, 3010 * HOUR, 4000 * HOUR)
    candidates = {}
    for weights in (CHARTS, MOOD):
        lean = calibration.leans(moments, weights, RULES)
        candidates[weights] = lean, calibration.signals(moments, lean, RULES)
    assert calibration.choose(moments, candidates, fold) == MOOD


def test_the_choice_does_not_read_what_was_not_known_when_the_window_ended() -> None:
    moments = _moments()
    fold = Fold(0, 2000 * HOUR, 2010 * HOUR, 4000 * HOUR)
    lean = calibration.leans(moments, MOOD, RULES)
    rows = calibration.signals(moments, lean, RULES)
    known = calibration.outcomes(moments, lean, rows, fold.train_from, fold.train_until, fold.train_until)
    assert known.closed_at.max() + 4 * HOUR <= fold.train_until
    long, short = (np.where(moments.known_at > fold.train_until, 9.0, side) for side in (moments.long, moments.short))
    changed = Moments(moments.symbol, moments.closed_at, moments.known_at, moments.factors, long, short)
    candidates = {MOOD: (lean, rows)}
    assert calibration.choose(changed, candidates, fold) == calibration.choose(moments, candidates, fold)
    again = calibration.outcomes(changed, lean, rows, fold.train_from, fold.train_until, fold.train_until)
    assert np.array_equal(known.net, again.net)


def test_weights_that_hardly_ever_signal_are_not_chosen() -> None:
    moments = _moments(100)
    lean = calibration.leans(moments, MOOD, RULES)
    fold = Fold(0, 100 * HOUR, 100 * HOUR, 101 * HOUR)
    assert calibration.choose(moments, {MOOD: (lean, calibration.signals(moments, lean, RULES))}, fold) is None


def test_a_mark_makes_two_ways_signal_alike() -> None:
    moments = _moments()
    fold = Fold(0, 3000 * HOUR, 3010 * HOUR, 4000 * HOUR)
    lean = calibration.leans(moments, MOOD, RULES)
    mark = calibration.mark_for(moments, lean, RULES, fold, 200)
    rows = calibration.signals(moments, lean, Rules(mark, 0, RULES.cooldown, 0.1, 0.5))
    assert 180 <= (moments.closed_at[rows] < fold.train_until).sum() <= 200


def test_grid_gives_every_known_factor_something_and_the_others_nothing() -> None:
    found = calibration.grid(["technical", "market", "momentum"], 0.1)
    assert len(found) == 36
    assert all(sum(weights) == pytest.approx(1) for weights in found)
    assert all(weights[1] == weights[2] == 0 and min(weights[0], weights[3], weights[4]) > 0 for weights in found)


def test_test_windows_follow_one_another_and_begin_after_the_embargo() -> None:
    windows = list(calibration.folds(0, 10 * DAY, 4 * DAY, 2 * DAY, HOUR))
    assert [w.test_from for w in windows] == [4 * DAY + HOUR, 6 * DAY + HOUR, 8 * DAY + HOUR]
    assert all(w.train_until + HOUR == w.test_from and w.train_until - w.train_from == 4 * DAY for w in windows)
    assert windows[-1].test_until == 10 * DAY


def test_days_count_signals_false_ones_and_their_net() -> None:
    found = Outcomes(np.array([0, HOUR, DAY + HOUR]), np.array([0.01, -0.02, 0.03]))
    daily = found.by_day(0, 3 * DAY)
    assert daily["signals"].tolist() == [2, 1, 0]
    assert daily["false"].tolist() == [1, 0, 0]
    assert daily["net"].tolist() == pytest.approx([-0.01, 0.03, 0])
    assert (found.false_signals, found.hit_rate) == (1, pytest.approx(2 / 3))
