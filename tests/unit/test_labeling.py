"""Triple-barrier labels: which barrier comes first, when that is known, and how much labels overlap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.labeling.triple_barrier import (
    Labels,
    RowLabels,
    label_bars,
    trade_return,
    uniqueness_weights,
)
from trading_pipelines.domain.modelling.spec import TrainingSpec

MINUTE = np.timedelta64(1, "m")
START = np.datetime64("2025-01-01T00:15", "us")


def _label(
    close: list[float],
    high: dict[int, float] | None = None,
    low: dict[int, float] | None = None,
    missing: int = 0,
    atr: float = 1.0,
) -> Labels:
    """Label bars of 15 minutes with a horizon of three; `missing` bars are absent after the first one."""
    c = np.array(close)
    h, lo = c.copy(), c.copy()
    h[list(high or {})] = list((high or {}).values())
    lo[list(low or {})] = list((low or {}).values())
    closes_at = START + (np.arange(len(c)) + missing * (np.arange(len(c)) > 0)) * 15 * MINUTE
    return label_bars(closes_at, c, h, lo, c, np.full(len(c), atr), 2.0, 45 * MINUTE)


def test_barrier_that_is_reached_first_gives_the_label() -> None:
    up = _label([100, 100, 100, 100, 100], high={2: 102.0}, low={3: 97.0})
    assert (up.value[0], up.end[0]) == (1, 2)
    down = _label([100, 100, 100, 100, 100], high={3: 103.0}, low={1: 98.0})
    assert (down.value[0], down.end[0]) == (0, 1)


def test_barrier_nearer_to_the_open_counts_when_one_bar_touches_both() -> None:
    upper_nearer = _label([100, 100.5, 100, 100, 100], high={1: 103.0}, low={1: 97.0})
    assert (upper_nearer.value[0], upper_nearer.end[0]) == (1, 1)
    lower_nearer = _label([100, 99.5, 100, 100, 100], high={1: 103.0}, low={1: 97.0})
    assert (lower_nearer.value[0], lower_nearer.end[0]) == (0, 1)


def test_own_bar_does_not_count() -> None:
    labels = _label([100, 100, 100, 99, 100], high={0: 110.0})
    assert (labels.value[0], labels.end[0]) == (0, 3)


def test_sign_of_the_return_decides_at_the_time_limit() -> None:
    labels = _label([100, 100.5, 100.2, 100.1, 100.0])
    assert (labels.value[0], labels.end[0]) == (1, 3)


def test_label_is_unknown_until_its_future_is_there() -> None:
    labels = _label([100, 100, 100, 100])
    assert labels.value.tolist() == [0, -1, -1, -1]
    assert labels.end.tolist() == [3, -1, -1, -1]


def test_horizon_is_time_not_bars_where_bars_are_missing() -> None:
    """After a hole of one bar the limit lies one bar earlier, and what comes later does not count."""
    labels = _label([100, 100.5, 100.2, 100.1, 100.0], missing=1)
    assert (labels.value[0], labels.end[0]) == (1, 2)
    across = _label([100, 100.5, 99.0, 101.0, 100.0], high={3: 105.0}, missing=2)
    assert (across.value[0], across.end[0]) == (1, 1)


def test_label_that_ends_in_a_hole_is_known_with_the_next_bar() -> None:
    c = np.array([100.0, 100.5, 99.0])
    closes_at = START + np.array([0, 15, 600]) * MINUTE
    labels = label_bars(closes_at, c, c, c, c, np.ones(3), 2.0, 45 * MINUTE)
    assert (labels.value[0], labels.end[0]) == (1, 2)
    assert labels.value.tolist() == [1, -1, -1]


def test_bar_that_nothing_follows_within_the_horizon_has_no_label() -> None:
    assert _label([100, 105, 100, 100, 100, 100], high={1: 105.0}, missing=10).value[0] == -1


def test_bar_without_atr_has_no_label() -> None:
    assert set(_label([100.0] * 6, atr=np.nan).value) == {-1}
    assert set(_label([100.0] * 6, atr=0.0).value) == {-1}


def test_label_of_a_row_is_known_at_the_close_of_the_bar_that_ends_it() -> None:
    closes_at = START + np.arange(5) * 15 * MINUTE
    labels = _label([100, 100, 100, 100, 100], high={2: 102.0})
    rows = RowLabels.of(labels, closes_at, np.array([0, 4]))
    assert rows.value.tolist() == [1, -1]
    assert rows.known_at[0] == closes_at[2]
    assert np.isnat(rows.known_at[1])
    assert rows.weight.tolist() == uniqueness_weights(labels.end)[[0, 4]].tolist()


def test_move_is_that_of_a_trade_from_the_next_open_to_the_barrier() -> None:
    up = _label([100, 100, 100, 100, 100], high={2: 103.0})
    assert up.move[0] == pytest.approx(102.0 / 100.0 - 1)
    down = _label([100, 101, 100, 100, 100], low={3: 97.0})
    assert down.move[0] == pytest.approx(98.0 / 101.0 - 1)
    jumped = _label([100, 100, 105, 100, 100], high={2: 106.0})
    assert jumped.move[0] == pytest.approx(0.05), "the bar opened beyond the barrier: out at its open"
    assert np.isnan(up.move[-1])


def test_move_ends_at_the_close_of_the_time_limit() -> None:
    assert _label([100, 100, 100.2, 100.1, 100.0]).move[0] == pytest.approx(0.001)
    assert _label([100, 100.5, 100.2, 100.1, 100.0], missing=1).move[0] == pytest.approx(100.2 / 100.5 - 1)


def test_trade_pays_fee_and_slippage_on_both_of_its_fills() -> None:
    move = np.array([0.02, 0.02, -0.02])
    returns = trade_return(np.array([True, False, False]), move, 0.001)
    assert returns == pytest.approx([0.02 - 0.001 * 2.02, -0.02 - 0.001 * 2.02, 0.02 - 0.001 * 1.98])


def test_costs_of_a_label_are_those_of_a_position() -> None:
    costs = ExecutionParams()
    assert TrainingSpec().cost_rate == pytest.approx(costs.taker_fee_rate + costs.slippage_rate)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_label_does_not_change_when_later_bars_arrive(seed: int, known: int) -> None:
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(draw.normal(0, 0.01, 60)))
    open_ = np.append(close[:1], close[:-1])
    high, low = np.maximum(open_, close) * 1.002, np.minimum(open_, close) * 0.998
    columns = (START + np.cumsum(draw.choice([15, 15, 15, 60], 60)) * MINUTE, open_, high, low, close, 0.01 * close)
    whole = label_bars(*columns, 1.5, 120 * MINUTE)
    part = label_bars(*(values[:known] for values in columns), 1.5, 120 * MINUTE)
    told = part.value >= 0
    np.testing.assert_array_equal(part.value[told], whole.value[:known][told])
    np.testing.assert_array_equal(part.end[told], whole.end[:known][told])
    np.testing.assert_array_equal(part.move[told], whole.move[:known][told])
    np.testing.assert_array_equal(told, (whole.end[:known] >= 0) & (whole.end[:known] < known))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_uniqueness_is_one_over_the_labels_alive(lengths: list[int]) -> None:
    end = np.array([min(i + n, len(lengths) - 1) for i, n in enumerate(lengths)])
    alive = [sum(i <= t <= end[i] for i in range(len(end))) for t in range(len(end))]
    expected = [np.mean([1 / alive[t] for t in range(i, end[i] + 1)]) for i in range(len(end))]
    np.testing.assert_allclose(uniqueness_weights(end), expected)
