"""A session bar by bar: what was known, decided, ordered and filled, and where it left position and account.

What happened at a moment belongs to the bar that covers it, [open, close). A decision belongs to the bar at whose
close it was made, so its orders and fills stand in the next one.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.read_models.chart import candles

Row = dict[str, Any]
EMA_SPANS = (20, 80, 200)
"""The averages of the chart."""
FEATURES = ("atr_14", "rsi_14", "macd_histogram", "adx_14", "bollinger_position", "volume_ratio_20")
"""Stored feature values that are shown beside them."""


@dataclass(frozen=True)
class HeldPosition:
    """A position as a close left it; quantities in base currency, money in quote currency.

    Attributes
    ----------
    stop_price : float or None
        Stop in force for the next bar.
    unrealised : float
        At the close of the bar.
    realised : float
        Of the fills up to then, before fees and funding.
    """

    position_id: UUID
    side: str
    quantity: float
    entry_price: float
    stop_price: float | None
    unrealised: float
    realised: float


@dataclass(frozen=True)
class SessionBar:
    """One bar of one symbol and everything that a session did at it.

    Attributes
    ----------
    ts, closed_at : datetime
        Open and close of the bar, UTC.
    indicators : dict
        Value by name at the close; None while an indicator warms up or where no feature row is stored.
    decisions : list of dict
        One per strategy, each with its `gates` as they were measured.
    equity : dict or None
        equity, cash, margin, unrealised of the whole account at the close; None where nothing was marked.
    """

    ts: datetime
    closed_at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    indicators: dict[str, float | None]
    decisions: list[Row] = field(default_factory=list[Row])
    exits: list[Row] = field(default_factory=list[Row])
    signals: list[Row] = field(default_factory=list[Row])
    orders: list[Row] = field(default_factory=list[Row])
    fills: list[Row] = field(default_factory=list[Row])
    position: HeldPosition | None = None
    equity: Row | None = None

    @property
    def is_eventful(self) -> bool:
        """Whether more happened than that nothing was to be done."""
        return bool(self.signals or self.exits or self.orders or self.fills)


# A session judges what it has waited for as well as the newest bar, so its rows are found by bar and not by moment.
_DECISIONS = """
select d.ts, d.strategy, d.decided_at, d.outcome, d.reason, d.side, d.confidence, d.model_id, d.gates, d.setup
from decisions d join instruments i using (instrument_id)
where d.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and d.timeframe = %(timeframe)s and d.ts >= %(start)s and d.ts < %(end)s
order by d.ts, d.strategy
"""
_EXITS = """
select e.ts, e.strategy, e.decided_at, e.reason, e.confidence, e.position_id
from exit_decisions e join instruments i using (instrument_id)
where e.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and e.timeframe = %(timeframe)s and e.ts >= %(start)s and e.ts < %(end)s
order by e.ts, e.strategy
"""
_SIGNALS = """
select s.ts, s.signal_id, s.strategy, s.created_at, s.side, s.status, s.confidence, s.entry_price, s.stop_price,
       s.tp1_price, s.tp2_price, s.tp3_price, s.quantity, s.risk_reward, s.net_profit, s.factors
from signals s join instruments i using (instrument_id)
where s.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and s.timeframe = %(timeframe)s and s.ts >= %(start)s and s.ts < %(end)s
order by s.ts, s.strategy
"""
_ORDERS = """
select o.created_at as at, o.client_order_id, o.leg, o.revision, o.side, o.type, o.status, o.status_reason,
       o.quantity::float8 as quantity, o.filled_quantity::float8 as filled_quantity,
       o.trigger_price::float8 as trigger_price, o.average_price::float8 as average_price
from orders o join instruments i using (instrument_id)
where o.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and o.created_at >= %(start)s and o.created_at < %(end)s
order by o.created_at, o.client_order_id
"""
# Fills of positions that were open before the span as well: they say what was held when it began.
_FILLS = """
with held as (
    select p.position_id, p.side as position_side from positions p join instruments i using (instrument_id)
    where p.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
      and p.opened_at < %(end)s and (p.closed_at is null or p.closed_at >= %(start)s)
)
select f.ts as at, f.position_id, h.position_side, f.client_order_id, f.kind, f.side, f.quantity::float8 as quantity,
       f.reference_price::float8 as reference_price, f.price::float8 as price, f.fee::float8 as fee,
       f.realised_pnl::float8 as realised_pnl
from fills f join held h using (position_id)
where f.session_id = %(session)s and f.ts < %(end)s
order by f.ts, f.sequence
"""
_STOPS = """
select o.position_id, o.created_at as at, o.trigger_price::float8 as price
from orders o join instruments i using (instrument_id)
where o.session_id = %(session)s and i.exchange = %(exchange)s and i.symbol = %(symbol)s
  and o.leg = 'STOP' and o.position_id is not null and o.created_at <= %(end)s and o.status <> 'REJECTED'
order by o.created_at, o.revision
"""
_EQUITY = """
select e.ts, e.equity, e.cash, e.margin, e.unrealised
from equity e
where e.session_id = %(session)s and e.ts > %(start)s and e.ts <= %(end)s
order by e.ts
"""
_FEATURES = """
select distinct on (f.ts) f.ts, fs.names, f."values"
from features_{timeframe} f
join feature_sets fs using (feature_set_id)
join instruments i using (instrument_id)
where i.exchange = %(exchange)s and i.symbol = %(symbol)s and f.ts >= %(start)s and f.ts < %(end)s
order by f.ts, f.feature_set_id desc
"""


def session_bars(
    connection: psycopg.Connection[Any],
    session_id: UUID,
    exchange: str,
    symbol: str,
    timeframe: str,
    start: datetime,
    end: datetime,
) -> list[SessionBar]:
    """Every stored bar of a symbol that opens in [start, end), ascending, with what the session did at it."""
    step = Timeframe(timeframe)
    start = step.floor(start)
    bars = candles(connection, exchange, symbol, timeframe, start, end, EMA_SPANS)
    asked = {
        "session": session_id,
        "exchange": exchange,
        "symbol": symbol,
        "timeframe": step.value,
        "start": start,
        "end": end,
    }
    opens: list[datetime] = [ts.to_pydatetime() for ts in bars["ts"]]
    fills = _rows(connection, _FILLS, asked)
    books = _Books(fills, _rows(connection, _STOPS, asked))
    decisions = _grouped(_rows(connection, _DECISIONS, asked), opens, "ts")
    exits = _grouped(_rows(connection, _EXITS, asked), opens, "ts")
    signals = _grouped(_rows(connection, _SIGNALS, asked), opens, "ts")
    orders = _grouped(_rows(connection, _ORDERS, asked), opens, "at")
    filled = _grouped([fill for fill in fills if fill["at"] >= start], opens, "at")
    equity = {row.pop("ts"): row for row in _rows(connection, _EQUITY, asked)}
    features = {
        row["ts"]: dict(zip(row["names"], row["values"], strict=True))
        for row in _rows(connection, _FEATURES.replace("{timeframe}", step.value), asked)
    }
    columns = [bars[name].tolist() for name in ("open", "high", "low", "close", "volume")]
    averages = [bars[f"ema_{span}"].tolist() for span in EMA_SPANS]
    found = list[SessionBar]()
    for i, ts in enumerate(opens):
        open_, high, low, close, volume = (column[i] for column in columns)
        known = {f"ema_{span}": values[i] for span, values in zip(EMA_SPANS, averages, strict=True)}
        stored = features.get(ts, {})
        found.append(
            SessionBar(
                ts=ts,
                closed_at=ts + step.delta,
                open=open_,
                high=high,
                low=low,
                close=close,
                volume=volume,
                indicators=known | {name: _known(stored.get(name)) for name in FEATURES},
                decisions=decisions.get(ts, []),
                exits=exits.get(ts, []),
                signals=signals.get(ts, []),
                orders=orders.get(ts, []),
                fills=filled.get(ts, []),
                position=books.at(ts + step.delta, close),
                equity=equity.get(ts + step.delta),
            )
        )
    return found


class _Books:
    """What was held, followed fill by fill; moments are asked for in ascending order."""

    def __init__(self, fills: Sequence[Row], stops: Sequence[Row]) -> None:
        self._fills: Iterator[Row] = iter(fills)
        self._next = next(self._fills, None)
        self._stops = defaultdict[UUID, list[Row]](list)
        for stop in stops:
            self._stops[stop["position_id"]].append(stop)
        self._fill: Row | None = None
        self._quantity = self._entry_price = self._realised = 0.0

    def at(self, closed_at: datetime, close: float) -> HeldPosition | None:
        while self._next is not None and self._next["at"] < closed_at:
            self._take(self._next)
            self._next = next(self._fills, None)
        if self._fill is None or self._quantity <= 0.0:
            return None
        sign = 1.0 if self._fill["position_side"] == "LONG" else -1.0
        position_id = self._fill["position_id"]
        stops = [stop["price"] for stop in self._stops[position_id] if stop["at"] <= closed_at]
        return HeldPosition(
            position_id=position_id,
            side=self._fill["position_side"],
            quantity=self._quantity,
            entry_price=self._entry_price,
            stop_price=stops[-1] if stops else None,
            unrealised=sign * self._quantity * (close - self._entry_price),
            realised=self._realised,
        )

    def _take(self, fill: Row) -> None:
        if self._fill is None or fill["position_id"] != self._fill["position_id"]:
            self._quantity = self._entry_price = self._realised = 0.0
        self._fill = fill
        quantity = fill["quantity"]
        if fill["kind"] == "ENTRY":
            worth = self._quantity * self._entry_price + quantity * fill["price"]
            self._quantity += quantity
            self._entry_price = worth / self._quantity
        else:
            # The parts of the ladder are decimals; their sum as floats may miss the whole by a rounding error.
            left = self._quantity - quantity
            self._quantity = left if left > 1e-9 * quantity else 0.0
            self._realised += fill["realised_pnl"]


def _rows(connection: psycopg.Connection[Any], query: LiteralString | str, asked: Row) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), asked).fetchall()


def _grouped(rows: Sequence[Row], opens: Sequence[datetime], moment: str) -> dict[datetime, list[Row]]:
    """Rows by the bar that covers their moment; in a gap of the candles the bar before it."""
    grouped = dict[datetime, list[Row]]()
    for row in rows:
        i = bisect_right(opens, row[moment])
        if i:
            grouped.setdefault(opens[i - 1], []).append(row)
    return grouped


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)
