"""The first stage of the order path: from an active signal to the intent of its orders, or to a refusal.

Belongs here: whether a signal is traded now, how large, and as which orders; everything is decided and stored in one
transaction, before anything is sent. Does not belong here: sending (`sending`) and what the rules are (`risk`).
"""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from trading_pipelines.application.risk.rules import Stage, assess, keep_assessment
from trading_pipelines.application.trading.order_context import OrderContext, Outcome
from trading_pipelines.domain.engine.lifecycle import ladder_quantities, spread_addition
from trading_pipelines.domain.execution.amounts import exact, on_grid
from trading_pipelines.domain.execution.orders import (
    TARGETS,
    BracketRequest,
    Leg,
    OrderRequest,
    OrderStatus,
    OrderType,
    client_order_id,
)
from trading_pipelines.domain.execution.session import SessionStatus
from trading_pipelines.domain.risk import sizing
from trading_pipelines.domain.risk.rules import Proposal
from trading_pipelines.domain.signals.lifecycle import SignalStatus
from trading_pipelines.store.repositories import orders, positions
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.repositories.orders import SignalOrder, StoredOrder
from trading_pipelines.store.repositories.positions import OpenPosition
from trading_pipelines.store.transaction import committed


def prepare(context: OrderContext, signal_id: UUID) -> BracketRequest | Outcome:
    """Decide under the lock of the session, and commit either the refusal or the intents."""
    connection, session = context.connection, context.session
    with committed(connection):
        status = orders.lock_session(connection, session.session_id)
        signal = orders.claim_signal(connection, signal_id, context.as_of)
        if signal is None or status != SessionStatus.RUNNING or signal.instrument_id not in context.quotes:
            return Outcome.WAITING
        intents = orders.of_signal(connection, signal_id)
        if any(order.status is not OrderStatus.INTENT for order in intents):
            return Outcome.WAITING
        if refusal := _entry_drift(context, signal):
            names = [order.client_order_id for order in intents]
            orders.set_status(connection, names, OrderStatus.CANCELLED, context.as_of, refusal)
            return _give_up(context, signal, SignalStatus.CANCELLED, refusal, Outcome.CANCELLED)
        if intents:
            return _stored_bracket(intents, context)
        bracket = _sized_bracket(context, signal)
        if isinstance(bracket, BracketRequest):
            orders.insert_intents(
                connection,
                session.session_id,
                bracket.legs,
                signal_id=signal_id,
                requested_price=exact(context.quotes[signal.instrument_id]),
                at=context.as_of,
                run_id=context.run_id,
            )
        return bracket


def _sized_bracket(context: OrderContext, signal: SignalOrder) -> BracketRequest | Outcome:
    """Ask the risk rules; what they allow is an entry, or an addition to the position that is there."""
    connection, session = context.connection, context.session
    proposal = _proposal(signal)
    risk = assess(connection, session, proposal, context.as_of)
    keep_assessment(connection, session, signal.signal_id, proposal, Stage.ORDER, risk, context.as_of)
    if risk.outcome is sizing.Outcome.REFUSE:
        return _give_up(context, signal, SignalStatus.REJECTED, risk.reason, Outcome.REJECTED)
    if risk.outcome is sizing.Outcome.REDUCE:
        context.event("size_reduced", signal.instrument.symbol, risk.reason, Severity.INFO)
    quantity = on_grid(risk.quantity, signal.instrument.quantity_step)
    held = [
        position
        for position in positions.open_positions(connection, session.session_id)
        if position.instrument_id == signal.instrument_id and not position.exit_pending
    ]
    return _addition(context, signal, held[0], quantity) if held else _entry(context, signal, quantity)


def _entry(context: OrderContext, signal: SignalOrder, quantity: Decimal) -> BracketRequest:
    """An entry with stop and targets as the signal has them."""
    step = signal.instrument.quantity_step
    first, second, _ = ladder_quantities(float(quantity), context.session.execution.target_weights, float(step))
    one, two = on_grid(first, step), on_grid(second, step)
    leverage = exact(context.session.execution.leverage)
    return _bracket(
        context,
        signal,
        Leg.ENTRY,
        quantity,
        leverage,
        (quantity, _price(signal, signal.stop_price)),
        {
            leg: (part, _price(signal, price))
            for leg, part, price in zip(TARGETS, (one, two, quantity - one - two), signal.targets, strict=True)
        },
    )


def _addition(context: OrderContext, signal: SignalOrder, position: OpenPosition, quantity: Decimal) -> BracketRequest:
    """An addition with the exits for all that is open then: the better stop, the targets where they are."""
    step = signal.instrument.quantity_step
    working = orders.working_targets(context.connection, position.position_id)
    left = [working[leg].remaining if leg in working else Decimal(0) for leg in TARGETS]
    spread = spread_addition(
        (float(left[0]), float(left[1]), float(left[2])),
        float(quantity),
        context.session.execution.target_weights,
        float(step),
    )
    stop = _price(signal, signal.stop_price)
    if position.stop_price is not None and (position.stop_price - stop) * position.side.sign > 0:
        stop = position.stop_price
    return _bracket(
        context,
        signal,
        Leg.ADD,
        quantity,
        position.leverage,
        (position.quantity_open + quantity, stop),
        {
            leg: (on_grid(part, step), working[leg].trigger_price)
            for leg, part in zip(TARGETS, spread, strict=True)
            if leg in working
        },
    )


def _bracket(
    context: OrderContext,
    signal: SignalOrder,
    leg: Leg,
    quantity: Decimal,
    leverage: Decimal,
    stop: tuple[Decimal, Decimal],
    targets: dict[Leg, tuple[Decimal, Decimal | None]],
) -> BracketRequest:
    """The orders of one request; stop and targets as quantity and price, targets without a quantity left out."""

    def order(leg: Leg, kind: OrderType, amount: Decimal, trigger: Decimal | None = None) -> OrderRequest:
        return OrderRequest(
            client_order_id=client_order_id(signal.signal_id, leg),
            instrument_id=signal.instrument_id,
            leg=leg,
            side=signal.side.entry_side if leg.opens else signal.side.exit_side,
            type=kind,
            quantity=amount,
            reduce_only=not leg.opens,
            requested_at=context.as_of,
            trigger_price=trigger,
            leverage=leverage if leg.opens else None,
        )

    return BracketRequest(
        entry=order(leg, OrderType.MARKET, quantity),
        stop=order(Leg.STOP, OrderType.STOP_MARKET, *stop),
        targets=tuple(
            order(target, OrderType.TAKE_PROFIT_MARKET, part, price)
            for target, (part, price) in targets.items()
            if part > 0
        ),
    )


def _price(signal: SignalOrder, price: float) -> Decimal:
    return signal.instrument.round_price(exact(price))


def _stored_bracket(intents: Sequence[StoredOrder], context: OrderContext) -> BracketRequest:
    """The bracket of an earlier attempt that was never sent; an addition keeps the leverage of its position."""
    leverage = exact(context.session.execution.leverage)
    requests = {o.leg: o.request(context.as_of, leverage if o.leg is Leg.ENTRY else None) for o in intents}
    entry = requests.get(Leg.ENTRY) or requests[Leg.ADD]
    return BracketRequest(entry, requests[Leg.STOP], tuple(requests[leg] for leg in TARGETS if leg in requests))


def _entry_drift(context: OrderContext, signal: SignalOrder) -> str | None:
    """Why the set-up no longer holds at the current price, in multiples of the stop distance R."""
    allowed = context.session.policy.max_entry_drift_r
    if allowed is None:
        return None
    drift = abs(context.quotes[signal.instrument_id] - signal.entry_price) / abs(signal.entry_price - signal.stop_price)
    return f"price moved {drift:.2f} R from the set-up, allowed {allowed:g} R" if drift > allowed else None


def _proposal(signal: SignalOrder) -> Proposal:
    return Proposal(
        instrument_id=signal.instrument_id,
        instrument=signal.instrument,
        side=signal.side,
        reference_price=signal.entry_price,
        stop_price=signal.stop_price,
        targets=signal.targets,
        confidence=signal.confidence,
    )


def _give_up(
    context: OrderContext, signal: SignalOrder, status: SignalStatus, reason: str, outcome: Outcome
) -> Outcome:
    orders.set_signal_status(context.connection, signal.signal_id, status, reason, context.as_of)
    context.event(
        f"signal_{status.lower()}",
        signal.instrument.symbol,
        reason,
        Severity.INFO,
        signal_id=str(signal.signal_id),
    )
    return outcome
