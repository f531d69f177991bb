"""Warnings about positions and accounts."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from trading_pipelines.domain.engine.lifecycle import open_position
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.alerts import (
    AlertThresholds,
    Level,
    WatchedPosition,
    account_alerts,
    liquidation_distance,
    margin_ratio,
    position_alerts,
    stop_distance,
)
from trading_pipelines.domain.risk.limits import RiskLimits

THRESHOLDS = AlertThresholds()
LONG = WatchedPosition(PositionSide.LONG, 10.0, 100.0, 200.0, 80.5, 100.0, 90.0, 90.0)
SHORT = WatchedPosition(PositionSide.SHORT, 10.0, 100.0, 200.0, 119.5, 100.0, 110.0, 110.0)


def found(position: WatchedPosition) -> list[tuple[str, Level]]:
    return [(alert.kind, alert.level) for alert in position_alerts(position, THRESHOLDS)]


@pytest.mark.parametrize("position", [LONG, SHORT])
def test_quiet_position_gives_no_alert(position: WatchedPosition) -> None:
    assert margin_ratio(position) == liquidation_distance(position) == stop_distance(position) == 1.0
    assert found(position) == []


@pytest.mark.parametrize("position", [LONG, SHORT])
@pytest.mark.parametrize(
    ("loss", "alerts"),
    [
        (4.0, []),
        (4.1, [("margin_ratio", Level.WARNING)]),
        (7.5, [("margin_ratio", Level.WARNING), ("near_stop", Level.WARNING)]),
        (10.1, [("margin_ratio", Level.CRITICAL), ("near_stop", Level.WARNING)]),
        (
            14.7,
            [("margin_ratio", Level.CRITICAL), ("near_liquidation", Level.CRITICAL), ("near_stop", Level.WARNING)],
        ),
    ],
)
def test_alerts_grow_with_the_loss(position: WatchedPosition, loss: float, alerts: list[tuple[str, Level]]) -> None:
    assert found(replace(position, mark_price=100.0 - position.side.sign * loss)) == alerts


def test_trailed_stop_is_measured_in_the_first_stop_s_distance() -> None:
    trailed = replace(LONG, mark_price=106.0, stop_price=104.0)
    assert stop_distance(trailed) == pytest.approx(0.2)
    assert found(trailed) == [("near_stop", Level.WARNING)]
    assert stop_distance(replace(LONG, stop_price=None)) is None


@pytest.mark.parametrize("side", list(PositionSide))
@pytest.mark.parametrize("leverage", [2.0, 5.0, 50.0])
def test_margin_ratio_at_the_liquidation_price_is_the_maintenance_margin(side: PositionSide, leverage: float) -> None:
    params = ExecutionParams(leverage=leverage)
    stop = 0.0 if side is PositionSide.LONG else float("inf")
    state, _ = open_position(side, 3.0, 100.0, stop, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), params)
    position = WatchedPosition(
        side, 3.0, state.entry_price, state.entry_margin, state.liquidation_price, state.liquidation_price
    )
    assert margin_ratio(position) == pytest.approx(params.maintenance_margin_rate * leverage)
    assert liquidation_distance(position) == 0.0


@pytest.mark.parametrize(
    ("daily_loss", "drawdown", "alerts"),
    [
        (0.0, 0.0, []),
        (0.039, 0.239, []),
        (0.041, 0.0, [("daily_loss", Level.WARNING)]),
        (0.041, 0.30, [("drawdown", Level.CRITICAL), ("daily_loss", Level.WARNING)]),
    ],
)
def test_account_is_warned_before_its_limits(
    daily_loss: float, drawdown: float, alerts: list[tuple[str, Level]]
) -> None:
    told = account_alerts(daily_loss, drawdown, RiskLimits(), THRESHOLDS)
    assert [(alert.kind, alert.level) for alert in told] == alerts


def test_critical_ratio_above_the_warning_is_refused() -> None:
    with pytest.raises(ValidationError, match="must not be above"):
        AlertThresholds(margin_ratio_warning=0.5, margin_ratio_critical=0.6)
