"""The published suite: realistic mistakes that must all be caught, and honest computations that must not be flagged.

The table of `docs/leak-checks.md` names the same cases. Leaks of features alone are in `test_features_point_in_time`.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import talib

from trading_pipelines.domain.validation.probe import (
    Leak,
    Series,
    Times,
    World,
    choose_rows,
    find_impossible_fills,
    find_leaks,
    find_overlap,
)
from trading_pipelines.domain.validation.walk_forward import WalkForward

Floats = np.ndarray
SEEDS = [1, 2, 3]
BARS = 1_500
MINUTE = np.timedelta64(1, "m")
START = np.datetime64("2025-01-01T00:00", "us")
FIRST = 500


def make_world(seed: int) -> World:
    """Quarter-hour bars, hours, a daily outside series told the day after, and a monthly one that is revised."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.003, BARS)))
    opens = START + np.arange(BARS) * 15 * MINUTE
    bars = {"open": np.append(100.0, close[:-1]), "close": close, "volume": draw.exponential(100, BARS)}
    bars["high"] = np.maximum(bars["open"], close) * 1.001
    bars["low"] = np.minimum(bars["open"], close) * 0.999
    hours = opens[::4][: BARS // 4]
    days = START + np.arange(BARS // 96 + 1) * 1440 * MINUTE
    told = days + 1440 * MINUTE
    first, revised = draw.normal(0, 1, len(days)), draw.normal(0, 1, len(days))
    at = np.concatenate([told, told + 3 * 1440 * MINUTE])
    order = np.argsort(at, kind="stable")
    return {
        "bars": Series(opens + 15 * MINUTE, bars),
        "hours": Series(hours + 60 * MINUTE, {"close": close[3::4]}),
        "fear": Series(told, {"value": draw.normal(50, 10, len(days))}),
        "jobs": Series(
            at[order],
            {
                "day": np.tile(np.arange(len(days), dtype=float), 2)[order],
                "value": np.concatenate([first, revised])[order],
            },
        ),
    }


def _close(world: World) -> Floats:
    return world["bars"].columns["close"]


def _ema(world: World, n: int) -> Floats:
    return pd.Series(_close(world)).ewm(span=n, adjust=False).mean().to_numpy()


def _latest(world: World, name: str, moments: Times, values: Floats) -> Floats:
    """The newest value of a series that had a moment at or before each bar's close."""
    rows = np.searchsorted(moments, world["bars"].available_at, side="right") - 1
    return np.where(rows >= 0, values[np.maximum(rows, 0)] if len(values) else np.nan, np.nan)


def _next(values: Floats) -> Floats:
    return np.append(values[1:], values[-1:])


def _rising(world: World) -> Floats:
    return (_ema(world, 8) > _ema(world, 21)).astype(float)


# --- leaks ---------------------------------------------------------------------------------------------------------


def column_shifted_by_one_bar(w: World) -> Floats:
    return _next(np.diff(np.log(_close(w)), prepend=np.nan))


def label_window_that_begins_with_its_feature(w: World) -> Floats:
    return pd.Series(_close(w)).rolling(4).max().shift(-3).to_numpy()


def entry_rule_that_asks_the_next_bar(w: World) -> Floats:
    crossed = np.diff(_rising(w), prepend=0) > 0
    return (crossed & (_next(_close(w)) > _close(w))).astype(float)


def score_scaled_by_the_whole_sample(w: World) -> Floats:
    returns = np.nan_to_num(np.diff(_close(w), prepend=np.nan))
    return (returns - returns.mean()) / returns.std()


def hour_joined_by_its_open(w: World) -> Floats:
    return _latest(w, "hours", w["hours"].available_at - 60 * MINUTE, w["hours"].columns["close"])


def outside_series_joined_on_its_own_day(w: World) -> Floats:
    return _latest(w, "fear", w["fear"].available_at - 1440 * MINUTE, w["fear"].columns["value"])


def target_encoding_of_the_hour(w: World) -> Floats:
    up = pd.Series((_next(_close(w)) > _close(w)).astype(float))
    return up.groupby((np.arange(len(up)) // 4) % 24).transform("mean").to_numpy()


def revised_value_in_place_of_the_first(w: World) -> Floats:
    jobs = w["jobs"].columns
    newest = pd.Series(jobs["value"], index=jobs["day"]).groupby(level=0).last()
    day = (w["bars"].available_at - START) // (1440 * MINUTE) - 1
    return pd.Series(day).map(newest).to_numpy(dtype=float)


def centred_rolling_window(w: World) -> Floats:
    return pd.Series(_close(w)).rolling(9, center=True, min_periods=1).mean().to_numpy()


def holes_filled_from_behind(w: World) -> Floats:
    return pd.Series(np.where(w["bars"].columns["volume"] > 150, _close(w), np.nan)).bfill().to_numpy()


def probability_calibrated_on_the_whole_sample(w: World) -> Floats:
    raw, up = _rising(w), _next(_close(w)) > _close(w)
    shares = [float(up[raw == side].mean()) if (raw == side).any() else 0.5 for side in (0.0, 1.0)]
    return np.where(raw == 1, shares[1], shares[0])


def feature_chosen_by_the_whole_sample(w: World) -> Floats:
    target = _next(_close(w)) / _close(w) - 1
    spans = range(2, 60)
    columns = [_close(w) / _ema(w, n) - 1 for n in spans]
    best = int(np.argmax([abs(np.corrcoef(column[100:], target[100:])[0, 1]) for column in columns]))
    return columns[best] * best


def rank_of_the_signal_among_all_days(w: World) -> Floats:
    return pd.Series(_close(w) / _ema(w, 21)).rank(pct=True).to_numpy()


def exit_at_the_best_price_of_the_day(w: World) -> Floats:
    high = pd.Series(w["bars"].columns["high"])
    return (high == high.groupby(np.arange(len(high)) // 96).transform("max")).astype(float).to_numpy()


def threshold_at_a_quantile_of_the_whole_sample(w: World) -> Floats:
    returns = np.abs(np.nan_to_num(np.diff(np.log(_close(w)), prepend=np.nan)))
    return np.maximum(returns - np.quantile(returns, 0.7), 0)


LEAKS = [
    column_shifted_by_one_bar,
    label_window_that_begins_with_its_feature,
    entry_rule_that_asks_the_next_bar,
    score_scaled_by_the_whole_sample,
    hour_joined_by_its_open,
    outside_series_joined_on_its_own_day,
    target_encoding_of_the_hour,
    revised_value_in_place_of_the_first,
    centred_rolling_window,
    holes_filled_from_behind,
    probability_calibrated_on_the_whole_sample,
    feature_chosen_by_the_whole_sample,
    rank_of_the_signal_among_all_days,
    exit_at_the_best_price_of_the_day,
    threshold_at_a_quantile_of_the_whole_sample,
]


# --- clean controls ------------------------------------------------------------------------------------------------


def recursive_average(w: World) -> Floats:
    return _ema(w, 21)


def recursive_strength(w: World) -> Floats:
    return talib.RSI(_close(w), 14)


def entry_rule_on_closed_bars(w: World) -> Floats:
    return np.diff(_rising(w), prepend=0)


def score_scaled_by_the_past(w: World) -> Floats:
    closes = pd.Series(_close(w))
    return ((closes - closes.rolling(96).mean()) / closes.rolling(96).std()).to_numpy()


def hour_joined_by_its_close(w: World) -> Floats:
    return _latest(w, "hours", w["hours"].available_at, w["hours"].columns["close"])


def outside_series_joined_when_it_was_told(w: World) -> Floats:
    return _latest(w, "fear", w["fear"].available_at, w["fear"].columns["value"])


def revised_series_as_it_was_known_then(w: World) -> Floats:
    jobs, days = w["jobs"], w["jobs"].columns["day"]
    newest_day = np.maximum.accumulate(days) if len(days) else days
    value, row, known = np.full(len(_close(w)), np.nan), 0, dict[float, float]()
    for i, moment in enumerate(w["bars"].available_at):
        while row < len(days) and jobs.available_at[row] <= moment:
            known[days[row]] = jobs.columns["value"][row]
            row += 1
        value[i] = known[newest_day[row - 1]] if row else np.nan
    return value


def target_encoding_of_what_had_ended(w: World) -> Floats:
    up = pd.Series(np.diff(_close(w), prepend=np.nan) > 0).astype(float)
    hours = up.groupby((np.arange(len(up)) // 4) % 24)
    return (hours.cumsum() / (hours.cumcount() + 1)).to_numpy()


def holes_filled_from_before(w: World) -> Floats:
    return pd.Series(np.where(w["bars"].columns["volume"] > 150, _close(w), np.nan)).ffill().to_numpy()


CONTROLS = [
    recursive_average,
    recursive_strength,
    entry_rule_on_closed_bars,
    score_scaled_by_the_past,
    hour_joined_by_its_close,
    outside_series_joined_when_it_was_told,
    revised_series_as_it_was_known_then,
    target_encoding_of_what_had_ended,
    holes_filled_from_before,
]


def _check(compute: Callable[[World], Floats], seed: int) -> list[Leak]:
    world = make_world(seed)
    rows = choose_rows({"answer": compute(world)}, FIRST, 12, seed)
    return find_leaks(lambda w: {"answer": compute(w)}, world, "bars", [row for row in rows if row < BARS - 60])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("leak", LEAKS, ids=lambda f: f.__name__)
def test_planted_leak_is_caught_with_its_first_instant(leak: Callable[[World], Floats], seed: int) -> None:
    (found,) = _check(leak, seed)
    assert found.column == "answer"
    assert found.first == START + (found.row + 1) * 15 * MINUTE


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("control", CONTROLS, ids=lambda f: f.__name__)
def test_clean_control_is_not_flagged(control: Callable[[World], Floats], seed: int) -> None:
    assert _check(control, seed) == []


# --- splits, scalers and fits: which rows a fold may touch ---------------------------------------------------------


def _labelled(seed: int) -> tuple[Times, Times]:
    known = START + np.arange(BARS) * 15 * MINUTE
    return known, known + np.random.default_rng(seed).integers(1, 17, BARS) * 15 * MINUTE


def _folds(known: Times, ends: Times) -> list[tuple[np.ndarray, np.ndarray]]:
    day = np.timedelta64(1, "D")
    split = WalkForward(train=8 * day, test=2 * day, embargo=60 * MINUTE, folds=3)
    return [(fold.train, fold.test) for fold in split.split(known, ends)]


@pytest.mark.parametrize("seed", SEEDS)
def test_own_walk_forward_is_not_flagged(seed: int) -> None:
    known, ends = _labelled(seed)
    assert [find_overlap(ends, known, train, test) for train, test in _folds(known, ends)] == [[], [], []]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mistake", ["no purge", "scaler on all rows", "selection on the test fold", "shuffled folds"])
def test_fit_on_rows_of_the_test_time_is_caught(mistake: str, seed: int) -> None:
    known, ends = _labelled(seed)
    for train, test in _folds(known, ends):
        used = {
            "no purge": np.arange(train[0], test[0]),
            "scaler on all rows": np.arange(BARS),
            "selection on the test fold": np.concatenate([train, test]),
            "shuffled folds": np.random.default_rng(seed).permutation(np.concatenate([train, test]))[: len(train)],
        }[mistake]
        (found,) = find_overlap(ends, known, used, test)
        assert ends[found.row] > known[test[0]]


# --- fills ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_fill_at_a_price_that_had_passed_is_caught_and_one_at_the_next_open_is_not(seed: int) -> None:
    world = make_world(seed)
    bars = world["bars"].columns
    opens = world["bars"].available_at - 15 * MINUTE
    rows = np.arange(100, 1_400, 50)
    decided = world["bars"].available_at[rows]
    shape = (opens, bars["low"], bars["high"])
    assert find_impossible_fills(decided, bars["open"][rows + 1], opens[rows + 1], *shape) == []
    (before,) = find_impossible_fills(decided, bars["open"][rows], opens[rows], *shape)
    assert before.row == 0
    assert find_impossible_fills(decided, bars["low"][rows] * 0.99, opens[rows + 1], *shape)
