"""The life of one position, for callers that hold one at a time: paper exchange, replay and monitor.

Belongs here: the typed face of the compiled steps. Does not belong here: the rules themselves
(`domain.engine.kernel`, which the backtest calls directly), when to enter (`domain.signals`) and how much
(`domain.risk`).

`open_position`, `step_bar` and `step_inside` are what an exchange does while the market moves, `step_close` what the
monitor decides at the close of a bar. A tick is a bar with four equal prices. A state is plain numbers, so it can be
rebuilt from stored orders and positions at any time.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

import numpy as np

from trading_pipelines.domain.engine import kernel
from trading_pipelines.domain.engine.kernel import Floats
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide

Triple = tuple[float, float, float]

_MICROSECONDS_PER_HOUR = 3_600_000_000


class EventKind(IntEnum):
    """What happened to a position; the codes are those of the compiled steps."""

    FUNDING = kernel.FUNDING
    ENTRY = kernel.ENTERED
    TP1 = kernel.TP1
    TP2 = kernel.TP2
    TP3 = kernel.TP3
    STOP = kernel.STOPPED
    LIQUIDATION = kernel.LIQUIDATED
    EXIT = kernel.EXITED


@dataclass(frozen=True)
class LifecycleEvent:
    """One thing that happened to a position.

    Attributes
    ----------
    kind : EventKind
        An addition is an ENTRY as well.
    reference_price, price : float
        Before and after slippage.
    fee : float
        In quote currency.
    pnl : float
        Price result in quote currency before fees; for FUNDING what was received (negative: paid), for
        LIQUIDATION minus the margin of what was open.
    """

    kind: EventKind
    quantity: float
    reference_price: float
    price: float
    fee: float
    pnl: float


@dataclass(frozen=True)
class PositionState:
    """One position between two market events; quantities in base, prices and margin in quote currency.

    Attributes
    ----------
    entry_price : float
        Fill price, slippage included.
    entry_margin : float
        Isolated margin of `quantity_initial`; what is bound now is its remaining share.
    stop_price : float
        0 or infinity, whichever no price reaches, for a position without a stop.
    target_quantities : tuple of float
        What each target still closes; 0 once it is filled.
    tp1_filled : bool
        From then on the stop trails. Where the venue's step leaves TP1 nothing to close, a later target counts.
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
    targets: Triple
    target_quantities: Triple
    tp1_filled: bool = False
    exit_pending: bool = False

    @property
    def is_open(self) -> bool:
        """Whether anything is left of it."""
        return self.quantity > 0

    def unrealised_pnl(self, price: float) -> float:
        """Result of closing at `price` without costs (rule 8)."""
        return self.side.sign * self.quantity * (price - self.entry_price)


def open_position(
    side: PositionSide,
    quantity: float,
    open_price: float,
    stop_price: float,
    targets: Triple,
    target_quantities: Triple,
    params: ExecutionParams,
    leverage: float | None = None,
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Fill an entry at `open_price` worsened by slippage (rule 4).

    One that opens at or beyond its own stop comes back closed; on one that is open the rest of the bar acts by
    `step_inside`. `leverage` replaces that of the parameters.
    """
    packed = pack_execution(params)
    if leverage is not None:
        packed = packed.copy()
        packed[kernel.P_LEVERAGE] = leverage
    order = PositionState(side, quantity, quantity, 0.0, 0.0, 0.0, stop_price, targets, target_quantities)
    book, events = _book(order), _event_rows()
    n = kernel.enter(book, 0, open_price, packed, events, 0)
    state = replace(
        order,
        entry_price=float(book[0, kernel.ENTRY]),
        entry_margin=float(book[0, kernel.MARGIN]),
        liquidation_price=float(book[0, kernel.LIQUIDATION]),
    )
    return _updated(state, book), _events(events, n)


def step_bar(
    state: PositionState, open_: float, high: float, low: float, funding_price: float, params: ExecutionParams
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Let one bar or tick pass over a position that was open before it (rules 1 to 6).

    Parameters
    ----------
    funding_price : float
        Σ rate·mark over the funding due in (previous open, this open]; the open stands in for an unknown mark.

    Raises
    ------
    ValueError
        If nothing is open.
    """
    _require_open(state)
    book, events = _book(state), _event_rows()
    n = kernel.on_bar(book, 0, open_, high, low, funding_price, state.exit_pending, pack_execution(params), events, 0)
    return _updated(state, book), _events(events, n)


def step_inside(
    state: PositionState, open_: float, high: float, low: float, params: ExecutionParams
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Let the rest of a bar pass over a position that was opened at its open (rules 5 and 6)."""
    _require_open(state)
    book, events = _book(state), _event_rows()
    n = kernel.inside(book, 0, open_, high, low, pack_execution(params), events, 0)
    return _updated(state, book), _events(events, n)


def add_to_position(
    state: PositionState,
    quantity: float,
    open_price: float,
    stop_price: float,
    params: ExecutionParams,
    quantity_step: float = 0.0,
    leverage: float | None = None,
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """Fill an addition at `open_price` worsened by slippage; what the open does to the old position comes first.

    Entry and margin are those of both together, the liquidation price that of the new entry, the better of the two
    stops counts, and the quantity is spread over the targets that still work. If the open is at or beyond that stop,
    all of it comes back closed.

    Raises
    ------
    ValueError
        If nothing is open.
    """
    _require_open(state)
    packed = pack_execution(params)
    if leverage is not None:
        packed = packed.copy()
        packed[kernel.P_LEVERAGE] = leverage
    book, events = _book(state), _event_rows()
    n = kernel.add(book, 0, quantity, stop_price, open_price, quantity_step, packed, events, 0)
    added = replace(
        state,
        quantity_initial=float(book[0, kernel.QUANTITY_INITIAL]),
        entry_price=float(book[0, kernel.ENTRY]),
        entry_margin=float(book[0, kernel.MARGIN]),
        liquidation_price=float(book[0, kernel.LIQUIDATION]),
    )
    return _updated(added, book), _events(events, n)


def spread_addition(targets_left: Triple, quantity: float, weights: Triple, quantity_step: float) -> Triple:
    """What the targets close after an addition: it is spread over those that still work, by their weights.

    `targets_left` is what each target still closes, 0 once it is filled. Each share is rounded down to the step, the
    last working target takes the rest.
    """
    book, packed = np.zeros((1, kernel.BOOK_FIELDS)), np.zeros(kernel.PARAM_FIELDS)
    book[0, kernel.TARGET_QUANTITY : kernel.TARGET_QUANTITY + 3] = targets_left
    packed[kernel.P_TARGET_WEIGHT : kernel.P_TARGET_WEIGHT + 3] = weights
    kernel.split_addition(book, 0, quantity, quantity_step, packed)
    row: list[float] = book[0].tolist()
    return row[kernel.TARGET_QUANTITY], row[kernel.TARGET_QUANTITY + 1], row[kernel.TARGET_QUANTITY + 2]


def gap_at_open(
    state: PositionState, open_price: float, funding_price: float, params: ExecutionParams
) -> tuple[PositionState, tuple[LifecycleEvent, ...]]:
    """What an open does to a position before an addition fills there: funding, then the stop (rules 1 and 3).

    Raises
    ------
    ValueError
        If nothing is open.
    """
    _require_open(state)
    book, events, n = _book(state), _event_rows(), 0
    if funding_price != 0.0:
        n = kernel.pay_funding(book, 0, funding_price, open_price, events, n)
    n = kernel.gap(book, 0, open_price, pack_execution(params), events, n)
    return _updated(state, book), _events(events, n)


def step_close(
    state: PositionState, close: float, atr: float, params: ExecutionParams, price_step: float = 0.0
) -> PositionState:
    """Move the stop at the close of a bar of the signal timeframe, in force from the next bar on (rule 7).

    Parameters
    ----------
    atr : float
        ATR(14) of this bar; NaN where it is not known, then only break-even counts.
    price_step : float
        The venue's; a moved stop is the nearest multiple of it, and 0 rounds nothing.
    """
    stop = kernel.trailed_stop(_book(state), 0, close, atr, price_step, pack_execution(params))
    return replace(state, stop_price=float(stop))


def rounded_price(price: float, price_step: float) -> float:
    """The venue's price nearest to a price, as at the order border; step 0 rounds nothing."""
    return float(kernel.round_to_step(price, price_step))


def ladder_quantities(quantity: float, weights: Triple, quantity_step: float) -> Triple:
    """Split a quantity over the targets: each rounded down to the step, the last takes the rest."""
    book, packed = np.zeros((1, kernel.BOOK_FIELDS)), np.zeros(kernel.PARAM_FIELDS)
    book[0, kernel.QUANTITY] = quantity
    packed[kernel.P_TARGET_WEIGHT : kernel.P_TARGET_WEIGHT + 3] = weights
    kernel.split_targets(book, 0, quantity_step, packed)
    row: list[float] = book[0].tolist()
    return row[kernel.TARGET_QUANTITY], row[kernel.TARGET_QUANTITY + 1], row[kernel.TARGET_QUANTITY + 2]


@lru_cache(maxsize=64)
def pack_execution(params: ExecutionParams) -> Floats:
    """The parameters as the compiled functions take them; one array per set of parameters, not to be written to."""
    hours = params.max_holding_hours
    packed = np.empty(kernel.PARAM_FIELDS)
    packed[kernel.P_FEE] = params.taker_fee_rate
    packed[kernel.P_SLIPPAGE] = params.slippage_rate
    packed[kernel.P_LEVERAGE] = params.leverage
    packed[kernel.P_MMR] = params.maintenance_margin_rate
    packed[kernel.P_TRAIL] = params.trail_atr
    packed[kernel.P_STOP_ATR] = params.stop_atr
    packed[kernel.P_TARGET_ATR : kernel.P_TARGET_ATR + 3] = params.target_atr
    packed[kernel.P_TARGET_WEIGHT : kernel.P_TARGET_WEIGHT + 3] = params.target_weights
    packed[kernel.P_MAX_HOLDING] = np.inf if hours is None else hours * _MICROSECONDS_PER_HOUR
    return packed


def _require_open(state: PositionState) -> None:
    if not state.is_open:
        raise ValueError("nothing is open: a closed position has no next bar")


def _event_rows() -> Floats:
    return np.empty((kernel.MAX_EVENTS, kernel.EVENT_FIELDS))


def _events(table: Floats, n: int) -> tuple[LifecycleEvent, ...]:
    return tuple(LifecycleEvent(EventKind(int(kind)), *numbers) for kind, *numbers in table[:n].tolist())


def _book(state: PositionState) -> Floats:
    return np.array(
        [
            (
                state.side.sign,
                state.quantity,
                state.quantity_initial,
                state.entry_price,
                state.entry_margin,
                state.liquidation_price,
                state.stop_price,
                *state.targets,
                *state.target_quantities,
                state.tp1_filled,
            )
        ],
        dtype=np.float64,
    )


def _updated(state: PositionState, book: Floats) -> PositionState:
    row: list[float] = book[0].tolist()
    first = kernel.TARGET_QUANTITY
    return replace(
        state,
        quantity=row[kernel.QUANTITY],
        stop_price=row[kernel.STOP],
        target_quantities=(row[first], row[first + 1], row[first + 2]),
        tp1_filled=row[kernel.TARGET_FILLED] != 0,
        exit_pending=state.exit_pending and row[kernel.QUANTITY] > 0,
    )
