"""One position lived through bars by the rules of the execution model, to hold real fills against.

Belongs here: driving the life cycle of one position whose size is given. Does not belong here: the rules
(`domain.engine.lifecycle`), sizes, and accounts of many positions (`domain.simulation.backtest`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from trading_pipelines.domain.engine.lifecycle import (
    EventKind,
    LifecycleEvent,
    PositionState,
    ladder_quantities,
    open_position,
    rounded_price,
    step_bar,
    step_close,
    step_inside,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.instrument import Instrument


@dataclass(frozen=True)
class GivenTrade:
    """What was decided, and the quantity that was traded.

    Attributes
    ----------
    stop_price, targets : float
        As decided; they are rounded to the venue's step here.
    exit_at : datetime or None
        From when on an exit at the market waits for the next open.
    """

    side: PositionSide
    quantity: float
    leverage: float
    stop_price: float
    targets: tuple[float, float, float]
    exit_at: datetime | None = None


@dataclass(frozen=True)
class PriceBar:
    """One bar of the finest timeframe; `closed_at` is its end."""

    ts: datetime
    closed_at: datetime
    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True)
class ModelledFill:
    """A fill that the model makes, in the bar that opens at `ts`; the price holds the slippage."""

    ts: datetime
    kind: str
    quantity: float
    price: float


def model_fills(
    trade: GivenTrade,
    bars: list[PriceBar],
    atr_at_close: Mapping[datetime, float],
    instrument: Instrument,
    params: ExecutionParams,
) -> Iterator[ModelledFill]:
    """Yield the fills of a trade that enters at the open of the first bar, until it is closed or the bars end.

    Parameters
    ----------
    atr_at_close : mapping
        ATR(14) by the closes of the signal timeframe's bars, at which stops trail.
    """
    if not bars:
        return
    price_step, quantity_step = float(instrument.price_step), float(instrument.quantity_step)
    one, two, three = (rounded_price(price, price_step) for price in trade.targets)
    state, events = open_position(
        trade.side,
        trade.quantity,
        bars[0].open,
        rounded_price(trade.stop_price, price_step),
        (one, two, three),
        ladder_quantities(trade.quantity, params.target_weights, quantity_step),
        params,
        trade.leverage,
    )
    yield from _fills(bars[0], events)
    for i, bar in enumerate(bars):
        if not state.is_open:
            return
        if i == 0:
            state, events = step_inside(state, bar.open, bar.high, bar.low, params)
        else:
            state, events = step_bar(_leaving(state, trade, bar), bar.open, bar.high, bar.low, 0.0, params)
        yield from _fills(bar, events)
        if state.is_open and bar.closed_at in atr_at_close:
            state = step_close(state, bar.close, atr_at_close[bar.closed_at], params, price_step)


def _leaving(state: PositionState, trade: GivenTrade, bar: PriceBar) -> PositionState:
    due = trade.exit_at is not None and trade.exit_at <= bar.ts
    return replace(state, exit_pending=True) if due else state


def _fills(bar: PriceBar, events: tuple[LifecycleEvent, ...]) -> Iterator[ModelledFill]:
    for event in events:
        if event.kind is not EventKind.FUNDING:
            yield ModelledFill(bar.ts, event.kind.name, event.quantity, event.price)
