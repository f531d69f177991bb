"""The fast service on a real database and a market that the test moves by its clock."""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import pandas as pd
import pytest
from trading_world import BTC, T0, World
from waiting import wait_until

from trading_pipelines.adapters.sources.base import CandlePage, SourceError
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.signals.sessions import create_session, stop_session
from trading_pipelines.application.trading.execution import execute_signals
from trading_pipelines.application.trading.instructions import submit
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.services.dagster_reports import DagsterReports
from trading_pipelines.services.trader import Trader, TraderLoop
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories.instructions import InstructionKind


class Venue:
    """A market whose price is 100 until the test sets another; it keeps a clock and can be out of reach."""

    name = "test"
    exchange = "bybit"

    def __init__(self) -> None:
        self.clock = T0
        self.price = 100.0
        self.bars: dict[datetime, tuple[float, float, float, float]] = {}
        self.down = False

    def now(self) -> datetime:
        return self.clock

    def instruments(self) -> list[Instrument]:
        return [BTC]

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        return (Timeframe.M5,)

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        self._answer()
        stop = min(end, timeframe.floor(self.clock))
        if start < stop:
            times = pd.date_range(start, stop, freq=timeframe.delta, inclusive="left").as_unit("us")
            rows = [self.bars.get(ts.to_pydatetime(), (100.0, 100.5, 99.5, 100.0)) for ts in times]
            frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"]).assign(volume=1.0)
            frame.insert(0, "ts", times)
            yield CandlePage(start, stop, frame)

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        return pd.DataFrame({"ts": pd.DatetimeIndex([], tz="UTC"), "rate": pd.Series(dtype=float)})

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        self._answer()
        return [Ticker(symbol, self.clock, self.price) for symbol in symbols]

    def _answer(self) -> None:
        if self.down:
            raise SourceError("test bybit is out of reach")


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    return load_settings(data_dir=tmp_path, database_url=database, exchange="bybit", symbols=("BTCUSDT",))


@pytest.fixture
def trader(connection: Connection, settings: Settings, venue: Venue, database: str) -> Trader:
    """The service before its first tick, with two days of candles in the database."""
    ingest(connection, venue, ["BTCUSDT"], Timeframe.M5, T0 - timedelta(days=2), T0)
    return make_trader(connection, settings, venue, database)


def make_trader(connection: Connection, settings: Settings, venue: Venue, database: str) -> Trader:
    kill = KillSwitch(settings.data_dir, lambda: connect(database))
    return Trader(connection, settings, venue, kill, venue.clock)


def tick(trader: Trader, venue: Venue, seconds: float, price: float | None = None) -> None:
    """Let time pass, then look once."""
    venue.clock += timedelta(seconds=seconds)
    venue.price = venue.price if price is None else price
    trader.tick(venue.clock)


def world_of(trader: Trader) -> World:
    desk = trader.desks[0]
    return World(trader.connection, desk.session, desk.exchange, desk.ids)


def open_long(trader: Trader, venue: Venue) -> None:
    """Let a signal be executed as the sensor's run would: bought near 100, stop at 99, targets at 102, 103.5, 106."""
    world = world_of(trader)
    world.signal()
    quotes = world.quotes(venue.price)
    execute_signals(world.connection, world.session, world.exchange, venue.clock, quotes=quotes, kill=trader.kill)
    tick(trader, venue, 2)


def rows(trader: Trader, query: LiteralString) -> list[tuple[Any, ...]]:
    return world_of(trader).rows(query)


def test_tick_stores_prices_and_says_that_it_is_alive(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2, price=101.5)
    assert rows(trader, "select price, ts from tickers") == [(101.5, venue.clock)]
    ((service, ts, detail),) = rows(trader, "select service, ts, detail from heartbeats")
    assert (service, ts) == ("trader", venue.clock)
    assert detail == {"sessions": ["paper"], "quotes": 1, "problem": None, "dagster_ms": None}


def test_executed_signal_becomes_a_marked_position_at_the_next_price(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    assert rows(trader, "select status, quantity_protected = quantity_open from positions") == [("OPEN", True)]
    tick(trader, venue, 2, price=101.0)
    assert rows(trader, "select mark_price from positions") == [(Decimal(101),)]


def test_price_beyond_the_stop_closes_the_position_in_the_same_tick(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    tick(trader, venue, 2, price=98.9)
    assert rows(trader, "select status, close_reason from positions") == [("CLOSED", "STOP")]
    assert rows(trader, "select status from signals") == [("HIT_SL",)]


def test_stop_that_was_passed_while_the_service_was_down_is_filled_from_the_bars(
    trader: Trader, venue: Venue, connection: Connection, settings: Settings, database: str
) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    venue.bars[T0 + timedelta(minutes=10)] = (100.0, 100.2, 98.0, 100.0)
    venue.clock += timedelta(hours=1)
    restarted = make_trader(connection, settings, venue, database)
    tick(restarted, venue, 0, price=100.0)
    assert rows(trader, "select status, close_reason from positions") == [("CLOSED", "STOP")]
    ((at,),) = rows(trader, "select ts from fills where kind = 'STOP'")
    assert at == T0 + timedelta(minutes=10)


def test_no_price_is_applied_before_the_missed_bars(
    trader: Trader, venue: Venue, connection: Connection, settings: Settings, database: str
) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    venue.bars[T0 + timedelta(minutes=10)] = (100.0, 100.2, 98.0, 100.0)
    venue.clock += timedelta(hours=1)
    venue.down = True
    restarted = make_trader(connection, settings, venue, database)
    for _ in range(3):
        tick(restarted, venue, 2)
    venue.down = False
    tick(restarted, venue, 2, price=103.0)
    assert rows(trader, "select status, close_reason from positions") == [("CLOSED", "STOP")]


def test_pause_of_the_whole_machine_is_caught_up_without_a_restart(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    venue.bars[T0 + timedelta(minutes=20)] = (100.0, 100.2, 98.0, 100.0)
    tick(trader, venue, 3600)
    assert rows(trader, "select close_reason from positions") == [("STOP",)]


def test_stop_trails_at_the_close_without_dagster(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    tick(trader, venue, 2, price=102.1)  # the first target
    assert rows(trader, "select stop_price from positions") == [(Decimal("99.00"),)]
    venue.bars[T0 + timedelta(minutes=10)] = (100.0, 102.2, 99.9, 102.0)
    while venue.clock < T0 + timedelta(minutes=15, seconds=5):
        tick(trader, venue, 25, price=102.0)
    ((stop,),) = rows(trader, "select stop_price from positions")
    assert stop > Decimal(100)
    assert rows(trader, "select max(ts) from equity") == [(T0 + timedelta(minutes=15),)]


def test_close_is_managed_once_and_marks_equity_at_the_close(trader: Trader, venue: Venue) -> None:
    for _ in range(4):
        tick(trader, venue, 5)
    assert rows(trader, "select ts, equity from equity") == [(T0, 10_000.0)]


def test_kill_switch_that_flattens_closes_the_position(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    trader.kill.engage("drill", flatten=True)
    tick(trader, venue, 2)
    tick(trader, venue, 2)
    assert rows(trader, "select status, close_reason from positions") == [("CLOSED", "KILL_SWITCH")]


def test_exit_that_a_strategy_has_decided_is_sent_and_noted(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    rows(
        trader,
        "insert into exit_decisions (session_id, position_id, instrument_id, timeframe, ts, strategy, decided_at, "
        "reason) select session_id, position_id, instrument_id, '15m', opened_at, 'x', opened_at, 'MODEL_REVERSAL' "
        "from positions returning 1",
    )
    tick(trader, venue, 2)
    tick(trader, venue, 2)
    assert rows(trader, "select status, close_reason from positions") == [("CLOSED", "MODEL_REVERSAL")]
    assert rows(trader, "select outcome, handled_at is not null from exit_decisions") == [("exit sent", True)]


def test_instruction_of_a_person_is_carried_out_in_the_next_tick(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    world = world_of(trader)
    submit(
        trader.connection,
        world.session.session_id,
        InstructionKind.OPEN,
        {"symbol": "BTCUSDT", "side": "LONG", "stop": 99.0},
        key="k",
        by="test",
        as_of=venue.clock,
        valid_seconds=30,
    )
    tick(trader, venue, 2)
    tick(trader, venue, 2)
    assert rows(trader, "select status, outcome from manual_instructions") == [
        ("DONE", "the entry is sent with its stop and targets")
    ]
    assert rows(trader, "select status, quantity_open = quantity_protected from positions") == [("OPEN", True)]


def test_position_near_its_stop_is_told_once(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    for price in (99.2, 99.1, 99.2):
        tick(trader, venue, 2, price=price)
    told = "select subject, severity from events where kind = 'risk_alert' and payload ->> 'alert' = 'near_stop'"
    assert rows(trader, told) == [("BTCUSDT", "warning")]
    tick(trader, venue, 2, price=100.0)
    tick(trader, venue, 2, price=99.2)
    assert len(rows(trader, told)) == 2


def test_account_that_differs_from_the_exchange_is_refused_until_it_is_mended(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    rows(trader, "update paper_accounts set cash = cash - 10 returning 1")
    tick(trader, venue, 10)
    assert rows(trader, "select known from account_truth") == [(False,)]
    ((problem,),) = rows(trader, "select detail ->> 'problem' from heartbeats")
    assert "the balance is 9990" in problem
    tick(trader, venue, 10)
    assert rows(trader, "select known from account_truth") == [(True,)]


def test_sessions_are_served_side_by_side_and_one_that_fails_stops_no_other(
    trader: Trader, venue: Venue, settings: Settings
) -> None:
    tick(trader, venue, 2)
    second = create_session(trader.connection, settings, "second", start_at=trader.started_at)
    tick(trader, venue, 10)
    assert [desk.session.name for desk in trader.desks] == ["paper", "second"]

    class Failing:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("this desk is broken")

    failing: Any = Failing()
    trader.desks[0].exchange = failing
    venue.bars[T0] = (100.0, 100.2, 99.9, 100.0)
    tick(trader, venue, 2, price=101.0)
    tick(trader, venue, 2, price=101.0)

    assert trader.desks[0].problem == "RuntimeError: this desk is broken"
    moved = "select advanced_to from paper_markets where session_id = %s"
    assert trader.connection.execute(moved, (second.session_id,)).fetchone() == (venue.clock,)
    trader.connection.commit()
    assert rows(trader, "select subject, count(*) from events where kind = 'session_failed' group by 1") == [
        ("paper", 1)
    ]


def test_session_that_is_stopped_is_closed_and_then_left_alone(
    trader: Trader, venue: Venue, connection: Connection
) -> None:
    tick(trader, venue, 2)
    open_long(trader, venue)
    stop_session(connection, trader.desks[0].session, venue.clock, flatten=True)
    for _ in range(3):
        tick(trader, venue, 10)
    assert trader.desks == []
    assert connection.execute("select status from sessions").fetchall() == [("STOPPED",)]
    assert connection.execute("select close_reason from positions").fetchall() == [("SESSION_STOPPED",)]


def test_close_of_a_bar_is_reported_to_dagster(trader: Trader, venue: Venue) -> None:
    with recording_server() as (url, seen):
        trader.reports = DagsterReports(url)
        for _ in range(4):
            tick(trader, venue, 5)
        wait_until(lambda: len(seen) == 2)
    (equity, positions) = sorted(seen)
    assert equity == ("/report_asset_materialization/equity", {"equity of paper": 10_000.0})
    assert positions == ("/report_asset_materialization/positions", {"open in paper": 0})
    assert trader.reports.last_ms is not None


def test_dagster_that_never_answers_holds_nothing_up(trader: Trader, venue: Venue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        trader.reports = DagsterReports(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(60):
            trader.reports.materialised("equity", {})
        for _ in range(4):
            tick(trader, venue, 5)
    assert rows(trader, "select ts from equity") == [(T0,)]
    assert trader.reports.last_ms is None


@contextlib.contextmanager
def recording_server() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A webserver that takes reports as Dagster's does; what it was sent, as path and metadata."""
    seen: list[tuple[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((self.path, body["metadata"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def test_source_that_is_out_of_reach_is_reported_and_survived(trader: Trader, venue: Venue) -> None:
    tick(trader, venue, 2)
    venue.down = True
    tick(trader, venue, 2)
    ((ts, problem),) = rows(trader, "select ts, detail ->> 'problem' from heartbeats")
    assert (ts, problem) == (venue.clock, "test bybit is out of reach")
    venue.down = False
    tick(trader, venue, 2, price=102.0)
    assert rows(trader, "select price from tickers") == [(102.0,)]
    assert rows(trader, "select detail ->> 'problem' from heartbeats") == [(None,)]


def test_loop_survives_that_its_connections_are_cut(
    trader: Trader, venue: Venue, settings: Settings, database: str
) -> None:
    quick = settings.model_copy(update={"trader": settings.trader.model_copy(update={"interval_seconds": 0.05})})
    loop = TraderLoop(quick, venue, lambda: connect(database, application_name="trader-loop"), lambda: venue.clock)
    thread = threading.Thread(target=loop.run)
    thread.start()
    cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'trader-loop'"
    try:
        for _ in range(2):
            venue.clock += timedelta(seconds=5)
            now = venue.clock
            wait_until(lambda now=now: rows(trader, "select ts from heartbeats") == [(now,)])
            assert rows(trader, cut) == [(1,)]
    finally:
        loop.stop()
        thread.join(timeout=30)
    assert not thread.is_alive()


def test_service_ends_in_order_when_asked(database: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TRADING_DATABASE_URL": database,
        "TRADING_DATA_DIR": str(tmp_path),
        "TRADING_SIMULATION__SYMBOLS": '["BTCUSDT"]',
    }
    command = (sys.executable, "-m", "trading_pipelines.services.trader")
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as service:
        with connect(database, autocommit=True) as watch:
            wait_until(lambda: watch.execute("select 1 from heartbeats").fetchone())
        service.send_signal(signal.SIGTERM)
        assert service.stderr is not None
        log = service.stderr.read()
        assert service.wait(timeout=30) == 0
    assert "stopped" in log
    assert "Traceback" not in log
