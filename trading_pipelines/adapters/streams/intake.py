"""What streams deliver into: puts messages in order, counts what went wrong, keeps the newest quote and the sums.

Nothing queues here. Quotes replace each other and trades add up, so however long the database or the disk takes, what
waits is one quote per symbol and one row per symbol and minute.

Belongs here: which message counts. Does not belong here: how messages look (`wire`) and where they go afterwards.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.trades import FlowBook, MinuteFlow, Trade

MOST_AHEAD = timedelta(seconds=60)
"""A message from further in the future is broken: taken for true, it would keep out all that follow."""
_RECENT_QUOTES = 64
_RECENT_TRADES = 4096
_DELAYS = 10_000


@dataclass
class StreamCounters:
    """What has happened since the start."""

    messages: int = 0
    """Those with quotes or trades."""
    quotes: int = 0
    trades: int = 0
    duplicates: int = 0
    """Messages or trades that had arrived before; they are left out."""
    reordered: int = 0
    """Older ones after newer ones: such a quote is left out, such a trade counts."""
    lost: int | None = None
    """Trades that never came, by the venue's numbers; None where it does not number them."""
    unreadable: int = 0
    reconnects: int = 0
    outage_seconds: float = 0.0
    """Time without a stream after the first message."""


@dataclass(frozen=True)
class Delay:
    """Milliseconds from the venue's time of the event to its receipt; None while nothing has been measured."""

    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Arrivals:
    """What waits to be stored.

    Attributes
    ----------
    quotes : dict
        Newest quote by symbol, with the venue's time of its receipt.
    flows : dict
        Sums of trades by symbol and minute.
    """

    quotes: dict[str, tuple[Ticker, datetime]]
    flows: dict[tuple[str, datetime], MinuteFlow]


class _Recent:
    """The newest keys, up to a number."""

    def __init__(self, size: int) -> None:
        self._order: deque[Any] = deque()
        self._known: set[Any] = set()
        self._size = size

    def add(self, key: Any) -> bool:
        """Remember a key; whether it is new."""
        if key in self._known:
            return False
        self._order.append(key)
        self._known.add(key)
        if len(self._order) > self._size:
            self._known.discard(self._order.popleft())
        return True


@dataclass
class _QuoteOrder:
    newest: tuple[datetime, int]
    recent: _Recent = field(default_factory=lambda: _Recent(_RECENT_QUOTES))


@dataclass
class _TradeOrder:
    newest: datetime
    highest: int | None = None
    recent: _Recent = field(default_factory=lambda: _Recent(_RECENT_TRADES))


class Intake:
    """The newest quotes, the sums of trades, and how well they arrive."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`clock` is the local one; `offset` is what the venue's is ahead of it."""
        self.clock = clock
        self.offset = timedelta()
        self.counters = StreamCounters()
        self.flow = FlowBook()
        self.last_message_at: datetime | None = None
        self.newest: dict[tuple[str, str], datetime] = {}
        """Time of the newest event by channel and symbol."""
        self.arrived: Counter[tuple[str, str]] = Counter()
        """Quotes and trades taken so far by channel and symbol."""
        self._quotes: dict[str, tuple[Ticker, datetime]] = {}
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._quote_order: dict[str, _QuoteOrder] = {}
        self._trade_order: dict[str, _TradeOrder] = {}
        self._is_up = False

    def now(self) -> datetime:
        """The venue's time."""
        return self.clock() + self.offset

    def connect(self) -> None:
        """A new connection begins to deliver: its messages are in an order of their own."""
        self._quote_order.clear()
        self._is_up = False

    def disconnect(self) -> None:
        """The connection is gone."""
        self._is_up = False
        self.flow.interrupt()

    def admits_quote(self, symbol: str, ts: datetime, sequence: int = 0) -> bool:
        """Count a message about a quote; whether it is newer than all before on this connection.

        To be asked before anything is made of the message: a part of a quote that comes late must not become part of a
        newer one.
        """
        if not self._arrived(ts):
            return False
        order = self._quote_order.get(symbol)
        if order is None:
            order = self._quote_order[symbol] = _QuoteOrder((ts, sequence))
        elif (ts, sequence) <= order.newest:
            if order.recent.add((ts, sequence)):
                self.counters.reordered += 1
            else:
                self.counters.duplicates += 1
            return False
        order.newest = ts, sequence
        order.recent.add((ts, sequence))
        return True

    def quote(self, ticker: Ticker) -> None:
        """Take a quote that was admitted."""
        if not _is_price(ticker.price):
            self.unreadable()
            return
        self.counters.quotes += 1
        known = self._quotes.get(ticker.symbol)
        if known is None or ticker.ts >= known[0].ts:
            self._quotes[ticker.symbol] = ticker, self.now()
            self._note_newest("tickers", ticker.symbol, ticker.ts)

    def trade_message(self, trades: Sequence[Trade], *, numbered: bool) -> None:
        """Take the trades of one message; `numbered` ones carry consecutive numbers as ids, so losses are known."""
        readable = [t for t in trades if _is_price(t.price) and _is_price(t.quantity)]
        self.counters.unreadable += len(trades) - len(readable)
        if not readable or not self._arrived(max(trade.ts for trade in readable)):
            return
        for trade in readable:
            if self._is_new(trade, numbered):
                self.counters.trades += 1
                self.flow.add(trade)
                self._note_newest("trades", trade.symbol, trade.ts)

    def unreadable(self) -> None:
        """Count a message that nobody can read."""
        self.counters.unreadable += 1

    def take(self) -> Arrivals:
        """Newest quotes and sums that have changed since the last call."""
        quotes, self._quotes = self._quotes, {}
        return Arrivals(quotes, self.flow.take_changed())

    def give_back(self, arrivals: Arrivals) -> None:
        """Let `take` return these again, as far as nothing newer has arrived."""
        self._quotes = {**arrivals.quotes, **self._quotes}
        self.flow.give_back(arrivals.flows)

    def delay(self) -> Delay:
        """Delays of the newest messages."""
        delays = sorted(self._delays)
        if not delays:
            return Delay()
        return Delay(delays[len(delays) // 2], delays[int(len(delays) * 0.99)], delays[-1])

    def _arrived(self, ts: datetime) -> bool:
        """Count a message about an event at `ts`; False when that time cannot be."""
        received = self.clock()
        delay = received + self.offset - ts
        if delay < -MOST_AHEAD:
            self.unreadable()
            return False
        if not self._is_up:
            self._is_up = True
            self.flow.begin(received + self.offset)
            if self.last_message_at is not None:
                self.counters.outage_seconds += (received - self.last_message_at).total_seconds()
        self.last_message_at = received
        self.counters.messages += 1
        self._delays.append(round(delay / timedelta(milliseconds=1), 1))
        return True

    def _is_new(self, trade: Trade, numbered: bool) -> bool:
        order = self._trade_order.setdefault(trade.symbol, _TradeOrder(trade.ts))
        if trade.trade_id is not None and not order.recent.add(trade.trade_id):
            self.counters.duplicates += 1
            return False
        number = int(trade.trade_id) if numbered and trade.trade_id is not None else None
        if number is not None:
            self._count_losses(order, number)
        if trade.ts < order.newest or (number is not None and number < (order.highest or number)):
            self.counters.reordered += 1
        order.newest = max(order.newest, trade.ts)
        if number is not None:
            order.highest = max(number, order.highest or number)
        return True

    def _count_losses(self, order: _TradeOrder, number: int) -> None:
        """A number that is left out is lost until it comes."""
        self.counters.lost = self.counters.lost or 0
        if order.highest is None:
            return
        if number > order.highest:
            self.counters.lost += number - order.highest - 1
        elif self.counters.lost:
            self.counters.lost -= 1

    def _note_newest(self, channel: str, symbol: str, ts: datetime) -> None:
        key = channel, symbol
        self.arrived[key] += 1
        self.newest[key] = max(ts, self.newest.get(key, ts))


def _is_price(value: float) -> bool:
    return math.isfinite(value) and value > 0
