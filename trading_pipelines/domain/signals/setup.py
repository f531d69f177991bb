"""The complete trade set-up of one side: levels, expected profit and cost.

Belongs here: the arithmetic of one set-up from price, ATR and probability. Does not belong here: whether it is good
enough (`domain.signals.gates`), how large it becomes (`domain.risk.sizing`), and rounding to the venue's price step,
which happens at the order boundary.
"""

from dataclasses import dataclass

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide


@dataclass(frozen=True)
class TradeSetup:
    """Where to enter, where to leave, and what may be expected of it.

    Attributes
    ----------
    reference_price : float
        Close of the bar at which the set-up was decided.
    targets : tuple of float
        TP1, TP2, TP3.
    probability : float
        Calibrated probability of the set-up's side.
    gross_profit, cost, net_profit, expected_value : float
        Fractions of the notional.
    risk_reward : float
        Gross profit over the stop distance.
    """

    side: PositionSide
    reference_price: float
    atr: float
    stop_price: float
    targets: tuple[float, float, float]
    probability: float
    confidence: float
    gross_profit: float
    cost: float
    net_profit: float
    expected_value: float
    risk_reward: float


def build_setup(
    side: PositionSide,
    reference_price: float,
    atr: float,
    probability: float,
    confidence: float,
    execution: ExecutionParams,
) -> TradeSetup:
    """Build the set-up at a bar's close.

    Parameters
    ----------
    atr : float
        ATR(14) of the signal timeframe at that bar, in quote currency.

    Raises
    ------
    ValueError
        If price or ATR is not positive.

    Notes
    -----
    Section "Expected profit" of the execution model. With distances in fractions of the reference price: gross =
    Σ weight·target distance; cost = fees and slippage of entry and exit plus the expected funding, a cost for both
    sides because its sign may turn before it is due; net = gross − cost;
    expected value = p·net − (1 − p)·(stop distance + cost).
    """
    if not (reference_price > 0 and atr > 0):
        raise ValueError(f"a set-up needs a positive price and ATR, not {reference_price} and {atr}")
    stop_distance = execution.stop_atr * atr / reference_price
    distances = [multiple * atr / reference_price for multiple in execution.target_atr]
    gross = sum(w * d for w, d in zip(execution.target_weights, distances, strict=True))
    cost = execution.round_trip_cost + execution.expected_funding_cost
    tp1, tp2, tp3 = (reference_price + side.sign * multiple * atr for multiple in execution.target_atr)
    return TradeSetup(
        side=side,
        reference_price=reference_price,
        atr=atr,
        stop_price=reference_price - side.sign * execution.stop_atr * atr,
        targets=(tp1, tp2, tp3),
        probability=probability,
        confidence=confidence,
        gross_profit=gross,
        cost=cost,
        net_profit=gross - cost,
        expected_value=probability * (gross - cost) - (1 - probability) * (stop_distance + cost),
        risk_reward=gross / stop_distance,
    )
