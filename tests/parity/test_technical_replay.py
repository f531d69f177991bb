"""The strategy that reads the charts, through the whole path: decided in time, the same without the future."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.research.replay import replay
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection

END = datetime(2026, 3, 8, tzinfo=UTC)
START = END - timedelta(days=2)
CUT = START + timedelta(days=1)
SYMBOLS = ("BTCUSDT", "SOLUSDT")
OPEN_GATES = {"min_net_profit": 0.0, "min_expected_value": -1.0}


@pytest.fixture
def settings() -> Settings:
    return load_settings(signals=OPEN_GATES)


def _decisions(connection: Connection, settings: Settings, end: datetime, name: str) -> list[tuple[object, ...]]:
    changes = {"strategies": ("technical",)}
    report = replay(connection, settings, "simulated", SYMBOLS, "15m", START, end, name=name, changes=changes)
    return connection.execute(
        """
        select i.symbol, d.ts, d.strategy, d.outcome, d.reason, d.gates::text, d.factors::text
        from decisions d join instruments i using (instrument_id)
        where d.session_id = %s and d.ts < %s order by d.ts, i.symbol
        """,
        (report.session.session_id, CUT - timedelta(minutes=15)),
    ).fetchall()


def test_charts_are_traded_in_a_replay_and_the_future_changes_no_decision(
    connection: Connection, settings: Settings
) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), lambda: END)
    ingest(connection, source, (), Timeframe.M5, END - timedelta(days=115), END)
    whole = _decisions(connection, settings, END, "whole")
    for table in ("ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d", "funding_rates"):
        connection.execute(f"delete from {table} where available_at > %s", (CUT,))
    connection.commit()

    alone = _decisions(connection, settings, CUT, "alone")

    assert len(alone) == 95 * 2
    assert alone == whole
    assert {row[2] for row in alone} == {"technical"}
    assert {row[3] for row in alone} == {"SIGNAL", "REJECTED"}
    assert all('"anomaly"' in str(row[5]) for row in alone)
