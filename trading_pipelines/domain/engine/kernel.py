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
    """Compile with numba, cached on disk; a division by zero gives inf or NaN, as in NumPy.

    Inlining everything into the loop makes it more than twice as fast: a call passes each array as a dozen values.
    """
    return cast(Any, numba).njit(function, cache=True, error_model="numpy", forceinline=True)  # numba is untyped


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
def split_targets(book: Any, i: int, step: float, p: Any) -> None:
    """Split the quantity over the targets: each share rounded down to the step, the last takes the rest."""
    quantity = book[i, QUANTITY]
    first = round_down_to_step(p[P_TARGET_WEIGHT] * quantity, step)
    second = round_down_to_step(p[P_TARGET_WEIGHT + 1] * quantity, step)
    rest = quantity - first - second
    nearest = round_down_to_step(rest + 0.5 * step, step)
    book[i, TARGET_QUANTITY] = first
    book[i, TARGET_QUANTITY + 1] = second
    # The rest of a whole number of steps is one as well, but for the subtraction's own error.
    book[i, TARGET_QUANTITY + 2] = nearest if abs(nearest - rest) <= 1e-9 * step else rest


@compiled
def stop_price(side: float, reference: float, atr: float, p: Any) -> float:
    """Initial stop of a set-up."""
    return reference - side * p[P_STOP_ATR] * atr


@compiled
def prepare(book: Any, i: int, side: float, quantity: float, reference: float, atr: float, step: float, p: Any) -> None:
    """Write an order with its exits into the book, to be filled by `enter`.

    Until then the row holds the margin at the reference price and no entry.
    """
    book[i, SIDE] = side
    book[i, QUANTITY] = quantity
    book[i, QUANTITY_INITIAL] = quantity
    book[i, MARGIN] = quantity * reference / p[P_LEVERAGE]
    book[i, STOP] = stop_price(side, reference, atr, p)
    for k in range(3):
        book[i, TARGET + k] = reference + side * p[P_TARGET_ATR + k] * atr
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
    loss = distance / reference + 2.0 * p[P_FEE] + 2.0 * p[P_SLIPPAGE]
    quantity = limits[L_RISK] * equity * scale / (reference * loss)
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


# The portfolio loop. Rules that refuse a candidate before its size is asked:
SYMBOL_BUSY = 7
MAX_POSITIONS = 8
DRAWDOWN = 9
DAILY_LOSS = 10

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
CANDIDATE_FIELDS = 4

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
TRADE_FIELDS = 14

# Columns of a fill.
F_TRADE = 0
F_BAR = 1
F_EVENT = 2  # the columns of an event row follow
FILL_FIELDS = F_EVENT + EVENT_FIELDS

_FLAT = 0
_WAITING = 1
_OPEN = 2
_DAY = 86_400_000_000


@compiled
def _grown(rows: Any) -> Any:
    larger = np.empty((2 * rows.shape[0], rows.shape[1]))
    larger[: rows.shape[0]] = rows
    return larger


@compiled
def _insert(active: Any, n: int, s: int) -> int:
    """Keep the list of symbols in play ascending: sums over it are then the same in every run."""
    k = n
    while k > 0 and active[k - 1] > s:
        active[k] = active[k - 1]
        k -= 1
    active[k] = s
    return n + 1


@compiled
def _bound_margin(book: Any, leaving: Any, active: Any, n_active: int, side: float) -> tuple[float, int]:
    """Margin bound in one direction, and how many positions count at all: those on their way out do not."""
    margin = 0.0
    count = 0
    for a in range(n_active):
        s = active[a]
        if leaving[s] == NOT_LEAVING:
            count += 1
            if book[s, SIDE] == side:
                margin += book[s, MARGIN] * (book[s, QUANTITY] / book[s, QUANTITY_INITIAL])
    return margin, count


@compiled
def run_portfolio(
    open_: Any,
    high: Any,
    low: Any,
    close: Any,
    atr: Any,
    exits: Any,
    decides: Any,
    open_time: Any,
    length: int,
    candidate_bar: Any,
    candidate_symbol: Any,
    candidates: Any,
    funding_start: Any,
    funding_bar: Any,
    funding_price: Any,
    markets: Any,
    p: Any,
    limits: Any,
    capital: float,
) -> Any:
    """Run one account over many symbols; everything is decided and filled as the execution model says.

    Parameters
    ----------
    open_, high, low, close : float64 [symbols, bars]
        NaN where a symbol has no bar.
    atr : float64 [symbols, bars], exits : uint8 [symbols, bars]
        Read at bars that decide; NaN where the symbol has no close there.
    decides : bool [bars]
        Whether a bar of the signal timeframe closes with this one.
    open_time : int64 [bars]
        Microseconds since 1970, UTC; a bar closes `length` microseconds later.
    candidate_bar, candidate_symbol : int64 [n], candidates : float64 [n, CANDIDATE_FIELDS]
        Ordered by bar, then as they are to be asked.
    funding_start : int64 [symbols + 1], funding_bar : int64, funding_price : float64
        Per symbol the ascending bars at whose open funding is due, and Σ rate·mark of it.
    markets : float64 [symbols, 3]
        Quantity step, smallest quantity, smallest notional.

    Returns
    -------
    tuple
        Equity [bars], marked where a bar decides; trades, fills, and per candidate the quantity and the rule that
        bound or refused it; cash at the end.

    Notes
    -----
    Bars at which nothing is open, waits or is decided are skipped; the marked equity is constant there. Symbols are
    visited in ascending order within each step.
    """
    n_symbols, n_bars = close.shape
    n_candidates = candidate_bar.shape[0]
    equity = np.empty(n_bars)
    book = np.zeros((n_symbols, BOOK_FIELDS))
    status = np.zeros(n_symbols, np.int8)
    leaving = np.zeros(n_symbols, np.int8)
    waits = np.zeros(n_symbols, np.int64)
    trade_of = np.zeros(n_symbols, np.int64)
    opened = np.zeros(n_symbols, np.int64)
    mark = np.zeros(n_symbols)
    next_funding = funding_start[:-1].copy()
    active = np.empty(n_symbols, np.int64)
    n_active = 0
    events = np.empty((MAX_EVENTS, EVENT_FIELDS))
    trades = np.empty((n_candidates, TRADE_FIELDS))
    n_trades = 0
    fills = np.empty((4 * n_candidates + 64, FILL_FIELDS))
    n_fills = 0
    accepted = np.zeros(n_candidates)
    rule = np.zeros(n_candidates, np.int8)

    cash = capital
    peak = capital
    marked = capital
    day = np.int64(-1)
    day_open = capital
    c = 0
    t = 0
    while t < n_bars:
        if n_active == 0 and marked == cash:
            # Nothing moves before the next candidate, and the account has been marked without positions.
            until = candidate_bar[c] if c < n_candidates else n_bars
            while t < until:
                equity[t] = cash
                t += 1
            if t == n_bars:
                break
        still = 0
        for a in range(n_active):
            s = active[a]
            o = open_[s, t]
            if o != o:
                active[still] = s
                still += 1
                continue
            if status[s] == _OPEN:
                due = 0.0
                f = next_funding[s]
                while f < funding_start[s + 1] and funding_bar[f] <= t:
                    if funding_bar[f] == t:
                        due += funding_price[f]
                    f += 1
                next_funding[s] = f
                n = on_bar(book, s, o, high[s, t], low[s, t], due, leaving[s] != NOT_LEAVING, p, events, 0)
            else:
                n = enter(book, s, o, p, events, 0)
                status[s] = _OPEN
                opened[s] = open_time[t]
                trade_of[s] = n_trades
                trades[n_trades, T_SYMBOL] = s
                trades[n_trades, T_CANDIDATE] = waits[s]
                trades[n_trades, T_OPENED] = t
                trades[n_trades, T_CLOSED] = -1
                trades[n_trades, T_QUANTITY] = book[s, QUANTITY_INITIAL]
                trades[n_trades, T_ENTRY] = book[s, ENTRY]
                trades[n_trades, T_MARGIN] = book[s, MARGIN]
                trades[n_trades, T_STOP] = book[s, STOP]
                for k in range(T_PNL, TRADE_FIELDS):
                    trades[n_trades, k] = 0.0
                n_trades += 1
                if book[s, QUANTITY] > 0.0:
                    n = inside(book, s, o, high[s, t], low[s, t], p, events, n)
            mark[s] = close[s, t]
            if n > 0:
                if n_fills + n > fills.shape[0]:
                    fills = _grown(fills)
                k = trade_of[s]
                for e in range(n):
                    cash += events[e, E_PNL] - events[e, E_FEE]
                    if events[e, E_KIND] == FUNDING:
                        trades[k, T_FUNDING] -= events[e, E_PNL]
                    else:
                        trades[k, T_PNL] += events[e, E_PNL]
                        trades[k, T_FEES] += events[e, E_FEE]
                        trades[k, T_SLIPPAGE] += events[e, E_QUANTITY] * abs(
                            events[e, E_PRICE] - events[e, E_REFERENCE]
                        )
                        trades[k, T_LAST_KIND] = events[e, E_KIND]
                    fills[n_fills, F_TRADE] = k
                    fills[n_fills, F_BAR] = t
                    for j in range(EVENT_FIELDS):
                        fills[n_fills, F_EVENT + j] = events[e, j]
                    n_fills += 1
                if book[s, QUANTITY] == 0.0:
                    trades[k, T_CLOSED] = t
                    trades[k, T_EXIT_REASON] = leaving[s]
                    status[s] = _FLAT
                    leaving[s] = NOT_LEAVING
                    continue
            active[still] = s
            still += 1
        n_active = still

        if not decides[t]:
            t += 1
            continue
        unrealised = 0.0
        for a in range(n_active):
            s = active[a]
            if status[s] == _OPEN:
                if book[s, TARGET_FILLED] != 0.0 and atr[s, t] == atr[s, t]:
                    book[s, STOP] = trailed_stop(book, s, mark[s], atr[s, t], p)
                unrealised += book[s, SIDE] * (book[s, QUANTITY] * (mark[s] - book[s, ENTRY]))
        previous = marked
        marked = cash + unrealised
        equity[t] = marked
        peak = max(peak, marked)
        now = open_time[t] + length
        if now // _DAY != day:
            # The mark of midnight itself opens the day; else the last one before it does.
            day = now // _DAY
            day_open = marked if now % _DAY == 0 else previous

        drawdown = loss_from(peak, marked)
        if drawdown >= limits[L_DRAWDOWN_CLOSE]:
            still = 0
            for a in range(n_active):
                s = active[a]
                if status[s] == _WAITING:
                    status[s] = _FLAT
                else:
                    leaving[s] = BY_DRAWDOWN
                    active[still] = s
                    still += 1
            n_active = still
        for a in range(n_active):
            s = active[a]
            if status[s] == _OPEN and leaving[s] == NOT_LEAVING:
                if exits[s, t] & (EXIT_LONG if book[s, SIDE] > 0.0 else EXIT_SHORT):
                    leaving[s] = BY_SIGNAL
                elif now - opened[s] >= p[P_MAX_HOLDING]:
                    leaving[s] = BY_TIME

        while c < n_candidates and candidate_bar[c] == t:
            s = candidate_symbol[c]
            quantity = 0.0
            if status[s] != _FLAT:
                verdict = SYMBOL_BUSY
            elif drawdown >= limits[L_DRAWDOWN_STOP]:
                verdict = DRAWDOWN
            elif loss_from(day_open, marked) >= limits[L_DAILY_LOSS]:
                verdict = DAILY_LOSS
            else:
                side = candidates[c, C_SIDE]
                reference = candidates[c, C_REFERENCE]
                margin, count = _bound_margin(book, leaving, active, n_active, side)
                if count >= limits[L_MAX_POSITIONS]:
                    verdict = MAX_POSITIONS
                else:
                    stop = stop_price(side, reference, candidates[c, C_ATR], p)
                    # One position per symbol: a free one binds no margin of its own.
                    quantity, verdict = size_position(
                        reference,
                        stop,
                        candidates[c, C_CONFIDENCE],
                        marked,
                        0.0,
                        margin,
                        markets[s, 0],
                        markets[s, 1],
                        markets[s, 2],
                        p,
                        limits,
                    )
            if quantity > 0.0:
                prepare(
                    book,
                    s,
                    candidates[c, C_SIDE],
                    quantity,
                    candidates[c, C_REFERENCE],
                    candidates[c, C_ATR],
                    markets[s, 0],
                    p,
                )
                waits[s] = c
                status[s] = _WAITING
                n_active = _insert(active, n_active, s)
            accepted[c] = quantity
            rule[c] = verdict
            c += 1
        t += 1
    return equity, trades[:n_trades], fills[:n_fills], accepted, rule, cash
