"""A session bar by bar: each thing at the bar where it happened, position and account as its close left them."""

import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.monitor import BarClose, manage_at_close
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models.replay import FEATURES, SessionBar, session_bars

BARS = [
    (100.0, 100.0, 100.0, 100.0),
    (100.0, 102.5, 99.5, 102.4),  # first target at 102, then the stop trails to 100.90
    (102.4, 102.6, 101.5, 102.0),
    (102.0, 102.0, 100.5, 100.6),  # stop
    (100.6, 100.8, 100.4, 100.6),
]


def lived(world: World) -> World:
    """A signal of the bar before T0, its entry, a target, a trailed stop and the end at it."""
    for i, (open_, high, low, close) in enumerate(BARS, start=-1):
        ts, at = T0 + i * BAR, T0 + (i + 1) * BAR
        world.connection.execute(
            "insert into ohlcv_15m values (%s, %s, %s, %s, %s, %s, 10, %s)",
            (world.ids["BTCUSDT"], ts, open_, high, low, close, at),
        )
        if i < 0:
            world.signal()
        else:
            world.bar(i, open_, high, low, close)
            synchronise(world.connection, world.session, world.exchange, at)
        closed = {world.ids["BTCUSDT"]: BarClose(ts, at, close, 1.0)}
        manage_at_close(world.connection, world.session, world.exchange, closed, at)
        execute_signals(world.connection, world.session, world.exchange, at, quotes=world.quotes(), kill=None)
    world.connection.commit()
    return world


@pytest.fixture
def bars(connection: Connection) -> list[SessionBar]:
    return read(lived(build_world(connection)))


def read(world: World, first: int = -1, last: int = 4, symbol: str = "BTCUSDT") -> list[SessionBar]:
    start, end = T0 + first * BAR, T0 + last * BAR
    return session_bars(world.connection, world.session.session_id, "bybit", symbol, "15m", start, end)


def test_every_stored_bar_is_there_with_its_averages(bars: list[SessionBar]) -> None:
    assert [(bar.open, bar.high, bar.low, bar.close) for bar in bars] == BARS
    assert [bar.closed_at - bar.ts for bar in bars] == [BAR] * 5
    assert bars[0].indicators["ema_20"] == 100.0
    assert bars[1].indicators["ema_20"] == pytest.approx(100 + 2.4 * 2 / 21)
    assert [bars[0].indicators[name] for name in FEATURES] == [None] * len(FEATURES)


def test_decision_and_signal_stand_at_the_bar_that_they_judge_orders_and_fills_where_they_happened(
    bars: list[SessionBar],
) -> None:
    assert [[d["outcome"] for d in bar.decisions] for bar in bars] == [["SIGNAL"], [], [], [], []]
    assert [len(bar.signals) for bar in bars] == [1, 0, 0, 0, 0]
    assert [[(o["leg"], o["revision"]) for o in bar.orders] for bar in bars] == [
        [],
        [("ENTRY", 0), ("STOP", 0), ("TP1", 0), ("TP2", 0), ("TP3", 0)],
        [("STOP", 1)],
        [],
        [],
    ]
    assert [[f["kind"] for f in bar.fills] for bar in bars] == [[], ["ENTRY", "TP1"], [], ["STOP"], []]
    assert [bar.is_eventful for bar in bars] == [True, True, True, True, False]


def test_position_and_account_are_those_of_the_close(bars: list[SessionBar]) -> None:
    entry, target = bars[1].fills
    held = [bar.position for bar in bars]
    assert [position is not None for position in held] == [False, True, True, False, False]
    first, second = held[1:3]
    assert first is not None
    assert second is not None
    assert first.side == "LONG"
    assert first.quantity == pytest.approx(entry["quantity"] - target["quantity"])
    assert first.entry_price == entry["price"]
    assert (first.stop_price, second.stop_price) == (100.9, 100.9)
    assert first.unrealised == pytest.approx(first.quantity * (102.4 - entry["price"]))
    assert second.unrealised == pytest.approx(first.quantity * (102.0 - entry["price"]))
    assert first.realised == target["realised_pnl"]
    marked = [bar.equity for bar in bars]
    assert marked[0] is not None
    assert marked[0]["equity"] == 10_000
    assert marked[1] is not None
    fees = entry["fee"] + target["fee"]
    assert marked[1]["equity"] == pytest.approx(10_000 + first.realised + first.unrealised - fees, abs=1e-4)
    assert marked[3] is not None
    assert marked[4] is not None
    assert marked[4]["equity"] == marked[3]["equity"]


def test_span_that_begins_within_a_position_knows_what_is_held(connection: Connection, bars: list[SessionBar]) -> None:
    session_id, symbol = connection.execute("select session_id, 'BTCUSDT' from sessions").fetchone() or (None, "")
    assert session_id is not None
    part = session_bars(connection, session_id, "bybit", symbol, "15m", T0 + BAR, T0 + 3 * BAR)
    assert [(bar.ts, bar.position, bar.fills) for bar in part] == [
        (bar.ts, bar.position, bar.fills) for bar in bars[2:4]
    ]


def test_other_symbol_and_empty_span_have_nothing(connection: Connection) -> None:
    world = lived(build_world(connection))
    assert read(world, symbol="ETHUSDT") == []
    assert read(world, 10, 20) == []
