"""Measure the way from a closed candle to a stored signal, and from there to an accepted order; prints one JSON object.

Run with `python benchmarks/decision_path.py [--closes N]`. A simulated market of the default symbols is filled in an
embedded server as `trading up` does it, with a model per symbol. Then the clock goes from close to close, and each time
the functions run that the schedules and sensors call. All strategies of the platform decide, under gates that let much
through. The simulated source and the paper exchange answer at once, so all the time is the platform's own; starting
Dagster's run process is not part of it.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.analysis.scoring import score
from trading_pipelines.application.bootstrap import first_fill
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest, update_tickers
from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.models.prediction import predict
from trading_pipelines.application.signals.emission import emit_signals, expire_signals
from trading_pipelines.application.signals.sessions import paper_session
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.logging import configure_logging
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate
from trading_pipelines.store.repositories import instruments

START = datetime(2026, 5, 4, 12, 0, 5, tzinfo=UTC)
BASE, SIGNAL = Timeframe.M5, Timeframe.M15
BUSY = {
    "min_net_profit": 0.0,
    "min_confidence": None,
    "min_expected_value": None,
    "min_consensus": 1,
    "max_conflict": 0.9,
    "cooldown_minutes": 15,
}
WIDE = {
    "max_open_positions": 100,
    "max_margin_per_direction": 1.0,
    "max_margin_per_symbol": 1.0,
    "max_margin_per_trade": 0.05,
    "max_correlation": None,
    "min_risk_reward": None,
    "max_daily_loss": 1.0,
    "stop_lock_hours": 0.0,
    "cooldown_minutes": 0.0,
}


class Market:
    """The simulated market at a time that the benchmark sets."""

    def __init__(self, settings: Settings) -> None:
        self.now = START
        self.source = SimulatedSource(settings.simulation, lambda: self.now)


def main() -> None:
    """Fill once, then go from close to close."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--closes", type=int, default=96)
    closes = parser.parse_args().closes
    configure_logging("ERROR")
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder / "postgres")
        url = server.start()
        try:
            migrate(url)
            settings = load_settings(data_dir=folder, database_url=url, signals=BUSY, risk=WIDE)
            with connect(url) as connection:
                found = measure(connection, settings, KillSwitch(folder, lambda: connect(url)), closes)
        finally:
            server.stop()
    sys.stdout.write(json.dumps({"benchmark": "decision_path", **found}) + "\n")


def measure(connection: Connection, settings: Settings, kill: KillSwitch, closes: int) -> dict[str, object]:
    """Milliseconds of each step at every close, and of each order."""
    market = Market(settings)
    first_fill(connection, settings, market.source, lambda _: None)
    session = paper_session(connection, settings, market.now)
    exchange = PaperExchange(connection, session.session_id, session.execution)
    ids = {s: row.instrument_id for s, row in instruments.by_symbol(connection, session.exchange).items()}
    steps: dict[str, list[float]] = {}
    stored, sent = list[float](), list[float]()
    for _ in range(closes):
        market.now += SIGNAL.delta
        steps_now = decide(connection, settings, session, market)
        for step, seconds in steps_now.items():
            steps.setdefault(step, []).append(seconds)
        stored.append(sum(steps_now.values()))
        exchange.advance(market_events(connection, ids.values(), SIGNAL, market.now - SIGNAL.delta, market.now))
        synchronise(connection, session, exchange, market.now)
        reconcile(connection, session, exchange, market.now, settings.trader)
        sent.extend(execute(connection, session, exchange, market, ids, kill))
        expire_signals(connection, session, market.now)
        connection.commit()
    return {
        "symbols": len(ids),
        "closes": closes,
        **counted(connection, session),
        "orders": len(sent),
        "closed_to_signal_ms": figures(stored),
        "steps_median_ms": {step: round(1e3 * statistics.median(taken), 1) for step, taken in steps.items()},
        "signal_to_order_ms": figures(sent),
    }


def decide(connection: Connection, settings: Settings, session: TradingSession, market: Market) -> dict[str, float]:
    """Seconds of each step from the close of a bar to its decisions."""
    connection.commit()  # an ingestion commits page by page
    of, now = session.symbols, market.now
    closed = SIGNAL.last_closed(now)
    span = (closed, closed + SIGNAL.delta)
    steps: dict[str, Callable[[], object]] = {
        "candles": lambda: ingest(connection, market.source, of, BASE, closed, now),
        "quotes": lambda: update_tickers(connection, market.source, of),
        "features": lambda: build_features(connection, session.exchange, of, SIGNAL, *span),
        "predictions": lambda: predict(connection, session.exchange, of, SIGNAL, *span),
        "scores": lambda: score(connection, session.exchange, of, SIGNAL, now, settings.scoring),
        "signals": lambda: emit_signals(connection, session, now),
    }
    return {name: seconds(step) for name, step in steps.items()}


def execute(
    connection: Connection,
    session: TradingSession,
    exchange: PaperExchange,
    market: Market,
    ids: dict[str, int],
    kill: KillSwitch,
) -> list[float]:
    """Seconds from asking for one signal's execution to its accepted bracket, signal by signal."""
    quotes = {ids[ticker.symbol]: ticker.price for ticker in market.source.tickers(session.symbols)}
    taken = list[float]()
    for (signal_id,) in connection.execute(
        "select signal_id from signals where session_id = %s and status = 'ACTIVE' order by confidence desc",
        (session.session_id,),
    ).fetchall():
        connection.commit()
        began = time.perf_counter()
        report = execute_signals(
            connection, session, exchange, market.now, quotes=quotes, kill=kill, signal_ids=[signal_id]
        )
        if report.executed:
            taken.append(time.perf_counter() - began)
    return taken


def seconds(step: Callable[[], object]) -> float:
    """By the wall clock."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def counted(connection: Connection, session: TradingSession) -> dict[str, object]:
    """How many decisions there were, and what became of the signals."""
    statuses = connection.execute(
        "select status, count(*) from signals where session_id = %s group by 1 order by 1", (session.session_id,)
    )
    decisions = connection.execute("select count(*) from decisions where session_id = %s", (session.session_id,))
    return {"signals": dict(statuses.fetchall()), "decisions": (decisions.fetchone() or (0,))[0]}


def figures(taken: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum in milliseconds."""
    ordered = sorted(taken)
    if not ordered:
        return {}
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        name: round(1e3 * value, 1)
        for name, value in (("median", statistics.median(ordered)), ("p99", p99), ("max", ordered[-1]))
    }


if __name__ == "__main__":
    main()
