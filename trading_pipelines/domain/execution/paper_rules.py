"""Which requests the simulated exchange refuses, and why: the faults for which real exchanges say no.

Belongs here: checks of a request against the books; each raises `OrderRefused` with one of our reasons. Does not
belong here: what becomes of an accepted request (`domain.execution.paper_account`).
"""

from collections.abc import Collection
from decimal import Decimal

from trading_pipelines.domain.execution.orders import TARGETS, BracketRequest, Leg, OrderRequest, OrderSide, OrderType
from trading_pipelines.domain.execution.paper_books import PaperOrder, PaperPosition
from trading_pipelines.domain.execution.refusals import OrderRefused, Refusal
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.instrument import Instrument


def check_opening(
    request: OrderRequest,
    instrument: Instrument,
    venue: VenueParams,
    *,
    mark: Decimal,
    leverage: Decimal,
    needed: Decimal,
    available: Decimal,
) -> None:
    """Refuse an entry or addition that is malformed, too small, too highly leveraged or not paid for.

    Parameters
    ----------
    needed, available : Decimal
        Margin and fee of the order, and the cash that nothing else has claimed, in quote currency.
    """
    if request.reduce_only or request.type is not OrderType.MARKET:
        raise OrderRefused(Refusal.INVALID_REQUEST, "an entry is a market order that is not reduce-only")
    limit = Decimal(repr(venue.max_leverage)) if instrument.max_leverage is None else instrument.max_leverage
    if not 1 <= leverage <= limit:
        raise OrderRefused(Refusal.LEVERAGE, f"leverage {leverage} is not between 1 and {limit.normalize():f}")
    check_steps(request, instrument)
    if request.quantity < instrument.min_quantity:
        raise OrderRefused(
            Refusal.BELOW_MINIMUM,
            f"{request.quantity} {instrument.symbol} is below the smallest order of {instrument.min_quantity}",
        )
    notional = request.quantity * mark
    if notional < instrument.min_notional:
        raise OrderRefused(
            Refusal.BELOW_MIN_NOTIONAL,
            f"{request.quantity} {instrument.symbol} is worth {notional:.4f}, below {instrument.min_notional}",
        )
    if needed > available:
        raise OrderRefused(Refusal.INSUFFICIENT_MARGIN, f"{needed:.2f} needed, {available:.2f} available")


def check_place(
    request: OrderRequest,
    position: PaperPosition | None,
    waiting: PaperOrder | None,
    working: Collection[PaperOrder],
) -> None:
    """Refuse an entry where a position or entry is, and an addition where no such position is.

    Parameters
    ----------
    waiting : PaperOrder or None
        The entry or addition of this market that has not filled entirely.
    working : collection of PaperOrder
        Exits of the position; a new entry may wait for one at the market to close it.
    """
    if waiting is not None:
        raise OrderRefused(Refusal.POSITION_EXISTS, f"{waiting.client_order_id} waits for its fill")
    if request.leg is Leg.ADD:
        if position is None:
            raise OrderRefused(Refusal.NO_POSITION, f"{request.client_order_id} has no position to add to")
        if request.side is not position.side.entry_side:
            raise OrderRefused(Refusal.INVALID_REQUEST, f"{request.client_order_id} would reduce the position")
        if request.leverage not in (None, position.leverage):
            raise OrderRefused(Refusal.LEVERAGE, f"the position has leverage {position.leverage.normalize():f}")
    elif position is not None and sum(o.remaining for o in working if o.leg is Leg.EXIT) < position.quantity:
        raise OrderRefused(Refusal.POSITION_EXISTS, "the symbol has an open position")


def check_bracket(request: BracketRequest, instrument: Instrument, mark: Decimal) -> None:
    """Refuse exits that do not reduce what the entry opens, or would act before it does."""
    entry = request.entry
    for leg in request.legs[1:]:
        if not leg.reduce_only or leg.side is entry.side:
            raise OrderRefused(Refusal.REDUCE_ONLY, f"{leg.client_order_id} does not reduce the entry")
        check_steps(leg, instrument)
        check_trigger(leg, mark)


def check_exit(request: OrderRequest, instrument: Instrument, position: PaperPosition | None) -> PaperPosition:
    """Refuse an exit that would increase a position, and a stop for a part of it; the position that it reduces."""
    if position is None or not request.reduce_only or request.side is not position.side.exit_side:
        raise OrderRefused(Refusal.REDUCE_ONLY, f"{request.client_order_id} does not reduce a position")
    check_steps(request, instrument)
    if request.leg is Leg.STOP and request.quantity < position.quantity:
        raise OrderRefused(Refusal.INVALID_REQUEST, "a stop closes the whole position")
    return position


def check_single(request: OrderRequest, working: Collection[PaperOrder]) -> None:
    """Refuse a second stop, or a second target of the same leg."""
    if request.leg in (Leg.STOP, *TARGETS) and any(order.leg is request.leg for order in working):
        raise OrderRefused(Refusal.DUPLICATE_EXIT, f"a working {request.leg} exists: replace it")


def check_replaced(old: PaperOrder | None, client_order_id: str, request: OrderRequest) -> PaperOrder:
    """Refuse to replace what does not wait for its price; the order that may be replaced."""
    if old is None or not old.counts(request.requested_at) or old.is_triggered:
        raise OrderRefused(Refusal.ORDER_NOT_WORKING, f"{client_order_id} is not working")
    if old.leg is not request.leg or old.instrument_id != request.instrument_id:
        raise OrderRefused(Refusal.INVALID_REQUEST, f"{request.client_order_id} is another kind of order")
    return old


def check_steps(request: OrderRequest, instrument: Instrument) -> None:
    """Refuse quantities and prices off the market's steps, and trigger prices where none belong."""
    if request.quantity <= 0 or instrument.round_quantity(request.quantity) != request.quantity:
        raise OrderRefused(
            Refusal.BAD_QUANTITY_STEP, f"{request.quantity} is no multiple of {instrument.quantity_step}"
        )
    price = request.trigger_price
    if (price is None) is not (request.type is OrderType.MARKET):
        raise OrderRefused(Refusal.INVALID_REQUEST, f"{request.type} and trigger price {price} do not belong together")
    if price is not None and (price <= 0 or instrument.round_price(price) != price):
        raise OrderRefused(Refusal.BAD_PRICE_STEP, f"{price} is no multiple of {instrument.price_step}")


def check_trigger(request: OrderRequest, mark: Decimal) -> None:
    """Refuse a stop or target that the newest price has already reached."""
    if request.trigger_price is None:
        return
    distance = request.trigger_price - mark
    waits_below = (request.type is OrderType.STOP_MARKET) is (request.side is OrderSide.SELL)
    if distance >= 0 if waits_below else distance <= 0:
        raise OrderRefused(Refusal.WOULD_TRIGGER, f"{request.leg} at {request.trigger_price}, price {mark}")
