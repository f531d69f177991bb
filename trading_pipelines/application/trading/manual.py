"""Trades by hand: what a person asks for, through the same order path as every signal.

An opening becomes a signal of the strategy `manual`, which the order path sizes, checks against the risk rules and
sends like any other; closing and moving exits use the functions that the monitor uses. All ids follow from the
instruction, so doing it again does nothing twice.

Belongs here: what each instruction means and when it is refused. Does not belong here: how instructions wait and
expire (`instructions`).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort
from trading_pipelines.application.features.atr import atr_at
from trading_pipelines.application.risk.rules import assess
from trading_pipelines.application.trading.execution import execute_signals
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.protection import Sent, close_position, move_stop, move_target
from trading_pipelines.domain.execution.amounts import exact, on_grid, round_down
from trading_pipelines.domain.execution.orders import TARGETS, PositionSide
from trading_pipelines.domain.execution.session import SessionStatus, TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.rules import Proposal
from trading_pipelines.domain.signals.lifecycle import SignalStatus
from trading_pipelines.domain.signals.policy import Direction
from trading_pipelines.domain.signals.setup import TradeSetup, build_setup
from trading_pipelines.errors import UserError
from trading_pipelines.store.repositories import instructions as instruction_store
from trading_pipelines.store.repositories import instruments, orders, positions
from trading_pipelines.store.repositories import signals as signal_store
from trading_pipelines.store.repositories.instructions import Instruction, InstructionStatus
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed

STRATEGY = "manual"


@dataclass(frozen=True)
class Desk:
    """One session's means of trading; `quotes` are the current prices by instrument id."""

    session: TradingSession
    exchange: ExchangePort
    kill: KillSwitch
    quotes: Mapping[int, float]


@dataclass(frozen=True)
class Outcome:
    """What became of an instruction, for the person who gave it."""

    status: InstructionStatus
    text: str


def open_trade(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome | None:
    """Open a position at the market with a stop and three targets.

    Arguments of the instruction: `symbol`, `side`; optional `stop` and `targets` (prices), else the multiples of the
    ATR that every set-up has; optional `size`, the share of the full risk per trade, else 1.
    """
    session = desk.session
    signal_id = signal_id_of(instruction)
    with committed(connection):
        known = instruction_store.signal_outcome(connection, signal_id)
    if known is None:
        if refusal := _why_not(connection, desk, instruction, as_of):
            return Outcome(InstructionStatus.REFUSED, refusal)
        propose(connection, desk, instruction, as_of)
    execute_signals(
        connection, session, desk.exchange, as_of, quotes=desk.quotes, kill=desk.kill, signal_ids=[signal_id]
    )
    with committed(connection):
        status, reason = instruction_store.signal_outcome(connection, signal_id) or (SignalStatus.ACTIVE, "")
    match status:
        case SignalStatus.ACTIVE:
            return None
        case SignalStatus.REJECTED | SignalStatus.CANCELLED | SignalStatus.EXPIRED:
            return Outcome(InstructionStatus.REFUSED, _with_remedy(reason))
        case _:
            return Outcome(InstructionStatus.DONE, "the entry is sent with its stop and targets")


def _with_remedy(reason: str) -> str:
    """The refusal, and what a person who named the levels can do about it."""
    if not reason.startswith("risk_reward:"):
        return reason
    return (
        f"{reason}: name targets farther away or a stop nearer to the price (--targets, --stop), or allow less with "
        "the limit min_risk_reward of the session (TRADING_RISK__MIN_RISK_REWARD)"
    )


def close_trade(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome | None:
    """Close the position `position_id` at the market, or the `share` of it that is asked for."""
    position = _position(connection, desk, instruction)
    if position is None:
        return Outcome(InstructionStatus.DONE, "the position is closed already")
    part = _part(instruction, position)
    sent = close_position(
        connection,
        desk.session,
        desk.exchange,
        position,
        "MANUAL",
        as_of,
        quantity=part,
        trade_id=None if part is None else instruction.instruction_id,
    )
    return _of_exit(sent, "the exit is sent; it fills at the next price")


def set_stop(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome | None:
    """Put the stop of the position `position_id` at `price`; trailing goes on from there."""
    position = _position(connection, desk, instruction)
    if position is None:
        return Outcome(InstructionStatus.REFUSED, "the position is closed")
    price = on_grid(_number(instruction, "price"), position.price_step)
    mark, sign = _mark(desk, position), position.side.sign
    if (mark - price) * sign <= 0:
        side = "below" if sign > 0 else "above"
        return Outcome(InstructionStatus.REFUSED, f"a stop of this position lies {side} the price, which is {mark:f}")
    if (price - position.liquidation_price) * sign <= 0:
        limit = on_grid(float(position.liquidation_price), position.price_step)
        return Outcome(InstructionStatus.REFUSED, f"the position would be liquidated at {limit:f} before that stop")
    if price == position.stop_price and position.quantity_protected == position.quantity_open:
        return Outcome(InstructionStatus.DONE, f"the stop is at {price:f}")
    sent = move_stop(connection, desk.session, desk.exchange, position, price, as_of)
    return _of_exit(sent, f"the stop is at {price:f}")


def set_target(
    connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime
) -> Outcome | None:
    """Put target `number` (1 to 3) of the position `position_id` at `price`."""
    position = _position(connection, desk, instruction)
    if position is None:
        return Outcome(InstructionStatus.REFUSED, "the position is closed")
    number = int(instruction.arguments["number"])
    if number not in (1, 2, 3):
        raise UserError(f"there are targets 1 to 3, not {number}")
    price = on_grid(_number(instruction, "price"), position.price_step)
    mark = _mark(desk, position)
    if (price - mark) * position.side.sign <= 0:
        side = "above" if position.side.sign > 0 else "below"
        return Outcome(InstructionStatus.REFUSED, f"a target of this position lies {side} the price, which is {mark:f}")
    leg = TARGETS[number - 1]
    with committed(connection):
        working = orders.working_targets(connection, position.position_id).get(leg)
    if working is not None and working.trigger_price == price:
        return Outcome(InstructionStatus.DONE, f"target {number} is at {price:f}")
    sent = move_target(connection, desk.session, desk.exchange, position, leg, price, as_of)
    if sent is Sent.NOT_SENT:
        return Outcome(InstructionStatus.REFUSED, f"target {number} is filled, or nothing is left for it")
    return _of_exit(sent, f"target {number} is at {price:f}")


def give_up(connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime) -> Outcome:
    """Make sure that an instruction which came too late has no effect any more, unless it already had one."""
    signal_id = signal_id_of(instruction)
    with committed(connection):
        orders.lock_session(connection, desk.session.session_id)
        known = instruction_store.signal_outcome(connection, signal_id)
        status = None if known is None else known[0]
        if status is SignalStatus.ACTIVE:
            orders.set_signal_status(connection, signal_id, SignalStatus.EXPIRED, "not carried out in time", as_of)
    if status in (None, SignalStatus.ACTIVE, SignalStatus.EXPIRED):
        return Outcome(InstructionStatus.EXPIRED, "could not be carried out in time")
    return Outcome(InstructionStatus.DONE, f"the signal became {status}")


# Opening


def _why_not(connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime) -> str | None:
    session, side = desk.session, _side(instruction)
    if session.direction not in (Direction.BOTH, Direction(side.value)):
        return f"the session opens {session.direction} only"
    with committed(connection):
        status = orders.lock_session(connection, session.session_id)
        if status != SessionStatus.RUNNING:
            return f"the session is {status}"
        return desk.kill.refusal(connection, session.session_id, as_of)


def propose(connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction, as_of: datetime) -> None:
    """Store the signal that an instruction to open stands for; nothing is sent yet."""
    session, side = desk.session, _side(instruction)
    row = instruments.by_symbol(connection, session.exchange).get(str(instruction.arguments["symbol"]))
    connection.commit()
    if row is None or row.instrument.symbol not in session.symbols:
        raise UserError(f"the session does not trade {instruction.arguments['symbol']}")
    price = desk.quotes.get(row.instrument_id)
    if price is None:
        raise UserError(f"there is no current price of {row.instrument.symbol}")
    setup = _setup(connection, session, instruction, row.instrument.symbol, side, price, as_of)
    proposal = Proposal(
        instrument_id=row.instrument_id,
        instrument=row.instrument,
        side=side,
        reference_price=setup.reference_price,
        stop_price=setup.stop_price,
        targets=setup.targets,
        confidence=setup.confidence,
    )
    with committed(connection):
        size = assess(connection, session, proposal, as_of).size
        key: dict[str, Any] = {
            "session_id": session.session_id,
            "instrument_id": row.instrument_id,
            "timeframe": session.timeframe,
            "ts": instruction.requested_at,
            "strategy": STRATEGY,
        }
        factors = {"size": _size(instruction)}
        with connection.cursor() as cursor:
            signal_store.insert_decisions(
                cursor,
                [
                    signal_store.DecisionRow(
                        **key,
                        decided_at=as_of,
                        outcome="SIGNAL",
                        reason=f"asked for by {instruction.requested_by}",
                        side=side,
                        confidence=setup.confidence,
                        model_id=None,
                        gates=[],
                        setup=asdict(setup),
                        factors=factors,
                        run_id=str(instruction.instruction_id),
                    )
                ],
            )
            signal_store.insert_signals(
                cursor,
                [
                    signal_store.SignalRow(
                        **key,
                        signal_id=signal_id_of(instruction),
                        created_at=as_of,
                        valid_until=instruction.valid_until,
                        side=side,
                        entry_price=setup.reference_price,
                        stop_price=setup.stop_price,
                        tp1_price=setup.targets[0],
                        tp2_price=setup.targets[1],
                        tp3_price=setup.targets[2],
                        atr=setup.atr,
                        leverage=session.execution.leverage,
                        quantity=size.quantity,
                        margin=size.margin,
                        probability=setup.probability,
                        confidence=setup.confidence,
                        risk_reward=setup.risk_reward,
                        gross_profit=setup.gross_profit,
                        cost=setup.cost,
                        net_profit=setup.net_profit,
                        expected_value=setup.expected_value,
                        model_id=None,
                        factors=factors,
                        run_id=str(instruction.instruction_id),
                        updated_at=as_of,
                    )
                ],
            )


def _setup(
    connection: psycopg.Connection[Any],
    session: TradingSession,
    instruction: Instruction,
    symbol: str,
    side: PositionSide,
    price: float,
    as_of: datetime,
) -> TradeSetup:
    """The set-up at the current price; a stop of the person's own sets the scale of the targets as well.

    A person states no probability, so the confidence is the one at which the sizing gives the share that was asked for.
    """
    limits, stop, targets = session.limits, instruction.arguments.get("stop"), instruction.arguments.get("targets")
    if stop is None:
        frame = Timeframe(session.timeframe)
        atr = atr_at(connection, session.exchange, symbol, frame, frame.last_closed(as_of))
        if not atr > 0:
            raise UserError(f"there is no ATR of {symbol} yet: name a stop")
    else:
        distance = (price - float(stop)) * side.sign
        if not 0 < distance < price:
            raise UserError(f"the stop of a {side} lies {'below' if side.sign > 0 else 'above'} the price, {price:g}")
        atr = distance / session.execution.stop_atr
    confidence = limits.confidence_floor + _size(instruction) * (1 - limits.confidence_floor)
    setup = build_setup(side, price, atr, confidence, confidence, session.execution)
    if targets is None:
        return setup
    own = tuple(float(target) for target in targets)
    rising = [target * side.sign for target in own]
    if len(own) != 3 or rising != sorted(set(rising)) or rising[0] <= price * side.sign:
        raise UserError("three targets are needed, each further from the price than the one before")
    distances = [abs(target - price) / price for target in own]
    gross = sum(w * d for w, d in zip(session.execution.target_weights, distances, strict=True))
    risk = abs(price - setup.stop_price) / price
    return TradeSetup(
        **{
            **vars(setup),
            "targets": own,
            "gross_profit": gross,
            "net_profit": gross - setup.cost,
            "risk_reward": gross / risk,
            "expected_value": confidence * (gross - setup.cost) - (1 - confidence) * (risk + setup.cost),
        }
    )


def signal_id_of(instruction: Instruction) -> UUID:
    """The signal that an opening becomes."""
    return uuid5(instruction.session_id, f"manual:{instruction.idempotency_key}")


def _side(instruction: Instruction) -> PositionSide:
    side = str(instruction.arguments["side"]).upper()
    if side not in list(PositionSide):
        raise UserError(f"a side is LONG or SHORT, not {side}")
    return PositionSide(side)


def _size(instruction: Instruction) -> float:
    size = float(instruction.arguments.get("size") or 1.0)
    if not 0 < size <= 1:
        raise UserError(f"a size is a share of the full risk, above 0 and at most 1, not {size:g}")
    return size


# Positions


def _position(connection: psycopg.Connection[Any], desk: Desk, instruction: Instruction) -> OpenPosition | None:
    wanted = UUID(str(instruction.arguments["position_id"]))
    with committed(connection):
        held = positions.open_positions(connection, desk.session.session_id)
    return next((position for position in held if position.position_id == wanted), None)


def _mark(desk: Desk, position: OpenPosition) -> Decimal:
    """The current price, or the last one known."""
    quote = desk.quotes.get(position.instrument_id)
    return position.mark_price if quote is None else exact(quote)


def _part(instruction: Instruction, position: OpenPosition) -> Decimal | None:
    """How much to close, on the venue's step; None for all of it."""
    share = float(instruction.arguments.get("share") or 1.0)
    if not 0 < share <= 1:
        raise UserError(f"a share lies above 0 and is at most 1, not {share:g}")
    if share == 1:
        return None
    part = round_down(position.quantity_open * exact(share), position.quantity_step)
    if part <= 0:
        raise UserError(f"{share:.0%} of the position is less than the venue's step")
    return part


def _of_exit(sent: Sent, done: str) -> Outcome | None:
    match sent:
        case Sent.PLACED:
            return Outcome(InstructionStatus.DONE, done)
        case Sent.NOT_SENT:
            return Outcome(InstructionStatus.DONE, "an exit is under way already")
        case Sent.REFUSED:
            return Outcome(InstructionStatus.REFUSED, "the exchange refused it: see the orders")
        case Sent.UNKNOWN:
            return None


def _number(instruction: Instruction, name: str) -> float:
    value = float(instruction.arguments[name])
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{name} has to be a positive number, not {value:g}")
    return value
