"""When a person should look at an open position or at the account.

Belongs here: the arithmetic of warnings. Does not belong here: who is told and how often, and anything that acts on its
own (stops and liquidations are orders of the exchange, limits are `domain.risk.rules`).
"""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, Field, model_validator

from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.limits import RiskLimits


class AlertThresholds(BaseModel, frozen=True, extra="forbid"):
    """From which point on a position or an account is worth a warning."""

    margin_ratio_warning: float = Field(default=0.8, gt=0, le=1)
    """Margin ratio of a position below which it warns."""
    margin_ratio_critical: float = Field(default=0.5, gt=0, le=1)
    near_liquidation: float = Field(default=0.25, gt=0, lt=1)
    """What is left of the way from liquidation to entry, as a fraction of it."""
    near_stop: float = Field(default=0.25, gt=0, lt=1)
    """What is left to the stop, in units of the first stop's distance (R)."""
    near_limit: float = Field(default=0.8, gt=0, le=1)
    """Share of the daily loss or drawdown limit that is used up."""

    @model_validator(mode="after")
    def _check_order(self) -> "AlertThresholds":
        if self.margin_ratio_critical > self.margin_ratio_warning:
            raise ValueError("margin_ratio_critical must not be above margin_ratio_warning")
        return self


class Level(StrEnum):
    """How urgent it is."""

    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


@dataclass(frozen=True)
class Alert:
    """One finding with what it saw and where it starts; `kind` is stable, so that an alert is raised once."""

    kind: str
    level: Level
    value: float
    threshold: float


@dataclass(frozen=True)
class WatchedPosition:
    """An open position at a mark price, in quote currency.

    Attributes
    ----------
    margin : float
        Entry margin times what is left of the position.
    stop_price : float or None
        The stop that works, None without one.
    initial_stop_price : float or None
        The first one, whose distance from the entry is R.
    """

    side: PositionSide
    quantity: float
    entry_price: float
    margin: float
    liquidation_price: float
    mark_price: float
    stop_price: float | None = None
    initial_stop_price: float | None = None


def margin_ratio(position: WatchedPosition) -> float:
    """Margin and unrealised result over the margin: 1 at the entry, falling with every loss.

    An isolated position is liquidated at maintenance rate times leverage: 2.5 % at the default of 5.
    """
    unrealised = position.side.sign * position.quantity * (position.mark_price - position.entry_price)
    return (position.margin + unrealised) / position.margin if position.margin > 0 else 0.0


def liquidation_distance(position: WatchedPosition) -> float:
    """What is left of the way from the liquidation price to the entry: 1 at the entry, 0 at liquidation."""
    return _left(position.side, position.mark_price, position.liquidation_price, position.entry_price)


def stop_distance(position: WatchedPosition) -> float | None:
    """What is left of the way to the working stop, in units of the way from the first stop to the entry (R).

    None without a stop.
    """
    first, stop = position.initial_stop_price, position.stop_price
    if stop is None or first is None or first == position.entry_price:
        return None
    way = abs(position.entry_price - first)
    return position.side.sign * (position.mark_price - stop) / way


def position_alerts(position: WatchedPosition, thresholds: AlertThresholds) -> tuple[Alert, ...]:
    """What a position gives reason to say, the most urgent first."""
    found = list[Alert]()
    ratio = margin_ratio(position)
    if ratio < thresholds.margin_ratio_critical:
        found.append(Alert("margin_ratio", Level.CRITICAL, ratio, thresholds.margin_ratio_critical))
    elif ratio < thresholds.margin_ratio_warning:
        found.append(Alert("margin_ratio", Level.WARNING, ratio, thresholds.margin_ratio_warning))
    near = liquidation_distance(position)
    if near <= thresholds.near_liquidation:
        found.append(Alert("near_liquidation", Level.CRITICAL, near, thresholds.near_liquidation))
    left = stop_distance(position)
    if left is not None and left <= thresholds.near_stop:
        found.append(Alert("near_stop", Level.WARNING, left, thresholds.near_stop))
    return tuple(sorted(found, key=lambda alert: alert.level is not Level.CRITICAL))


def account_alerts(
    daily_loss: float, drawdown: float, limits: RiskLimits, thresholds: AlertThresholds
) -> tuple[Alert, ...]:
    """What the losses of an account give reason to say: near a limit a warning, at the limit critical."""
    found = list[Alert]()
    for kind, value, limit in (
        ("daily_loss", daily_loss, limits.max_daily_loss),
        ("drawdown", drawdown, limits.max_drawdown_new_trades),
    ):
        if value >= limit:
            found.append(Alert(kind, Level.CRITICAL, value, limit))
        elif value >= thresholds.near_limit * limit:
            found.append(Alert(kind, Level.WARNING, value, thresholds.near_limit * limit))
    return tuple(sorted(found, key=lambda alert: alert.level is not Level.CRITICAL))


def _left(side: PositionSide, price: float, from_: float, to: float) -> float:
    way = side.sign * (to - from_)
    return side.sign * (price - from_) / way if way > 0 else 0.0
