"""How much to trade: risk per trade, scaled by confidence, reduced by the caps.

One compiled function serves backtest, replay and the order path; `decide_size` is its typed face.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from numba import njit

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.risk.limits import RiskLimits


class Outcome(StrEnum):
    """What a risk rule says about an order."""

    ALLOW = "ALLOW"
    REDUCE = "REDUCE"
    REFUSE = "REFUSE"


_RULES = (
    "none",
    "margin_per_trade",
    "margin_per_symbol",
    "margin_per_direction",
    "liquidation_too_close",
    "below_minimum",
    "no_equity",
)
_NONE, _PER_TRADE, _PER_SYMBOL, _PER_DIRECTION, _LIQUIDATION, _MINIMUM, _NO_EQUITY = range(len(_RULES))


@njit(cache=True)
def round_down_to_step(quantity: float, step: float) -> float:
    """Largest multiple of `step` not above `quantity`, forgiving the last bits of binary fractions; 0 = no step."""
    if step <= 0.0:
        return quantity
    units = math.floor(quantity / step * (1.0 + 1e-14) + 1e-9)
    # A step such as 0.001 has an exact inverse: dividing by it gives the decimal's nearest float, multiplying may not.
    inverse = round(1.0 / step)
    if inverse > 0 and abs(inverse * step - 1.0) < 1e-12:
        return units / inverse
    return units * step


@njit(cache=True)
def size_position(
    reference: float,
    stop: float,
    confidence: float,
    equity: float,
    symbol_margin: float,
    direction_margin: float,
    quantity_step: float,
    min_quantity: float,
    min_notional: float,
    round_trip_cost: float,
    leverage: float,
    maintenance_margin_rate: float,
    risk_per_trade: float,
    confidence_floor: float,
    min_scale: float,
    per_trade: float,
    per_symbol: float,
    per_direction: float,
    liquidation_buffer: float,
) -> tuple[float, int]:
    """Quantity and the index of the rule that bound it (see `_RULES`); 0 where the trade is refused."""
    if equity <= 0.0:
        return 0.0, _NO_EQUITY
    distance = abs(reference - stop)
    if reference * (1.0 / leverage - maintenance_margin_rate) < liquidation_buffer * distance:
        return 0.0, _LIQUIDATION
    scale = min(max((confidence - confidence_floor) / (1.0 - confidence_floor), min_scale), 1.0)
    quantity = risk_per_trade * equity * scale / (reference * (distance / reference + round_trip_cost))
    margin, rule = quantity * reference / leverage, _NONE
    if margin > per_trade * equity:
        margin, rule = per_trade * equity, _PER_TRADE
    if margin > per_symbol * equity - symbol_margin:
        margin, rule = per_symbol * equity - symbol_margin, _PER_SYMBOL
    if margin > per_direction * equity - direction_margin:
        margin, rule = per_direction * equity - direction_margin, _PER_DIRECTION
    if margin <= 0.0:
        return 0.0, rule
    if rule != _NONE:
        quantity = margin * leverage / reference
    quantity = round_down_to_step(quantity, quantity_step)
    if quantity <= 0.0 or quantity < min_quantity or quantity * reference < min_notional:
        return 0.0, _MINIMUM if rule == _NONE else rule
    return quantity, rule


@dataclass(frozen=True)
class SizingDecision:
    """The size of a trade, which rule bound it, and the numbers it was made from.

    Attributes
    ----------
    quantity : float
        In base currency; 0 when refused.
    margin : float
        In quote currency at the reference price.
    """

    outcome: Outcome
    rule: str
    quantity: float
    margin: float
    numbers: dict[str, float]


def decide_size(
    *,
    reference_price: float,
    stop_price: float,
    confidence: float,
    equity: float,
    symbol_margin: float,
    direction_margin: float,
    execution: ExecutionParams,
    limits: RiskLimits,
    quantity_step: float = 0.0,
    min_quantity: float = 0.0,
    min_notional: float = 0.0,
) -> SizingDecision:
    """Size one trade.

    ``quantity = r·E·g / (ref·(|ref − SL|/ref + costs))`` with the risk per trade r, marked equity E and
    ``g = clip((confidence − c_min)/(1 − c_min), g_min, 1)``; the caps on margin reduce it, what is left is rounded down
    to the venue's step. A stop too near the liquidation price, or less than the venue's minimum, is refused.

    Parameters
    ----------
    symbol_margin, direction_margin : float
        Margin bound at this moment in the same symbol and in the same direction, in quote currency.
    """
    quantity, rule = size_position(
        reference_price, stop_price, confidence, equity, symbol_margin, direction_margin,
        quantity_step, min_quantity, min_notional,
        execution.round_trip_cost, execution.leverage, execution.maintenance_margin_rate,
        limits.risk_per_trade, limits.confidence_floor, limits.min_confidence_scale,
        limits.max_margin_per_trade, limits.max_margin_per_symbol, limits.max_margin_per_direction,
        limits.liquidation_buffer,
    )  # fmt: skip
    refused = quantity == 0.0
    outcome = Outcome.REFUSE if refused else Outcome.ALLOW if rule == _NONE else Outcome.REDUCE
    return SizingDecision(
        outcome=outcome,
        rule=_RULES[rule],
        quantity=quantity,
        margin=quantity * reference_price / execution.leverage,
        numbers={
            "equity": equity,
            "confidence": confidence,
            "stop_distance": abs(reference_price - stop_price) / reference_price,
            "symbol_margin": symbol_margin,
            "direction_margin": direction_margin,
            "min_quantity": min_quantity,
            "min_notional": min_notional,
        },
    )
