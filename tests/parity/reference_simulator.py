"""The execution model once more, slow and obvious, to check the compiled engine from outside.

Written from the text of the execution model and of `docs/execution.md` alone: plain Python, one position at a time,
longs and shorts spelled out. It shares no code with the engine, the risk rules or the backtest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

HOUR = 60 * 60 * 1_000_000
DAY = 24 * HOUR
FIVE_MINUTES = HOUR // 12


@dataclass(frozen=True)
class Rules:
    """The numbers of the execution model."""

    fee: float = 0.00055
    slippage: float = 0.0005
    leverage: float = 5.0
    maintenance: float = 0.005
    stop_atr: float = 1.0
    target_atr: tuple[float, float, float] = (2.0, 3.5, 6.0)
    weights: tuple[float, float, float] = (0.3, 0.4, 0.3)
    trail_atr: float = 1.5
    time_limit: float | None = None  # microseconds
    risk: float = 0.01
    confidence_floor: float = 0.52
    smallest_scale: float = 0.25
    cap_trade: float = 0.20
    cap_symbol: float = 0.30
    cap_direction: float = 0.60
    most_positions: int = 5
    liquidation_buffer: float = 1.5
    drawdown_stop: float = 0.30
    drawdown_close: float = 0.35
    daily_loss: float = 0.05
    # Rules and locks beyond the execution model; times in microseconds.
    free_margin: bool = False
    risk_reward: float | None = None
    correlation: float | None = None
    correlation_days: int = 30
    correlation_hours: int = 240
    cooldown: float = 0.0
    stop_lock: float = 0.0
    reentry_share: float | None = None
    guard_stops: int | None = None
    guard_window: float = 0.0
    guard_lock: float = 0.0
    drawdown_lock: float = 0.0
    addition_profit: float | None = None
    most_additions: int = 1


@dataclass(frozen=True)
class Bar:
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True)
class Decision:
    """What a strategy says at one close of a symbol."""

    close: float
    atr: float | None
    entry: str | None  # LONG or SHORT
    confidence: float
    close_longs: bool
    close_shorts: bool


@dataclass(frozen=True)
class Symbol:
    """One market; `bars` and `decisions` by index of the time grid, absent where there is none."""

    name: str
    bars: Mapping[int, Bar]
    decisions: Mapping[int, Decision]
    funding: Sequence[tuple[int, float, float | None]] = ()  # time, rate, mark
    step: float = 0.0
    price_step: float = 0.0
    smallest_quantity: float = 0.0
    smallest_notional: float = 0.0


@dataclass
class Fill:
    symbol: str
    bar: int
    kind: str
    quantity: float
    reference: float
    price: float
    fee: float
    pnl: float


@dataclass
class Trade:
    symbol: str
    side: str
    opened: int
    quantity: float
    entry: float
    stop: float
    risk: float
    additions: int = 0
    closed: int | None = None
    closed_by: str | None = None
    pnl: float = 0.0
    fees: float = 0.0
    funding: float = 0.0


@dataclass
class Lock:
    """Entries are refused before `until`; no symbol means all symbols, no side both sides."""

    reason: str
    until: float
    symbol: str | None = None
    side: str | None = None


@dataclass
class Addition:
    """What is to be added to a position at the next open."""

    quantity: float
    stop: float
    reference: float
    margin: float


@dataclass
class Position:
    symbol: Symbol
    side: str
    quantity: float  # what the entry margin is for
    reference: float
    targets: tuple[float, ...]
    target_quantities: list[float]
    stop: float
    margin_at_decision: float
    # from the fill on:
    trade: Trade | None = None
    entry: float = 0.0
    entry_margin: float = 0.0
    liquidation: float = 0.0
    left: float = 0.0
    filled_a_target: bool = False
    exit_decided: bool = False
    last_close: float = 0.0
    addition: Addition | None = None

    @property
    def waits(self) -> bool:
        return self.trade is None

    @property
    def margin(self) -> float:
        """What the position itself binds."""
        return self.margin_at_decision if self.waits else self.entry_margin * (self.left / self.quantity)

    @property
    def margins(self) -> list[float]:
        return [self.margin] if self.addition is None else [self.margin, self.addition.margin]

    def unrealised(self) -> float:
        if self.waits:
            return 0.0
        if self.side == "LONG":
            return self.left * (self.last_close - self.entry)
        return -(self.left * (self.last_close - self.entry))


@dataclass
class Account:
    """All that a simulation ends with; `free` is the cash that is not bound as margin."""

    rules: Rules
    start: float
    free: float
    positions: dict[str, Position] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    identities: list[tuple[float, float]] = field(default_factory=list)
    locks: list[Lock] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)
    paid: float = 0.0
    earned: float = 0.0


def simulate(
    symbols: Sequence[Symbol],
    times: Sequence[int],
    bar_length: int,
    decides: Sequence[bool],
    start: float,
    rules: Rules,
) -> Account:
    """Walk over the grid bar by bar; `times` are the open times in microseconds since 1970."""
    account = Account(rules, start, start)
    wallet = start  # free cash and bound margin together
    peak = start
    day, day_open, last_equity = None, start, start
    previous_open: dict[str, int] = {}
    for i, now in enumerate(times):
        for symbol in symbols:
            bar = symbol.bars.get(i)
            if bar is None:
                continue
            position = account.positions.get(symbol.name)
            if position is not None:
                for flow in market_moves(account, position, i, bar, previous_open.get(symbol.name), now):
                    wallet += flow
            previous_open[symbol.name] = now
        if not decides[i]:
            continue
        open_positions = [account.positions[s.name] for s in symbols if s.name in account.positions]
        for position in open_positions:
            decision = position.symbol.decisions.get(i)
            if not position.waits and decision is not None:
                move_stop(position, decision, rules)
        equity = wallet + sum(p.unrealised() for p in open_positions)
        account.equity.append(equity)
        bound = sum(p.margin for p in open_positions if not p.waits)
        unrealised = sum(p.unrealised() for p in open_positions)
        account.identities.append(
            (account.free + bound + unrealised, start + account.earned - account.paid + unrealised)
        )
        closes_at = now + bar_length
        peak = max(peak, equity)
        if closes_at // DAY != day:
            day = closes_at // DAY
            day_open = equity if closes_at % DAY == 0 else last_equity
        last_equity = equity
        drawdown = max(0.0, 1 - equity / peak)
        lost_today = max(0.0, 1 - equity / day_open) if day_open > 0 else 0.0
        lock_after_losses(account, closes_at, drawdown, lost_today)
        decide_exits(account, open_positions, i, closes_at, times, drawdown)
        decide_entries(account, symbols, i, closes_at, times, wallet, equity, drawdown, lost_today)
    return account


def market_moves(
    account: Account, position: Position, i: int, bar: Bar, previous_open: int | None, now: int
) -> list[float]:
    """Rules 1 to 6; the changes of the account in their order."""
    first_fill = len(account.fills)
    if position.waits:
        enter(account, position, i, bar)
    else:
        due = [f for f in position.symbol.funding if (previous_open is None or f[0] > previous_open) and f[0] <= now]
        if due:
            pay_funding(account, position, i, bar, due)
        if position.exit_decided:
            close(account, position, i, "EXIT", position.left, bar.open)
    if position.left > 0:
        gap_through_stop(account, position, i, bar)
    if position.left > 0 and position.addition is not None:
        add(account, position, i, bar, position.addition)
        position.addition = None
        gap_through_stop(account, position, i, bar)
    if position.left > 0:
        inside_the_bar(account, position, i, bar)
    position.last_close = bar.close
    if position.left == 0:
        assert position.trade is not None
        position.trade.closed = i
        position.trade.closed_by = account.fills[-1].kind
        lock_after_close(account, position, now)
        del account.positions[position.symbol.name]
    return [fill.pnl - fill.fee for fill in account.fills[first_fill:]]


def enter(account: Account, position: Position, i: int, bar: Bar) -> None:
    rules = account.rules
    if position.side == "LONG":
        price = bar.open * (1 + rules.slippage)
        position.liquidation = price * (1 - (1 / rules.leverage - rules.maintenance))
    else:
        price = bar.open * (1 - rules.slippage)
        position.liquidation = price * (1 + (1 / rules.leverage - rules.maintenance))
    position.entry = price
    position.entry_margin = position.quantity * price / rules.leverage
    position.left = position.quantity
    risk = position.quantity * abs(position.reference - position.stop)
    position.trade = Trade(position.symbol.name, position.side, i, position.quantity, price, position.stop, risk)
    account.trades.append(position.trade)
    account.free -= position.entry_margin
    fee = position.quantity * price * rules.fee
    book(account, position, Fill(position.symbol.name, i, "ENTRY", position.quantity, bar.open, price, fee, 0.0))


def add(account: Account, position: Position, i: int, bar: Bar, addition: Addition) -> None:
    """Average the entry, add up the margins, keep the better stop, spread the quantity over the targets that work."""
    rules, trade = account.rules, position.trade
    assert trade is not None
    new = addition.quantity
    price = bar.open * (1 + rules.slippage) if position.side == "LONG" else bar.open * (1 - rules.slippage)
    account.free -= new * price / rules.leverage
    total = sum_of_steps(position.left, new, position.symbol.step)
    position.entry_margin = position.margin + new * price / rules.leverage
    position.entry = (position.left * position.entry + new * price) / total
    position.quantity = position.left = total
    if position.side == "LONG":
        position.liquidation = position.entry * (1 - (1 / rules.leverage - rules.maintenance))
        position.stop = max(position.stop, addition.stop)
    else:
        position.liquidation = position.entry * (1 + (1 / rules.leverage - rules.maintenance))
        position.stop = min(position.stop, addition.stop)
    working = [k for k in range(3) if position.target_quantities[k] > 0]
    rest = new
    for k in working:
        part = round_down(new * (rules.weights[k] / sum(rules.weights[j] for j in working)), position.symbol.step)
        if k == working[-1]:
            part = rest
        rest = sum_of_steps(rest, -part, position.symbol.step)
        position.target_quantities[k] = sum_of_steps(position.target_quantities[k], part, position.symbol.step)
    trade.entry = (trade.quantity * trade.entry + new * price) / (trade.quantity + new)
    trade.quantity = trade.quantity + new
    trade.risk += new * abs(addition.reference - addition.stop)
    trade.additions += 1
    book(account, position, Fill(position.symbol.name, i, "ENTRY", new, bar.open, price, new * price * rules.fee, 0.0))


def lock_after_close(account: Account, position: Position, now: int) -> None:
    """Cooldown of the symbol, and after a stop-out the lock of its side and perhaps the guard's."""
    rules, trade = account.rules, position.trade
    assert trade is not None
    now = now // FIVE_MINUTES * FIVE_MINUTES
    account.locks.append(Lock("cooldown", now + rules.cooldown, position.symbol.name))
    stopped = trade.closed_by == "STOP" and not position.filled_a_target
    if not stopped and trade.closed_by != "LIQUIDATION":
        return
    account.locks.append(Lock("stop_lock", now + rules.stop_lock, position.symbol.name, position.side))
    account.stops.append(now)
    recent = [stop for stop in account.stops if now - rules.guard_window < stop <= now]
    if rules.guard_stops is not None and len(recent) >= rules.guard_stops:
        account.locks.append(Lock("stop_guard", now + rules.guard_lock))


def lock_after_losses(account: Account, closes_at: int, drawdown: float, lost_today: float) -> None:
    rules = account.rules
    if lost_today >= rules.daily_loss:
        account.locks.append(Lock("daily_loss", (closes_at // DAY + 1) * DAY))
    held = any(lock.reason == "drawdown" and closes_at < lock.until for lock in account.locks)
    if drawdown >= rules.drawdown_stop and not held:
        account.locks.append(Lock("drawdown", closes_at + rules.drawdown_lock))


def pay_funding(
    account: Account, position: Position, i: int, bar: Bar, due: Sequence[tuple[int, float, float | None]]
) -> None:
    amount = position.left * sum((bar.open if mark is None else mark) * rate for _, rate, mark in due)
    if position.side == "SHORT":
        amount = -amount
    if amount != 0:
        fill = Fill(position.symbol.name, i, "FUNDING", position.left, bar.open, bar.open, 0.0, -amount)
        book(account, position, fill)


def gap_through_stop(account: Account, position: Position, i: int, bar: Bar) -> None:
    if position.side == "LONG":
        at_stop, at_liquidation = bar.open <= position.stop, bar.open <= position.liquidation
    else:
        at_stop, at_liquidation = bar.open >= position.stop, bar.open >= position.liquidation
    if at_stop and at_liquidation:
        liquidate(account, position, i)
    elif at_stop:
        close(account, position, i, "STOP", position.left, bar.open)


def inside_the_bar(account: Account, position: Position, i: int, bar: Bar) -> None:
    if position.side == "LONG":
        liquidation_first = position.liquidation > position.stop
        hit_liquidation, hit_stop = bar.low <= position.liquidation, bar.low <= position.stop
    else:
        liquidation_first = position.liquidation < position.stop
        hit_liquidation, hit_stop = bar.high >= position.liquidation, bar.high >= position.stop
    if liquidation_first and hit_liquidation:
        liquidate(account, position, i)
        return
    if hit_stop:
        close(account, position, i, "STOP", position.left, position.stop)
        return
    for k, target in enumerate(position.targets):
        quantity = position.target_quantities[k]
        if quantity == 0:
            continue
        if position.side == "LONG":
            reached, price = bar.high >= target, max(bar.open, target)
        else:
            reached, price = bar.low <= target, min(bar.open, target)
        if reached:
            position.target_quantities[k] = 0.0
            position.filled_a_target = True
            close(account, position, i, f"TP{k + 1}", position.left if k == 2 else quantity, price)


def close(account: Account, position: Position, i: int, kind: str, quantity: float, reference: float) -> None:
    rules = account.rules
    if position.side == "LONG":
        price = reference * (1 - rules.slippage)
        pnl = quantity * (price - position.entry)
    else:
        price = reference * (1 + rules.slippage)
        pnl = -(quantity * (price - position.entry))
    before = position.margin
    position.left -= quantity
    account.free += before - position.margin
    fee = quantity * price * rules.fee
    book(account, position, Fill(position.symbol.name, i, kind, quantity, reference, price, fee, pnl))


def liquidate(account: Account, position: Position, i: int) -> None:
    lost = position.margin
    price = position.liquidation
    fill = Fill(position.symbol.name, i, "LIQUIDATION", position.left, price, price, 0.0, -lost)
    position.left = 0.0
    account.free += lost  # given back, and lost with the fill
    book(account, position, fill)


def book(account: Account, position: Position, fill: Fill) -> None:
    trade = position.trade
    assert trade is not None
    account.fills.append(fill)
    account.free += fill.pnl - fill.fee
    account.paid += fill.fee
    if fill.kind == "FUNDING":
        account.paid -= fill.pnl
        trade.funding -= fill.pnl
    else:
        account.earned += fill.pnl
        trade.pnl += fill.pnl
        trade.fees += fill.fee


def move_stop(position: Position, decision: Decision, rules: Rules) -> None:
    """Rule 7."""
    if not position.filled_a_target or decision.atr is None:
        return
    costs = 2 * rules.fee + 2 * rules.slippage
    if position.side == "LONG":
        break_even = position.entry * (1 + costs)
        trail = decision.close - rules.trail_atr * decision.atr
        wanted = max(position.stop, break_even, trail)
        if wanted > position.stop:
            position.stop = max(position.stop, round_price(wanted, position.symbol.price_step))
    else:
        break_even = position.entry * (1 - costs)
        trail = decision.close + rules.trail_atr * decision.atr
        wanted = min(position.stop, break_even, trail)
        if wanted < position.stop:
            position.stop = min(position.stop, round_price(wanted, position.symbol.price_step))


def decide_exits(
    account: Account, positions: Sequence[Position], i: int, closes_at: int, times: Sequence[int], drawdown: float
) -> None:
    rules = account.rules
    for position in positions:
        decision = position.symbol.decisions.get(i)
        if drawdown >= rules.drawdown_close:
            if position.waits:
                del account.positions[position.symbol.name]
            position.exit_decided = True
        elif position.trade is not None:
            if decision is not None:
                leave = decision.close_longs if position.side == "LONG" else decision.close_shorts
                position.exit_decided = position.exit_decided or leave
            if rules.time_limit is not None and closes_at - times[position.trade.opened] >= rules.time_limit:
                position.exit_decided = True
        if position.exit_decided:
            position.addition = None


def decide_entries(
    account: Account,
    symbols: Sequence[Symbol],
    i: int,
    closes_at: int,
    times: Sequence[int],
    wallet: float,
    equity: float,
    drawdown: float,
    lost_today: float,
) -> None:
    rules = account.rules
    wanted = [(s, s.decisions[i]) for s in symbols if i in s.decisions]
    wanted = [(s, d) for s, d in wanted if d.entry is not None and d.atr is not None]
    for symbol, decision in sorted(wanted, key=lambda pair: (-pair[1].confidence, pair[0].name)):
        held = account.positions.get(symbol.name)
        if held is not None and not may_be_added_to(held, decision, rules):
            continue
        if drawdown >= rules.drawdown_stop or lost_today >= rules.daily_loss:
            continue
        locks = [lock for lock in account.locks if closes_at < lock.until]
        locks = [lock for lock in locks if lock.symbol in (None, symbol.name) and lock.side in (None, decision.entry)]
        share = 1.0
        if rules.reentry_share is not None and any(lock.reason == "stop_lock" for lock in locks):
            share = rules.reentry_share
            locks = [lock for lock in locks if lock.reason != "stop_lock"]
        if locks:
            continue
        in_play = [account.positions[s.name] for s in symbols if s.name in account.positions]
        counted = [p for p in in_play if not p.exit_decided]
        others = [p for p in counted if p.symbol is not symbol]
        if len(others) >= rules.most_positions:
            continue
        if rules.correlation is not None:
            same_side = [p.symbol for p in others if p.side == decision.entry]
            known = [correlation(symbol, other, closes_at, times, rules) for other in same_side]
            if any(value is not None and value >= rules.correlation for value in known):
                continue
        free = cash_that_nothing_binds(wallet, in_play, rules) if rules.free_margin else math.inf
        position = size(symbol, decision, equity, counted, free, share, rules)
        if position is None:
            continue
        if held is None:
            account.positions[symbol.name] = position
        else:
            held.addition = Addition(position.quantity, position.stop, position.reference, position.margin_at_decision)


def may_be_added_to(position: Position, decision: Decision, rules: Rules) -> bool:
    if rules.addition_profit is None or position.trade is None or position.addition is not None:
        return False
    if position.exit_decided or position.side != decision.entry or position.trade.additions >= rules.most_additions:
        return False
    moved = decision.close - position.entry
    return (moved if position.side == "LONG" else -moved) / position.entry > rules.addition_profit


def cash_that_nothing_binds(wallet: float, in_play: Sequence[Position], rules: Rules) -> float:
    """Margin on its way out is not back yet; what waits for its fill has claimed margin and entry fee."""
    free = wallet
    for position in in_play:
        free -= position.margin
        if position.waits:
            free -= position.margin * (rules.leverage * rules.fee)
        elif position.addition is not None:
            free -= position.addition.margin
            free -= position.addition.margin * (rules.leverage * rules.fee)
    return free


def correlation(a: Symbol, b: Symbol, closes_at: int, times: Sequence[int], rules: Rules) -> float | None:
    """Pearson's, of hourly log returns over the days before the last midnight; None with too few common hours."""
    end = closes_at // DAY * 24
    start = end - 24 * rules.correlation_days
    first, second = hourly_returns(a, start, end, times), hourly_returns(b, start, end, times)
    common = sorted(first.keys() & second.keys())
    if len(common) < rules.correlation_hours:
        return None
    x, y = [first[h] for h in common], [second[h] for h in common]
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    together = math.fsum((u - mean_x) * (v - mean_y) for u, v in zip(x, y, strict=True))
    spread = math.fsum((u - mean_x) ** 2 for u in x) * math.fsum((v - mean_y) ** 2 for v in y)
    return round(together / math.sqrt(spread), 6) if spread > 0 else None


def hourly_returns(symbol: Symbol, start: int, end: int, times: Sequence[int]) -> dict[int, float]:
    """By hours since 1970; the close of an hour is that of the last bar that opened in it."""
    closes: dict[int, float] = {}
    for i in sorted(symbol.bars):
        hour = times[i] // HOUR
        if hour >= end:
            break
        if hour >= start - 1:
            closes[hour] = symbol.bars[i].close
    return {h: math.log(closes[h]) - math.log(closes[h - 1]) for h in closes if h >= start and h - 1 in closes}


def size(
    symbol: Symbol,
    decision: Decision,
    equity: float,
    counted: Sequence[Position],
    free: float,
    share: float,
    rules: Rules,
) -> Position | None:
    """Section "Size and caps"; None when refused."""
    ref, atr, side = decision.close, decision.atr, decision.entry
    assert atr is not None
    assert side is not None
    if side == "LONG":
        stop = ref - rules.stop_atr * atr
        targets = tuple(ref + k * atr for k in rules.target_atr)
    else:
        stop = ref + rules.stop_atr * atr
        targets = tuple(ref - k * atr for k in rules.target_atr)
    gain = sum(w * abs(target - ref) for w, target in zip(rules.weights, targets, strict=True))
    if rules.risk_reward is not None and gain / abs(ref - stop) < rules.risk_reward:
        return None
    if equity <= 0:
        return None
    if ref * (1 / rules.leverage - rules.maintenance) < rules.liquidation_buffer * abs(ref - stop):
        return None
    scale = (decision.confidence - rules.confidence_floor) / (1 - rules.confidence_floor)
    scale = min(max(scale, rules.smallest_scale), 1.0)
    loss_per_unit = ref * (abs(ref - stop) / ref + 2 * rules.fee + 2 * rules.slippage)
    quantity = rules.risk * equity * scale / loss_per_unit
    same_symbol = sum(margin for p in counted if p.symbol.name == symbol.name for margin in p.margins)
    same_side = sum(margin for p in counted if p.side == side for margin in p.margins)
    most_margin = min(
        rules.cap_trade * equity,
        rules.cap_symbol * equity - same_symbol,
        rules.cap_direction * equity - same_side,
        free / (1 + rules.leverage * rules.fee),
    )
    if most_margin <= 0:
        return None
    if quantity * ref / rules.leverage > most_margin:
        quantity = most_margin * rules.leverage / ref
    quantity = quantity * share
    quantity = round_down(quantity, symbol.step)
    if quantity == 0 or quantity < symbol.smallest_quantity or quantity * ref < symbol.smallest_notional:
        return None
    first = round_down(rules.weights[0] * quantity, symbol.step)
    second = round_down(rules.weights[1] * quantity, symbol.step)
    third = quantity - first - second
    if symbol.step:
        third = float(Decimal(repr(quantity)) - Decimal(repr(first)) - Decimal(repr(second)))
    margin = quantity * ref / rules.leverage
    stop = round_price(stop, symbol.price_step)
    targets = tuple(round_price(target, symbol.price_step) for target in targets)
    return Position(symbol, side, quantity, ref, targets, [first, second, third], stop, margin)


def round_price(price: float, step: float) -> float:
    """The nearest price that the venue knows, of two the even one."""
    if step == 0:
        return price
    steps = (Decimal(repr(price)) / Decimal(repr(step))).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return float(steps * Decimal(repr(step)))


def sum_of_steps(a: float, b: float, step: float) -> float:
    """A sum of whole steps is one; what subtractions of floats have left in the 16th digit is no part of it."""
    return a + b if step == 0 else round_price(a + b, step)


def round_down(quantity: float, step: float) -> float:
    """In decimals, as a venue counts; what differs in the 16th digit only is the same number."""
    if step == 0:
        return quantity
    exact = Context(prec=15).create_decimal(repr(quantity))
    steps = (exact / Decimal(repr(step))).to_integral_value(rounding=ROUND_FLOOR)
    return float(steps * Decimal(repr(step)))
