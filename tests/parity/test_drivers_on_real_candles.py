"""The drivers on recorded candles: days through backtest and replay, hours through the live path as well."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from drivers import SIGNAL, Tape, one_price_bars, run_monitor, run_paper
from psycopg.conninfo import make_conninfo
from stages import BUSY, PARAMS, TIGHT, assert_busy, assert_same, instrument, staged

from trading_pipelines.adapters.sources.archive import ArchiveSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.research.parity import backtest_records, session_records
from trading_pipelines.application.research.replay import replay
from trading_pipelines.domain.market.candles import empty_candles
from trading_pipelines.domain.strategies.registry import STRATEGIES
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection, connect

pytestmark = [pytest.mark.real_data, pytest.mark.timeout(900)]
SYMBOLS = ("BNBUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT")
END = datetime(2025, 9, 1, tzinfo=UTC)
START = END - timedelta(days=10)
HISTORY = timedelta(days=60)
STEPS = {
    "BNBUSDT": ("0.1", "0.01"),
    "BTCUSDT": ("0.1", "0.001"),
    "ETHUSDT": ("0.01", "0.01"),
    "SOLUSDT": ("0.01", "0.1"),
}


@pytest.fixture(scope="module")
def recorded(server_url: str, template: str, real_data_dir: Path) -> Iterator[Connection]:
    """A database with the candles and funding that bybit had, with the steps of its markets."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database recorded template {template}")
    source = ArchiveSource(real_data_dir / "ohlcv", "bybit")
    with connect(make_conninfo(server_url, dbname="recorded")) as connection:
        ingest(connection, source, SYMBOLS, SIGNAL, START - HISTORY, END)
        for symbol, (price_step, quantity_step) in STEPS.items():
            connection.execute(
                "update instruments set price_step = %s, quantity_step = %s, min_quantity = %s, min_notional = 5 "
                "where symbol = %s",
                (price_step, quantity_step, quantity_step, symbol),
            )
        connection.commit()
        yield connection
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database recorded with (force)")


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_backtest_and_replay_of_recorded_days_are_equal(recorded: Connection, data_dir: Path, strategy: str) -> None:
    settings = load_settings(
        data_dir=data_dir,
        exchange="bybit",
        signals=BUSY,
        risk=TIGHT,
        session={"strategies": [strategy], "strategy_params": PARAMS},
        training={"train_days": 25, "test_days": 3, "folds": 1, "early_stopping_days": 5, "num_boost_round": 30},
    )
    trained = START if strategy == "model_signals" else None
    report = replay(
        recorded, settings, "bybit", SYMBOLS, SIGNAL, START, END, train_until=trained, name=f"recorded-{strategy}"
    )
    replayed = session_records(recorded, report.session, START, END, SIGNAL)
    assert_same(backtest_records(recorded, report.session, START, END, SIGNAL), replayed)
    assert_busy(replayed)
    assert len(Counter(fill.symbol for fill in replayed.fills)) == len(SYMBOLS)


def recorded_tape(folder: Path, start: datetime, end: datetime) -> Tape:
    source = ArchiveSource(folder / "ohlcv", "bybit")
    known = {i.symbol: i for i in source.instruments()}
    bars, rates = dict[str, Any](), dict[str, Any]()
    for symbol in SYMBOLS[:3]:
        pages = [page.candles for page in source.candles(known[symbol], SIGNAL, start, end)]
        (frame,) = pages or [empty_candles()]
        frame = frame[(frame["ts"] >= start) & (frame["ts"] < end)].reset_index(drop=True)
        bars[symbol], rates[symbol] = one_price_bars(frame), source.funding(known[symbol], start, end)
    return Tape([instrument(s, *STEPS[s]) for s in bars], bars, rates, end)


def test_live_path_on_recorded_prices_does_what_replay_and_backtest_do(
    server_url: str, template: str, real_data_dir: Path, data_dir: Path
) -> None:
    start, end = END - timedelta(hours=12), END
    tape = recorded_tape(real_data_dir, start - HISTORY, end)
    with staged(server_url, template, "recorded_tape", data_dir, tape, start, end) as stage:
        settings = stage.settings("model_signals")
        replayed = stage.replayed(settings)
        assert len(replayed.fills) > 5
        assert_same(stage.backtested(settings), replayed)
        assert_same(stage.live(run_paper, settings), replayed)
        assert_same(stage.live(run_monitor, settings), replayed)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")
