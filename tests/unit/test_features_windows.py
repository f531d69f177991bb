"""Moving windows: equal to the plain definition, and to themselves whatever came before."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trading_pipelines.domain.features import windows
from trading_pipelines.domain.features.windows import Floats

Rolling = Callable[[Floats, int], Floats]
PLAIN: dict[Rolling, Callable[[Floats], float]] = {
    windows.rolling_sum: lambda w: float(w.sum()),
    windows.rolling_mean: lambda w: float(w.mean()),
    windows.rolling_min: lambda w: float(w.min()),
    windows.rolling_max: lambda w: float(w.max()),
    windows.rolling_std: lambda w: float(w.std()),
    windows.rolling_median: lambda w: float(np.median(w)),
}
ROLLING = pytest.mark.parametrize("rolling", PLAIN, ids=lambda f: f.__name__)
NUMBERS = arrays(
    np.float64, st.integers(0, 60), elements=st.one_of(st.just(np.nan), st.integers(-1_000, 1_000).map(float))
)


def _plain(values: Floats, period: int, reduce: Callable[[Floats], float]) -> Floats:
    return np.array([reduce(values[i - period + 1 : i + 1]) if i >= period - 1 else np.nan for i in range(len(values))])


@ROLLING
@settings(deadline=None)  # the first call compiles
@given(values=NUMBERS, period=st.integers(1, 20))
def test_window_is_the_plain_definition_and_missing_where_a_value_is(
    rolling: Rolling, values: Floats, period: int
) -> None:
    np.testing.assert_allclose(rolling(values, period), _plain(values, period, PLAIN[rolling]), rtol=1e-9, atol=1e-9)


@ROLLING
@settings(deadline=None)
@given(dropped=st.integers(0, 400), period=st.integers(2, 100))
def test_value_depends_on_its_window_only(rolling: Rolling, dropped: int, period: int) -> None:
    draw = np.random.default_rng(dropped)
    prices = 60_000 * np.exp(np.cumsum(draw.normal(0, 0.002, 600)))
    whole, part = rolling(prices, period), rolling(prices[dropped:], period)
    np.testing.assert_array_equal(part[period - 1 :], whole[dropped + period - 1 :])


def test_deviation_keeps_its_digits_where_a_price_hardly_moves() -> None:
    prices = 1e6 + np.tile([0.0, 0.01], 100)
    np.testing.assert_allclose(windows.rolling_std(prices, 20)[19:], 0.005, rtol=1e-6)


def test_covariance_is_that_of_numpy() -> None:
    draw = np.random.default_rng(3)
    a = draw.normal(size=300)
    b = 0.5 * a + draw.normal(size=300)
    expected = [np.cov(a[i - 49 : i + 1], b[i - 49 : i + 1], bias=True)[0, 1] for i in range(49, 300)]
    np.testing.assert_allclose(windows.rolling_covariance(a, b, 50)[49:], expected, rtol=1e-9, atol=1e-12)


def test_newest_value_is_forgotten_when_it_is_too_old() -> None:
    values = np.array([np.nan, 7.0, np.nan, np.nan, np.nan, 8.0])
    np.testing.assert_array_equal(windows.newest(values, 2), [np.nan, 7, 7, 7, np.nan, 8])


def test_sum_since_midnight_starts_anew_each_day_and_leaves_a_day_that_began_before_out() -> None:
    ts = np.arange(
        np.datetime64("2025-01-01T18:00", "us"), np.datetime64("2025-01-03T07:00", "us"), np.timedelta64(6, "h")
    )
    np.testing.assert_array_equal(windows.sum_since_midnight(np.ones(len(ts)), ts), [np.nan, 1, 2, 3, 4, 1, 2])
