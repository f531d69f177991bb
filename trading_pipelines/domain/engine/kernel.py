"""Everything that is compiled: the life of one position, its size, and the portfolio loop around them.

Belongs here: numba functions over plain arrays. Does not belong here: typed objects, frames and names of rules
(`domain.engine.lifecycle`, `domain.risk.sizing` and `domain.simulation.backtest` are the typed faces).

It is one file on purpose: numba's cache on disk notices a change of the file that holds a function, not of the
files that hold the functions it calls. Spread over several files, an old position step would live on inside a
cached portfolio loop.

A position is one row of a float64 array, the `book`; its columns are named below. Sides are +1 (long) and -1 (short).
Prices are compared after multiplication by the side, which is exact, so one comparison serves both sides. Rule
numbers are those of the execution model.
"""

import math
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Columns of the book.
SIDE = 0
QUANTITY = 1
QUANTITY_INITIAL = 2
ENTRY = 3
MARGIN = 4
LIQUIDATION = 5
STOP = 6
TARGET = 7  # and 8, 9
TARGET_QUANTITY = 10  # and 11, 12: what the target still closes; 0 once it is filled
TARGET_FILLED = 13  # any of them
BOOK_FIELDS = 14

# Columns of an event row.
E_KIND = 0
E_QUANTITY = 1
E_REFERENCE = 2
E_PRICE = 3
E_FEE = 4
E_PNL = 5
EVENT_FIELDS = 6
MAX_EVENTS = 8
"""Rows that one position needs in one bar, at most: funding, entry and three targets, and room to spare."""

# Kinds of events.
FUNDING = 0
ENTERED = 1
TP1 = 2
TP2 = 3
TP3 = 4
STOPPED = 5
LIQUIDATED = 6
EXITED = 7

# Numbers of `ExecutionParams`.
P_FEE = 0
P_SLIPPAGE = 1
P_LEVERAGE = 2
P_MMR = 3
P_TRAIL = 4
P_STOP_ATR = 5
P_TARGET_ATR = 6  # and 7, 8
P_TARGET_WEIGHT = 9  # and 10, 11
P_MAX_HOLDING = 12  # microseconds, inf without a limit
PARAM_FIELDS = 13

# Numbers of `RiskLimits`.
L_RISK = 0
L_CONFIDENCE_FLOOR = 1
L_MIN_SCALE = 2
L_PER_TRADE = 3
L_PER_SYMBOL = 4
L_PER_DIRECTION = 5
L_BUFFER = 6
L_MAX_POSITIONS = 7
L_DRAWDOWN_STOP = 8
L_DRAWDOWN_CLOSE = 9
L_DAILY_LOSS = 10
LIMIT_FIELDS = 11

# What bound or refused a size.
SIZED = 0
PER_TRADE = 1
PER_SYMBOL = 2
PER_DIRECTION = 3
LIQUIDATION_CLOSE = 4
BELOW_MINIMUM = 5
NO_EQUITY = 6


def compiled(function: Any) -> Any:
    """Compile with numba, cached on disk; a division by zero gives inf or NaN, as in NumPy."""
    return cast(Any, numba).njit(function, cache=True, error_model="numpy")  # numba is untyped


@compiled
def _record(
    events: Any, n: int, kind: int, quantity: float, reference: float, price: float, fee: float, pnl: float
) -> int:
    events[n, E_KIND] = kind
    events[n, E_QUANTITY] = quantity
    events[n, E_REFERENCE] = reference
    events[n, E_PRICE] = price
    events[n, E_FEE] = fee
    events[n, E_PNL] = pnl
    return n + 1


@compiled
def _close(book: Any, i: int, quantity: float, reference: float, kind: int, p: Any, events: Any, n: int) -> int:
    """Sell (or buy back) `quantity` at `reference` less slippage."""
    side = book[i, SIDE]
    price = reference * (1.0 - side * p[P_SLIPPAGE])
    pnl = side * quantity * (price - book[i, ENTRY])
    book[i, QUANTITY] -= quantity
    return _record(events, n, kind, quantity, reference, price, p[P_FEE] * (quantity * price), pnl)


@compiled
def _liquidate(book: Any, i: int, events: Any, n: int) -> int:
    """Lose the margin of what is open, and nothing beyond it."""
    quantity = book[i, QUANTITY]
    lost = book[i, MARGIN] * (quantity / book[i, QUANTITY_INITIAL])
    price = book[i, LIQUIDATION]
    book[i, QUANTITY] = 0.0
    return _record(events, n, LIQUIDATED, quantity, price, price, 0.0, -lost)


@compiled
def liquidation_price(side: float, entry: float, p: Any) -> float:
    """Price at which an isolated position is liquidated."""
    return entry * (1.0 - side * (1.0 / p[P_LEVERAGE] - p[P_MMR]))


@compiled
def pay_funding(book: Any, i: int, funding_price: float, open_: float, events: Any, n: int) -> int:
    """Pay what fell due since the previous open (rule 1); `funding_price` is Σ rate·mark over it."""
    quantity = book[i, QUANTITY]
    paid = book[i, SIDE] * (quantity * funding_price)
    return _record(events, n, FUNDING, quantity, open_, open_, 0.0, -paid)


@compiled
def exit_at_open(book: Any, i: int, open_: float, p: Any, events: Any, n: int) -> int:
    """Fill an exit that was decided at the previous close (rule 2)."""
    return _close(book, i, book[i, QUANTITY], open_, EXITED, p, events, n)


@compiled
def gap(book: Any, i: int, open_: float, p: Any, events: Any, n: int) -> int:
    """Close a position whose bar opens at or beyond its stop (rule 3)."""
    side = book[i, SIDE]
    if side * open_ <= side * book[i, STOP]:
        if side * open_ <= side * book[i, LIQUIDATION]:
            return _liquidate(book, i, events, n)
        return _close(book, i, book[i, QUANTITY], open_, STOPPED, p, events, n)
    return n


@compiled
def enter(
    book: Any,
    i: int,
    side: float,
    quantity: float,
    open_: float,
    stop: float,
    targets: Any,
    target_quantities: Any,
    p: Any,
    events: Any,
    n: int,
) -> int:
    """Fill an entry at the open (rule 4); one that opens at or beyond its own stop is closed at once."""
    price = open_ * (1.0 + side * p[P_SLIPPAGE])
    book[i, SIDE] = side
    book[i, QUANTITY] = quantity
    book[i, QUANTITY_INITIAL] = quantity
    book[i, ENTRY] = price
    book[i, MARGIN] = quantity * price / p[P_LEVERAGE]
    book[i, LIQUIDATION] = liquidation_price(side, price, p)
    book[i, STOP] = stop
    for k in range(3):
        book[i, TARGET + k] = targets[k]
        book[i, TARGET_QUANTITY + k] = target_quantities[k]
    book[i, TARGET_FILLED] = 0.0
    n = _record(events, n, ENTERED, quantity, open_, price, p[P_FEE] * (quantity * price), 0.0)
    return gap(book, i, open_, p, events, n)


@compiled
def inside(book: Any, i: int, open_: float, high: float, low: float, p: Any, events: Any, n: int) -> int:
    """Let the rest of a bar pass over an open position: liquidation, else stop, else targets (rules 5 and 6)."""
    side = book[i, SIDE]
    stop = book[i, STOP]
    liquidation = book[i, LIQUIDATION]
    worst = low if side > 0.0 else high
    best = high if side > 0.0 else low
    if side * liquidation > side * stop and side * worst <= side * liquidation:
        return _liquidate(book, i, events, n)
    if side * worst <= side * stop:
        return _close(book, i, book[i, QUANTITY], stop, STOPPED, p, events, n)
    for k in range(3):
        target = book[i, TARGET + k]
        quantity = book[i, TARGET_QUANTITY + k]
        if quantity > 0.0 and side * best >= side * target:
            reference = open_ if side * open_ > side * target else target
            # The last target takes what is open, so that no rest of a subtraction stays behind.
            quantity = book[i, QUANTITY] if k == 2 else min(quantity, book[i, QUANTITY])
            book[i, TARGET_QUANTITY + k] = 0.0
            book[i, TARGET_FILLED] = 1.0
            n = _close(book, i, quantity, reference, TP1 + k, p, events, n)
    return n


@compiled
def on_bar(
    book: Any,
    i: int,
    open_: float,
    high: float,
    low: float,
    funding_price: float,
    exit_pending: bool,
    p: Any,
    events: Any,
    n: int,
) -> int:
    """Let one bar or tick pass over a position that was open before it (rules 1 to 6)."""
    if funding_price != 0.0:
        n = pay_funding(book, i, funding_price, open_, events, n)
    if exit_pending:
        return exit_at_open(book, i, open_, p, events, n)
    n = gap(book, i, open_, p, events, n)
    if book[i, QUANTITY] > 0.0:
        n = inside(book, i, open_, high, low, p, events, n)
    return n


@compiled
def trailed_stop(book: Any, i: int, close: float, atr: float, p: Any) -> float:
    """Stop from the next bar on (rule 7): after TP1 the better of break-even and trail, and never back.

    Where the venue's step leaves TP1 nothing to close, the first target that has something counts. An ATR that is
    not known (NaN) leaves break-even.
    """
    side = book[i, SIDE]
    stop = book[i, STOP]
    if book[i, TARGET_FILLED] == 0.0:
        return stop
    break_even = book[i, ENTRY] * (1.0 + side * (2.0 * p[P_FEE] + 2.0 * p[P_SLIPPAGE]))
    if side * break_even > side * stop:
        stop = break_even
    trail = close - side * p[P_TRAIL] * atr
    if side * trail > side * stop:
        stop = trail
    return stop


@compiled
def round_down_to_step(value: float, step: float) -> float:
    """Largest multiple of `step` not above `value`, as the float nearest to that decimal; step 0 rounds nothing.

    0.3 is three steps of 0.1 although 0.3 / 0.1 is below 3 in floats: a quotient that is a few units in the last
    place short of a whole number counts as that number.
    """
    if step <= 0.0:
        return value
    quotient = value / step
    count = math.floor(quotient + abs(quotient) * 1e-15)
    # count * step can miss the decimal (3 * 0.1), whole digits over a power of ten cannot.
    scale = 1.0
    for _ in range(18):
        digits = math.floor(step * scale + 0.5)
        if digits > 0 and abs(step * scale - digits) <= 1e-9 * digits:
            return count * digits / scale
        scale *= 10.0
    return count * step


@compiled
def split_targets(quantity: float, weights: Any, step: float, out: Any) -> None:
    """Split a quantity over the targets: each share rounded down to the step, the last takes the rest."""
    out[0] = round_down_to_step(weights[0] * quantity, step)
    out[1] = round_down_to_step(weights[1] * quantity, step)
    rest = quantity - out[0] - out[1]
    nearest = round_down_to_step(rest + 0.5 * step, step)
    # The rest of a whole number of steps is one as well, but for the subtraction's own error.
    out[2] = nearest if abs(nearest - rest) <= 1e-9 * step else rest


@compiled
def size_position(
    reference: float,
    stop: float,
    confidence: float,
    equity: float,
    symbol_margin: float,
    direction_margin: float,
    step: float,
    min_quantity: float,
    min_notional: float,
    p: Any,
    limits: Any,
) -> tuple[float, int]:
    """Quantity, and what bound it; 0 with a code other than `SIZED` is a refusal.

    The minimum is asked of the rounded quantity, for that is what the venue sees.
    """
    if equity <= 0.0:
        return 0.0, NO_EQUITY
    distance = abs(reference - stop)
    if reference * (1.0 / p[P_LEVERAGE] - p[P_MMR]) < limits[L_BUFFER] * distance:
        return 0.0, LIQUIDATION_CLOSE
    floor = limits[L_CONFIDENCE_FLOOR]
    scale = min(max((confidence - floor) / (1.0 - floor), limits[L_MIN_SCALE]), 1.0)
    cost = 2.0 * p[P_FEE] + 2.0 * p[P_SLIPPAGE]
    quantity = limits[L_RISK] * equity * scale / (reference * (distance / reference + cost))
    margin = quantity * reference / p[P_LEVERAGE]
    bound = SIZED
    if margin > limits[L_PER_TRADE] * equity:
        margin, bound = limits[L_PER_TRADE] * equity, PER_TRADE
    if margin > limits[L_PER_SYMBOL] * equity - symbol_margin:
        margin, bound = limits[L_PER_SYMBOL] * equity - symbol_margin, PER_SYMBOL
    if margin > limits[L_PER_DIRECTION] * equity - direction_margin:
        margin, bound = limits[L_PER_DIRECTION] * equity - direction_margin, PER_DIRECTION
    if margin <= 0.0:
        return 0.0, bound
    if bound != SIZED:
        quantity = margin * p[P_LEVERAGE] / reference
    quantity = round_down_to_step(quantity, step)
    if quantity <= 0.0 or quantity < min_quantity or quantity * reference < min_notional:
        return 0.0, bound if bound != SIZED else BELOW_MINIMUM
    return quantity, bound


@compiled
def loss_from(start: float, equity: float) -> float:
    """Loss against an earlier equity as a fraction of it, at least 0."""
    return max(0.0, 1.0 - equity / start) if start > 0.0 else 0.0
