"""The pages' questions, asked of a real database whose rows are known to the last digit."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models import (
    chart,
    market,
    models,
    performance,
    positions,
    reader,
    risk,
    sessions,
    signals,
    status,
)

NOW = datetime(2025, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
BAR = timedelta(minutes=15)


def insert(connection: Connection, table: str, **values: Any) -> None:
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    connection.execute(statement, list(values.values()))


def add_instrument(connection: Connection, base: str) -> int:
    insert(
        connection,
        "instruments",
        exchange="bybit",
        symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        kind="perpetual",
    )
    row = connection.execute("select instrument_id from instruments where symbol = %s", (f"{base}USDT",)).fetchone()
    assert row is not None
    return row[0]


def add_session(connection: Connection, name: str = "paper", mode: str = "paper", **values: Any) -> UUID:
    session_id = uuid4()
    insert(
        connection,
        "sessions",
        session_id=session_id,
        name=name,
        mode=mode,
        exchange="bybit",
        symbols=["BTCUSDT"],
        timeframe="15m",
        strategies=["model_signals"],
        start_capital=10_000,
        config=Jsonb({"limits": {"max_open_positions": 5}}),
        **values,
    )
    return session_id


def add_candle(connection: Connection, instrument: int, timeframe: str, ts: datetime, close: float) -> None:
    length = {"5m": timedelta(minutes=5), "15m": BAR, "1h": HOUR}[timeframe]
    insert(
        connection,
        f"ohlcv_{timeframe}",
        instrument_id=instrument,
        ts=ts,
        open=close,
        high=close * 1.01,
        low=close * 0.99,
        close=close,
        volume=2.0,
        available_at=ts + length,
    )


GATES = [
    {"name": "confidence", "value": 0.61, "threshold": 0.52, "passed": True},
    {"name": "net_profit", "value": 0.011, "threshold": 0.02, "passed": False},
    {"name": "expected_value", "value": -0.001, "threshold": 0.0, "passed": False},
]


def add_decision(connection: Connection, session: UUID, instrument: int, ts: datetime, reason: str) -> None:
    insert(
        connection,
        "decisions",
        session_id=session,
        instrument_id=instrument,
        timeframe="15m",
        ts=ts,
        decided_at=ts + BAR,
        outcome="SIGNAL" if reason == "passed" else "REJECTED",
        reason=reason,
        side="LONG",
        confidence=0.61,
        gates=Jsonb(GATES),
    )


def add_signal(connection: Connection, session: UUID, instrument: int, ts: datetime, **changes: Any) -> UUID:
    add_decision(connection, session, instrument, ts, "passed")
    values: dict[str, Any] = {
        "signal_id": uuid4(),
        "session_id": session,
        "instrument_id": instrument,
        "timeframe": "15m",
        "ts": ts,
        "created_at": ts + BAR,
        "valid_until": ts + 4 * HOUR,
        "side": "LONG",
        "entry_price": 100.0,
        "stop_price": 98.0,
        "tp1_price": 104.0,
        "tp2_price": 107.0,
        "tp3_price": 112.0,
        "atr": 2.0,
        "leverage": 5.0,
        "quantity": 10.0,
        "margin": 200.0,
        "probability": 0.61,
        "confidence": 0.61,
        "risk_reward": 3.8,
        "gross_profit": 0.076,
        "cost": 0.002,
        "net_profit": 0.074,
        "expected_value": 0.03,
        "factors": Jsonb({"rsi_14": -0.3, "ema_gap": 0.1, "atr_14": 0.2}),
        "updated_at": ts + BAR,
    }
    insert(connection, "signals", **{**values, **changes})
    return {**values, **changes}["signal_id"]


def add_position(connection: Connection, session: UUID, instrument: int, signal: UUID | None, **changes: Any) -> UUID:
    values: dict[str, Any] = {
        "position_id": uuid4(),
        "session_id": session,
        "instrument_id": instrument,
        "signal_id": signal,
        "side": "LONG",
        "quantity_initial": 10,
        "quantity_open": 7,
        "quantity_protected": 7,
        "entry_price": 100,
        "entry_margin": 200,
        "leverage": 5,
        "stop_price": 101,
        "initial_stop_price": 98,
        "liquidation_price": "80.5",
        "mark_price": 103,
        "unrealised_pnl": 21,
        "realised_pnl": 12,
        "fees": 1,
        "funding": "0.5",
        "slippage": "0.7",
        "opened_at": NOW - 3 * HOUR,
        "updated_at": NOW,
    }
    closed = changes.get("status") == "CLOSED"
    # A position starts open, whatever becomes of it.
    start = {"status": "OPEN", "quantity_open": values["quantity_open"]} if closed else {}
    insert(connection, "positions", **{**values, **changes, **start})
    if closed:
        connection.execute(
            "update positions set status = 'CLOSED', quantity_open = 0, quantity_protected = 0 where position_id = %s",
            ({**values, **changes}["position_id"],),
        )
    return {**values, **changes}["position_id"]


def add_order(
    connection: Connection, session: UUID, instrument: int, client_id: str, leg: str, created_at: datetime
) -> None:
    insert(
        connection,
        "orders",
        client_order_id=client_id,
        session_id=session,
        instrument_id=instrument,
        leg=leg,
        side="BUY" if leg == "ENTRY" else "SELL",
        type="MARKET",
        reduce_only=leg != "ENTRY",
        quantity=10,
        created_at=created_at,
        updated_at=created_at,
    )


def add_fill(
    connection: Connection,
    session: UUID,
    instrument: int,
    position: UUID,
    order: str,
    kind: str,
    ts: datetime,
    quantity: float,
    price: float,
    reference: float,
) -> None:
    insert(
        connection,
        "fills",
        fill_id=f"{order}-{kind}-{ts:%H%M}",
        client_order_id=order,
        session_id=session,
        position_id=position,
        instrument_id=instrument,
        ts=ts,
        kind=kind,
        side="BUY" if kind == "ENTRY" else "SELL",
        quantity=quantity,
        price=price,
        reference_price=reference,
        fee=0.1,
        realised_pnl=0 if kind == "ENTRY" else 12,
    )


@pytest.fixture
def bitcoin(connection: Connection) -> int:
    return add_instrument(connection, "BTC")


@pytest.fixture
def session(connection: Connection) -> UUID:
    return add_session(connection)


def test_sessions_on_the_wall_clock_come_before_replays(connection: Connection) -> None:
    add_session(connection, "replay-a", "replay", clock=NOW, created_at=NOW)
    paper = add_session(connection, "paper", created_at=NOW - timedelta(days=9))
    add_session(connection, "replay-b", "replay", clock=NOW, created_at=NOW + HOUR)
    for hours in (0, 1):
        ts = NOW + hours * HOUR
        insert(connection, "equity", session_id=paper, ts=ts, equity=1, cash=1, margin=0, unrealised=0)

    found = sessions.list_sessions(connection)

    assert [s.name for s in found] == ["paper", "replay-b", "replay-a"]
    assert (found[0].first_mark, found[0].last_mark) == (NOW, NOW + HOUR)
    assert found[0].max_open_positions == 5


def test_overview_prefers_a_ticker_that_is_newer_than_the_candle(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    add_candle(connection, bitcoin, "15m", NOW - BAR, 100.0)
    insert(
        connection,
        "tickers",
        instrument_id=bitcoin,
        ts=NOW + timedelta(seconds=3),
        price=101.5,
        change_24h=0.02,
        quote_volume_24h=5e6,
    )

    row = market.market_overview(connection, "bybit", session, "15m").iloc[0]

    assert (row["price"], row["change_24h"], row["volume_24h"]) == (101.5, 0.02, 5e6)
    assert row["price_at"] == NOW + timedelta(seconds=3)


def test_overview_falls_back_to_candles_where_the_ticker_is_older(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    for hour in range(100):
        add_candle(connection, bitcoin, "1h", NOW - (100 - hour) * HOUR, 100.0 + hour)
    insert(connection, "tickers", instrument_id=bitcoin, ts=NOW - 2 * HOUR, price=1.0, change_24h=0.5)

    row = market.market_overview(connection, "bybit", session, "15m").iloc[0]

    assert row["price"] == 199.0
    assert row["change_24h"] == pytest.approx(199 / 175 - 1)
    assert row["volume_24h"] == pytest.approx(sum(2 * (100 + hour) for hour in range(76, 100)))
    assert row["trend"] == "UP"
    assert row["spark"][-2:] == [199.0, 199.0]


def test_overview_names_no_trend_before_eighty_hours(connection: Connection, bitcoin: int) -> None:
    for hour in range(79):
        add_candle(connection, bitcoin, "1h", NOW - (79 - hour) * HOUR, 100.0)

    row = market.market_overview(connection, "bybit", None, "15m").iloc[0]

    assert row["trend"] is None


def test_overview_shows_a_symbol_that_has_no_candle_yet(connection: Connection, bitcoin: int) -> None:
    row = market.market_overview(connection, "bybit", None, "15m").iloc[0]

    assert row["symbol"] == "BTCUSDT"
    assert row[["price", "change_24h", "signal_at"]].isna().all()


def test_overview_shows_the_newest_signal_of_the_session_only(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    other = add_session(connection, "replay", "replay", clock=NOW)
    add_signal(connection, session, bitcoin, NOW - 5 * HOUR, side="SHORT")
    add_signal(connection, session, bitcoin, NOW - 2 * HOUR)
    add_signal(connection, other, bitcoin, NOW - HOUR, side="SHORT")

    row = market.market_overview(connection, "bybit", session, "15m").iloc[0]

    assert (row["signal_side"], row["signal_at"]) == ("LONG", NOW - 2 * HOUR + BAR)


def test_overview_shows_the_newest_score_of_the_timeframe(connection: Connection, bitcoin: int) -> None:
    insert(connection, "score_definitions", definition_hash="h", factors=[], inputs=[], spec=Jsonb({}))
    scores = {NOW - 3 * BAR: (15, 40.0), NOW - 2 * BAR: (15, 71.5), NOW - BAR: (60, 12.0)}
    for ts, (minutes, score) in scores.items():
        insert(
            connection,
            "composite_scores",
            **{
                "instrument_id": bitcoin,
                "bar_minutes": minutes,
                "ts": ts,
                "available_at": ts + BAR,
                "definition_id": 1,
            },
            **{
                "score": score,
                "confidence": 0.6,
                "coverage": 1,
                "known": 0,
                "bullish": 0,
                "bearish": 0,
                "consensus": 0,
            },
            **{name: [] for name in ("values", "ages", "weights", "contributions")},
        )

    assert market.market_overview(connection, "bybit", None, "15m").iloc[0]["score"] == 71.5


def test_signals_are_filtered_by_every_criterion(connection: Connection, bitcoin: int, session: UUID) -> None:
    ether = add_instrument(connection, "ETH")
    wanted = add_signal(connection, session, bitcoin, NOW, confidence=0.7)
    add_signal(connection, session, bitcoin, NOW - HOUR, confidence=0.55)
    add_signal(connection, session, bitcoin, NOW - 2 * HOUR, side="SHORT", confidence=0.7)
    add_signal(connection, session, ether, NOW, confidence=0.7)
    expired = add_signal(connection, session, bitcoin, NOW - 3 * HOUR, confidence=0.7)
    connection.execute("update signals set status = 'EXPIRED' where signal_id = %s", (expired,))

    found = signals.list_signals(
        connection, session, symbols=["BTCUSDT"], sides=["LONG"], statuses=["ACTIVE"], min_confidence=0.6
    )

    assert found["signal_id"].tolist() == [str(wanted)]
    assert len(signals.list_signals(connection, session)) == 5


def test_result_of_a_signal_is_net_of_fees_and_funding(connection: Connection, bitcoin: int, session: UUID) -> None:
    signal = add_signal(connection, session, bitcoin, NOW)
    add_position(connection, session, bitcoin, signal)

    found = signals.list_signals(connection, session)

    assert found["result"].tolist() == [pytest.approx(12 + 21 - 1 - 0.5)]


def test_detail_of_a_signal_has_its_gates_and_its_strongest_factor_first(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    signal = add_signal(connection, session, bitcoin, NOW)

    detail = signals.signal_detail(connection, signal)

    assert detail is not None
    assert detail.signal["symbol"] == "BTCUSDT"
    assert detail.gates["name"].tolist() == ["confidence", "net_profit", "expected_value"]
    assert detail.factors["name"].tolist() == ["rsi_14", "atr_14", "ema_gap"]


def test_detail_of_an_unknown_signal_is_none(connection: Connection) -> None:
    assert signals.signal_detail(connection, uuid4()) is None


def test_refusals_are_counted_per_reason_with_value_and_threshold(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    for bar in range(3):
        add_decision(connection, session, bitcoin, NOW + bar * BAR, "net_profit")
    add_decision(connection, session, bitcoin, NOW + 3 * BAR, "expected_value")
    add_signal(connection, session, bitcoin, NOW + 4 * BAR)
    add_decision(connection, session, bitcoin, NOW - timedelta(days=2), "net_profit")

    counts = signals.decision_counts(connection, session, NOW).set_index("reason")

    assert counts.loc["net_profit", ["decisions", "share", "median_value", "threshold"]].tolist() == [
        3,
        0.6,
        0.011,
        0.02,
    ]
    assert counts.loc["expected_value", "decisions"] == 1
    assert counts.loc["passed", "outcome"] == "SIGNAL"


def test_counts_of_an_idle_session_are_empty(connection: Connection, session: UUID) -> None:
    assert signals.decision_counts(connection, session, NOW).empty


def test_decisions_name_every_gate_that_failed(connection: Connection, bitcoin: int, session: UUID) -> None:
    add_decision(connection, session, bitcoin, NOW, "net_profit")
    add_signal(connection, session, bitcoin, NOW + BAR)

    refused = signals.list_decisions(connection, session, NOW, outcome="REJECTED")

    assert len(refused) == 1
    assert refused["failed_gates"].tolist() == ["net_profit, expected_value"]
    assert (refused["value"][0], refused["threshold"][0]) == (0.011, 0.02)
    assert len(signals.list_decisions(connection, session, NOW)) == 2
    assert signals.list_decisions(connection, session, NOW, symbols=["ETHUSDT"]).empty
    assert signals.newest_decision(connection, session) == NOW + BAR


def test_candles_start_at_the_asked_bar_with_a_warmed_up_average(connection: Connection, bitcoin: int) -> None:
    for bar in range(100):
        add_candle(connection, bitcoin, "15m", NOW - (100 - bar) * BAR, 100.0 + bar)

    found = chart.candles(connection, "bybit", "BTCUSDT", "15m", NOW - 10 * BAR, NOW, (5,))

    assert len(found) == 10
    assert found["ts"].iloc[0] == NOW - 10 * BAR
    # An exponential average of n bars lags a straight line of slope one by (n - 1) / 2.
    assert found["ema_5"].iloc[0] == pytest.approx(190 - 2, abs=0.01)


def test_indicators_beside_the_candles_are_those_of_the_domain(connection: Connection, bitcoin: int) -> None:
    random = np.random.default_rng(5)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 0.01, 900)))
    for bar, close in enumerate(closes):
        add_candle(connection, bitcoin, "15m", NOW - (900 - bar) * BAR, float(close))
    whole = chart.candles(connection, "bybit", "BTCUSDT", "15m", NOW - 2_000 * BAR, NOW, indicators=True)

    found = chart.candles(connection, "bybit", "BTCUSDT", "15m", NOW - 20 * BAR, NOW, indicators=True)

    assert found[list(chart.INDICATORS)].notna().all().all()
    pd.testing.assert_frame_equal(found, whole.tail(20).reset_index(drop=True), rtol=1e-9)
    newest = closes[-20:]
    assert found["bollinger_upper"].iloc[-1] == pytest.approx(newest.mean() + 2 * newest.std())
    assert found["rsi"].between(0, 100).all()


def test_no_candles_have_no_indicators(connection: Connection, bitcoin: int) -> None:
    assert chart.candles(connection, "bybit", "BTCUSDT", "15m", NOW - HOUR, NOW, indicators=True).empty


def test_candles_of_an_unknown_timeframe_are_refused(connection: Connection) -> None:
    with pytest.raises(ValueError, match="7m"):
        chart.candles(connection, "bybit", "BTCUSDT", "7m", NOW, NOW)


def test_span_leaves_out_timeframes_without_candles(connection: Connection, bitcoin: int) -> None:
    add_candle(connection, bitcoin, "15m", NOW, 100.0)
    add_candle(connection, bitcoin, "15m", NOW + BAR, 100.0)

    assert chart.candle_span(connection, "bybit", "BTCUSDT") == {"15m": (NOW, NOW + BAR)}
    assert chart.candle_span(connection, "bybit", "NONE") == {}


def test_next_close_is_the_end_of_the_bar_that_is_being_formed() -> None:
    assert chart.next_close("15m", NOW + timedelta(minutes=7)) == NOW + BAR
    assert chart.next_close("4h", NOW) == NOW + 4 * HOUR


def test_marks_are_those_of_the_session_and_range(connection: Connection, bitcoin: int, session: UUID) -> None:
    inside = add_signal(connection, session, bitcoin, NOW)
    add_signal(connection, session, bitcoin, NOW - timedelta(days=9))
    position = add_position(connection, session, bitcoin, inside)
    add_order(connection, session, bitcoin, "a-E-0", "ENTRY", NOW)
    add_fill(connection, session, bitcoin, position, "a-E-0", "ENTRY", NOW + BAR, 10, 100.05, 100)

    arguments = (session, "bybit", "BTCUSDT", NOW, NOW + HOUR)

    assert chart.signal_marks(connection, *arguments)["signal_id"].tolist() == [str(inside)]
    assert chart.fill_marks(connection, *arguments)["price"].tolist() == [100.05]


def test_open_position_shows_what_is_left_of_margin_and_targets(
    connection: Connection, bitcoin: int, session: UUID
) -> None:
    signal = add_signal(connection, session, bitcoin, NOW - 4 * HOUR)
    position = add_position(connection, session, bitcoin, signal)
    add_order(connection, session, bitcoin, "a-E-0", "ENTRY", NOW - 3 * HOUR)
    add_order(connection, session, bitcoin, "a-T1-0", "TP1", NOW - 3 * HOUR)
    add_fill(connection, session, bitcoin, position, "a-E-0", "ENTRY", NOW - 3 * HOUR, 10, 100.05, 100)
    add_fill(connection, session, bitcoin, position, "a-T1-0", "TP1", NOW - HOUR, 3, 104, 104.05)

    row = positions.open_positions(connection, session).iloc[0]

    assert row["margin"] == pytest.approx(140)
    assert row["net"] == pytest.approx(12 + 21 - 1 - 0.5)
    assert (row["targets_filled"], row["exit_price"], row["tp2_price"]) == ("TP1", 104.0, 107.0)


def test_closed_positions_come_newest_first_and_limited(connection: Connection, bitcoin: int, session: UUID) -> None:
    for hours in (3, 1, 2):
        add_position(
            connection,
            session,
            bitcoin,
            None,
            status="CLOSED",
            quantity_open=0,
            closed_at=NOW - hours * HOUR,
            close_reason=f"{hours}",
        )

    found = positions.closed_positions(connection, session, 2)

    assert found["close_reason"].tolist() == ["1", "2"]
    assert positions.open_positions(connection, session).empty


def test_slippage_of_an_order_is_positive_when_it_cost(connection: Connection, bitcoin: int, session: UUID) -> None:
    position = add_position(connection, session, bitcoin, None)
    add_order(connection, session, bitcoin, "a-E-0", "ENTRY", NOW)
    add_order(connection, session, bitcoin, "a-X-0", "EXIT", NOW + HOUR)
    add_order(connection, session, bitcoin, "b-E-0", "ENTRY", NOW + 2 * HOUR)
    add_fill(connection, session, bitcoin, position, "a-E-0", "ENTRY", NOW, 10, 100.05, 100)
    add_fill(connection, session, bitcoin, position, "a-X-0", "EXIT", NOW + HOUR, 10, 110.11, 110)
    connection.execute("update orders set status = 'REJECTED', status_reason = 'margin' where leg = 'EXIT'")

    found = positions.list_orders(connection, session).set_index("client_order_id")

    assert found.index.tolist() == ["b-E-0", "a-X-0", "a-E-0"]
    assert found.loc["a-E-0", "slippage_bps"] == pytest.approx(5.0)
    assert found.loc["a-X-0", "slippage_bps"] == pytest.approx(-10.0)
    assert found["slippage_bps"].isna()["b-E-0"]
    refused = positions.list_orders(connection, session, ["REJECTED"])
    assert refused["status_reason"].tolist() == ["margin"]


def test_account_adds_open_and_closed_results_to_the_start_capital(connection: Connection, bitcoin: int) -> None:
    session = add_session(connection, "replay", "replay", clock=NOW)
    ether = add_instrument(connection, "ETH")
    add_position(connection, session, bitcoin, None)
    add_position(
        connection,
        session,
        ether,
        None,
        status="CLOSED",
        quantity_open=0,
        unrealised_pnl=0,
        realised_pnl=-40,
        closed_at=NOW,
    )
    midnight = NOW.replace(hour=0)
    for ts, equity in ((midnight - HOUR, 9_900), (midnight, 9_950), (midnight + HOUR, 9_990)):
        insert(connection, "equity", session_id=session, ts=ts, equity=equity, cash=0, margin=0, unrealised=0)

    account = performance.account(connection, session)

    assert account is not None
    assert account.equity == pytest.approx(10_000 + (12 + 21 - 1.5) + (-40 - 1.5))
    assert account.unrealised == 21
    assert account.today == pytest.approx(account.equity - 9_950)
    assert (account.open_positions, account.closed_positions, account.margin) == (1, 1, 140)


def test_account_of_an_unknown_session_is_none(connection: Connection) -> None:
    assert performance.account(connection, uuid4()) is None


def _traded_session(connection: Connection, bitcoin: int) -> UUID:
    session = add_session(connection, "replay", "replay", clock=NOW)
    start = datetime(2025, 3, 8, tzinfo=UTC)
    for hour in range(1, 49):
        equity = 10_000 + (100 if hour <= 24 else -50)
        insert(
            connection,
            "equity",
            session_id=session,
            ts=start + hour * HOUR,
            equity=equity,
            cash=0,
            margin=0,
            unrealised=0,
        )
        add_candle(connection, bitcoin, "1h", start + (hour - 1) * HOUR, 100.0 + hour)
    for number, (realised, reason) in enumerate(((111.5, "TP3"), (-148.5, "STOP"))):
        add_position(
            connection,
            session,
            bitcoin,
            None,
            status="CLOSED",
            quantity_open=0,
            unrealised_pnl=0,
            realised_pnl=realised,
            close_reason=reason,
            opened_at=start + number * 24 * HOUR,
            closed_at=start + (number + 1) * 12 * HOUR,
        )
    return session


def test_report_measures_marked_equity_and_closed_positions(connection: Connection, bitcoin: int) -> None:
    report = performance.performance_report(connection, _traded_session(connection, bitcoin))

    assert report is not None
    assert report.figures.trades == 2
    assert report.figures.net_pnl == pytest.approx(110 - 150)
    assert report.figures.profit_factor == pytest.approx(110 / 150)
    assert report.figures.max_drawdown == pytest.approx(150 / 10_100)
    assert report.curve["drawdown"].min() == pytest.approx(-150 / 10_100)
    assert report.daily["pnl"].tolist() == [100, -150]
    assert report.daily["day"].dt.day.tolist() == [8, 9]


def test_report_compares_with_holding_bitcoin_from_the_first_mark(connection: Connection, bitcoin: int) -> None:
    report = performance.performance_report(connection, _traded_session(connection, bitcoin))

    assert report is not None
    assert report.benchmark == "BTCUSDT"
    assert report.curve["benchmark"].iloc[0] == 10_000
    assert report.curve["benchmark"].iloc[-1] == pytest.approx(10_000 * 148 / 101)


def test_report_breaks_results_down_by_symbol_side_and_reason(connection: Connection, bitcoin: int) -> None:
    report = performance.performance_report(connection, _traded_session(connection, bitcoin))

    assert report is not None
    assert report.by_close_reason["close_reason"].tolist() == ["TP3", "STOP"]
    assert report.by_close_reason["net"].tolist() == [pytest.approx(110), pytest.approx(-150)]
    assert report.by_symbol[["symbol", "trades", "wins"]].to_numpy().tolist() == [["BTCUSDT", 2, 1]]
    assert report.trades["r"].tolist() == [pytest.approx(5.5), pytest.approx(-7.5)]


def test_report_tells_results_of_strategies_apart(connection: Connection, bitcoin: int) -> None:
    session = _traded_session(connection, bitcoin)
    signal = add_signal(connection, session, bitcoin, NOW - 40 * HOUR)
    connection.execute("update positions set signal_id = %s where close_reason = 'TP3'", (signal,))

    report = performance.performance_report(connection, session)

    assert report is not None
    assert report.by_strategy[["strategy", "trades"]].to_numpy().tolist() == [["model_signals", 1], ["unknown", 1]]


def test_report_without_benchmark_candles_says_so(connection: Connection, session: UUID) -> None:
    insert(connection, "equity", session_id=session, ts=NOW, equity=10_010, cash=0, margin=0, unrealised=0)

    report = performance.performance_report(connection, session)

    assert report is not None
    assert report.benchmark is None
    assert report.curve["benchmark"].isna().all()
    assert report.trades.empty


def test_report_before_the_first_mark_is_none(connection: Connection, session: UUID) -> None:
    assert performance.performance_report(connection, session) is None


def test_long_curve_is_thinned_but_keeps_its_deepest_drawdown(connection: Connection, session: UUID) -> None:
    connection.execute(
        """
        insert into equity select %s, %s + n * interval '15 min', case n when 7777 then 5000 else 10000 end, 0, 0, 0
        from generate_series(1, 20000) n
        """,
        (session, NOW),
    )

    report = performance.performance_report(connection, session)

    assert report is not None
    assert len(report.curve) == 1_500
    assert report.curve["drawdown"].min() == -0.5
    assert report.curve["ts"].iloc[-1] == NOW + 20_000 * BAR


def test_platform_status_reads_kill_switch_and_heartbeats(connection: Connection) -> None:
    connection.execute("update kill_switch set engaged = true, reason = 'by hand'")
    connection.execute("insert into heartbeats values ('trader', now() - interval '90 s', now(), '{}')")

    found = status.platform_status(connection)

    assert (found.kill_engaged, found.kill_reason) == (True, "by hand")
    assert found.services["age_seconds"].tolist() == [pytest.approx(90, abs=5)]


def test_missing_kill_switch_row_counts_as_engaged(connection: Connection) -> None:
    connection.execute("delete from kill_switch")

    assert status.platform_status(connection).kill_engaged


def test_source_status_counts_gaps_and_quarantine_per_symbol_and_dataset(connection: Connection, bitcoin: int) -> None:
    add_instrument(connection, "ETH")
    for dataset in ("candles 5m", "funding"):
        insert(
            connection, "source_status", source="ccxt", exchange="bybit", symbol="BTCUSDT", dataset=dataset, last_ts=NOW
        )
    for number, verdict in enumerate(("open", "open", "absent")):
        insert(
            connection,
            "ohlcv_gaps",
            instrument_id=bitcoin,
            timeframe="5m",
            gap_start=NOW + number * HOUR,
            gap_end=NOW + number * HOUR + BAR,
            bars=3,
            verdict=verdict,
        )
    insert(
        connection,
        "ohlcv_quarantine",
        source="ccxt",
        exchange="bybit",
        symbol="BTCUSDT",
        timeframe="5m",
        reason="high below low",
        payload=Jsonb({"x": "y" * 900}),
    )

    counts = ["open_gaps", "missing_bars", "quarantined", "failures"]
    found = status.source_status(connection).set_index(["symbol", "dataset"])

    assert found.loc[("BTCUSDT", "candles 5m"), counts].tolist() == [2, 6, 1, 0]
    assert found.loc[("BTCUSDT", "funding"), counts].tolist() == [0, 0, 0, 0]
    assert found.loc["ETHUSDT", ["open_gaps", "quarantined"]].to_numpy().tolist() == [[0, 0]]
    # A candle is late by the time since its close.
    lags = found.loc["BTCUSDT", "lag_seconds"]
    assert lags["funding"] - lags["candles 5m"] == pytest.approx(300)
    assert status.list_gaps(connection, 10)["verdict"].tolist() == ["open", "open", "absent"]
    assert len(status.list_quarantine(connection, 10)["payload"][0]) == 400


def test_newest_candles_are_given_by_their_close(connection: Connection, bitcoin: int) -> None:
    add_candle(connection, bitcoin, "15m", NOW, 100.0)
    add_candle(connection, bitcoin, "1h", NOW, 100.0)

    found = status.newest_candles(connection)

    assert dict(zip(found["timeframe"], found["closed_at"], strict=True)) == {"15m": NOW + BAR, "1h": NOW + HOUR}


def test_events_come_newest_first_with_the_name_of_their_session(connection: Connection, session: UUID) -> None:
    insert(connection, "events", kind="started", subject="trader", message="one")
    insert(connection, "events", kind="order_rejected", session_id=session, subject="BTCUSDT", message="two")

    found = status.list_events(connection, 10)

    assert found["message"].tolist() == ["two", "one"]
    assert found["session"].tolist()[0] == "paper"


def test_database_size_lists_the_largest_tables_first(connection: Connection) -> None:
    found = status.database_size(connection, 3)

    assert found.total_bytes > 0
    assert len(found.tables) == 3
    assert found.tables["bytes"].is_monotonic_decreasing


def _add_model(connection: Connection, instrument: int, model_id: str) -> None:
    connection.execute("insert into feature_sets (definition_hash, names) values ('h', '{}') on conflict do nothing")
    connection.execute(
        """
        insert into model_versions select %s, %s, '15m', feature_set_id, '{}', %s, %s, %s,
               '{"brier": 0.24, "ok": true, "name": "x"}', '', '', 'v1' from feature_sets
        """,
        (model_id, instrument, f"key-{model_id}", NOW, NOW),
    )


def test_version_in_production_is_the_newest_promotion_that_is_in_force(connection: Connection, bitcoin: int) -> None:
    future = datetime.now(UTC) + timedelta(days=1)
    for model_id, since in (("old", NOW), ("new", NOW + HOUR), ("next", future)):
        _add_model(connection, bitcoin, model_id)
        insert(
            connection,
            "model_promotions",
            model_id=model_id,
            instrument_id=bitcoin,
            timeframe="15m",
            effective_from=since,
            reason="better",
        )

    found = models.list_versions(connection, "bybit", 10).set_index("model_id")

    assert found["in_production"].to_dict() == {"new": True, "old": False, "next": False}
    assert found["promoted"].to_dict() == {"new": True, "old": True, "next": False}


def test_metrics_of_a_version_and_its_folds_are_numbers_only(connection: Connection, bitcoin: int) -> None:
    _add_model(connection, bitcoin, "m")
    insert(
        connection,
        "model_folds",
        training_key="key-m",
        fold=0,
        train_from=NOW,
        train_until=NOW,
        test_from=NOW,
        test_until=NOW,
        metrics=Jsonb({"brier": 0.25, "labels": [1]}),
    )

    assert models.version_metrics(connection, "m") == {"brier": 0.24}
    assert models.version_metrics(connection, "unknown") == {}
    folds = models.version_folds(connection, "key-m")
    assert folds.columns.tolist() == ["fold", "train_from", "test_from", "test_until", "brier"]


def test_calibration_counts_resolved_predictions_only(connection: Connection, bitcoin: int) -> None:
    _add_model(connection, bitcoin, "m")
    for bar, (probability, outcome) in enumerate(((0.62, 1), (0.63, 0), (0.62, None), (0.41, 0))):
        insert(
            connection,
            "predictions",
            instrument_id=bitcoin,
            timeframe="15m",
            ts=NOW + bar * BAR,
            model_id="m",
            available_at=NOW + bar * BAR,
            probability=probability,
            confidence=max(probability, 1 - probability),
            side="LONG",
            outcome=outcome,
        )

    found = models.calibration(connection, "bybit", None, NOW)

    assert found["predictions"].tolist() == [1, 2]
    assert found["observed"].tolist() == [0.0, 0.5]
    assert models.calibration(connection, "bybit", "ETHUSDT", NOW).empty


def observe(connection: Connection, series: str, ts: datetime, known: datetime, value: float, **changes: str) -> None:
    row = {"series": series, "coin": "MARKET", "source": "alternative_me", "ts": ts, "available_at": known}
    insert(connection, "observations", **{**row, "value": value, **changes})


def test_indices_of_the_market_are_the_newest_known_ones_with_the_day_before(connection: Connection) -> None:
    for days, value in ((2, 30.0), (1, 40.0), (0, 55.0)):
        ts = NOW - timedelta(days=days)
        observe(connection, "fear_greed", ts, ts + HOUR / 2, value)
    observe(connection, "fear_greed", NOW - timedelta(days=1), NOW - HOUR, 44.0)
    observe(connection, "fear_greed", NOW, NOW, 99.0, source="simulated")

    index = market.market_indices(connection, NOW + HOUR, simulated=False)["fear_greed"]

    assert (index.value, index.day_before, index.history) == (55.0, 44.0, [30.0, 44.0, 55.0])
    assert not index.is_stale
    assert market.market_indices(connection, NOW, simulated=True)["fear_greed"].value == 99.0


def test_index_that_nobody_renews_is_stale_and_one_never_published_is_absent(connection: Connection) -> None:
    observe(connection, "btc_dominance", NOW - timedelta(days=3), NOW - timedelta(days=3), 54.2)

    found = market.market_indices(connection, NOW, simulated=False)

    assert found["btc_dominance"].is_stale
    assert "fear_greed" not in found


def test_risk_counts_losses_on_marks_and_margin_by_side(connection: Connection, bitcoin: int) -> None:
    session = add_session(connection, clock=NOW)
    midnight = NOW.replace(hour=0)
    for ts, equity, peak in ((midnight, 10_500, 10_500), (NOW - HOUR, 9_975, 10_500), (NOW + HOUR, 1, 10_500)):
        account = {"session_id": session, "cash": 0, "margin": 0, "unrealised": 0}
        insert(connection, "equity", ts=ts, equity=equity, peak=peak, **account)
    add_position(connection, session, bitcoin, None)
    add_position(
        connection, session, add_instrument(connection, "ETH"), None, side="SHORT", stop_price=99, quantity_open=10
    )
    for hours, reason in ((2, "STOP"), (3, "TP3"), (30, "STOP")):
        add_position(
            connection,
            session,
            add_instrument(connection, f"X{hours}"),
            None,
            status="CLOSED",
            close_reason=reason,
            opened_at=NOW - 40 * HOUR,
            closed_at=NOW - hours * HOUR,
        )

    state = risk.risk_state(connection, session)

    assert state is not None
    assert (state.as_of, state.marked_at, state.equity) == (NOW, NOW - HOUR, 9_975)
    assert state.daily_loss == pytest.approx(0.05)
    assert state.drawdown == pytest.approx(0.05)
    assert (state.open_positions, state.margin_long, state.margin_short) == (2, 140, 200)
    assert (state.largest_symbol, state.largest_margin) == ("ETHUSDT", 200)
    assert state.stopped == 1
    assert state.limits.max_open_positions == 5


def test_risk_of_an_unknown_session_is_none(connection: Connection) -> None:
    assert risk.risk_state(connection, uuid4()) is None


def test_locks_are_those_that_hold_at_the_session_s_clock(connection: Connection, bitcoin: int) -> None:
    session = add_session(connection, clock=NOW)
    for reason, instrument, start, end, lifted in (
        ("DAILY_LOSS", None, -2, 2, None),
        ("STOP", bitcoin, -1, 3, None),
        ("COOLDOWN", bitcoin, -2, -1, None),
        ("STOP_GUARD", None, -1, 5, NOW - HOUR / 2),
    ):
        insert(
            connection,
            "risk_locks",
            session_id=session,
            instrument_id=instrument,
            side="LONG" if instrument else None,
            reason=reason,
            numbers=Jsonb({}),
            starts_at=NOW + start * HOUR,
            ends_at=NOW + end * HOUR,
            lifted_at=lifted,
        )

    held = risk.locks_in_force(connection, session)

    assert held["reason"].tolist() == ["DAILY_LOSS", "STOP"]
    assert held["symbol"].fillna("all").tolist() == ["all", "BTCUSDT"]
    assert held["seconds_left"].tolist() == [7_200, 10_800]


def test_refusals_leave_out_what_was_allowed(connection: Connection, bitcoin: int) -> None:
    session = add_session(connection)
    signal = add_signal(connection, session, bitcoin, NOW)
    for minute, outcome in enumerate(("ALLOW", "REDUCE", "REFUSE")):
        insert(
            connection,
            "risk_assessments",
            session_id=session,
            signal_id=signal,
            instrument_id=bitcoin,
            stage="ORDER",
            assessed_at=NOW + timedelta(minutes=minute),
            outcome=outcome,
            quantity=1,
            margin=1,
            reason=outcome.lower(),
            rules=Jsonb([]),
        )

    found = risk.refusals(connection, session, 10)

    assert found["outcome"].tolist() == ["REFUSE", "REDUCE"]
    assert (found["strategy"] == "model_signals").all()


def test_alerts_are_warnings_of_the_platform_and_of_one_session(connection: Connection) -> None:
    own, other = add_session(connection), add_session(connection, "other")
    for severity, session, subject in (
        ("info", own, "a fill"),
        ("warning", own, "own"),
        ("critical", None, "platform"),
        ("warning", other, "foreign"),
    ):
        insert(connection, "events", kind="x", severity=severity, session_id=session, subject=subject, message="")

    assert risk.list_alerts(connection, own, 10)["subject"].tolist() == ["platform", "own"]
    assert risk.list_alerts(connection, None, 10)["subject"].tolist() == ["foreign", "platform", "own"]


def test_reader_cannot_write(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", database)

    with (
        reader.read_only(load_settings()) as connection,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        connection.execute("update kill_switch set engaged = false")


def test_unreachable_database_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")

    with (
        pytest.raises(reader.DatabaseUnavailableError, match="trading db start"),
        reader.read_only(load_settings()),
    ):
        pytest.fail("the connection opened")


def test_database_without_tables_asks_for_the_migrations(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", server_url)

    with (
        pytest.raises(reader.DatabaseUnavailableError, match="trading db migrate"),
        reader.read_only(load_settings()) as connection,
    ):
        sessions.list_sessions(connection)


def test_question_that_takes_too_long_is_given_up(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", database)

    with (
        pytest.raises(reader.DatabaseUnavailableError, match="took longer"),
        reader.read_only(load_settings()) as connection,
    ):
        connection.execute("set statement_timeout = '20ms'; select pg_sleep(5)")
