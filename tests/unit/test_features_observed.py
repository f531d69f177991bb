"""Features of series from outside: joined when they became known, in the version of then."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from feature_inputs import make_inputs
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.domain.features.observations import (
    FEWEST_DAYS,
    MARGIN,
    OBSERVED,
    Measure,
    Observed,
    ObservedFeature,
    history_of,
)

FEATURES = {feature.name: feature for feature in OBSERVED}
DAY = np.datetime64("2025-03-01T00:00", "us")
HOUR = np.timedelta64(60, "m")


def hours(*values: float) -> "np.ndarray":
    return DAY + np.array([round(3_600e6 * value) for value in values], "timedelta64[us]")


def told(*versions: tuple[float, float, float]) -> Observed:
    """Versions as (known at, speaks of, value), both times in hours after the day."""
    known, ts, values = zip(*sorted(versions), strict=True)
    return Observed(hours(*known), hours(*ts), np.array(values))


def at(name: str, series: Observed, *moments: float) -> list[float]:
    feature = FEATURES[name]
    return feature.compute(hours(*moments), {feature.series: series}).tolist()


def test_value_counts_from_five_minutes_after_it_became_known_not_from_its_day() -> None:
    found = at("fear_greed", told((10, 0, 30.0)), 0, 9.9, 10, 10 + 4 / 60, 10 + 5 / 60, 11)
    np.testing.assert_array_equal(found, [np.nan] * 4 + [30.0] * 2)


def test_revised_value_has_its_former_value_until_the_revision() -> None:
    series = told((1, 0, 30.0), (20, 0, 35.0))
    assert at("fear_greed", series, 2, 20, 21) == [30.0, 30.0, 35.0]


def test_change_looks_back_at_the_version_known_then() -> None:
    series = told((-167, -168, 50.0), (1, 0, 60.0), (5, -168, 58.0))
    assert at("fear_greed_change_7d", series, 2, 6) == [10.0, 2.0]


def test_old_value_that_is_revised_or_told_late_does_not_replace_a_newer_one() -> None:
    series = told((1, 0, 30.0), (3, -24, 99.0))
    assert at("fear_greed", series, 4) == [30.0]


def test_value_that_is_too_old_is_missing_and_a_late_one_of_another_day_does_not_freshen_it() -> None:
    series = told((1, 0, 30.0), (40, -24, 99.0))
    np.testing.assert_array_equal(at("fear_greed", series, 48.9, 49.2), [30.0, np.nan])


def test_value_told_later_than_it_would_count_is_missing() -> None:
    np.testing.assert_array_equal(at("whale_score", told((200, 0, 0.5)), 201), [np.nan])


def test_value_said_to_be_known_before_the_time_it_speaks_of_is_no_observation() -> None:
    np.testing.assert_array_equal(at("sentiment", told((0, 5, 0.5)), 1, 6), [np.nan, np.nan])


def test_change_is_missing_when_there_was_nothing_about_that_long_ago() -> None:
    assert at("sentiment_change_1d", told((-30, -30, 0.1), (0, 0, 0.4)), 1) == [pytest.approx(0.3)]
    np.testing.assert_array_equal(at("sentiment_change_1d", told((-37, -37, 0.1), (0, 0, 0.4)), 1), [np.nan])


def test_growth_of_what_is_not_positive_is_missing() -> None:
    np.testing.assert_array_equal(at("open_interest_change_1d", told((-24, -24, 0.0), (0, 0, 9.0)), 1), [np.nan])


def test_daily_and_hourly_flows_are_read_alike() -> None:
    per_day = np.random.default_rng(1).normal(10, 3, 31)
    starts = [-24.0 * k for k in range(30, -1, -1)]
    daily = told(*((ts + 24, ts, v) for ts, v in zip(starts, per_day, strict=True)))
    hourly = told(
        *((ts + h - 23 + 24, ts + h - 23, v / 24) for ts, v in zip(starts, per_day, strict=True) for h in range(24))
    )
    expected = (per_day[-1] - per_day[1:-1].mean()) / per_day[1:-1].std()
    assert at("netflow_unusual", daily, 25) == [pytest.approx(expected)]
    assert at("netflow_unusual", hourly, 25) == [pytest.approx(expected)]


def test_flow_is_missing_without_enough_days_or_when_it_never_changes() -> None:
    few = told(*((24 - 24 * k, -24 * k, float(k)) for k in range(FEWEST_DAYS)))
    same = told(*((24 - 24 * k, -24 * k, 0.1) for k in range(31)))
    np.testing.assert_array_equal(at("netflow_unusual", few, 25), [np.nan])
    np.testing.assert_array_equal(at("netflow_unusual", same, 25), [np.nan])


def test_series_without_a_source_is_missing_at_every_bar() -> None:
    for feature in OBSERVED:
        assert np.isnan(feature.compute(hours(0, 1), {})).all()
        assert np.isnan(feature.compute(hours(0, 1), {feature.series: Observed.none()})).all()


@pytest.mark.parametrize("feature", OBSERVED, ids=lambda f: f.name)
def test_value_is_the_same_when_older_rows_are_not_loaded(feature: ObservedFeature) -> None:
    inputs = make_inputs(seed=3, bars=2_000)
    series = (inputs.market if feature.market else inputs.observed)[feature.series]
    closes = inputs.bars.closes_at[-300:]
    since = closes[0] - np.timedelta64(history_of(market=feature.market)[feature.series], "us")
    recent = (series.available_at >= since) & (series.ts >= since)
    short = Observed(series.available_at[recent], series.ts[recent], series.value[recent])
    whole = feature.compute(closes, {feature.series: series})

    assert not np.isnan(whole).all()
    np.testing.assert_array_equal(feature.compute(closes, {feature.series: short}), whole)


VERSIONS = st.lists(
    st.tuples(st.integers(-1, 60), st.integers(0, 400), st.sampled_from([-2.0, 0.5, 1.0, 3.0, 7.0])), max_size=30
)


@given(VERSIONS, st.sampled_from([f for f in OBSERVED if f.measure is not Measure.UNUSUAL]))
def test_value_is_what_a_reader_of_all_rows_known_by_then_would_say(
    versions: Sequence[tuple[int, int, float]], feature: ObservedFeature
) -> None:
    if not versions:
        return
    series = told(*((ts + delay, ts, value) for delay, ts, value in versions))
    moments = np.arange(0, 480, 7)
    found = feature.compute(hours(*moments), {feature.series: series})
    np.testing.assert_array_equal(found, [_read(series, DAY + m * HOUR, feature) for m in moments.tolist()])


def _read(series: Observed, moment: np.datetime64, feature: ObservedFeature) -> float:
    versions: dict[np.datetime64, tuple[np.datetime64, float]] = {}
    for known, ts, value in zip(series.available_at, series.ts, series.value, strict=True):
        if ts <= known <= moment - np.timedelta64(MARGIN, "us"):
            versions[ts] = (known, value)
    if not versions:
        return np.nan
    newest = max(versions)
    known, value = versions[newest]
    age = timedelta(microseconds=int((moment - np.timedelta64(MARGIN, "us") - known).astype(int)))
    delay = timedelta(microseconds=int((known - newest).astype(int)))
    if age > SERIES[feature.series].max_age or delay > feature.max_delay:
        return np.nan
    if feature.measure is Measure.LEVEL:
        return value
    then = [ts for ts in versions if newest - np.timedelta64(36 * feature.days, "h") <= ts]
    then = [ts for ts in then if ts <= newest - np.timedelta64(feature.days, "D")]
    if not then:
        return np.nan
    before = versions[max(then)][1]
    if feature.measure is Measure.CHANGE:
        return value - before
    return float(np.log(value / before)) if value > 0 and before > 0 else np.nan
