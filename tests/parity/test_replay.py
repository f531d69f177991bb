"""Replay of a simulated market: repeatable, without a look ahead, and explained to the last rejection."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.research.replay import ReplayReport, replay
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.signals.policy import Direction
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect

SYMBOLS = ("BTCUSDT", "SOLUSDT", "AVAXUSDT")
END = datetime(2025, 6, 1, tzinfo=UTC)
START = END - timedelta(days=4)


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(
        training={"train_days": 40, "test_days": 5, "folds": 2, "early_stopping_days": 8, "num_boost_round": 60}
    )


@pytest.fixture(scope="module")
def market(server_url: str, template: str) -> Iterator[str]:
    """A database with 70 days of simulated candles."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database replay_market template {template}")
    url = make_conninfo(server_url, dbname="replay_market")
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, Timeframe.M5, END - timedelta(days=70), END)
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database replay_market with (force)")


def _replay(connection: Connection, settings: Settings, name: str, end: datetime = END) -> ReplayReport:
    return replay(connection, settings, "simulated", SYMBOLS, "15m", START, end, train_until=START, name=name)


@pytest.fixture(scope="module")
def first(market: str, settings: Settings) -> ReplayReport:
    with connect(market) as connection:
        return _replay(connection, settings, "first")


def test_every_bar_of_every_symbol_is_decided_with_all_its_gates(market: str, first: ReplayReport) -> None:
    with connect(market) as connection:
        decided, without_gates = connection.execute(
            "select count(*), count(*) filter (where jsonb_array_length(gates) < 11) "
            "from decisions where session_id = %s",
            (first.session.session_id,),
        ).fetchone() or (0, 0)
    assert decided == first.bars * len(SYMBOLS) == 4 * 96 * 3
    assert without_gates == 0
    assert first.signals + sum(first.reasons.values()) == decided


def test_signals_become_orders_positions_and_a_result(market: str, first: ReplayReport) -> None:
    assert first.executed > 0
    with connect(market) as connection:
        counts = connection.execute(
            """
            select (select count(*) from orders where session_id = %(s)s and leg = 'ENTRY'),
                   (select count(*) from signals where session_id = %(s)s and status in
                       ('EXECUTED', 'HIT_TP', 'HIT_SL', 'CLOSED')),
                   (select count(*) from positions where session_id = %(s)s),
                   (select count(*) from equity where session_id = %(s)s),
                   (select count(*) from orders where session_id = %(s)s and leg = 'ENTRY' and status = 'ACCEPTED')
            """,
            {"s": first.session.session_id},
        ).fetchone()
    assert counts is not None
    waiting_for_the_next_open = counts[4]
    assert counts[0] == counts[1] == counts[2] + waiting_for_the_next_open == first.executed
    assert counts[3] == first.bars
    assert first.performance.trades > 0


def test_money_is_conserved_over_the_whole_session(market: str, first: ReplayReport) -> None:
    with connect(market) as connection:
        row = connection.execute(
            """
            select s.start_capital + coalesce(sum(p.realised_pnl - p.fees - p.funding + p.unrealised_pnl), 0)
            from sessions s left join positions p using (session_id)
            where s.session_id = %s group by s.start_capital
            """,
            (first.session.session_id,),
        ).fetchone()
    assert row is not None
    assert float(row[0]) == pytest.approx(first.performance.end_equity, abs=0.01)


def test_same_input_gives_the_same_fingerprint(market: str, settings: Settings, first: ReplayReport) -> None:
    with connect(market) as connection:
        second = _replay(connection, settings, "second")
    assert second.session.session_id != first.session.session_id
    assert second.fingerprint == first.fingerprint


def test_decisions_do_not_change_when_the_future_is_taken_away(
    market: str, server_url: str, settings: Settings, first: ReplayReport
) -> None:
    """The proof that nothing peeks: a database that ends earlier decides what the longer one had decided."""
    cut = START + timedelta(days=2)
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("create database replay_cut template replay_market")
    url = make_conninfo(server_url, dbname="replay_cut")
    try:
        with connect(url) as connection:
            for table in ("ohlcv_5m", "ohlcv_15m", "ohlcv_1h", "ohlcv_4h", "ohlcv_1d", "funding_rates"):
                connection.execute(f"delete from {table} where available_at > %s", (cut,))
            connection.execute("delete from features_15m")
            connection.execute("delete from predictions")
            connection.commit()
            shorter = _replay(connection, settings, "shorter", cut)
            query = """
                select i.symbol, d.ts, d.outcome, d.reason, d.gates::text, d.setup::text
                from decisions d join instruments i using (instrument_id)
                where d.session_id = %s and d.ts < %s order by d.ts, i.symbol
            """
            at = cut - timedelta(minutes=15)
            alone = connection.execute(query, (shorter.session.session_id, at)).fetchall()
            among_all = connection.execute(query, (first.session.session_id, at)).fetchall()
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute("drop database replay_cut with (force)")
    assert len(alone) == (2 * 96 - 1) * 3
    assert alone == among_all


def test_model_trained_on_the_replayed_time_is_refused(market: str, settings: Settings) -> None:
    with connect(market) as connection, pytest.raises(UserError, match="would peek"):
        replay(connection, settings, "simulated", SYMBOLS, "15m", START, END, train_until=START + timedelta(days=1))


@pytest.mark.parametrize(
    ("symbols", "end", "message"),
    [(("NOPEUSDT",), END, "NOPEUSDT is not stored"), (SYMBOLS, END + timedelta(days=400), "no 15m candles")],
)
def test_missing_input_is_named(
    market: str, settings: Settings, symbols: tuple[str, ...], end: datetime, message: str
) -> None:
    with connect(market) as connection, pytest.raises(UserError, match=message):
        replay(connection, settings, "simulated", symbols, "15m", end - timedelta(days=1), end)


def test_strategy_of_a_session_decides_under_its_name_and_leaves_on_the_opposite_signal(
    market: str, settings: Settings
) -> None:
    changes = {"strategies": ("ema_cross",), "strategy_params": {"ema_cross": {"fast": 5, "slow": 20}}}
    with connect(market) as connection:
        report = replay(connection, settings, "simulated", SYMBOLS, "15m", START, END, name="crosses", changes=changes)
        session_id = report.session.session_id
        strategies = connection.execute(
            "select distinct d.strategy, d.model_id from decisions d where session_id = %s", (session_id,)
        ).fetchall()
        left = connection.execute(
            """
            select count(*), count(*) filter (where p.close_reason = 'OPPOSITE_SIGNAL' and e.outcome = 'sent')
            from exit_decisions e join positions p using (position_id) where e.session_id = %s
            """,
            (session_id,),
        ).fetchone()
        explained = connection.execute(
            "select count(*), count(*) filter (where factors ?& '{ema_fast,ema_slow}') from signals "
            "where session_id = %s",
            (session_id,),
        ).fetchone()
    assert strategies == [("ema_cross", None)]
    assert report.signals > 20
    assert explained == (report.signals, report.signals)
    assert left is not None
    assert left[0] == left[1] > 3


def test_session_in_one_direction_opens_only_that_side(market: str, settings: Settings) -> None:
    changes = {"strategies": ("ema_cross", "model_signals"), "direction": Direction.SHORT}
    with connect(market) as connection:
        report = replay(connection, settings, "simulated", SYMBOLS, "15m", START, END, name="shorts", changes=changes)
        sides = connection.execute(
            "select side, count(*) from positions where session_id = %s group by 1", (report.session.session_id,)
        ).fetchall()
        decided = connection.execute(
            "select strategy, count(*) from decisions where session_id = %s group by 1 order by 1",
            (report.session.session_id,),
        ).fetchall()
    assert [side for side, _ in sides] == ["SHORT"]
    assert report.reasons["direction"] > 0
    assert decided == [("ema_cross", report.bars * 3), ("model_signals", report.bars * 3)]
