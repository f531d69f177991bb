"""A small trading world in a real database: one session, two instruments, signals as they are emitted."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from trading_pipelines.adapters.exchanges.paper import MarketEvent, PaperExchange
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.session import SessionMode, TradingSession
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.signals.policy import SignalPolicy
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import instruments, sessions

T0 = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)
BAR = timedelta(minutes=15)
BTC = Instrument(
    "bybit",
    "BTCUSDT",
    "BTC",
    "USDT",
    MarketKind.PERPETUAL,
    price_step=Decimal("0.01"),
    quantity_step=Decimal("0.001"),
    min_quantity=Decimal("0.001"),
    min_notional=Decimal(5),
    funding_interval_minutes=480,
)
ETH = replace(BTC, symbol="ETHUSDT", base="ETH")


@dataclass
class World:
    """What a test trades with; prices are around 100, the ATR is 1."""

    connection: Connection
    session: TradingSession
    exchange: PaperExchange
    ids: dict[str, int]

    def signal(
        self,
        symbol: str = "BTCUSDT",
        *,
        side: str = "LONG",
        bar: int = 0,
        confidence: float = 0.8,
        price: float = 100.0,
        atr: float = 1.0,
    ) -> UUID:
        """Store an active signal with that reference price, decided at the close of the bar before `T0 + bar`."""
        signal_id, sign = uuid4(), 1 if side == "LONG" else -1
        created = T0 + bar * BAR
        common = (self.session.session_id, self.ids[symbol], "15m", created - BAR)
        self.connection.execute(
            "insert into decisions (session_id, instrument_id, timeframe, ts, decided_at, outcome, reason, gates) "
            "values (%s, %s, %s, %s, %s, 'SIGNAL', 'passed', '[]')",
            (*common, created),
        )
        self.connection.execute(
            """
            insert into signals (session_id, instrument_id, timeframe, ts, signal_id, created_at, valid_until, side,
                entry_price, stop_price, tp1_price, tp2_price, tp3_price, atr, leverage, quantity, margin,
                probability, confidence, risk_reward, gross_profit, cost, net_profit, expected_value, factors,
                updated_at)
            values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 5, 1, 20, 0.8, %s, 3.8, 0.04, 0.002,
                0.038, 0.01, %s, %s)
            """,
            (
                *common,
                signal_id,
                created,
                created + timedelta(hours=4),
                side,
                *(price + sign * atr * distance for distance in (0, -1, 2, 3.5, 6)),
                atr,
                confidence,
                Jsonb({}),
                created,
            ),
        )
        self.connection.commit()
        return signal_id

    def bar(
        self,
        index: int,
        open_: float,
        high: float,
        low: float,
        close: float,
        symbol: str = "BTCUSDT",
        *,
        volume: float | None = None,
    ) -> int:
        """Let one bar pass on the exchange; how many fills it made."""
        start = T0 + index * BAR
        event = MarketEvent(self.ids[symbol], start, start + BAR, open_, high, low, close, volume=volume)
        return self.exchange.advance([event])

    def quotes(self, price: float = 100.0) -> dict[int, float]:
        """The same current price for every instrument."""
        return dict.fromkeys(self.ids.values(), price)

    def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """What a query finds, outside any transaction of the code under test."""
        self.connection.commit()
        found = self.connection.execute(query, parameters).fetchall()
        self.connection.commit()
        return found

    def statuses(self, signal_id: UUID) -> dict[str, str]:
        """Status of every order of a signal by leg code and revision."""
        found = self.rows("select client_order_id, status from orders where signal_id = %s", signal_id)
        return {name.split("-", 1)[1]: status for name, status in found}

    def signal_status(self, signal_id: UUID) -> str:
        """Where a signal stands."""
        return self.rows("select status from signals where signal_id = %s", signal_id)[0][0]


def build_world(connection: Connection, *, mode: SessionMode = SessionMode.REPLAY, **rules: Any) -> World:
    """A running session whose exchange has seen a price of 100 up to `T0`."""
    instruments.save(connection, [BTC, ETH])
    ids = {symbol: row.instrument_id for symbol, row in instruments.by_symbol(connection, "bybit").items()}
    session = TradingSession(
        session_id=uuid4(),
        name=f"test-{uuid4().hex[:8]}",
        mode=mode,
        exchange="bybit",
        symbols=tuple(ids),
        timeframe="15m",
        start_capital=Decimal(10_000),
        policy=rules.get("policy", SignalPolicy()),
        execution=rules.get("execution", ExecutionParams()),
        limits=rules.get("limits", RiskLimits()),
        venue=rules.get("venue", VenueParams()),
    )
    sessions.insert(connection, session, clock=None)
    connection.commit()
    world = World(connection, session, PaperExchange(connection, session.session_id, session.execution), ids)
    for symbol in ids:
        world.bar(-1, 100, 100, 100, 100, symbol)
    return world
