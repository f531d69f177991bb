"""One session of the fast service: its exchange, and what is due for it.

Belongs here: when the steps of one session are taken, and in which order. Does not belong here: the steps themselves
(`application`), and what happens to the other sessions when one fails (`services.trader`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from trading_pipelines.adapters.exchanges.paper import FundingEvent, MarketEvent, PaperExchange
from trading_pipelines.application.features.atr import atr_at
from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.risk.alerts import Told, tell_alerts
from trading_pipelines.application.trading import instructions
from trading_pipelines.application.trading.execution import synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.manual import Desk
from trading_pipelines.application.trading.monitor import (
    BarClose,
    ManagementReport,
    carry_out_exits,
    enforce_kill_switch,
    finish_stop,
    manage_at_close,
    mark_positions,
)
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.alerts import AlertThresholds, Level
from trading_pipelines.services.market import Market
from trading_pipelines.settings import TraderSettings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import positions
from trading_pipelines.store.transaction import committed

AWAY = timedelta(seconds=30)
"""After a pause of this length the bars in between are applied before the next price."""

log = structlog.get_logger(__name__)


@dataclass
class SessionDesk:
    """What the service remembers of one session between two ticks; all that matters is in the database."""

    connection: Connection
    session: TradingSession
    market: Market
    kill: KillSwitch
    rules: TraderSettings
    thresholds: AlertThresholds
    exchange: PaperExchange = field(init=False)
    problem: str | None = None
    unknown: str | None = None
    """Why nothing is known of the account, by the newest comparison."""
    _funding: Mapping[int, tuple[FundingEvent, ...]] = field(default_factory=dict[int, tuple[FundingEvent, ...]])
    _told: Told = field(default_factory=dict[tuple[str, str], Level])
    _compared: bool = False
    _managed: datetime | None = None
    _next_management: datetime | None = None
    _next_reconciliation: datetime | None = None

    def __post_init__(self) -> None:
        self.follow(self.session)

    def follow(self, session: TradingSession) -> None:
        """Take over changed rules or another status of the session."""
        self.session = session
        self.exchange = PaperExchange(self.connection, session.session_id, session.execution)

    @property
    def ids(self) -> dict[str, int]:
        """The session's instruments that the market knows, by symbol."""
        return {symbol: self.market.ids[symbol] for symbol in self.session.symbols if symbol in self.market.ids}

    def enforce(self, now: datetime) -> None:
        """Do what the kill switch asks for; needs no price."""
        enforce_kill_switch(self.connection, self.session, self.exchange, self.kill, now)

    def compare(self, now: datetime) -> None:
        """Reconcile with the exchange when it is due; comes before any price.

        After a pause the bars in between have to be lived through first, or a stop would be passed unseen.
        """
        if self._next_reconciliation is not None and now < self._next_reconciliation:
            return
        self._catch_up(now)
        report = reconcile(self.connection, self.session, self.exchange, now, self.rules, thorough=not self._compared)
        self._compared = True
        self._next_reconciliation = now + timedelta(seconds=self.rules.reconcile_seconds)
        self.unknown = report.reason or None
        if self.unknown:
            log.warning("the account is not known", reason=report.reason)

    def follow_prices(self, now: datetime) -> None:
        """Let the exchange live through the newest prices, and take over what that has filled."""
        if self._apply_prices(now):
            synchronise(self.connection, self.session, self.exchange, now)

    def tell(self, now: datetime) -> None:
        """Tell of positions and losses that deserve a look."""
        self._told = tell_alerts(self.connection, self.session, self.thresholds, self._told, now)

    def obey(self, now: datetime) -> int:
        """Do what strategies and people have decided; how many instructions of people that were."""
        carry_out_exits(self.connection, self.session, self.exchange, now)
        finish_stop(self.connection, self.session, self.exchange, now)
        desk = Desk(self.session, self.exchange, self.kill, {i: q.price for i, q in self.market.quotes.items()})
        handled = instructions.carry_out(self.connection, desk, now)
        for instruction in handled:
            log.info(
                "instruction", id=str(instruction.instruction_id), status=instruction.status, why=instruction.outcome
            )
        return len(handled)

    def manage_close(self, now: datetime) -> ManagementReport | None:
        """Trail stops and mark equity at the newest close, once all of its bars are there; None when nothing was due.

        The bars are fetched here and not waited for: stops move although Dagster may be down. A bar that the source
        does not publish within one base bar is done without.
        """
        frame, ids = Timeframe(self.session.timeframe), self.ids
        ts = frame.last_closed(now - timedelta(seconds=self.rules.bar_delay_seconds))
        due = self._next_management is None or now >= self._next_management
        if not ids or ts == self._managed or not due:
            return None
        self._next_management = now + timedelta(seconds=self.rules.reconcile_seconds)
        self.market.ingest(ts, now)
        self._funding = self.market.funding(now)
        bars = self.market.closes(ids.values(), frame, ts)
        if len(bars) < len(ids) and now < ts + frame.delta + self.market.base.delta:
            return None
        with committed(self.connection):
            held = {p.instrument_id for p in positions.open_positions(self.connection, self.session.session_id)}
        symbols = {instrument_id: symbol for symbol, instrument_id in ids.items()}
        closes = {
            # Only a stop that trails needs the ATR.
            i: BarClose(ts, ts + frame.delta, close, self._atr(symbols[i], frame, ts) if i in held else float("nan"))
            for i, close in bars.items()
        }
        report = manage_at_close(self.connection, self.session, self.exchange, closes, now)
        self._managed = ts
        log.info("bar closed", bar=ts.isoformat(), stops_moved=report.stops_moved, equity=round(report.equity, 2))
        return report

    def _catch_up(self, now: datetime) -> None:
        reached = self.exchange.advanced_to()
        behind = {i: reached[i] for i in self.ids.values() if i in reached and now - reached[i] > AWAY}
        if not behind:
            return
        start = self.market.base.floor(min(behind.values()))
        self.market.ingest(start, now)
        events = market_events(self.connection, behind, self.market.base, start, now)
        self.connection.commit()
        missed = [e for e in events if behind[e.instrument_id] < e.ts_close <= now]
        if missed:
            log.info("bars were missed", since=min(behind.values()).isoformat(), bars=len(missed))
            self.exchange.advance(missed)

    def _apply_prices(self, now: datetime) -> int:
        """Let the exchange and the marks move; how many fills that made."""
        quotes = {i: self.market.quotes[i] for i in sorted(self.ids.values()) if i in self.market.quotes}
        moves = [MarketEvent.tick(i, t.ts, t.price, self._funding.get(i, ())) for i, t in quotes.items()]
        filled = self.exchange.advance(moves)
        mark_positions(self.connection, self.session, {i: t.price for i, t in quotes.items()}, now)
        return filled

    def _atr(self, symbol: str, frame: Timeframe, ts: datetime) -> float:
        return atr_at(self.connection, self.session.exchange, symbol, frame, ts)
