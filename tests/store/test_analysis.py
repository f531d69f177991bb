"""What is found out about a stored market: technical signals, anomalies with their events, the daily ranking."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.analysis.market import (
    AnalysisReport,
    find_anomalies,
    rank_universe,
    read_technical_signals,
)
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import instruments

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAY = datetime(2026, 3, 10, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
QUARTER = timedelta(minutes=15)


@pytest.fixture
def market(connection: Connection) -> Connection:
    """A hundred and fifty days of three symbols."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=150), NOW)
    return connection


def _signals(connection: Connection, start: datetime = DAY, end: datetime = NOW) -> AnalysisReport:
    return read_technical_signals(
        connection,
        "simulated",
        SYMBOLS,
        start,
        end,
        capital=10_000,
        execution=ExecutionParams(),
        limits=RiskLimits(),
    )


def _spike(connection: Connection, at: datetime) -> None:
    """Let BTC's bar that opens at that time jump by 12 % on four hundred times the volume."""
    instrument_id = instruments.by_symbol(connection, "simulated")["BTCUSDT"].instrument_id
    connection.execute(
        "update ohlcv_15m set high = high * 1.12, close = close * 1.12, volume = volume * 400 "
        "where instrument_id = %s and ts = %s",
        (instrument_id, at),
    )


def _anomalies(connection: Connection, end: datetime = NOW, now: datetime = NOW) -> AnalysisReport:
    return find_anomalies(connection, "simulated", SYMBOLS, Timeframe.M15, DAY, end, now)


def test_every_close_of_every_symbol_gets_an_opinion_with_levels_in_order(market: Connection) -> None:
    report = _signals(market)

    assert (report.symbols, report.rows) == (3, 3 * 48)
    neutral, wrong, sides, ahead = market.execute(
        """
        select count(*) filter (where side = 'NEUTRAL' and stop_price is null and confidence = 0),
               count(*) filter (where case side
                   when 'LONG' then not (stop_price < entry_price and entry_price < tp1_price and tp1_price < tp2_price
                                         and tp2_price < tp3_price and quantity > 0 and risk_reward > 2)
                   when 'SHORT' then not (stop_price > entry_price and entry_price > tp1_price
                                          and tp1_price > tp2_price and tp2_price > tp3_price and quantity > 0)
                   else stop_price is not null end),
               count(distinct side), count(*) filter (where available_at <> ts + interval '15 minutes')
        from technical_signals
        """
    ).fetchone() or (0, 0, 0, 0)
    assert neutral > 0
    assert sides >= 2
    assert (wrong, ahead) == (0, 0)


def test_one_close_alone_says_what_the_whole_day_says(market: Connection) -> None:
    query = "select * from technical_signals where ts = %s order by instrument_id"
    last = NOW - QUARTER
    _signals(market, last)
    alone = market.execute(query, (last,)).fetchall()

    report = _signals(market)

    assert report.new == 3 * 47
    assert market.execute(query, (last,)).fetchall() == alone


def test_later_candles_change_no_opinion(market: Connection) -> None:
    cut = DAY + timedelta(hours=6)
    query = "select * from technical_signals where ts < %s order by instrument_id, ts"
    _signals(market)
    whole = market.execute(query, (cut,)).fetchall()
    for table in ("ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d"):
        market.execute(f"delete from {table} where available_at > %s", (cut,))

    _signals(market)

    assert market.execute("select * from technical_signals order by instrument_id, ts").fetchall() == whole


def test_spike_is_stored_once_and_told_once(market: Connection) -> None:
    _spike(market, NOW - QUARTER)

    first, second = _anomalies(market), _anomalies(market)

    kinds = {
        kind
        for (kind,) in market.execute(
            "select kind from anomalies where ts = %s and available_at = ts + interval '15 minutes'", (NOW - QUARTER,)
        )
    }
    assert {"PRICE_SPIKE", "VOLUME_SPIKE"} <= kinds
    assert first.new >= 2
    assert second.new == 0
    told = market.execute("select subject, severity, message from events where kind = 'anomaly'").fetchall()
    assert {subject for subject, _, _ in told} == {"BTCUSDT"}
    assert {severity for _, severity, _ in told} == {"warning"}
    assert any("price spike: +1" in message for _, _, message in told)
    assert len(told) == len(set(told))


def test_anomaly_of_the_past_is_stored_without_an_event(market: Connection) -> None:
    _spike(market, DAY)

    assert _anomalies(market).new > 0

    assert market.execute("select count(*) from events where kind = 'anomaly'").fetchone() == (0,)


def test_anomaly_of_a_corrected_candle_is_taken_back(market: Connection) -> None:
    bar = NOW - QUARTER
    before = market.execute("select high, close, volume from ohlcv_15m where ts = %s", (bar,)).fetchall()
    _spike(market, bar)
    _anomalies(market)
    ids = [row.instrument_id for row in instruments.by_symbol(market, "simulated").values()]
    assert len(before) == len(ids)
    market.execute(
        "update ohlcv_15m set high = high / 1.12, close = close / 1.12, volume = volume / 400 "
        "where ts = %s and instrument_id = (select instrument_id from instruments where symbol = 'BTCUSDT')",
        (bar,),
    )

    _anomalies(market)

    assert market.execute("select count(*) from anomalies where ts = %s", (bar,)).fetchone() == (0,)


def test_universe_is_ranked_at_the_end_of_each_whole_day_with_reasons(market: Connection) -> None:
    report = rank_universe(market, "simulated", SYMBOLS, DAY - timedelta(days=2), NOW)

    assert report.rows == 2 * 3
    rows = market.execute(
        "select ts, rank, symbols, score, reasons, available_at from screener_rankings order by ts, rank"
    ).fetchall()
    assert [row[1] for row in rows] == [1, 2, 3, 1, 2, 3]
    assert all(row[2] == 3 and len(row[4]) == 4 and row[5] == row[0] + timedelta(days=1) for row in rows)
    assert rows[0][3] >= rows[1][3] >= rows[2][3]
    assert rank_universe(market, "simulated", SYMBOLS, DAY - timedelta(days=2), NOW).new == 0


def test_day_that_has_not_ended_is_not_ranked(market: Connection) -> None:
    assert rank_universe(market, "simulated", SYMBOLS, DAY, NOW).rows == 0


def test_unknown_symbol_is_named(market: Connection) -> None:
    with pytest.raises(UserError, match="NOPEUSDT not stored for simulated"):
        rank_universe(market, "simulated", ["NOPEUSDT"], DAY, NOW)
