"""Public trades of a market, and how they add up to one row per minute.

Belongs here: what a trade is and the sums over a minute. Does not belong here: how trades arrive (`adapters.streams`)
and where the sums are kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from trading_pipelines.domain.market.timeframe import Timeframe

MINUTE = Timeframe.M1


@dataclass(frozen=True)
class Trade:
    """One trade between two others, as the venue publishes it.

    Attributes
    ----------
    trade_id : str or None
        The venue's own; None where it gives none.
    quantity : float
        In base currency.
    is_buy : bool
        The side of the taker, who crossed the spread.
    """

    symbol: str
    trade_id: str | None
    ts: datetime
    price: float
    quantity: float
    is_buy: bool


@dataclass
class MinuteFlow:
    """Trades of one symbol in the minute that begins at `ts`; the rest of the volume was sold.

    Attributes
    ----------
    is_whole : bool
        The minute was watched from its first to its last second; without it some trades may be missing.
    """

    ts: datetime
    trades: int = 0
    volume: float = 0.0
    buy_volume: float = 0.0
    quote_volume: float = 0.0
    last_price: float = 0.0
    last_ts: datetime | None = None
    is_whole: bool = False

    def add(self, trade: Trade) -> None:
        """Count a trade; one that comes late adds to the sums and leaves the last price alone."""
        self.trades += 1
        self.volume += trade.quantity
        self.buy_volume += trade.quantity if trade.is_buy else 0.0
        self.quote_volume += trade.quantity * trade.price
        if self.last_ts is None or trade.ts >= self.last_ts:
            self.last_ts, self.last_price = trade.ts, trade.price


@dataclass
class FlowBook:
    """Sums of the newest minutes by symbol; minutes that a trade can no longer reach are let go.

    Parameters
    ----------
    keeps : timedelta
        How long after its end a minute still takes late trades.
    most : int
        Minutes that may wait to be stored; beyond, the oldest are given up.
    """

    keeps: timedelta = timedelta(minutes=5)
    most: int = 50_000
    late: int = 0
    """Trades that came after their minute was let go; they are in no sum."""
    given_up: int = 0
    """Minutes that nobody stored in time."""
    _minutes: dict[tuple[str, datetime], MinuteFlow] = field(default_factory=dict[tuple[str, datetime], MinuteFlow])
    _changed: set[tuple[str, datetime]] = field(default_factory=set[tuple[str, datetime]])
    _watched_since: datetime | None = None
    _heard: datetime | None = None
    """Time of the newest trade of all symbols on this connection: what came before it has come."""
    _let_go_before: datetime | None = None

    def restore(self, symbol: str, flow: MinuteFlow) -> None:
        """Go on with sums that are stored already."""
        self._minutes[symbol, flow.ts] = flow

    def add(self, trade: Trade) -> None:
        """Count a trade in its minute."""
        self._heard = trade.ts if self._heard is None else max(trade.ts, self._heard)
        minute = MINUTE.floor(trade.ts)
        if self._let_go_before is not None and minute < self._let_go_before:
            self.late += 1
            return
        key = trade.symbol, minute
        self._minutes.setdefault(key, MinuteFlow(minute)).add(trade)
        self._changed.add(key)

    def begin(self, at: datetime) -> None:
        """Trades arrive from now on."""
        self._watched_since, self._heard = at, None

    def interrupt(self) -> None:
        """Trades do not arrive any more: no minute that is not over yet becomes whole."""
        self._watched_since = None

    def settle(self, now: datetime) -> None:
        """Call the minutes whole that were watched throughout, and let go of the old ones.

        The end of a minute has been watched when a later trade has come: a connection can be dead without saying so.
        """
        since, heard = self._watched_since, self._heard
        if since is not None and heard is not None:
            for key, flow in self._minutes.items():
                if not flow.is_whole and since <= flow.ts and flow.ts + MINUTE.delta <= heard:
                    flow.is_whole = True
                    self._changed.add(key)
        oldest = MINUTE.floor(now) - self.keeps
        self._let_go_before = max(oldest, self._let_go_before or oldest)
        for key in [key for key in self._minutes if key[1] < self._let_go_before and key not in self._changed]:
            del self._minutes[key]
        for key in sorted(self._minutes, key=lambda key: key[1])[: max(0, len(self._minutes) - self.most)]:
            del self._minutes[key]
            self._changed.discard(key)
            self.given_up += 1

    def take_changed(self) -> dict[tuple[str, datetime], MinuteFlow]:
        """Copies of the sums that have changed since the last call; `give_back` those that could not be stored."""
        changed = {key: replace(self._minutes[key]) for key in sorted(self._changed)}
        self._changed.clear()
        return changed

    def give_back(self, keys: Iterable[tuple[str, datetime]]) -> None:
        """Let `take_changed` return these again, with what has been added since."""
        self._changed |= self._minutes.keys() & set(keys)
