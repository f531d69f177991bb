"""The rows that a number is said to be made of are those that it is made of: they alone give it again."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.features.observations import MARGIN, OBSERVED, Measure, Observed, ObservedFeature
from trading_pipelines.domain.lineage import (
    looks_back,
    reach_in_features,
    reach_in_scores,
    rows_of_feature,
    rows_of_funding,
    rows_of_input,
)
from trading_pipelines.domain.scoring.inputs import INPUTS, Input, join, observed

NOW = np.datetime64("2025-06-01T12:00", "us")
HOUR = np.timedelta64(1, "h")
SETTLING = timedelta(seconds=60)
SOURCED = [each for each in INPUTS if each.mapping is not None]


@st.composite
def series(draw: st.DrawFn, step_hours: int) -> Observed:
    """A series with revisions, late values, values out of order and, at the end, some that nobody knows yet."""
    count = draw(st.integers(1, 80))
    ends = draw(st.integers(-30, 10))
    ts = NOW + (ends - step_hours * np.arange(count)[::-1]) * HOUR
    delays = np.array(draw(st.lists(st.sampled_from([0, 0, 0, 1, 7, 30, 90]), min_size=count, max_size=count)))
    values = np.array(draw(st.lists(st.integers(1, 100), min_size=count, max_size=count)), dtype=np.float64)
    known = ts + delays * HOUR
    revised = np.array(draw(st.lists(st.integers(0, count - 1), max_size=6)), dtype=np.intp)
    ts, values = np.concatenate((ts, ts[revised])), np.concatenate((values, values[revised] + 7))
    known = np.concatenate((known, known[revised] + 5 * HOUR))
    order = np.lexsort((ts, known))
    return Observed(known[order], ts[order], values[order])


def only(found: Observed, rows: np.ndarray) -> Observed:
    """Those rows in the order in which they became known."""
    rows = np.sort(rows)
    return Observed(found.available_at[rows], found.ts[rows], found.value[rows])


def value_of(feature: ObservedFeature, found: Observed) -> float:
    return float(feature.compute(np.array([NOW]), {feature.series: found})[0])


def input_of(each: Input, found: Observed) -> tuple[float, float]:
    known_at, ts = (times.astype(np.int64) for times in (found.available_at, found.ts))
    at = np.array([(NOW - np.timedelta64(SETTLING)).astype("datetime64[us]").astype(np.int64)])
    mapped, raw, _ = join(observed(each, known_at, ts, found.value), at, each.max_age)
    return float(mapped[0]), float(raw[0])


@pytest.mark.parametrize("feature", OBSERVED, ids=lambda feature: feature.name)
@given(data=st.data(), step=st.sampled_from([1, 8, 24]))
def test_feature_is_made_of_the_named_rows_and_of_no_other(
    feature: ObservedFeature, data: st.DataObject, step: int
) -> None:
    found = data.draw(series(step))
    rows = rows_of_feature(feature, NOW, found)
    whole = value_of(feature, found)
    assert value_of(feature, only(found, rows)) == pytest.approx(whole, nan_ok=True)
    if len(rows):
        assert (found.available_at[rows] <= NOW - np.timedelta64(MARGIN)).all()
        assert (np.diff(found.ts[rows]) > np.timedelta64(0)).all()
    else:
        assert np.isnan(whole)


@pytest.mark.parametrize("each", SOURCED, ids=lambda each: each.name)
@given(data=st.data(), step=st.sampled_from([1, 8, 24]))
def test_input_of_the_score_is_made_of_the_named_rows_and_of_no_other(
    each: Input, data: st.DataObject, step: int
) -> None:
    found = data.draw(series(step))
    rows = rows_of_input(each, NOW, SETTLING, found)
    whole = input_of(each, found)
    alone = input_of(each, only(found, rows))
    assert alone == pytest.approx(whole, nan_ok=True)
    if len(rows) == 0:
        assert np.isnan(whole).all()
    elif not np.isnan(whole[1]):
        assert found.value[rows[-1]] == whole[1]


def test_level_is_the_version_that_was_known_then() -> None:
    (feature,) = (f for f in OBSERVED if f.name == "fear_greed")
    known = np.array([NOW - 30 * HOUR, NOW - 20 * HOUR, NOW + HOUR])
    found = Observed(known, np.array([NOW - 36 * HOUR] * 3), np.array([40.0, 45.0, 60.0]))
    assert rows_of_feature(feature, NOW, found).tolist() == [1]
    assert rows_of_feature(feature, NOW - 21 * HOUR, found).tolist() == [0]
    assert rows_of_feature(feature, NOW + 80 * HOUR, found).tolist() == []


def test_change_is_made_of_two_rows_and_a_sum_of_all_days_of_its_window() -> None:
    ts = NOW - np.arange(60)[::-1] * 24 * HOUR - HOUR
    found = Observed(ts, ts, np.arange(60, dtype=np.float64))
    (change,) = (f for f in OBSERVED if f.name == "fear_greed_change_7d")
    (flow,) = (f for f in OBSERVED if f.name == "netflow_unusual")
    assert change.measure is Measure.CHANGE
    assert rows_of_feature(change, NOW, found).tolist() == [52, 59]
    assert rows_of_feature(flow, NOW, found).tolist() == list(range(30, 60))


def test_funding_is_the_rate_that_was_settled_last_before_the_close() -> None:
    ts = NOW - np.array([16, 8, 0]) * HOUR
    assert rows_of_funding(NOW, ts).tolist() == [1]
    assert rows_of_funding(NOW + HOUR, ts).tolist() == [2]
    assert rows_of_funding(NOW + 72 * HOUR, ts).tolist() == []


def test_reach_and_look_back_are_those_of_everything_that_reads_the_series() -> None:
    assert reach_in_features("fear_greed", market=True) == timedelta(days=10.5)
    assert reach_in_features("fear_greed", market=False) is None
    assert reach_in_scores("fear_greed", market=True) == timedelta(0)
    assert reach_in_scores("galaxy_score", market=False) is None
    assert reach_in_features("funding_rate", market=False) == timedelta(0)
    assert reach_in_scores("funding_rate", market=False) == timedelta(hours=24)
    assert looks_back("galaxy_score") == timedelta(0)
    assert looks_back("exchange_reserve") > timedelta(days=60)
    assert looks_back("funding_rate") == timedelta(days=2)
