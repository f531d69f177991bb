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

_MICROSECONDS_PER_MINUTE = 60_000_000
_MICROSECONDS_PER_HOUR = 60 * _MICROSECONDS_PER_MINUTE


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
    kernel.FREE_MARGIN: "margin_available",
    kernel.REENTRY: "reentry",
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
    free_cash: float = float("inf"),
    share: float = 1.0,
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
    free_cash : float
        Cash that neither margin nor a waiting entry binds, in quote currency.
    share : float
        Share of the size to take, for a re-entry after a stop.

    Notes
    -----
    ``quantity = r·E·g / (ref·(|ref − SL|/ref + costs))`` with the risk per trade r, marked equity E and
    ``g = clip((confidence − c_min)/(1 − c_min), g_min, 1)``. The smallest cap on margin reduces it, free cash among
    them (margin and entry fee are to be paid from it); of what is left the share is taken and rounded down to the
    venue's step. Refused are a stop too near the liquidation price, nothing left below a cap,
    and less than the venue's minimum.
    """
    quantity, code = kernel.size_position(
        reference_price,
        stop_price,
        confidence,
        equity,
        symbol_margin,
        direction_margin,
        free_cash,
        share,
        quantity_step,
        min_quantity,
        min_notional,
        pack_execution(execution),
        pack_limits(limits),
    )
    packed = pack_execution(execution), pack_limits(limits)
    wanted = kernel.risk_quantity(reference_price, stop_price, confidence, equity, *packed)
    smallest = max(min_quantity * reference_price, min_notional, quantity_step * reference_price)
    return SizingDecision(
        outcome=_outcome(quantity, code),
        rule=SIZING_RULES[code],
        quantity=quantity,
        margin=quantity * reference_price / execution.leverage,
        numbers={
            "equity": equity,
            "confidence": confidence,
            "risk_per_trade": limits.risk_per_trade,
            "wanted_margin": float(wanted) * reference_price / execution.leverage,
            "stop_distance": abs(reference_price - stop_price) / reference_price,
            "round_trip_cost": execution.round_trip_cost,
            "liquidation_distance": 1 / execution.leverage - execution.maintenance_margin_rate,
            "liquidation_buffer": limits.liquidation_buffer,
            "symbol_margin": symbol_margin,
            "symbol_margin_limit": limits.max_margin_per_symbol * equity,
            "direction_margin": direction_margin,
            "direction_margin_limit": limits.max_margin_per_direction * equity,
            "trade_margin_limit": limits.max_margin_per_trade * equity,
            "free_cash": free_cash,
            "payable_margin": float(kernel.payable_margin(free_cash, *packed)),
            "share": share,
            "quantity_step": quantity_step,
            "min_quantity": min_quantity,
            "min_notional": min_notional,
            "smallest_margin": smallest / execution.leverage,
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
    packed[kernel.L_FREE_MARGIN] = limits.require_free_margin
    packed[kernel.L_RISK_REWARD] = -np.inf if limits.min_risk_reward is None else limits.min_risk_reward
    packed[kernel.L_CORRELATION] = np.inf if limits.max_correlation is None else limits.max_correlation
    packed[kernel.L_COOLDOWN] = limits.cooldown_minutes * _MICROSECONDS_PER_MINUTE
    packed[kernel.L_STOP_LOCK] = limits.stop_lock_hours * _MICROSECONDS_PER_HOUR
    packed[kernel.L_GUARD_STOPS] = np.inf if limits.stop_guard_stops is None else limits.stop_guard_stops
    packed[kernel.L_GUARD_WINDOW] = limits.stop_guard_window_hours * _MICROSECONDS_PER_HOUR
    packed[kernel.L_GUARD_LOCK] = limits.stop_guard_lock_hours * _MICROSECONDS_PER_HOUR
    packed[kernel.L_DRAWDOWN_LOCK] = limits.drawdown_lock_hours * _MICROSECONDS_PER_HOUR
    packed[kernel.L_REENTRY] = limits.reentry_scale if limits.reentry else 0.0
    packed[kernel.L_PYRAMID_PROFIT] = limits.pyramid_min_profit if limits.pyramiding else np.inf
    packed[kernel.L_ADDITIONS] = limits.max_additions
    return packed


def _outcome(quantity: float, code: int) -> Outcome:
    if quantity == 0.0:
        return Outcome.REFUSE
    return Outcome.ALLOW if code == kernel.SIZED else Outcome.REDUCE
