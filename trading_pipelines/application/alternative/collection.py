"""What is collected from a stream, and how it is stored.

Belongs here: which symbols, and the transactions. Does not belong here: the connection to the exchange
(`adapters.streams`) and when things are written (`services.collector`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from trading_pipelines.adapters.sources import MarketDataSource
from trading_pipelines.adapters.streams.intake import Arrivals, Delay, Intake
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.trades import MINUTE, MinuteFlow
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import heartbeats, instruments, status, tickers, trade_flow
from trading_pipelines.store.transaction import committed

SERVICE = "collector"


def choose_collected(source: MarketDataSource, traded: Sequence[str], top_n: int) -> list[Instrument]:
    """The traded symbols and the `top_n` with the highest turnover of the last 24 hours, by symbol.

    A traded symbol that the venue has halted or delisted is left out: refused, it would cost the others the connection.

    Raises
    ------
    UserError
        The source does not answer.
    """
    offered = {instrument.symbol: instrument for instrument in source.instruments()}
    chosen = set(traded) & set(offered)
    quotes = source.tickers(list(offered))
    by_turnover = sorted(quotes, key=lambda quote: (-(quote.quote_volume_24h or 0.0), quote.symbol))
    chosen |= {quote.symbol for quote in by_turnover[:top_n]}
    return [offered[symbol] for symbol in sorted(chosen)]


@dataclass(frozen=True)
class Received:
    """How much has arrived of one symbol over one channel since it was told last."""

    channel: str
    symbol: str
    newest: datetime
    count: int


@dataclass
class CollectionStore:
    """One connection's worth of storing for one exchange; nobody else collects from it meanwhile."""

    connection: Connection
    source_name: str
    exchange: str

    def claim(self) -> None:
        """Make sure to be the only one.

        Raises
        ------
        UserError
            Somebody else collects from this exchange.
        """
        row = self.connection.execute(
            "select pg_try_advisory_lock(hashtextextended(%s, 0))", (f"{SERVICE} {self.exchange}",)
        ).fetchone()
        self.connection.commit()
        if row != (True,):
            raise UserError(f"quotes and trades of {self.exchange} are collected already: stop the other collector")

    def prepare(self, chosen: Sequence[Instrument]) -> dict[str, int]:
        """Store the instruments; their ids by symbol."""
        with committed(self.connection):
            instruments.save(self.connection, chosen, followed=False)
            known = instruments.by_symbol(self.connection, self.exchange, everything=True)
        return {instrument.symbol: known[instrument.symbol].instrument_id for instrument in chosen}

    def stored_flows(self, since: datetime) -> dict[tuple[int, datetime], MinuteFlow]:
        """Sums that an earlier collector has left, by instrument id and minute."""
        with committed(self.connection):
            return trade_flow.read_since(self.connection, MINUTE.floor(since))

    def save(self, arrivals: Arrivals, ids: Mapping[str, int]) -> None:
        """Store what has arrived; a repeated call changes nothing."""
        newest = {ids[symbol]: ticker for symbol, (ticker, _) in arrivals.quotes.items()}
        received = {ids[symbol]: at for symbol, (_, at) in arrivals.quotes.items()}
        with committed(self.connection):
            tickers.save(self.connection, newest, received)
            trade_flow.save(self.connection, {(ids[s], minute): flow for (s, minute), flow in arrivals.flows.items()})

    def beat(self, now: datetime, started_at: datetime, detail: Mapping[str, Any]) -> None:
        """Say that the collector is alive."""
        with committed(self.connection):
            heartbeats.beat(self.connection, SERVICE, now, started_at, detail)

    def report(self, received: Sequence[Received], seconds: float, problem: str | None) -> None:
        """Note per symbol and channel what has arrived within `seconds`, or why nothing does."""
        with committed(self.connection):
            for arrived in received:
                delivery = status.Delivery(self.source_name, self.exchange, arrived.symbol, f"stream {arrived.channel}")
                if problem is not None:
                    status.record_error(self.connection, delivery, problem)
                elif arrived.count:
                    speed = arrived.count / seconds
                    status.record_success(self.connection, delivery, arrived.newest, arrived.count, speed)

    def forget(self, now: datetime, days: int) -> int:
        """Remove sums that are older; how many."""
        with committed(self.connection):
            return trade_flow.forget(self.connection, now - timedelta(days=days))


def describe_intake(intake: Intake) -> dict[str, Any]:
    """Counters and delays as they are logged and stored with a sign of life."""
    delay: Delay = intake.delay()
    counters = {**asdict(intake.counters), "outage_seconds": round(intake.counters.outage_seconds, 1)}
    return {**counters, **asdict(delay), "late": intake.flow.late, "given_up": intake.flow.given_up}
