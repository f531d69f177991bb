"""Fixtures for Dagster definitions: the platform's settings pointed at the test's own database and folder."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import pytest

from trading_pipelines.application.features.building import current_feature_set
from trading_pipelines.application.signals.sessions import paper_session
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import instruments


class StandingClock(ClockResource):
    """A clock that shows what the test says."""

    shows: str = "2026-03-10T12:01:00+00:00"

    def now(self) -> datetime:
        """The time that was set."""
        return datetime.fromisoformat(self.shows)


@pytest.fixture
def clock() -> ClockResource:
    """A clock that stands at noon of some day."""
    return StandingClock()


@pytest.fixture
def platform(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the resources that resolve settings find the test's database and data folder."""
    monkeypatch.setenv("TRADING_DATABASE_URL", database)
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRADING_SYMBOLS", "BTCUSDT,ETHUSDT")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def stored_instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in a folder; schedules accept no other."""
    with dg.instance_for_test() as stored:
        yield stored


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


class Books:
    """Rows of the live session, written past the application so that tests can plant what it would refuse."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        instruments.save(connection, [_perpetual("BTC"), _perpetual("ETH")])
        self.ids = {symbol: row.instrument_id for symbol, row in instruments.by_symbol(connection, "simulated").items()}
        connection.commit()
        self.session_id = paper_session(connection, settings()).session_id

    def insert(self, table: str, **values: object) -> None:
        """Write one row and commit."""
        names, marks = ", ".join(f'"{name}"' for name in values), ", ".join(["%s"] * len(values))
        self.connection.execute(f"insert into {table} ({names}) values ({marks})", list(values.values()))
        self.connection.commit()

    def candle(self, ts: datetime, *, symbol: str = "BTCUSDT", table: str = "ohlcv_5m", **changes: object) -> None:
        """A 5m candle that nothing is wrong with."""
        prices = {"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.5, "volume": 7.0}
        row = {"instrument_id": self.ids[symbol], "ts": ts, **prices, "available_at": ts + timedelta(minutes=5)}
        self.insert(table, **{**row, **changes})

    def signal(self, made_at: datetime, *, symbol: str = "BTCUSDT", **changes: object) -> UUID:
        """An active long signal and its decision."""
        ts = made_at - timedelta(minutes=15)
        key = {
            "session_id": self.session_id,
            "instrument_id": self.ids[symbol],
            "timeframe": "15m",
            "ts": ts,
        }
        self.insert("decisions", **key, decided_at=made_at, outcome="SIGNAL", reason="all gates", gates="[]")
        signal = {
            "signal_id": uuid4(),
            "created_at": made_at,
            "valid_until": made_at + timedelta(hours=4),
            "side": "LONG",
            **{"stop_price": 98.0, "entry_price": 100.0},
            **{"tp1_price": 104.0, "tp2_price": 107.0, "tp3_price": 112.0, "atr": 2.0},
            **{"leverage": 5.0, "quantity": 1.0, "margin": 20.0, "probability": 0.6, "confidence": 0.6},
            **{"risk_reward": 3.9, "gross_profit": 0.05, "cost": 0.002, "net_profit": 0.048},
            **{"expected_value": 0.01, "factors": "{}", "updated_at": made_at},
        }
        self.insert("signals", **key, **{**signal, **changes})
        return UUID(str(signal["signal_id"]))

    def feature_row(self, ts: datetime, *, symbol: str = "BTCUSDT", value: float = 1.0) -> None:
        """A row of the current feature set for a 15m bar."""
        set_id = current_feature_set(self.connection)
        self.insert(
            "features_15m",
            **{"instrument_id": self.ids[symbol], "feature_set_id": set_id, "ts": ts},
            **{"available_at": ts + timedelta(minutes=15), "values": [value] * len(registry.NAMES)},
        )

    def decide(self, ts: datetime, *, symbol: str = "BTCUSDT") -> None:
        """A stored rejection."""
        self.insert(
            "decisions",
            **{"session_id": self.session_id, "instrument_id": self.ids[symbol], "timeframe": "15m", "ts": ts},
            **{"decided_at": ts, "outcome": "REJECTED", "reason": "confidence", "gates": "[]"},
        )

    def set_signal_status(self, signal_id: UUID, status: str) -> None:
        """Move a signal on, as the order path would."""
        self.connection.execute("update signals set status = %s where signal_id = %s", (status, signal_id))
        self.connection.commit()

    def position(self, opened_at: datetime, **changes: object) -> None:
        """An open long position, fully protected."""
        row = {
            "position_id": uuid4(),
            "session_id": self.session_id,
            "instrument_id": self.ids["BTCUSDT"],
            "side": "LONG",
            **{"quantity_initial": 1, "quantity_open": 1, "quantity_protected": 1, "stop_price": 98},
            **{"entry_price": 100, "entry_margin": 20, "leverage": 5, "mark_price": 100},
            **{"opened_at": opened_at, "updated_at": opened_at},
        }
        self.insert("positions", **row)
        if changes:
            assigned = ", ".join(f'"{name}" = %s' for name in changes)
            self.connection.execute(
                f"update positions set {assigned} where position_id = %s", (*changes.values(), row["position_id"])
            )
            self.connection.commit()


def _perpetual(base: str) -> Instrument:
    return Instrument("simulated", f"{base}USDT", base, "USDT", MarketKind.PERPETUAL, Decimal("0.1"))


@pytest.fixture
def books(platform: None, connection: Connection) -> Books:
    """The live session of the test's database, without a trade."""
    return Books(connection)


@pytest.fixture
def resources(platform: None, clock: ClockResource) -> dict[str, dg.ConfigurableResource[object]]:
    """What sensors and checks of the test ask for."""
    return {"clock": clock, "database": DatabaseResource()}
