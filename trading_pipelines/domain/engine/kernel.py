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
from typing import Any, NamedTuple, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

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
L_FREE_MARGIN = 11  # 0: not asked
L_RISK_REWARD = 12  # -inf: not asked
L_CORRELATION = 13  # inf: not asked
L_COOLDOWN = 14  # this and the other times in microseconds
L_STOP_LOCK = 15
L_GUARD_STOPS = 16  # inf: no guard
L_GUARD_WINDOW = 17
L_GUARD_LOCK = 18
L_DRAWDOWN_LOCK = 19
L_REENTRY = 20  # share of the size; 0: refused
L_PYRAMID_PROFIT = 21  # inf: no additions
L_ADDITIONS = 22
LIMIT_FIELDS = 23

# What bound or refused a size.
SIZED = 0
PER_TRADE = 1
PER_SYMBOL = 2
PER_DIRECTION = 3
LIQUIDATION_CLOSE = 4
BELOW_MINIMUM = 5
NO_EQUITY = 6
FREE_MARGIN = 7
REENTRY = 8

# Rules that refuse a candidate before its size is asked, in this order.
SYMBOL_BUSY = 9
DRAWDOWN = 10
DRAWDOWN_LOCK = 11
DAILY_LOSS = 12
DAILY_LOSS_LOCK = 13
STOP_GUARD = 14
STOP_LOCK = 15
COOLDOWN = 16
MAX_POSITIONS = 17
RISK_REWARD = 18
CORRELATION = 19


def compiled(function: Any) -> Any:
    """Compile with numba, cached on disk; a division by zero gives inf or NaN, as in NumPy.

    Everything is inlined into the loop, and nothing in here allocates memory, so that numba's counting of references
    (`_nrt`) can be left out: both together make the loop five times as fast.
    """
    options = {"cache": True, "error_model": "numpy", "forceinline": True, "_nrt": False}
    return cast(Any, numba).njit(**options)(function)  # numba is untyped


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
def _digits(step: float) -> tuple[float, float]:
    """A step as whole digits over a power of ten, for a count of steps times 0.1 can miss the decimal."""
    scale = 1.0
    for _ in range(18):
        digits = math.floor(step * scale + 0.5)
        if digits > 0 and abs(step * scale - digits) <= 1e-9 * digits:
            return float(digits), scale
        scale *= 10.0
    return step, 1.0


@compiled
def round_down_to_step(value: float, step: float) -> float:
    """Largest multiple of `step` not above `value`, as the float nearest to that decimal; step 0 rounds nothing.

    0.3 is three steps of 0.1 although 0.3 / 0.1 is below 3 in floats. The two numbers and their quotient are each off
    by 1.1e-16 at most, so a quotient that is short of a whole number by less than 4e-16 of it counts as that number;
    numbers of up to 15 digits that are short by more are told apart.
    """
    if step <= 0.0:
        return value
    quotient = value / step
    count = math.floor(quotient + abs(quotient) * 4e-16)
    digits, scale = _digits(step)
    return count * digits / scale


@compiled
def round_to_step(value: float, step: float) -> float:
    """Multiple of `step` nearest to `value`, a tie to the even one, as decimals do it; step 0 rounds nothing.

    `value` is compared with the float nearest to the middle between two multiples. Floats keep the order of decimals,
    and the shortest decimal of that float is the middle itself, so this is the decimal comparison.
    """
    if step <= 0.0:
        return value
    digits, scale = _digits(step)
    count = float(math.floor(value / step))
    if value < count * digits / scale:
        count -= 1.0
    elif value >= (count + 1.0) * digits / scale:
        count += 1.0
    middle = (2.0 * count + 1.0) * digits / (2.0 * scale)
    if value > middle or (value == middle and count % 2.0 != 0.0):
        count += 1.0
    return count * digits / scale


@compiled
def _whole_steps(quantity: float, step: float, error: float) -> float:
    """A sum or difference of whole steps without the floats' own error, which is at most `error`."""
    nearest = round_down_to_step(quantity + 0.5 * step, step)
    return nearest if abs(nearest - quantity) <= error else quantity


@compiled
def split_targets(book: Any, i: int, step: float, p: Any) -> None:
    """Split the quantity over the targets: each share rounded down to the step, the last takes the rest."""
    quantity = book[i, QUANTITY]
    first = round_down_to_step(p[P_TARGET_WEIGHT] * quantity, step)
    second = round_down_to_step(p[P_TARGET_WEIGHT + 1] * quantity, step)
    book[i, TARGET_QUANTITY] = first
    book[i, TARGET_QUANTITY + 1] = second
    book[i, TARGET_QUANTITY + 2] = _whole_steps(quantity - first - second, step, 1e-15 * quantity)


@compiled
def split_addition(book: Any, i: int, quantity: float, step: float, p: Any) -> None:
    """Spread an added quantity over the targets that still work, by their weights; the last takes the rest."""
    weights = 0.0
    last = -1
    for k in range(3):
        if book[i, TARGET_QUANTITY + k] > 0.0:
            weights += p[P_TARGET_WEIGHT + k]
            last = k
    rest = quantity
    for k in range(last + 1):
        held = book[i, TARGET_QUANTITY + k]
        if held > 0.0:
            part = rest if k == last else round_down_to_step(quantity * (p[P_TARGET_WEIGHT + k] / weights), step)
            rest = _whole_steps(rest - part, step, 1e-3 * step)
            book[i, TARGET_QUANTITY + k] = _whole_steps(held + part, step, 1e-3 * step)


@compiled
def stop_price(side: float, reference: float, atr: float, p: Any) -> float:
    """Initial stop of a set-up."""
    return reference - side * p[P_STOP_ATR] * atr


@compiled
def prepare(
    book: Any,
    i: int,
    side: float,
    quantity: float,
    reference: float,
    atr: float,
    step: float,
    price_step: float,
    p: Any,
) -> None:
    """Write an order with its exits, on the venue's price step, into the book, to be filled by `enter`.

    Until then the row holds the margin at the reference price and no entry.
    """
    book[i, SIDE] = side
    book[i, QUANTITY] = quantity
    book[i, QUANTITY_INITIAL] = quantity
    book[i, MARGIN] = quantity * reference / p[P_LEVERAGE]
    book[i, STOP] = round_to_step(stop_price(side, reference, atr, p), price_step)
    for k in range(3):
        book[i, TARGET + k] = round_to_step(reference + side * p[P_TARGET_ATR + k] * atr, price_step)
    split_targets(book, i, step, p)
    book[i, TARGET_FILLED] = 0.0


@compiled
def enter(book: Any, i: int, open_: float, p: Any, events: Any, n: int) -> int:
    """Fill an entry at the open (rule 4); one that opens at or beyond its own stop is closed at once."""
    side = book[i, SIDE]
    quantity = book[i, QUANTITY]
    price = open_ * (1.0 + side * p[P_SLIPPAGE])
    book[i, ENTRY] = price
    book[i, MARGIN] = quantity * price / p[P_LEVERAGE]
    book[i, LIQUIDATION] = price * (1.0 - side * (1.0 / p[P_LEVERAGE] - p[P_MMR]))
    n = _record(events, n, ENTERED, quantity, open_, price, p[P_FEE] * (quantity * price), 0.0)
    return gap(book, i, open_, p, events, n)


@compiled
def add(book: Any, i: int, quantity: float, stop: float, open_: float, step: float, p: Any, events: Any, n: int) -> int:
    """Fill an addition to an open position at the open (rule 4); one that opens beyond its own stop closes all of it.

    The entry becomes the average weighted by quantity, margins add up, the liquidation price is that of the new entry,
    and the better of the two stops protects all. Target prices stay.
    """
    side = book[i, SIDE]
    held = book[i, QUANTITY]
    price = open_ * (1.0 + side * p[P_SLIPPAGE])
    total = _whole_steps(held + quantity, step, 1e-3 * step)
    entry = (held * book[i, ENTRY] + quantity * price) / total
    book[i, MARGIN] = book[i, MARGIN] * (held / book[i, QUANTITY_INITIAL]) + quantity * price / p[P_LEVERAGE]
    book[i, QUANTITY] = total
    book[i, QUANTITY_INITIAL] = total
    book[i, ENTRY] = entry
    book[i, LIQUIDATION] = entry * (1.0 - side * (1.0 / p[P_LEVERAGE] - p[P_MMR]))
    if side * stop > side * book[i, STOP]:
        book[i, STOP] = stop
    split_addition(book, i, quantity, step, p)
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
def trailed_stop(book: Any, i: int, close: float, atr: float, price_step: float, p: Any) -> float:
    """Stop from the next bar on (rule 7): after TP1 the better of break-even and trail, and never back.

    Where the venue's step leaves TP1 nothing to close, the first target that has something counts. An ATR that is
    not known (NaN) leaves break-even.
    """
    side = book[i, SIDE]
    stop = book[i, STOP]
    if book[i, TARGET_FILLED] == 0.0:
        return stop
    best = stop
    break_even = book[i, ENTRY] * (1.0 + side * (2.0 * p[P_FEE] + 2.0 * p[P_SLIPPAGE]))
    if side * break_even > side * best:
        best = break_even
    trail = close - side * p[P_TRAIL] * atr
    if side * trail > side * best:
        best = trail
    if best == stop:
        return stop
    best = round_to_step(best, price_step)
    return best if side * best > side * stop else stop


@compiled
def risk_reward(reference: float, stop: float, first: float, second: float, third: float, p: Any) -> float:
    """Weighted distance of the targets over the distance of the stop."""
    gain = (
        p[P_TARGET_WEIGHT] * abs(first - reference)
        + p[P_TARGET_WEIGHT + 1] * abs(second - reference)
        + p[P_TARGET_WEIGHT + 2] * abs(third - reference)
    )
    return gain / abs(reference - stop)


@compiled
def refuses(rule: int, value: float, limits: Any) -> bool:
    """Whether a rule says no to what it sees; what is not known (NaN) is allowed.

    The value of a lock and of the cooldown is the time that is left of it.
    """
    if rule == SYMBOL_BUSY:
        return value >= 1.0
    if rule == DRAWDOWN:
        return value >= limits[L_DRAWDOWN_STOP]
    if rule == DAILY_LOSS:
        return value >= limits[L_DAILY_LOSS]
    if rule == MAX_POSITIONS:
        return value >= limits[L_MAX_POSITIONS]
    if rule == RISK_REWARD:
        return value < limits[L_RISK_REWARD]
    if rule == CORRELATION:
        return value >= limits[L_CORRELATION]
    if rule == STOP_LOCK and limits[L_REENTRY] > 0.0:
        return False
    return value > 0.0


@compiled
def may_add(side: float, close: float, entry: float, additions: float, limits: Any) -> bool:
    """Whether a position has moved far enough in its favour to be added to, and may still be."""
    profit = (close - entry) * side / entry
    return profit > limits[L_PYRAMID_PROFIT] and additions < limits[L_ADDITIONS]


@compiled
def risk_quantity(reference: float, stop: float, confidence: float, equity: float, p: Any, limits: Any) -> float:
    """Quantity whose stop-out costs the risk per trade, scaled by confidence; before any cap."""
    floor = limits[L_CONFIDENCE_FLOOR]
    scale = min(max((confidence - floor) / (1.0 - floor), limits[L_MIN_SCALE]), 1.0)
    loss = abs(reference - stop) / reference + 2.0 * p[P_FEE] + 2.0 * p[P_SLIPPAGE]
    return limits[L_RISK] * equity * scale / (reference * loss)


@compiled
def payable_margin(free_cash: float, p: Any, limits: Any) -> float:
    """Margin that free cash covers together with the entry fee; no bound where the rule is off."""
    return free_cash / (1.0 + p[P_LEVERAGE] * p[P_FEE]) if limits[L_FREE_MARGIN] != 0.0 else math.inf


@compiled
def size_position(
    reference: float,
    stop: float,
    confidence: float,
    equity: float,
    symbol_margin: float,
    direction_margin: float,
    free_cash: float,
    share: float,
    step: float,
    min_quantity: float,
    min_notional: float,
    p: Any,
    limits: Any,
) -> tuple[float, int]:
    """Quantity, and what bound it; 0 with a code other than `SIZED` is a refusal.

    `share` is taken of what the caps leave: half a size is half of the size that would have been. The minimum is asked
    of the rounded quantity, for that is what the venue sees.
    """
    if equity <= 0.0:
        return 0.0, NO_EQUITY
    distance = abs(reference - stop)
    if reference * (1.0 / p[P_LEVERAGE] - p[P_MMR]) < limits[L_BUFFER] * distance:
        return 0.0, LIQUIDATION_CLOSE
    quantity = risk_quantity(reference, stop, confidence, equity, p, limits)
    margin = quantity * reference / p[P_LEVERAGE]
    bound = SIZED
    if margin > limits[L_PER_TRADE] * equity:
        margin, bound = limits[L_PER_TRADE] * equity, PER_TRADE
    # Of caps that leave nothing the first one is named.
    if margin > 0.0 and margin > limits[L_PER_SYMBOL] * equity - symbol_margin:
        margin, bound = limits[L_PER_SYMBOL] * equity - symbol_margin, PER_SYMBOL
    if margin > 0.0 and margin > limits[L_PER_DIRECTION] * equity - direction_margin:
        margin, bound = limits[L_PER_DIRECTION] * equity - direction_margin, PER_DIRECTION
    payable = payable_margin(free_cash, p, limits)
    if margin > 0.0 and margin > payable:
        margin, bound = payable, FREE_MARGIN
    if margin <= 0.0:
        return 0.0, bound if bound != SIZED else BELOW_MINIMUM
    if bound != SIZED:
        quantity = margin * p[P_LEVERAGE] / reference
    if share != 1.0:
        quantity *= share
        bound = REENTRY if bound == SIZED else bound
    quantity = round_down_to_step(quantity, step)
    if quantity <= 0.0 or quantity < min_quantity or quantity * reference < min_notional:
        return 0.0, BELOW_MINIMUM
    return quantity, bound


@compiled
def loss_from(start: float, equity: float) -> float:
    """Loss against an earlier equity as a fraction of it, at least 0."""
    return max(0.0, 1.0 - equity / start) if start > 0.0 else 0.0


# What a strategy's exit flags close.
EXIT_LONG = 1
EXIT_SHORT = 2

# Why an exit was decided.
NOT_LEAVING = 0
BY_SIGNAL = 1
BY_DRAWDOWN = 2
BY_TIME = 3

# Columns of a candidate: a set-up of one symbol at one close.
C_SIDE = 0
C_CONFIDENCE = 1
C_REFERENCE = 2
C_ATR = 3

# Columns of a trade.
T_SYMBOL = 0
T_CANDIDATE = 1
T_OPENED = 2  # index of the bar
T_CLOSED = 3  # index of the bar, -1 while open
T_QUANTITY = 4
T_ENTRY = 5
T_MARGIN = 6
T_STOP = 7
T_PNL = 8
T_FEES = 9
T_FUNDING = 10
T_SLIPPAGE = 11
T_LAST_KIND = 12
T_EXIT_REASON = 13
T_RISK = 14  # quantity times the distance from reference to first stop, additions with their own
T_ADDITIONS = 15
TRADE_FIELDS = 16

# Columns of a fill.
F_TRADE = 0
F_BAR = 1
F_EVENT = 2  # the columns of an event row follow
FILL_FIELDS = F_EVENT + EVENT_FIELDS

# Columns of what is locked until when, per symbol, in microseconds since 1970.
K_LONG = 0
K_SHORT = 1
K_COOLDOWN = 2
SYMBOL_LOCKS = 3

# The same for the whole account.
K_DRAWDOWN = 0
K_DAILY_LOSS = 1
K_STOP_GUARD = 2
ACCOUNT_LOCKS = 3

# Columns of an addition that waits for its open.
A_QUANTITY = 0
A_STOP = 1
A_MARGIN = 2
ADDITION_FIELDS = 3

# What a symbol is doing.
FLAT = 0
WAITING = 1
OPEN = 2
ADDING = 3  # open, and an addition waits for the next open

# Numbers of the account.
CASH = 0  # what is bound as margin included
PEAK = 1
MARKED = 2
DAY_OPEN = 3

# Counters.
N_ACTIVE = 0
N_TRADES = 1
N_FILLS = 2
N_ASKED = 3  # candidates
DAY = 4  # days since 1970
N_STOPS = 5

MAX_GUARD_STOPS = 16
"""Stops that the guard can count; the newest ones are kept in a ring."""
LOCK_GRID = 300_000_000
"""Locks begin with the five minutes in which a position was closed.

A bar does not say when in it a stop was hit and a tick does; on this grid both begin the same lock.
"""
_DAY_LENGTH = 86_400_000_000
_FILLS_PER_TRADE = 5


class Market(NamedTuple):
    """What happens, on one time grid; a symbol without a bar has NaN there.

    Attributes
    ----------
    open, high, low, close : array of float64 [symbols, bars]
    decides : array of bool [bars]
        Whether a bar of the signal timeframe closes with this one.
    open_time : array of int64 [bars]
        Microseconds since 1970, UTC.
    funding_start : array of int64 [symbols + 1]
        Where the funding of each symbol starts in the next two.
    funding_bar : array of int64, funding_price : array of float64
        Ascending bars at whose open funding is due, and Σ rate·mark of it.
    venue : array of float64 [symbols, 4]
        Quantity step, smallest quantity, smallest notional, price step.
    correlation : array of float64 [days, symbols, symbols]
        As of 00:00 UTC of each day from `correlation_day` on (days since 1970), NaN where it is not known. Days
        without a matrix know none.
    """

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    decides: npt.NDArray[np.bool_]
    open_time: Integers
    funding_start: Integers
    funding_bar: Integers
    funding_price: Floats
    venue: Floats
    correlation: Floats = np.empty((0, 0, 0))
    correlation_day: int = 0


class Plan(NamedTuple):
    """What a strategy wants.

    Attributes
    ----------
    atr : array of float64 [symbols, bars], exits : array of uint8 [symbols, bars]
        Read at bars that decide; ATR is NaN where the symbol has no close there.
    bar, symbol : array of int64 [candidates], rows : array of float64 [candidates, 4]
        Candidates, ordered by bar and then as they are to be asked.
    """

    atr: Floats
    exits: npt.NDArray[np.uint8]
    bar: Integers
    symbol: Integers
    rows: Floats


class State(NamedTuple):
    """All that the loop changes, and with it all that comes out; per symbol but for the last twelve.

    Attributes
    ----------
    leaving : array of int8
        Why an exit is decided.
    waits, trade : array of int64
        Row of the candidate that waits, and of the open trade.
    opened : array of int64
        Open time of the bar of the entry.
    mark : array of float64
        Last close while in play.
    next_funding : array of int64
        First row of funding that has not been looked at.
    added : array of float64 [symbols, 3]
        The addition that waits for its open.
    locks : array of float64 [symbols, 3]
        Until when entries of each side, and all entries after a close, are locked.
    active : array of int64
        Ascending, the first `N_ACTIVE`: symbols that wait or are open. Sums over them are the same in every run.
    account_locks, stops : array of float64
        Until when all entries are locked, and when positions were last stopped out; microseconds since 1970.
    equity : array of float64 [bars]
        Marked where a bar decides.
    accepted, rule : array [candidates]
        Quantity, and the rule that bound or refused it.
    """

    book: Floats
    status: npt.NDArray[np.int8]
    leaving: npt.NDArray[np.int8]
    waits: Integers
    trade: Integers
    opened: Integers
    mark: Floats
    next_funding: Integers
    added: Floats
    locks: Floats
    account_locks: Floats
    stops: Floats
    active: Integers
    events: Floats
    equity: Floats
    trades: Floats
    fills: Floats
    accepted: Floats
    rule: npt.NDArray[np.int8]
    account: Floats
    counts: Integers


def new_state(market: Market, plan: Plan, capital: float) -> State:
    """Reserve what the loop needs at most; the system provides the memory of tables only as they fill."""
    symbols, bars = market.close.shape
    candidates = len(plan.bar)
    return State(
        book=np.zeros((symbols, BOOK_FIELDS)),
        status=np.zeros(symbols, np.int8),
        leaving=np.zeros(symbols, np.int8),
        waits=np.zeros(symbols, np.int64),
        trade=np.zeros(symbols, np.int64),
        opened=np.zeros(symbols, np.int64),
        mark=np.zeros(symbols),
        next_funding=market.funding_start[:-1].copy(),
        added=np.zeros((symbols, ADDITION_FIELDS)),
        locks=np.zeros((symbols, SYMBOL_LOCKS)),
        account_locks=np.zeros(ACCOUNT_LOCKS),
        stops=np.full(MAX_GUARD_STOPS, -np.inf),
        active=np.zeros(symbols, np.int64),
        events=np.empty((MAX_EVENTS, EVENT_FIELDS)),
        equity=np.empty(bars),
        trades=np.empty((candidates, TRADE_FIELDS)),
        fills=np.empty((_FILLS_PER_TRADE * candidates + len(market.funding_bar), FILL_FIELDS)),
        accepted=np.zeros(candidates),
        rule=np.zeros(candidates, np.int8),
        account=np.array([capital, capital, capital, capital], np.float64),
        counts=np.array([0, 0, 0, 0, -1, 0]),
    )


@compiled
def _insert(state: Any, s: int) -> None:
    """Add a symbol to those in play."""
    k = state.counts[N_ACTIVE]
    state.counts[N_ACTIVE] = k + 1
    while k > 0 and state.active[k - 1] > s:
        state.active[k] = state.active[k - 1]
        k -= 1
    state.active[k] = s


@compiled
def _funding_due(market: Any, state: Any, s: int, t: int) -> float:
    """Σ rate·mark due at the open of bar `t`; what lies before it was due while nothing was open."""
    due = 0.0
    f = state.next_funding[s]
    while f < market.funding_start[s + 1] and market.funding_bar[f] <= t:
        if market.funding_bar[f] == t:
            due += market.funding_price[f]
        f += 1
    state.next_funding[s] = f
    return due


@compiled
def _start_trade(market: Any, plan: Any, state: Any, s: int, t: int) -> None:
    k = state.counts[N_TRADES]
    state.counts[N_TRADES] = k + 1
    state.status[s] = OPEN
    state.opened[s] = market.open_time[t]
    state.trade[s] = k
    state.trades[k, T_SYMBOL] = s
    state.trades[k, T_CANDIDATE] = state.waits[s]
    state.trades[k, T_OPENED] = t
    state.trades[k, T_CLOSED] = -1
    state.trades[k, T_QUANTITY] = state.book[s, QUANTITY_INITIAL]
    state.trades[k, T_ENTRY] = state.book[s, ENTRY]
    state.trades[k, T_MARGIN] = state.book[s, MARGIN]
    state.trades[k, T_STOP] = state.book[s, STOP]
    for column in range(T_PNL, TRADE_FIELDS):
        state.trades[k, column] = 0.0
    distance = abs(plan.rows[state.waits[s], C_REFERENCE] - state.book[s, STOP])
    state.trades[k, T_RISK] = state.book[s, QUANTITY_INITIAL] * distance


@compiled
def _add_to_trade(plan: Any, state: Any, s: int, price: float, p: Any) -> None:
    """Count an addition in: quantity, margin and risk add up, the entry is the average of all that was bought."""
    k = state.trade[s]
    quantity = state.added[s, A_QUANTITY]
    bought = state.trades[k, T_QUANTITY]
    state.trades[k, T_ENTRY] = (bought * state.trades[k, T_ENTRY] + quantity * price) / (bought + quantity)
    state.trades[k, T_QUANTITY] = bought + quantity
    state.trades[k, T_MARGIN] += quantity * price / p[P_LEVERAGE]
    distance = abs(plan.rows[state.waits[s], C_REFERENCE] - state.added[s, A_STOP])
    state.trades[k, T_RISK] += quantity * distance
    state.trades[k, T_ADDITIONS] += 1.0


@compiled
def _book_events(state: Any, s: int, t: int, n: int) -> None:
    """Carry the first `n` events over to the account, the trade and the list of fills."""
    k = state.trade[s]
    for e in range(n):
        pnl = state.events[e, E_PNL]
        fee = state.events[e, E_FEE]
        state.account[CASH] += pnl - fee
        if state.events[e, E_KIND] == FUNDING:
            state.trades[k, T_FUNDING] -= pnl
        else:
            state.trades[k, T_PNL] += pnl
            state.trades[k, T_FEES] += fee
            distance = abs(state.events[e, E_PRICE] - state.events[e, E_REFERENCE])
            state.trades[k, T_SLIPPAGE] += state.events[e, E_QUANTITY] * distance
            state.trades[k, T_LAST_KIND] = state.events[e, E_KIND]
        row = state.counts[N_FILLS]
        state.counts[N_FILLS] = row + 1
        state.fills[row, F_TRADE] = k
        state.fills[row, F_BAR] = t
        for column in range(EVENT_FIELDS):
            state.fills[row, F_EVENT + column] = state.events[e, column]


@compiled
def _lock_after_close(market: Any, state: Any, s: int, t: int, limits: Any) -> None:
    """Lock what a closed position locks: its symbol for a while, its side after a stop, everything after many stops."""
    closed = float(market.open_time[t] // LOCK_GRID * LOCK_GRID)
    state.locks[s, K_COOLDOWN] = closed + limits[L_COOLDOWN]
    kind = state.trades[state.trade[s], T_LAST_KIND]
    if kind != LIQUIDATED and (kind != STOPPED or state.book[s, TARGET_FILLED] != 0.0):
        return
    state.locks[s, K_LONG if state.book[s, SIDE] > 0.0 else K_SHORT] = closed + limits[L_STOP_LOCK]
    state.stops[state.counts[N_STOPS] % MAX_GUARD_STOPS] = closed
    state.counts[N_STOPS] += 1
    if limits[L_GUARD_STOPS] > MAX_GUARD_STOPS:
        return
    recent = 0
    for k in range(MAX_GUARD_STOPS):
        if state.stops[k] > closed - limits[L_GUARD_WINDOW]:
            recent += 1
    if recent >= limits[L_GUARD_STOPS]:
        state.account_locks[K_STOP_GUARD] = closed + limits[L_GUARD_LOCK]


@compiled
def _addition_fills(market: Any, plan: Any, state: Any, s: int, t: int, p: Any) -> int:
    """Let bar `t` act on a position that is added to at its open; one that is stopped there takes no addition."""
    open_ = market.open[s, t]
    due = _funding_due(market, state, s, t)
    n = 0
    if due != 0.0:
        n = pay_funding(state.book, s, due, open_, state.events, n)
    n = gap(state.book, s, open_, p, state.events, n)
    state.status[s] = OPEN
    if state.book[s, QUANTITY] > 0.0:
        quantity, stop = state.added[s, A_QUANTITY], state.added[s, A_STOP]
        added = n
        n = add(state.book, s, quantity, stop, open_, market.venue[s, 0], p, state.events, n)
        _add_to_trade(plan, state, s, state.events[added, E_PRICE], p)
        if state.book[s, QUANTITY] > 0.0:
            n = inside(state.book, s, open_, market.high[s, t], market.low[s, t], p, state.events, n)
    return n


@compiled
def _market_moves(market: Any, plan: Any, state: Any, t: int, p: Any, limits: Any) -> None:
    """Let bar `t` act on everything that is open or waits for its open (rules 1 to 6)."""
    still = 0
    for a in range(state.counts[N_ACTIVE]):
        s = state.active[a]
        open_ = market.open[s, t]
        if open_ == open_:
            if state.status[s] == OPEN:
                due = _funding_due(market, state, s, t)
                leaves = state.leaving[s] != NOT_LEAVING
                n = on_bar(state.book, s, open_, market.high[s, t], market.low[s, t], due, leaves, p, state.events, 0)
            elif state.status[s] == WAITING:
                n = enter(state.book, s, open_, p, state.events, 0)
                _start_trade(market, plan, state, s, t)
                if state.book[s, QUANTITY] > 0.0:
                    n = inside(state.book, s, open_, market.high[s, t], market.low[s, t], p, state.events, n)
            else:
                n = _addition_fills(market, plan, state, s, t, p)
            state.mark[s] = market.close[s, t]
            if n > 0:
                _book_events(state, s, t, n)
                if state.book[s, QUANTITY] == 0.0:
                    state.trades[state.trade[s], T_CLOSED] = t
                    state.trades[state.trade[s], T_EXIT_REASON] = state.leaving[s]
                    state.status[s] = FLAT
                    state.leaving[s] = NOT_LEAVING
                    _lock_after_close(market, state, s, t, limits)
                    continue
        state.active[still] = s
        still += 1
    state.counts[N_ACTIVE] = still


@compiled
def _mark(market: Any, plan: Any, state: Any, t: int, now: int, p: Any, limits: Any) -> float:
    """Move stops, mark the account (rules 7 and 8), lock it where it has lost too much; gives the drawdown."""
    unrealised = 0.0
    for a in range(state.counts[N_ACTIVE]):
        s = state.active[a]
        if state.status[s] != WAITING:
            close = state.mark[s]
            if state.book[s, TARGET_FILLED] != 0.0 and plan.atr[s, t] == plan.atr[s, t]:
                state.book[s, STOP] = trailed_stop(state.book, s, close, plan.atr[s, t], market.venue[s, 3], p)
            unrealised += state.book[s, SIDE] * (state.book[s, QUANTITY] * (close - state.book[s, ENTRY]))
    marked = state.account[CASH] + unrealised
    if now // _DAY_LENGTH != state.counts[DAY]:
        # The mark of midnight itself opens the day; else the last one before it does.
        state.counts[DAY] = now // _DAY_LENGTH
        state.account[DAY_OPEN] = marked if now % _DAY_LENGTH == 0 else state.account[MARKED]
    state.account[MARKED] = marked
    state.account[PEAK] = max(state.account[PEAK], marked)
    state.equity[t] = marked
    # The multiplication spares most bars the division.
    nearly = state.account[DAY_OPEN] * (1.0 - limits[L_DAILY_LOSS]) * (1.0 + 1e-12)
    if marked <= nearly and refuses(DAILY_LOSS, loss_from(state.account[DAY_OPEN], marked), limits):
        state.account_locks[K_DAILY_LOSS] = float((now // _DAY_LENGTH + 1) * _DAY_LENGTH)
    drawdown = loss_from(state.account[PEAK], marked)
    if refuses(DRAWDOWN, drawdown, limits) and now >= state.account_locks[K_DRAWDOWN]:
        state.account_locks[K_DRAWDOWN] = now + limits[L_DRAWDOWN_LOCK]
    return drawdown


@compiled
def _leave_everything(state: Any) -> None:
    """Close all that is open, drop all that waits."""
    still = 0
    for a in range(state.counts[N_ACTIVE]):
        s = state.active[a]
        if state.status[s] == WAITING:
            state.status[s] = FLAT
        else:
            state.leaving[s] = BY_DRAWDOWN
            state.status[s] = OPEN
            state.active[still] = s
            still += 1
    state.counts[N_ACTIVE] = still


@compiled
def _decide_exits(plan: Any, state: Any, t: int, now: int, drawdown: float, p: Any, limits: Any) -> None:
    """Decide which positions close at the next open; an addition that waits is dropped with them."""
    if drawdown >= limits[L_DRAWDOWN_CLOSE]:
        _leave_everything(state)
    for a in range(state.counts[N_ACTIVE]):
        s = state.active[a]
        if state.status[s] != WAITING and state.leaving[s] == NOT_LEAVING:
            if plan.exits[s, t] & (EXIT_LONG if state.book[s, SIDE] > 0.0 else EXIT_SHORT):
                state.leaving[s] = BY_SIGNAL
                state.status[s] = OPEN
            elif now - state.opened[s] >= p[P_MAX_HOLDING]:
                state.leaving[s] = BY_TIME
                state.status[s] = OPEN


@compiled
def _others(state: Any, s: int) -> int:
    """How many positions other than that of a symbol count: those on their way out do not."""
    count = 0
    for a in range(state.counts[N_ACTIVE]):
        o = state.active[a]
        if o != s and state.leaving[o] == NOT_LEAVING:
            count += 1
    return count


@compiled
def _margin(state: Any, s: int) -> float:
    """Margin that a position binds: its entry margin times what is left of it."""
    return state.book[s, MARGIN] * (state.book[s, QUANTITY] / state.book[s, QUANTITY_INITIAL])


@compiled
def _bound(state: Any, s: int, side: float) -> tuple[float, float]:
    """Margin bound in one symbol and in one direction, by positions that are not on their way out."""
    symbol = 0.0
    direction = 0.0
    for a in range(state.counts[N_ACTIVE]):
        o = state.active[a]
        if state.leaving[o] == NOT_LEAVING and state.book[o, SIDE] == side:
            margin = _margin(state, o)
            added = state.added[o, A_MARGIN] if state.status[o] == ADDING else 0.0
            direction += margin
            direction += added
            if o == s:
                symbol = margin + added
    return symbol, direction


@compiled
def _free_cash(state: Any, p: Any, limits: Any) -> float:
    """Cash that neither margin nor a waiting entry with its fee binds; margin on its way out is not back yet."""
    if limits[L_FREE_MARGIN] == 0.0:
        return math.inf
    free = state.account[CASH]
    fees = p[P_LEVERAGE] * p[P_FEE]
    for a in range(state.counts[N_ACTIVE]):
        o = state.active[a]
        free -= _margin(state, o)
        if state.status[o] == WAITING:
            free -= state.book[o, MARGIN] * fees
        elif state.status[o] == ADDING:
            free -= state.added[o, A_MARGIN]
            free -= state.added[o, A_MARGIN] * fees
    return free


@compiled
def _correlation(market: Any, state: Any, s: int, side: float, now: int) -> float:
    """Highest known correlation with another symbol that is in play in the same direction, NaN without one."""
    highest = math.nan
    day = now // _DAY_LENGTH - market.correlation_day
    if day < 0 or day >= market.correlation.shape[0]:
        return highest
    for a in range(state.counts[N_ACTIVE]):
        o = state.active[a]
        if o != s and state.leaving[o] == NOT_LEAVING and state.book[o, SIDE] == side:
            value = market.correlation[day, s, o]
            if not value <= highest and value == value:
                highest = value
    return highest


@compiled
def _busy(plan: Any, state: Any, s: int, c: int, limits: Any) -> float:
    """1 where the symbol has no room for a candidate, 0 where it is free or may be added to."""
    if state.status[s] == FLAT:
        return 0.0
    if state.status[s] != OPEN or state.leaving[s] != NOT_LEAVING or state.book[s, SIDE] != plan.rows[c, C_SIDE]:
        return 1.0
    additions = state.trades[state.trade[s], T_ADDITIONS]
    close = plan.rows[c, C_REFERENCE]
    return 0.0 if may_add(state.book[s, SIDE], close, state.book[s, ENTRY], additions, limits) else 1.0


@compiled
def _locked(state: Any, s: int, side: float, now: int, limits: Any) -> int:
    """The first lock that refuses an entry, `SIZED` without one."""
    if refuses(STOP_GUARD, state.account_locks[K_STOP_GUARD] - now, limits):
        return STOP_GUARD
    if refuses(STOP_LOCK, state.locks[s, K_LONG if side > 0.0 else K_SHORT] - now, limits):
        return STOP_LOCK
    if refuses(COOLDOWN, state.locks[s, K_COOLDOWN] - now, limits):
        return COOLDOWN
    return SIZED


@compiled
def _ask(market: Any, plan: Any, state: Any, c: int, now: int, p: Any, limits: Any) -> tuple[float, int]:
    """Quantity of a candidate, and the rule that bound or refused it; the rules in their order."""
    s = plan.symbol[c]
    marked = state.account[MARKED]
    side = plan.rows[c, C_SIDE]
    if refuses(SYMBOL_BUSY, _busy(plan, state, s, c, limits), limits):
        return 0.0, SYMBOL_BUSY
    if refuses(DRAWDOWN, loss_from(state.account[PEAK], marked), limits):
        return 0.0, DRAWDOWN
    if refuses(DRAWDOWN_LOCK, state.account_locks[K_DRAWDOWN] - now, limits):
        return 0.0, DRAWDOWN_LOCK
    if refuses(DAILY_LOSS, loss_from(state.account[DAY_OPEN], marked), limits):
        return 0.0, DAILY_LOSS
    if refuses(DAILY_LOSS_LOCK, state.account_locks[K_DAILY_LOSS] - now, limits):
        return 0.0, DAILY_LOSS_LOCK
    lock = _locked(state, s, side, now, limits)
    if lock != SIZED:
        return 0.0, lock
    if refuses(MAX_POSITIONS, _others(state, s), limits):
        return 0.0, MAX_POSITIONS
    reference, atr = plan.rows[c, C_REFERENCE], plan.rows[c, C_ATR]
    stop = stop_price(side, reference, atr, p)
    reach = side * atr
    first, second = reference + p[P_TARGET_ATR] * reach, reference + p[P_TARGET_ATR + 1] * reach
    third = reference + p[P_TARGET_ATR + 2] * reach
    if refuses(RISK_REWARD, risk_reward(reference, stop, first, second, third, p), limits):
        return 0.0, RISK_REWARD
    if refuses(CORRELATION, _correlation(market, state, s, side, now), limits):
        return 0.0, CORRELATION
    symbol, direction = _bound(state, s, side)
    locked = state.locks[s, K_LONG if side > 0.0 else K_SHORT] > now
    return size_position(
        reference,
        stop,
        plan.rows[c, C_CONFIDENCE],
        marked,
        symbol,
        direction,
        _free_cash(state, p, limits),
        limits[L_REENTRY] if locked else 1.0,
        market.venue[s, 0],
        market.venue[s, 1],
        market.venue[s, 2],
        p,
        limits,
    )


@compiled
def _accept(market: Any, plan: Any, state: Any, c: int, quantity: float, p: Any) -> None:
    """Let an accepted candidate wait for the next open: as a new position, or as an addition to an open one."""
    s = plan.symbol[c]
    side, reference, atr = plan.rows[c, C_SIDE], plan.rows[c, C_REFERENCE], plan.rows[c, C_ATR]
    state.waits[s] = c
    if state.status[s] == FLAT:
        prepare(state.book, s, side, quantity, reference, atr, market.venue[s, 0], market.venue[s, 3], p)
        state.status[s] = WAITING
        _insert(state, s)
    else:
        state.added[s, A_QUANTITY] = quantity
        state.added[s, A_STOP] = round_to_step(stop_price(side, reference, atr, p), market.venue[s, 3])
        state.added[s, A_MARGIN] = quantity * reference / p[P_LEVERAGE]
        state.status[s] = ADDING


@compiled
def _decide_entries(market: Any, plan: Any, state: Any, t: int, now: int, p: Any, limits: Any) -> None:
    """Ask the candidates of this close one after the other; each sees what was accepted before it."""
    c = state.counts[N_ASKED]
    while c < plan.bar.shape[0] and plan.bar[c] == t:
        quantity, rule = _ask(market, plan, state, c, now, p, limits)
        state.accepted[c] = quantity
        state.rule[c] = rule
        if quantity > 0.0:
            _accept(market, plan, state, c, quantity, p)
        c += 1
    state.counts[N_ASKED] = c


@compiled
def run_portfolio(market: Any, plan: Any, state: Any, length: int, p: Any, limits: Any) -> None:
    """Run one account over many symbols; everything is decided and filled as the execution model says.

    Bars at which nothing is open, waits or is decided are skipped: the marked equity is constant there. Within each
    step symbols are visited in ascending order.

    Parameters
    ----------
    state : State
        As `new_state` gives it; afterwards it holds the result.
    length : int
        Length of a bar in microseconds.
    """
    bars = market.close.shape[1]
    t = 0
    while t < bars:
        cash = state.account[CASH]
        if state.counts[N_ACTIVE] == 0 and state.account[MARKED] == cash:
            c = state.counts[N_ASKED]
            until = plan.bar[c] if c < plan.bar.shape[0] else bars
            while t < until:
                state.equity[t] = cash
                t += 1
            if t == bars:
                break
        _market_moves(market, plan, state, t, p, limits)
        if market.decides[t]:
            now = market.open_time[t] + length
            drawdown = _mark(market, plan, state, t, now, p, limits)
            _decide_exits(plan, state, t, now, drawdown, p, limits)
            _decide_entries(market, plan, state, t, now, p, limits)
        t += 1
