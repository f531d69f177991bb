"""The execution model once more, slow and obvious, to check the compiled engine from outside.

Written from the text of the execution model alone: plain Python, one position at a time, longs and shorts spelled
out. It shares no code with the engine, the risk rules or the backtest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Context, Decimal

DAY = 24 * 60 * 60 * 1_000_000


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
    closed: int | None = None
    closed_by: str | None = None
    pnl: float = 0.0
    fees: float = 0.0
    funding: float = 0.0


@dataclass
class Position:
    symbol: Symbol
    side: str
    quantity: float
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

    @property
    def waits(self) -> bool:
        return self.trade is None

    @property
    def margin(self) -> float:
        return self.margin_at_decision if self.waits else self.entry_margin * (self.left / self.quantity)

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
        decide_exits(account, open_positions, i, closes_at, times, drawdown)
        decide_entries(account, symbols, i, equity, drawdown, lost_today)
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
    if position.left > 0:
        inside_the_bar(account, position, i, bar)
    position.last_close = bar.close
    if position.left == 0:
        assert position.trade is not None
        position.trade.closed = i
        position.trade.closed_by = account.fills[-1].kind
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
    position.trade = Trade(position.symbol.name, position.side, i, position.quantity, price, position.stop)
    account.trades.append(position.trade)
    account.free -= position.entry_margin
    fee = position.quantity * price * rules.fee
    book(account, position, Fill(position.symbol.name, i, "ENTRY", position.quantity, bar.open, price, fee, 0.0))


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
        position.stop = max(position.stop, break_even, trail)
    else:
        break_even = position.entry * (1 - costs)
        trail = decision.close + rules.trail_atr * decision.atr
        position.stop = min(position.stop, break_even, trail)


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


def decide_entries(
    account: Account, symbols: Sequence[Symbol], i: int, equity: float, drawdown: float, lost_today: float
) -> None:
    rules = account.rules
    wanted = [(s, s.decisions[i]) for s in symbols if i in s.decisions]
    wanted = [(s, d) for s, d in wanted if d.entry is not None and d.atr is not None]
    for symbol, decision in sorted(wanted, key=lambda pair: (-pair[1].confidence, pair[0].name)):
        if symbol.name in account.positions:
            continue
        if drawdown >= rules.drawdown_stop or lost_today >= rules.daily_loss:
            continue
        counted = [account.positions[s.name] for s in symbols if s.name in account.positions]
        counted = [p for p in counted if not p.exit_decided]
        if len(counted) >= rules.most_positions:
            continue
        position = size(symbol, decision, equity, counted, rules)
        if position is not None:
            account.positions[symbol.name] = position


def size(
    symbol: Symbol, decision: Decision, equity: float, counted: Sequence[Position], rules: Rules
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
    if equity <= 0:
        return None
    if ref * (1 / rules.leverage - rules.maintenance) < rules.liquidation_buffer * abs(ref - stop):
        return None
    scale = (decision.confidence - rules.confidence_floor) / (1 - rules.confidence_floor)
    scale = min(max(scale, rules.smallest_scale), 1.0)
    loss_per_unit = ref * (abs(ref - stop) / ref + 2 * rules.fee + 2 * rules.slippage)
    quantity = rules.risk * equity * scale / loss_per_unit
    same_symbol = sum(p.margin for p in counted if p.symbol.name == symbol.name)
    same_side = sum(p.margin for p in counted if p.side == side)
    most_margin = min(
        rules.cap_trade * equity, rules.cap_symbol * equity - same_symbol, rules.cap_direction * equity - same_side
    )
    if most_margin <= 0:
        return None
    if quantity * ref / rules.leverage > most_margin:
        quantity = most_margin * rules.leverage / ref
    quantity = round_down(quantity, symbol.step)
    if quantity == 0 or quantity < symbol.smallest_quantity or quantity * ref < symbol.smallest_notional:
        return None
    first = round_down(rules.weights[0] * quantity, symbol.step)
    second = round_down(rules.weights[1] * quantity, symbol.step)
    third = quantity - first - second
    if symbol.step:
        third = float(Decimal(repr(quantity)) - Decimal(repr(first)) - Decimal(repr(second)))
    margin = quantity * ref / rules.leverage
    return Position(symbol, side, quantity, targets, [first, second, third], stop, margin)


def round_down(quantity: float, step: float) -> float:
    """In decimals, as a venue counts; what differs in the 16th digit only is the same number."""
    if step == 0:
        return quantity
    exact = Context(prec=15).create_decimal(repr(quantity))
    steps = (exact / Decimal(repr(step))).to_integral_value(rounding=ROUND_FLOOR)
    return float(steps * Decimal(repr(step)))
