"""The comparison of results with and without a source."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.research.ablation import ablate, compare

DRAWN = {"block": 5, "samples": 400, "seed": 7}


def daily(values: np.ndarray) -> "pd.Series[float]":
    return pd.Series(values, index=pd.date_range("2024-01-01", periods=len(values), freq="D", tz="UTC"))


def slow_noise(seed: int, length: int, memory: float = 0.6) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal(length)
    for i in range(1, length):
        draws[i] += memory * draws[i - 1]
    return draws


def test_a_source_that_adds_something_every_day_is_found():
    base = slow_noise(1, 400)
    found = compare(daily(base + 0.5 + 0.5 * slow_noise(2, 400)), daily(base), **DRAWN)

    assert found.low > 0
    assert found.conclusive
    assert found.low < found.difference < found.high
    assert found.improved == 1.0


def test_a_useless_source_is_called_conclusive_about_as_often_as_said():
    wrong = sum(
        compare(daily(slow_noise(seed, 500)), daily(np.zeros(500)), block=15, samples=400, seed=seed).conclusive
        for seed in range(200)
    )

    assert wrong <= 24  # 5 % and the slack of 200 draws; single days drawn again would be wrong in a third of them


def test_days_drawn_one_by_one_would_be_far_too_sure_of_slow_results():
    noise = daily(slow_noise(3, 1000, memory=0.9))
    nothing = daily(np.zeros(1000))
    single = compare(noise, nothing, block=1, samples=400, seed=0)
    stretches = compare(noise, nothing, block=30, samples=400, seed=0)

    assert stretches.high - stretches.low > 2 * (single.high - single.low)


def test_only_periods_with_both_results_count_and_the_others_are_told():
    base = daily(np.arange(30.0))
    changed = base.copy()
    changed.iloc[3] = np.nan
    found = compare(changed.iloc[:25], base, **DRAWN)

    assert (found.periods, found.unpaired) == (24, 6)
    assert found.difference == 0.0
    assert not found.conclusive


def test_too_few_periods_say_nothing():
    found = compare(daily(np.ones(9)), daily(np.zeros(9)), **DRAWN)

    assert np.isnan(found.difference)
    assert not found.conclusive


def test_a_period_that_occurs_twice_is_refused():
    twice = pd.concat([daily(np.ones(20))] * 2)

    with pytest.raises(ValueError, match="twice"):
        compare(twice, daily(np.ones(20)), **DRAWN)


@pytest.mark.parametrize("wrong", [{"block": 0}, {"samples": 0}, {"confidence": 1.0}])
def test_figures_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="at least 1"):
        compare(daily(np.ones(20)), daily(np.ones(20)), **DRAWN | wrong)


@given(st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=60), st.integers(0, 99))
def test_swapping_the_two_mirrors_the_answer_and_the_same_seed_repeats_it(values: list[float], seed: int):
    results, nothing = daily(np.array(values)), daily(np.zeros(len(values)))
    found = compare(results, nothing, block=4, samples=60, seed=seed)
    mirrored = compare(nothing, results, block=4, samples=60, seed=seed)

    assert found == compare(results, nothing, block=4, samples=60, seed=seed)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)
    assert found.low - 1e-9 <= found.high


def test_each_source_is_told_with_an_interval_that_holds_for_all_of_them_together():
    rng = np.random.default_rng(0)
    full = rng.standard_normal(300)
    without = {f"noise_{i}": daily(full + 0.3 * rng.standard_normal(300)) for i in range(4)}
    found = ablate({"all": daily(full), "news": daily(full - 0.4)} | without, "all", samples=400)

    assert [a.source for a in found] == ["news", *without]
    assert found[0].comparison.difference == pytest.approx(0.4)
    assert found[0].comparison.confidence == pytest.approx(0.99)
    assert [a.source for a in found if a.comparison.conclusive] == ["news"]


def test_a_baseline_without_results_is_refused():
    with pytest.raises(KeyError):
        ablate({"news": daily(np.ones(20))}, "all")
