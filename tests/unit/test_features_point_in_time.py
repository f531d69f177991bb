"""Nothing stored knows the future: our features pass the check, planted leaks fail it, honest ones pass."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import talib
from feature_inputs import D1, H1, make_inputs

from trading_pipelines.domain.features.context import FeatureInputs, as_of
from trading_pipelines.domain.features.registry import REGISTRY, FeatureSpec, Source
from trading_pipelines.domain.features.windows import Floats, lag, rolling_mean, rolling_std
from trading_pipelines.domain.validation.leakage import Leak, find_leaks

SEEDS = [1, 2, 3]
WHOLE = make_inputs(seed=1)
SAMPLES = list(range(600, 1_190, 37))


def _check(compute: Callable[[FeatureInputs], Floats], seed: int) -> Sequence[Leak]:
    spec = FeatureSpec("planted", Source.OWN, "planted", "", 1, "", compute)
    return find_leaks(make_inputs(seed, bars=1_200), SAMPLES, [REGISTRY[0], spec])


def test_no_feature_uses_what_was_not_known() -> None:
    assert find_leaks(WHOLE, [2_999, 3_000, 3_001, 4_444, 5_123, 5_999], REGISTRY) == []


def _next_return(x: FeatureInputs) -> Floats:
    return np.append(x.bars.log_return(1)[1:], 0.0)


def _centred_mean(x: FeatureInputs) -> Floats:
    return np.append(rolling_mean(x.bars.close, 5)[2:], x.bars.close[-2:])


def _standardised_over_all(x: FeatureInputs) -> Floats:
    return (x.bars.close - x.bars.close.mean()) / x.bars.close.std()


def _scaled_to_extremes_of_all(x: FeatureInputs) -> Floats:
    return (x.bars.close - x.bars.low.min()) / (x.bars.high.max() - x.bars.low.min())


def _rank_among_all(x: FeatureInputs) -> Floats:
    return pd.Series(x.bars.close).rank(pct=True).to_numpy()


def _clipped_at_quantile_of_all(x: FeatureInputs) -> Floats:
    returns = np.nan_to_num(x.bars.log_return(1))
    return np.clip(returns, *np.quantile(returns, [0.3, 0.7]))


def _hour_by_open_time(x: FeatureInputs) -> Floats:
    hour = x.higher[H1]
    return as_of(x.bars.closes_at, hour.ts, hour.log_return(1), 1440)


def _day_joined_on_its_date(x: FeatureInputs) -> Floats:
    day = x.higher[D1]
    closes = dict(zip(day.ts.astype("datetime64[D]").tolist(), day.close, strict=True))
    return np.array([closes.get(d, np.nan) for d in x.bars.ts.astype("datetime64[D]").tolist()])


def _leader_by_next_bar(x: FeatureInputs) -> Floats:
    assert x.leader is not None
    return as_of(x.bars.closes_at, x.leader.ts - np.timedelta64(15, "m"), x.leader.log_return(1), 1440)


def _funding_mean_of_the_day(x: FeatureInputs) -> Floats:
    rates = pd.Series(x.funding.rate).groupby(x.funding.ts.astype("datetime64[D]")).mean()
    return pd.Series(x.bars.ts.astype("datetime64[D]").astype("datetime64[s]")).map(rates).to_numpy(dtype=float)


def _funding_before_its_settlement(x: FeatureInputs) -> Floats:
    return as_of(x.bars.closes_at, x.funding.ts - np.timedelta64(480, "m"), x.funding.rate, 1440)


def _index_of_its_own_day(x: FeatureInputs) -> Floats:
    series = x.market["stablecoin_supply_usd"]
    by_day = dict(zip(series.ts.astype("datetime64[D]").tolist(), series.value, strict=True))
    return np.array([by_day.get(day, np.nan) for day in x.bars.ts.astype("datetime64[D]").tolist()])


def _flow_by_the_hour_it_speaks_of(x: FeatureInputs) -> Floats:
    series = x.observed["exchange_netflow_usd"]
    order = np.argsort(series.ts, kind="stable")
    return as_of(x.bars.closes_at, series.ts[order], series.value[order], 1440)


def _index_as_revised_later(x: FeatureInputs) -> Floats:
    series = x.market["fear_greed"]
    newest = dict(zip(series.ts.tolist(), series.value, strict=True))
    first = np.sort(np.unique(series.ts, return_index=True)[1])
    final = np.array([newest[ts] for ts in series.ts[first].tolist()])
    return as_of(x.bars.closes_at, series.available_at[first], final, 2 * 1440)


def _filled_backwards(x: FeatureInputs) -> Floats:
    return pd.Series(np.where(x.bars.volume > 150, x.bars.close, np.nan)).bfill().to_numpy()


def _interpolated(x: FeatureInputs) -> Floats:
    return pd.Series(np.where(x.bars.volume > 50, x.bars.close, np.nan)).interpolate().to_numpy()


def _high_of_the_day(x: FeatureInputs) -> Floats:
    return pd.Series(x.bars.high).groupby(x.bars.ts.astype("datetime64[D]")).transform("max").to_numpy()


def _swing_at_its_own_bar(x: FeatureInputs) -> Floats:
    highest = pd.Series(x.bars.high).rolling(11, center=True, min_periods=1).max()
    return pd.Series(np.where(x.bars.high == highest, x.bars.high, np.nan)).ffill().to_numpy()


def _smoothed_both_ways(x: FeatureInputs) -> Floats:
    return talib.EMA(talib.EMA(x.bars.close, 9)[::-1].copy(), 9)[::-1].copy()


def _detrended_by_a_line_through_all(x: FeatureInputs) -> Floats:
    row = np.arange(len(x.bars))
    return x.bars.close - np.polyval(np.polyfit(row, x.bars.close, 1), row)


def _principal_component_of_all(x: FeatureInputs) -> Floats:
    returns = np.nan_to_num(np.column_stack([x.bars.log_return(n) for n in (1, 4, 16)]))
    return returns @ np.linalg.svd(returns, full_matrices=False)[2][0]


def _mean_label_of_the_hour(x: FeatureInputs) -> Floats:
    rises = pd.Series(_next_return(x) > 0).astype(float)
    return rises.groupby(x.bars.ts.astype("datetime64[h]").astype(int) % 24).transform("mean").to_numpy()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "leak",
    [
        _next_return,
        _centred_mean,
        _standardised_over_all,
        _scaled_to_extremes_of_all,
        _rank_among_all,
        _clipped_at_quantile_of_all,
        _hour_by_open_time,
        _day_joined_on_its_date,
        _leader_by_next_bar,
        _funding_mean_of_the_day,
        _funding_before_its_settlement,
        _index_of_its_own_day,
        _flow_by_the_hour_it_speaks_of,
        _index_as_revised_later,
        _filled_backwards,
        _interpolated,
        _high_of_the_day,
        _swing_at_its_own_bar,
        _smoothed_both_ways,
        _detrended_by_a_line_through_all,
        _principal_component_of_all,
        _mean_label_of_the_hour,
    ],
)
def test_planted_leak_is_found(leak: Callable[[FeatureInputs], Floats], seed: int) -> None:
    (found,) = _check(leak, seed)
    assert found.column == "planted"
    assert found.first in make_inputs(seed, bars=1_200).bars.closes_at[SAMPLES]


def _recursive(x: FeatureInputs) -> Floats:
    return talib.RSI(x.bars.close, 14)


def _trailing_score(x: FeatureInputs) -> Floats:
    return (x.bars.close - rolling_mean(x.bars.close, 96)) / rolling_std(x.bars.close, 96)


def _expanding_score(x: FeatureInputs) -> Floats:
    closes = pd.Series(x.bars.close)
    return ((closes - closes.expanding().mean()) / closes.expanding().std()).to_numpy()


def _high_of_the_day_so_far(x: FeatureInputs) -> Floats:
    return pd.Series(x.bars.high).groupby(x.bars.ts.astype("datetime64[D]")).cummax().to_numpy()


def _hour_that_has_closed(x: FeatureInputs) -> Floats:
    return x.at(H1, lambda b: b.log_return(1))


def _swing_when_confirmed(x: FeatureInputs) -> Floats:
    return x.bars.swing_distance(high=True)


def _funding_that_is_settled(x: FeatureInputs) -> Floats:
    return x.funding_rate


def _index_in_the_version_of_then(x: FeatureInputs) -> Floats:
    series = x.market["fear_greed"]
    return as_of(x.bars.closes_at, series.available_at, series.value, 2 * 1440)


def _flow_as_it_was_told(x: FeatureInputs) -> Floats:
    series = x.observed["exchange_netflow_usd"]
    mean = pd.Series(series.value).rolling(5).mean().to_numpy()
    return as_of(x.bars.closes_at, series.available_at, mean, 1440)


def _filled_forwards(x: FeatureInputs) -> Floats:
    return pd.Series(np.where(x.bars.volume > 150, x.bars.close, np.nan)).ffill().to_numpy()


def _share_of_rises_so_far_in_the_hour(x: FeatureInputs) -> Floats:
    rises = pd.Series(np.nan_to_num(lag(x.bars.log_return(1), 1)) > 0).astype(float)
    hours = rises.groupby(x.bars.ts.astype("datetime64[h]").astype(int) % 24)
    return (hours.cumsum() / (hours.cumcount() + 1)).to_numpy()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "honest",
    [
        _recursive,
        _trailing_score,
        _expanding_score,
        _high_of_the_day_so_far,
        _hour_that_has_closed,
        _swing_when_confirmed,
        _funding_that_is_settled,
        _index_in_the_version_of_then,
        _flow_as_it_was_told,
        _filled_forwards,
        _share_of_rises_so_far_in_the_hour,
    ],
)
def test_honest_feature_is_not_accused(honest: Callable[[FeatureInputs], Floats], seed: int) -> None:
    assert _check(honest, seed) == []


def test_leak_report_names_column_first_instant_and_values() -> None:
    inputs = make_inputs(1, bars=1_200)
    spec = FeatureSpec("planted", Source.OWN, "next_return", "", 1, "", _next_return)
    (leak,) = find_leaks(inputs, SAMPLES, [spec])
    assert leak.column == "next_return"
    assert leak.first == inputs.bars.closes_at[SAMPLES[0]]
    assert leak.stored == inputs.bars.log_return(1)[SAMPLES[0] + 1]
    assert leak.recomputed == 0.0
    assert leak.instants == len(SAMPLES)
