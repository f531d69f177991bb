"""Levels and expected profit of a set-up, by the numbers of the execution model."""

import math

import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.signals.setup import build_setup

EXECUTION = ExecutionParams()


@pytest.mark.parametrize(
    ("side", "stop", "targets"),
    [(PositionSide.LONG, 98.0, (104.0, 107.0, 112.0)), (PositionSide.SHORT, 102.0, (96.0, 93.0, 88.0))],
)
def test_levels_stand_at_their_atr_multiples(
    side: PositionSide, stop: float, targets: tuple[float, float, float]
) -> None:
    setup = build_setup(side, 100.0, 2.0, 0.6, 0.6, EXECUTION)
    assert (setup.stop_price, setup.targets) == (stop, targets)


def test_expected_profit_of_a_worked_example() -> None:
    setup = build_setup(PositionSide.LONG, 100.0, 2.0, 0.6, 0.6, EXECUTION)
    gross = 0.3 * 0.04 + 0.4 * 0.07 + 0.3 * 0.12
    cost = 2 * 0.00055 + 2 * 0.0005 + 0.0001 * 4 / 8
    assert math.isclose(setup.gross_profit, gross)
    assert math.isclose(setup.cost, cost)
    assert math.isclose(setup.net_profit, gross - cost)
    assert math.isclose(setup.expected_value, 0.6 * (gross - cost) - 0.4 * (0.02 + cost))
    assert math.isclose(setup.risk_reward, 3.8)


def test_short_is_the_mirror_of_the_long() -> None:
    long, short = (build_setup(side, 250.0, 3.0, 0.55, 0.7, EXECUTION) for side in PositionSide)
    assert math.isclose(long.expected_value, short.expected_value)
    assert math.isclose(long.reference_price - long.stop_price, short.stop_price - short.reference_price)


def test_negative_expected_funding_is_not_counted_as_income() -> None:
    received = ExecutionParams(funding_rate_expected=-0.0001)
    setup = build_setup(PositionSide.LONG, 100.0, 2.0, 0.6, 0.6, received)
    assert setup.cost == build_setup(PositionSide.LONG, 100.0, 2.0, 0.6, 0.6, EXECUTION).cost


@pytest.mark.parametrize(("price", "atr"), [(0.0, 1.0), (100.0, 0.0), (100.0, math.nan), (math.nan, 1.0)])
def test_set_up_without_a_price_or_atr_is_an_error(price: float, atr: float) -> None:
    with pytest.raises(ValueError, match="positive price and ATR"):
        build_setup(PositionSide.LONG, price, atr, 0.6, 0.6, EXECUTION)
