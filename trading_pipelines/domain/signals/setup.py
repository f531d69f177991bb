"""The complete trade set-up of one side: levels, expected profit and cost.

Belongs here: the arithmetic of set-ups from price, ATR and probability. Does not belong here: whether one is good
enough (`domain.signals.gates`), how large it becomes (`domain.risk.sizing`), and rounding to the venue's price step,
which happens at the order boundary.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide

Floats = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Setups:
    """Many set-ups, one per row; the fields are those of `TradeSetup`, NaN where there is none.

    Attributes
    ----------
    side : array of int8
        +1 long, -1 short, 0 where nothing was proposed.
    targets : array of float [rows, 3]
    """

    side: npt.NDArray[np.int8]
    reference_price: Floats
    atr: Floats
    stop_price: Floats
    targets: Floats
    probability: Floats
    confidence: Floats
    gross_profit: Floats
    cost: float
    net_profit: Floats
    expected_value: Floats
    risk_reward: Floats

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """Where everything about the set-up is known."""
        return np.isfinite(self.stop_price) & np.isfinite(self.probability) & np.isfinite(self.confidence)

    def row(self, i: int) -> TradeSetup | None:
        """One set-up, None where there is none."""
        if not self.complete[i]:
            return None
        tp1, tp2, tp3 = self.targets[i].tolist()
        return TradeSetup(
            side=PositionSide.LONG if self.side[i] > 0 else PositionSide.SHORT,
            reference_price=float(self.reference_price[i]),
            atr=float(self.atr[i]),
            stop_price=float(self.stop_price[i]),
            targets=(tp1, tp2, tp3),
            probability=float(self.probability[i]),
            confidence=float(self.confidence[i]),
            gross_profit=float(self.gross_profit[i]),
            cost=self.cost,
            net_profit=float(self.net_profit[i]),
            expected_value=float(self.expected_value[i]),
            risk_reward=float(self.risk_reward[i]),
        )


def build_setups(
    side: npt.NDArray[np.int8],
    reference_price: Floats,
    atr: Floats,
    probability: Floats,
    confidence: Floats,
    execution: ExecutionParams,
) -> Setups:
    """Build the set-ups at the closes of bars; all arrays have one row per set-up.

    Parameters
    ----------
    side : array of int8
        +1, -1, or 0 for no proposal.
    reference_price, atr : array of float
        Close and ATR(14) of the signal timeframe at that bar, in quote currency. Without both, positive, there is no
        set-up.

    Notes
    -----
    Section "Expected profit" of the execution model. With distances in fractions of the reference price: gross =
    Σ weight·target distance; cost = fees and slippage of entry and exit plus the expected funding, a cost for both
    sides because its sign may turn before it is due; net = gross − cost;
    expected value = p·net − (1 − p)·(stop distance + cost).
    """
    possible = (side != 0) & (reference_price > 0) & (atr > 0)
    price, range_ = (np.where(possible, values, np.nan) for values in (reference_price, atr))
    stop_distance = execution.stop_atr * range_ / price
    gross = sum(
        (
            w * (multiple * range_ / price)
            for w, multiple in zip(execution.target_weights, execution.target_atr, strict=True)
        ),
        np.zeros(len(side)),
    )
    cost = execution.round_trip_cost + execution.expected_funding_cost
    sign = side.astype(np.float64)
    return Setups(
        side=side,
        reference_price=price,
        atr=range_,
        stop_price=price - sign * execution.stop_atr * range_,
        targets=np.column_stack([price + sign * multiple * range_ for multiple in execution.target_atr]),
        probability=probability,
        confidence=confidence,
        gross_profit=gross,
        cost=cost,
        net_profit=gross - cost,
        expected_value=probability * (gross - cost) - (1 - probability) * (stop_distance + cost),
        risk_reward=gross / stop_distance,
    )


def build_setup(
    side: PositionSide,
    reference_price: float,
    atr: float,
    probability: float,
    confidence: float,
    execution: ExecutionParams,
) -> TradeSetup:
    """Build one set-up, as `build_setups` does.

    Raises
    ------
    ValueError
        If price or ATR is not positive.
    """
    price, range_, p, belief = (np.array([value]) for value in (reference_price, atr, probability, confidence))
    setup = build_setups(np.array([side.sign], np.int8), price, range_, p, belief, execution).row(0)
    if setup is None:
        raise ValueError(f"a set-up needs a positive price and ATR, not {reference_price} and {atr}")
    return setup
