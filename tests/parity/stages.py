"""Where the four drivers are run: one tape, and databases that begin with the same history before it.

The live drivers are never given a candle before it has closed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from drivers import BASE, SIGNAL, Tape, one_price_bars
from psycopg.conninfo import make_conninfo

from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.training import train_many
from trading_pipelines.application.research.parity import backtest_records, session_records
from trading_pipelines.application.research.replay import replay
from trading_pipelines.application.signals.sessions import new_session
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.domain.alternative.series import MARKET, Observation
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.session import SessionMode
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.parity import Records, compare
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import observations

SYMBOLS = ("AVAXUSDT", "BTCUSDT", "SOLUSDT")
END = datetime(2025, 6, 1, tzinfo=UTC)
START = END - timedelta(hours=12)
HISTORY = timedelta(days=55)
TRAINING = {"train_days": 20, "test_days": 3, "folds": 1, "early_stopping_days": 5, "num_boost_round": 30}
BUSY = {
    "min_net_profit": 0.0,
    "min_confidence": None,
    "min_expected_value": None,
    "cooldown_minutes": 30,
    "min_consensus": 1,
    "max_conflict": 0.8,
}
"""Gates that let much through, so that the caps have something to refuse."""
TIGHT = {"max_open_positions": 2, "max_margin_per_direction": 0.25}
WORSE = ExecutionParams(slippage_rate=0.0009)
PARAMS = {
    "ema_cross": {"fast": 3, "slow": 7},
    "composite": {"strong": 54.0, "avoid": 46.0, "leave": 1.0, "min_confidence": 0.5},
}
"""Averages that cross every few bars, and marks that a score crosses often, also while a position is open."""


def instrument(symbol: str, price_step: str = "0.01", quantity_step: str = "0.001") -> Instrument:
    return Instrument(
        "bybit",
        symbol,
        symbol.removesuffix("USDT"),
        "USDT",
        MarketKind.PERPETUAL,
        price_step=Decimal(price_step),
        quantity_step=Decimal(quantity_step),
        min_quantity=Decimal(quantity_step),
        min_notional=Decimal(5),
        funding_interval_minutes=480,
    )


def observed(end: datetime) -> list[Observation]:
    """Two days of moods that turn often, known on the quarter of an hour."""
    draw = np.random.default_rng(11)
    coins = [("sentiment", symbol.removesuffix("USDT")) for symbol in SYMBOLS]
    coins += [("whale_score", symbol.removesuffix("USDT")) for symbol in SYMBOLS]
    moments = [end - n * timedelta(minutes=15) for n in range(192)]
    rows = [
        Observation(series, coin, "recorded", at, at - timedelta(minutes=2), float(np.round(draw.uniform(-1, 1), 3)))
        for series, coin in coins
        for at in moments
    ]
    return [
        *rows,
        *(Observation("fear_greed", MARKET, "recorded", at, at, 50.0 + i % 40) for i, at in enumerate(moments)),
    ]


def simulated_tape() -> Tape:
    market = SimulatedMarket(SimulatedMarketSpec(symbols=SYMBOLS))
    first = START - HISTORY
    bars = {s: one_price_bars(aggregate(market.candles(s, first, END), SIGNAL)) for s in SYMBOLS}
    return Tape([instrument(s) for s in SYMBOLS], bars, {s: market.funding(s, first, END) for s in SYMBOLS}, END)


@dataclass
class Stage:
    """One tape, and databases that begin with the same history before it."""

    server_url: str
    history: str
    data_dir: Path
    tape: Tape
    start: datetime
    end: datetime
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _replays: dict[str, Records] = field(default_factory=dict[str, Records])

    def settings(self, strategy: str, **changes: Any) -> Settings:
        values: dict[str, Any] = {
            "signals": BUSY,
            "risk": TIGHT,
            "session": {"strategies": [strategy], "strategy_params": PARAMS},
            **changes,
        }
        return load_settings(data_dir=self.data_dir, exchange="bybit", symbols=self.symbols, **values)

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(known.symbol for known in self.tape.known)

    def live(self, driver: Callable[..., Any], settings: Settings, **options: Any) -> Records:
        """What a driver of the live path decided and filled."""
        name = "_".join((driver.__name__, settings.session.strategies[0], *options))
        with self.on(name) as connection:
            kill = KillSwitch(settings.data_dir, lambda: connect(self._url(name)))
            session = driver(connection, settings, self.tape, self.start, self.end, kill, **options)
            return session_records(connection, session, self.start, self.end, BASE)

    def replayed(self, settings: Settings) -> Records:
        strategy = settings.session.strategies[0]
        if strategy not in self._replays:
            self.tape.clock = self.end
            with self.on("replay") as connection:
                ingest(connection, self.tape, self.symbols, BASE, self.start, self.end)
                report = replay(
                    connection, settings, "bybit", self.symbols, SIGNAL, self.start, self.end, name=f"r-{strategy}"
                )
                self._replays[strategy] = session_records(connection, report.session, self.start, self.end, BASE)
        return self._replays[strategy]

    def backtested(self, settings: Settings, **changes: Any) -> Records:
        """On the database of the replay, whose features and predictions it reads."""
        with self.on("replay") as connection:
            session = new_session(connection, settings, "backtest", SessionMode.REPLAY, exchange="bybit")
            return backtest_records(connection, replace(session, **changes), self.start, self.end, BASE)

    @contextmanager
    def on(self, name: str) -> Iterator[Connection]:
        """A database of that name, made of the history at the first call."""
        if name not in self._names:
            self._names[name] = f"{self.history}_{name}"
            self.administer(f"create database {self._names[name]} template {self.history} strategy file_copy")
        with connect(self._url(name)) as connection:
            connection.execute("set synchronous_commit = off")
            connection.commit()
            yield connection

    def database(self, driver: Callable[..., Any], strategy: str = "model_signals") -> str:
        """Name of the database that a driver of the live path has left."""
        return self._names[f"{driver.__name__}_{strategy}"]

    def clear(self) -> None:
        for name in (*self._names.values(), self.history):
            self.administer(f"drop database {name} with (force)")

    def administer(self, statement: str) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as admin:
            admin.execute(statement)

    def _url(self, name: str) -> str:
        return make_conninfo(self.server_url, dbname=self._names[name])


@contextmanager
def staged(
    server_url: str, template: str, name: str, data_dir: Path, tape: Tape, start: datetime, end: datetime
) -> Iterator[Stage]:
    """A stage whose history ends at `start`, with model versions trained on it."""
    stage = Stage(server_url, name, data_dir, tape, start, end)
    stage.administer(f"create database {name} template {template}")
    try:
        tape.clock = start
        with connect(make_conninfo(server_url, dbname=name)) as connection:
            ingest(connection, tape, stage.symbols, BASE, start - HISTORY, start)
            train_many(
                connection, "bybit", stage.symbols, SIGNAL, start, load_settings(training=TRAINING).training, force=True
            )
            observations.add(connection, observed(end))
        yield stage
    finally:
        stage.clear()


def assert_same(first: Records, second: Records) -> None:
    assert (found := compare(first, second)) is None, str(found)
    assert first.fingerprint == second.fingerprint


def assert_busy(records: Records) -> None:
    """Much has happened: entries, stops, targets, and signals that the portfolio's rules refused."""
    kinds = Counter(fill.kind for fill in records.fills)
    assert kinds["ENTRY"] >= 5, kinds
    assert kinds["STOP"] >= 2, kinds
    assert kinds["TP1"] >= 1, kinds
    assert any(d.outcome == "SIGNAL" and not d.taken for d in records.decisions)
