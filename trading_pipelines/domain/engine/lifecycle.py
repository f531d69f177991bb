"""The life of one position as compiled pure functions, the same for backtest, replay, paper exchange and monitor.

`on_bar` is what an exchange does while the market moves (funding, pending exits, stop, liquidation, targets),
`at_close` what the monitor decides at the close of a bar (break-even and trailing stop). Both change a position held as
one vector of floats and append to a table of events. Everything that a driver must not decide differently is here; when
to enter and how much belongs to `domain.signals` and `domain.risk`.

A tick is a bar with four equal prices. Within a bar the worst case is taken first: the order of the rules is the order
of the code.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide

Vector = npt.NDArray[np.float64]

# Position vector.
SIDE, QUANTITY, QUANTITY_INITIAL, ENTRY, MARGIN, LIQUIDATION, STOP = 0, 1, 2, 3, 4, 5, 6
TP1, TARGET_QUANTITY1, TP1_FILLED, EXIT_PENDING = 7, 10, 13, 14
POSITION_FIELDS = 15

# Parameter vector.
P_FEE, P_SLIPPAGE, P_LEVERAGE, P_MMR, P_TRAIL = 0, 1, 2, 3, 4
PARAM_FIELDS = 5

# Event row.
E_KIND, E_QUANTITY, E_REFERENCE, E_PRICE, E_FEE, E_PNL = 0, 1, 2, 3, 4, 5
EVENT_FIELDS = 6
MAX_EVENTS = 8


class EventKind(IntEnum):
    """What happened to a position."""

    FUNDING = 0
    ENTRY = 1
    TP1 = 2
    TP2 = 3
    TP3 = 4
    STOP = 5
    LIQUIDATION = 6
    EXIT = 7
    STOP_MOVED = 8


_FUNDING, _ENTRY, _TP1, _STOP = int(EventKind.FUNDING), int(EventKind.ENTRY), int(EventKind.TP1), int(EventKind.STOP)
_LIQUIDATION, _EXIT, _STOP_MOVED = int(EventKind.LIQUIDATION), int(EventKind.EXIT), int(EventKind.STOP_MOVED)


@njit(cache=True)
def _record(
    events: Vector, n: int, kind: int, quantity: float, reference: float, price: float, fee: float, pnl: float
) -> int:
    events[n, E_KIND] = kind
    events[n, E_QUANTITY] = quantity
    events[n, E_REFERENCE] = reference
    events[n, E_PRICE] = price
    events[n, E_FEE] = fee
    events[n, E_PNL] = pnl
    return n + 1


@njit(cache=True)
def _close(pos: Vector, quantity: float, reference: float, kind: int, params: Vector, events: Vector, n: int) -> int:
    """Sell (or buy back) `quantity` at `reference` less slippage."""
    price = reference * (1.0 - pos[SIDE] * params[P_SLIPPAGE])
    pnl = pos[SIDE] * quantity * (price - pos[ENTRY])
    pos[QUANTITY] = 0.0 if quantity >= pos[QUANTITY] else pos[QUANTITY] - quantity
    return _record(events, n, kind, quantity, reference, price, params[P_FEE] * quantity * price, pnl)


@njit(cache=True)
def _liquidate(pos: Vector, events: Vector, n: int) -> int:
    """The exchange takes the margin of what is open."""
    quantity = pos[QUANTITY]
    lost = pos[MARGIN] * (quantity / pos[QUANTITY_INITIAL])
    pos[QUANTITY] = 0.0
    return _record(events, n, _LIQUIDATION, quantity, pos[LIQUIDATION], pos[LIQUIDATION], 0.0, -lost)


@njit(cache=True)
def _beyond(pos: Vector, price: float, level: float) -> bool:
    """Whether `price` is at or past `level` in the direction that hurts."""
    return pos[SIDE] * (price - level) <= 0.0


@njit(cache=True)
def _gap(pos: Vector, open_: float, params: Vector, events: Vector, n: int) -> int:
    """The bar opens at or beyond stop or liquidation price."""
    if not _beyond(pos, open_, pos[STOP]):
        return n
    if _beyond(pos, open_, pos[LIQUIDATION]):
        return _liquidate(pos, events, n)
    return _close(pos, pos[QUANTITY], open_, _STOP, params, events, n)


@njit(cache=True)
def enter(
    pos: Vector,
    side: float,
    quantity: float,
    open_: float,
    stop: float,
    targets: Vector,
    target_quantities: Vector,
    params: Vector,
    events: Vector,
    n: int,
) -> int:
    """Open a position at `open_` plus slippage; one that opens at or beyond its own stop is closed at once."""
    price = open_ * (1.0 + side * params[P_SLIPPAGE])
    pos[SIDE] = side
    pos[QUANTITY] = quantity
    pos[QUANTITY_INITIAL] = quantity
    pos[ENTRY] = price
    pos[MARGIN] = quantity * price / params[P_LEVERAGE]
    pos[LIQUIDATION] = price * (1.0 - side * (1.0 / params[P_LEVERAGE] - params[P_MMR]))
    pos[STOP] = stop
    for k in range(3):
        pos[TP1 + k] = targets[k]
        pos[TARGET_QUANTITY1 + k] = target_quantities[k]
    pos[TP1_FILLED] = 0.0
    pos[EXIT_PENDING] = 0.0
    n = _record(events, n, _ENTRY, quantity, open_, price, params[P_FEE] * quantity * price, 0.0)
    return _gap(pos, open_, params, events, n)


@njit(cache=True)
def at_open(pos: Vector, open_: float, funding_price: float, params: Vector, events: Vector, n: int) -> int:
    """Apply what happens to an open position at the open: funding, a decided exit, a gap through the stop.

    `funding_price` is Σ rate·mark over the funding that fell due since the previous open.
    """
    if funding_price != 0.0:
        paid = pos[SIDE] * pos[QUANTITY] * funding_price
        n = _record(events, n, _FUNDING, pos[QUANTITY], open_, open_, 0.0, -paid)
    if pos[EXIT_PENDING] != 0.0:
        pos[EXIT_PENDING] = 0.0
        return _close(pos, pos[QUANTITY], open_, _EXIT, params, events, n)
    return _gap(pos, open_, params, events, n)


@njit(cache=True)
def inside(pos: Vector, open_: float, high: float, low: float, params: Vector, events: Vector, n: int) -> int:
    """Apply what happens between open and close: liquidation, else stop, else the targets that were reached."""
    worst = low if pos[SIDE] > 0.0 else high
    best = high if pos[SIDE] > 0.0 else low
    if _beyond(pos, worst, pos[LIQUIDATION]) and pos[SIDE] * (pos[LIQUIDATION] - pos[STOP]) > 0.0:
        return _liquidate(pos, events, n)
    if _beyond(pos, worst, pos[STOP]):
        return _close(pos, pos[QUANTITY], pos[STOP], _STOP, params, events, n)
    for k in range(3):
        quantity = pos[TARGET_QUANTITY1 + k]
        target = pos[TP1 + k]
        if quantity > 0.0 and pos[SIDE] * (best - target) >= 0.0:
            reference = open_ if pos[SIDE] * (open_ - target) >= 0.0 else target
            pos[TARGET_QUANTITY1 + k] = 0.0
            if k == 0:
                pos[TP1_FILLED] = 1.0
            closing = pos[QUANTITY] if k == 2 else quantity
            n = _close(pos, closing, reference, _TP1 + k, params, events, n)
    return n


@njit(cache=True)
def on_bar(
    pos: Vector, open_: float, high: float, low: float, funding_price: float, params: Vector, events: Vector
) -> int:
    """Let one bar pass over an open position; returns how many rows of `events` were written."""
    n = at_open(pos, open_, funding_price, params, events, 0)
    if pos[QUANTITY] > 0.0:
        n = inside(pos, open_, high, low, params, events, n)
    return n


@njit(cache=True)
def trailed_stop(pos: Vector, close: float, atr: float, params: Vector) -> float:
    """The stop after this close: once TP1 is filled the better of break-even and trail, and never back."""
    stop = pos[STOP]
    if pos[TP1_FILLED] == 0.0:
        return stop
    side = pos[SIDE]
    candidate = pos[ENTRY] * (1.0 + side * 2.0 * (params[P_FEE] + params[P_SLIPPAGE]))
    if atr == atr:
        trail = close - side * params[P_TRAIL] * atr
        candidate = max(candidate, trail) if side > 0.0 else min(candidate, trail)
    return max(stop, candidate) if side > 0.0 else min(stop, candidate)


@njit(cache=True)
def at_close(pos: Vector, close: float, atr: float, params: Vector, events: Vector, n: int) -> int:
    """Move the stop at a bar's close; it is in force from the next bar on."""
    stop = trailed_stop(pos, close, atr, params)
    if stop == pos[STOP]:
        return n
    pos[STOP] = stop
    return _record(events, n, _STOP_MOVED, pos[QUANTITY], close, stop, 0.0, 0.0)


@lru_cache(maxsize=32)
def _params_tuple(params: ExecutionParams) -> tuple[float, ...]:
    return (
        params.taker_fee_rate,
        params.slippage_rate,
        params.leverage,
        params.maintenance_margin_rate,
        params.trail_atr,
    )


def params_vector(params: ExecutionParams, leverage: float | None = None) -> Vector:
    """The parameters as the compiled functions take them; `leverage` replaces the default of the session."""
    vector = np.array(_params_tuple(params))
    if leverage is not None:
        vector[P_LEVERAGE] = leverage
    return vector


@dataclass(frozen=True)
class LifecycleEvent:
    """One thing that happened to a position.

    Attributes
    ----------
    reference_price, price : float
        Before and after slippage; for STOP_MOVED the close and the new stop.
    fee : float
        In quote currency.
    pnl : float
        Price result in quote currency before fees; for FUNDING what was received (negative: paid).
    """

    kind: EventKind
    quantity: float
    reference_price: float
    price: float
    fee: float
    pnl: float


@dataclass(frozen=True)
class PositionState:
    """One position in the terms of a person; quantities in base, prices and margin in quote currency.

    Attributes
    ----------
    target_quantities : tuple of float
        What each target still closes; 0 once it is filled.
    tp1_filled : bool
        From then on the stop trails.
    exit_pending : bool
        The rest is closed at the next open.
    """

    side: PositionSide
    quantity: float
    quantity_initial: float
    entry_price: float
    entry_margin: float
    liquidation_price: float
    stop_price: float
    targets: tuple[float, float, float]
    target_quantities: tuple[float, float, float]
    tp1_filled: bool = False
    exit_pending: bool = False

    @property
    def is_open(self) -> bool:
        """Whether anything is left of it."""
        return self.quantity > 0

    def _vector(self) -> Vector:
        return np.array(
            (
                self.side.sign,
                self.quantity,
                self.quantity_initial,
                self.entry_price,
                self.entry_margin,
                self.liquidation_price,
                self.stop_price,
                *self.targets,
                *self.target_quantities,
                self.tp1_filled,
                self.exit_pending,
            ),
            dtype=np.float64,
        )

    def _updated(self, pos: Vector) -> "PositionState":
        q1, q2, q3 = (float(q) for q in pos[TARGET_QUANTITY1 : TARGET_QUANTITY1 + 3])
        return replace(
            self,
            quantity=float(pos[QUANTITY]),
            stop_price=float(pos[STOP]),
            target_quantities=(q1, q2, q3),
            tp1_filled=bool(pos[TP1_FILLED]),
            exit_pending=bool(pos[EXIT_PENDING]),
        )


def open_position(
    side: PositionSide,
    quantity: float,
    open_price: float,
    stop_price: float,
    targets: tuple[float, float, float],
    target_quantities: tuple[float, float, float],
    params: ExecutionParams,
    leverage: float | None = None,
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Fill an entry at `open_price`; an entry at or beyond its own stop comes back closed."""
    pos, events = np.zeros(POSITION_FIELDS), np.empty((MAX_EVENTS, EVENT_FIELDS))
    n = enter(
        pos, float(side.sign), quantity, open_price, stop_price, np.array(targets), np.array(target_quantities),
        params_vector(params, leverage), events, 0,
    )  # fmt: skip
    state = PositionState(
        side=side,
        quantity=quantity,
        quantity_initial=quantity,
        entry_price=float(pos[ENTRY]),
        entry_margin=float(pos[MARGIN]),
        liquidation_price=float(pos[LIQUIDATION]),
        stop_price=stop_price,
        targets=targets,
        target_quantities=target_quantities,
    )
    return state._updated(pos), _events(events, n)


def step_bar(
    state: PositionState, open_: float, high: float, low: float, funding_price: float, params: ExecutionParams
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Let one bar or tick pass over an open position."""
    pos, events = state._vector(), np.empty((MAX_EVENTS, EVENT_FIELDS))
    n = on_bar(pos, open_, high, low, funding_price, params_vector(params), events)
    return state._updated(pos), _events(events, n)


def step_inside(
    state: PositionState, open_: float, high: float, low: float, params: ExecutionParams
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Let the rest of a bar pass over a position that was opened at its open."""
    pos, events = state._vector(), np.empty((MAX_EVENTS, EVENT_FIELDS))
    n = inside(pos, open_, high, low, params_vector(params), events, 0)
    return state._updated(pos), _events(events, n)


def step_close(state: PositionState, close: float, atr: float, params: ExecutionParams) -> PositionState:
    """Move the stop at the close of a bar, where the rules say so."""
    return replace(state, stop_price=float(trailed_stop(state._vector(), close, atr, params_vector(params))))


def ladder_quantities(
    quantity: float, weights: tuple[float, float, float], quantity_step: float
) -> tuple[float, float, float]:
    """Split a quantity over the targets: each rounded down to the step, the last takes the rest."""
    from trading_pipelines.domain.risk.sizing import round_down_to_step

    first = round_down_to_step(quantity * weights[0], quantity_step)
    second = round_down_to_step(quantity * weights[1], quantity_step)
    return first, second, quantity - first - second


def _events(table: npt.NDArray[Any], n: int) -> tuple[LifecycleEvent, ...]:
    return tuple(LifecycleEvent(EventKind(int(row[E_KIND])), *(float(v) for v in row[1:])) for row in table[:n])
