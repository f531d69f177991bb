"""How much to trade: risk per trade, scaled by confidence, reduced by the caps on margin.

Belongs here: the typed face of the compiled sizing, which the backtest calls directly
(`domain.engine.kernel.size_position`). Does not belong here: rules that say yes or no (`domain.risk.rules`).
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.engine.kernel import Floats
from trading_pipelines.domain.engine.lifecycle import pack_execution
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.risk.limits import RiskLimits


class Outcome(StrEnum):
    """What a risk rule says about an order."""

    ALLOW = "ALLOW"
    REDUCE = "REDUCE"
    REFUSE = "REFUSE"


SIZING_RULES = {
    kernel.SIZED: "none",
    kernel.PER_TRADE: "margin_per_trade",
    kernel.PER_SYMBOL: "margin_per_symbol",
    kernel.PER_DIRECTION: "margin_per_direction",
    kernel.LIQUIDATION_CLOSE: "liquidation_too_close",
    kernel.BELOW_MINIMUM: "below_minimum",
    kernel.NO_EQUITY: "no_equity",
}
"""Names of the rules by the code that the compiled sizing returns."""


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

    Parameters
    ----------
    equity : float
        Marked equity at the decision.
    symbol_margin, direction_margin : float
        Margin bound at this moment in the same symbol and in the same direction, in quote currency.

    Notes
    -----
    ``quantity = r·E·g / (ref·(|ref − SL|/ref + costs))`` with the risk per trade r, marked equity E and
    ``g = clip((confidence − c_min)/(1 − c_min), g_min, 1)``. The smallest cap on margin reduces it, what is left is
    rounded down to the venue's step. Refused are a stop too near the liquidation price, nothing left below a cap,
    and less than the venue's minimum.
    """
    quantity, code = kernel.size_position(
        reference_price,
        stop_price,
        confidence,
        equity,
        symbol_margin,
        direction_margin,
        quantity_step,
        min_quantity,
        min_notional,
        pack_execution(execution),
        pack_limits(limits),
    )
    return SizingDecision(
        outcome=_outcome(quantity, code),
        rule=SIZING_RULES[code],
        quantity=quantity,
        margin=quantity * reference_price / execution.leverage,
        numbers={
            "equity": equity,
            "confidence": confidence,
            "risk_per_trade": limits.risk_per_trade,
            "stop_distance": abs(reference_price - stop_price) / reference_price,
            "round_trip_cost": execution.round_trip_cost,
            "liquidation_distance": 1 / execution.leverage - execution.maintenance_margin_rate,
            "symbol_margin": symbol_margin,
            "symbol_margin_limit": limits.max_margin_per_symbol * equity,
            "direction_margin": direction_margin,
            "direction_margin_limit": limits.max_margin_per_direction * equity,
            "trade_margin_limit": limits.max_margin_per_trade * equity,
            "quantity_step": quantity_step,
            "min_quantity": min_quantity,
            "min_notional": min_notional,
        },
    )


def round_down_to_step(quantity: float, step: float) -> float:
    """Largest multiple of `step` not above `quantity`, as the float nearest to that decimal; step 0 rounds nothing."""
    return float(kernel.round_down_to_step(quantity, step))


@lru_cache(maxsize=64)
def pack_limits(limits: RiskLimits) -> Floats:
    """The limits as the compiled functions take them; not to be written to."""
    packed = np.empty(kernel.LIMIT_FIELDS)
    packed[kernel.L_RISK] = limits.risk_per_trade
    packed[kernel.L_CONFIDENCE_FLOOR] = limits.confidence_floor
    packed[kernel.L_MIN_SCALE] = limits.min_confidence_scale
    packed[kernel.L_PER_TRADE] = limits.max_margin_per_trade
    packed[kernel.L_PER_SYMBOL] = limits.max_margin_per_symbol
    packed[kernel.L_PER_DIRECTION] = limits.max_margin_per_direction
    packed[kernel.L_BUFFER] = limits.liquidation_buffer
    packed[kernel.L_MAX_POSITIONS] = limits.max_open_positions
    packed[kernel.L_DRAWDOWN_STOP] = limits.max_drawdown_new_trades
    packed[kernel.L_DRAWDOWN_CLOSE] = limits.max_drawdown_close_all
    packed[kernel.L_DAILY_LOSS] = limits.max_daily_loss
    return packed


def _outcome(quantity: float, code: int) -> Outcome:
    if quantity == 0.0:
        return Outcome.REFUSE
    return Outcome.ALLOW if code == kernel.SIZED else Outcome.REDUCE
