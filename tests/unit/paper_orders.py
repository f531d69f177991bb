"""Orders, bars and an account of the paper exchange, as its tests need them: 1 BTC around a price of 100."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import (
    BracketRequest,
    FillKind,
    Leg,
    OrderRequest,
    OrderSide,
    OrderType,
    client_order_id,
)
from trading_pipelines.domain.execution.paper_account import PaperAccount
from trading_pipelines.domain.execution.paper_books import MarketEvent
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind

T0 = datetime(2024, 1, 1, tzinfo=UTC)
BAR = timedelta(minutes=15)
PARAMS = ExecutionParams()
START = Decimal(10_000)
SIGNAL = UUID(int=7 << 64)
BTC = Instrument(
    "bybit",
    "BTCUSDT",
    "BTC",
    "USDT",
    MarketKind.PERPETUAL,
    price_step=Decimal("0.1"),
    quantity_step=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    min_notional=Decimal(5),
)
ANY = replace(BTC, price_step=Decimal(0), quantity_step=Decimal(0), min_quantity=Decimal(0), min_notional=Decimal(0))


def bar(index: int, open_: float, high: float, low: float, close: float, **more: object) -> MarketEvent:
    start = T0 + index * BAR
    return MarketEvent(1, start, start + BAR, open_, high, low, close, **more)  # type: ignore[arg-type]


def account_at(price: float, *, before: int = -1, **venue: object) -> PaperAccount:
    rules = VenueParams.model_validate(venue)
    account = PaperAccount(cash=START, sequence=0, params=PARAMS, venue=rules)
    account.advance(bar(before, price, price, price, price))
    return account


def request(
    leg: Leg,
    quantity: str,
    trigger: str | None = None,
    revision: int = 0,
    *,
    long: bool = True,
    trade: UUID = SIGNAL,
    at: datetime = T0,
) -> OrderRequest:
    entering = leg.opens
    kind = {
        Leg.ENTRY: OrderType.MARKET,
        Leg.ADD: OrderType.MARKET,
        Leg.EXIT: OrderType.MARKET,
        Leg.STOP: OrderType.STOP_MARKET,
    }.get(leg, OrderType.TAKE_PROFIT_MARKET)
    return OrderRequest(
        client_order_id=client_order_id(trade, leg, revision),
        instrument_id=1,
        leg=leg,
        side=OrderSide.BUY if entering is long else OrderSide.SELL,
        type=kind,
        quantity=Decimal(quantity),
        reduce_only=not entering,
        requested_at=at,
        trigger_price=None if trigger is None else Decimal(trigger),
        leverage=Decimal(5) if entering else None,
    )


def long_bracket() -> BracketRequest:
    """1 BTC at about 100 with stop 98 and targets 104, 107 and 112."""
    return BracketRequest(
        entry=request(Leg.ENTRY, "1"),
        stop=request(Leg.STOP, "1", "98"),
        targets=(
            request(Leg.TP1, "0.3", "104"),
            request(Leg.TP2, "0.4", "107"),
            request(Leg.TP3, "0.3", "112"),
        ),
    )


def opened(account: PaperAccount) -> PaperAccount:
    account.place_bracket(long_bracket(), BTC)
    account.advance(bar(0, 100, 101, 99, 100))
    return account


def kinds(account: PaperAccount) -> list[FillKind]:
    return [fill.kind for fill in account.changes.fills]


def equity(account: PaperAccount) -> Decimal:
    return account.cash + account.margin + account.unrealised


def expected_equity(account: PaperAccount) -> Decimal:
    """Start capital, results, fees and funding, and the result of what is open."""
    fills, funding = account.changes.fills, account.changes.funding
    realised = sum((fill.realised_pnl - fill.fee for fill in fills), Decimal(0))
    return START + realised - sum((f.amount for f in funding), Decimal(0)) + account.unrealised
