"""Correlation of hourly returns, as of a midnight."""

import math

import numpy as np
import pytest

from trading_pipelines.domain.risk.correlation import (
    DAY,
    HOUR,
    correlations,
    correlations_by_day,
    correlations_of_day,
    hourly_returns,
)

DAY_ZERO = 20_000


def candles(hours: int, seed: int, minutes: int = 15, common: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    per_hour = 60 // minutes
    noise = np.random.default_rng(seed).standard_normal(hours * per_hour)
    shared = np.random.default_rng(0).standard_normal(hours * per_hour)
    ts = DAY_ZERO * DAY + np.arange(hours * per_hour) * (HOUR // per_hour)
    return ts, 100 * np.exp(0.01 * np.cumsum(noise * (1 - common) + shared * common))


def test_close_of_an_hour_is_its_newest_candle() -> None:
    ts = np.array([0, 15, 45, 60, 105]) * 60_000_000
    returns = hourly_returns(ts, np.array([1.0, 2.0, 4.0, 5.0, 8.0]), 0, 3)
    assert returns.tolist()[1] == math.log(8.0) - math.log(4.0)
    assert np.isnan(returns).tolist() == [True, False, True]


def test_correlation_is_pearson_s_over_common_hours() -> None:
    returns = np.random.default_rng(3).standard_normal((300, 3))
    returns[:, 2] += returns[:, 0]
    returns[:40, 1] = np.nan
    found = correlations(returns, 240)
    assert found[0, 2] == round(np.corrcoef(returns[:, 0], returns[:, 2])[0, 1], 6)
    assert found[0, 1] == round(np.corrcoef(returns[40:, 0], returns[40:, 1])[0, 1], 6)
    assert found[0, 0] == 1.0
    assert np.array_equal(found, found.T)


def test_too_few_hours_or_a_still_price_are_not_known() -> None:
    returns = np.random.default_rng(3).standard_normal((300, 2))
    returns[:61, 1] = np.nan
    assert math.isnan(correlations(returns, 240)[0, 1])
    assert math.isfinite(correlations(returns, 239)[0, 1])
    returns[:, 1] = 0.0
    assert math.isnan(correlations(returns, 24)[0, 1])


def test_future_does_not_change_a_day() -> None:
    pair = [candles(24 * 12, 1, common=0.7), candles(24 * 12, 2, common=0.7)]
    day = DAY_ZERO + 8
    whole = correlations_of_day(pair, day, 5, 24)
    past = [(ts[ts < day * DAY], close[ts < day * DAY]) for ts, close in pair]
    assert np.array_equal(whole, correlations_of_day(past, day, 5, 24))
    changed = [(ts, np.where(ts < day * DAY, close, close * 9)) for ts, close in pair]
    assert np.array_equal(whole, correlations_of_day(changed, day, 5, 24))
    assert whole[0, 1] > 0.5


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_days_in_a_row_equal_single_days(minutes: int) -> None:
    pair = [candles(24 * 9, seed, minutes) for seed in (1, 2, 3)]
    days = correlations_by_day(pair, DAY_ZERO, 9, 4, 30)
    for k in range(9):
        single = correlations_of_day(pair, DAY_ZERO + k, 4, 30)
        assert np.array_equal(days[k], single, equal_nan=True)
    assert np.isnan(days[1]).all()
    assert np.isfinite(days[2]).all()
