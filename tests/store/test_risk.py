"""The risk manager on stored accounts: locks that follow from what happened, correlations, verdicts that are kept."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
from trading_world import BAR, BTC, ETH, T0, World, build_world

from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.application.risk.rules import Stage, assess, keep_assessment, record_protections
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.performance import session_performance
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.risk.protections import LockReason
from trading_pipelines.domain.risk.rules import Proposal, RiskAssessment
from trading_pipelines.domain.risk.sizing import Outcome
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import candles, equity, risk_locks

HOUR = timedelta(hours=1)
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


@pytest.fixture
def world(connection: Connection) -> World:
    return build_world(connection)


def proposal(world: World, symbol: str = "BTCUSDT", side: PositionSide = LONG) -> Proposal:
    s = side.sign
    levels = (100.0 + 2 * s, 100.0 + 3.5 * s, 100.0 + 6 * s)
    venue = {"BTCUSDT": BTC, "ETHUSDT": ETH}[symbol]
    return Proposal(world.ids[symbol], venue, side, 100.0, 100.0 - s, levels, 0.8)


def ask(
    world: World, at: datetime, symbol: str = "BTCUSDT", side: PositionSide = LONG, **limits: Any
) -> RiskAssessment:
    session = replace(world.session, limits=world.session.limits.model_copy(update=limits))
    return assess(world.connection, session, proposal(world, symbol, side), at)


def refused_by(verdict: RiskAssessment) -> str | None:
    return None if verdict.refusal is None else verdict.refusal.rule


def closed(world: World, at: datetime, reason: str = "STOP", symbol: str = "BTCUSDT", side: str = "LONG") -> UUID:
    """A position that ended at a moment."""
    position_id = uuid4()
    world.connection.execute(
        "insert into positions (position_id, session_id, instrument_id, side, quantity_initial, quantity_open, "
        "entry_price, entry_margin, leverage, mark_price, opened_at, updated_at) "
        "values (%s, %s, %s, %s, 1, 1, 100, 20, 5, 100, %s, %s)",
        (position_id, world.session.session_id, world.ids[symbol], side, at - HOUR, at),
    )
    world.connection.execute(
        "update positions set status = 'CLOSED', quantity_open = 0, close_reason = %s, closed_at = %s "
        "where position_id = %s",
        (reason, at, position_id),
    )
    return position_id


def mark(world: World, at: datetime, value: float) -> None:
    equity.save(world.connection, world.session.session_id, at, value, 0.0, 0.0)


def locks(world: World) -> list[tuple[str, int | None, str | None, datetime, datetime]]:
    return world.rows(
        "select reason, instrument_id, side, starts_at, ends_at from risk_locks order by reason, starts_at"
    )


# Locks


def test_stopped_position_of_the_order_path_locks_its_side_and_its_symbol(world: World) -> None:
    world.signal()
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    world.bar(0, 100, 100.5, 98, 98.5)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    [(ended,)] = world.rows("select closed_at from positions where status = 'CLOSED'")

    assert refused_by(ask(world, T0 + BAR)) == "stop_lock"
    assert refused_by(ask(world, ended + timedelta(minutes=14), side=SHORT)) == "cooldown"
    assert refused_by(ask(world, T0 + BAR, side=SHORT)) is None
    assert refused_by(ask(world, T0 + BAR, "ETHUSDT")) is None
    assert refused_by(ask(world, ended + 4 * HOUR)) is None
    assert locks(world) == [
        ("COOLDOWN", world.ids["BTCUSDT"], None, ended, ended + HOUR / 4),
        ("STOP", world.ids["BTCUSDT"], "LONG", ended, ended + 4 * HOUR),
    ]


def test_reentry_takes_half_the_size_while_the_stop_lock_holds(world: World) -> None:
    closed(world, T0)
    whole, half = ask(world, T0 + HOUR, side=SHORT), ask(world, T0 + HOUR, reentry=True)
    assert refused_by(ask(world, T0 + HOUR)) == "stop_lock"
    assert half.outcome is Outcome.REDUCE
    assert half.quantity == pytest.approx(0.5 * whole.quantity, abs=0.001)


@pytest.mark.parametrize("reason", ["TP3", "TRAILING_STOP", "DRAWDOWN"])
def test_other_ends_than_a_stop_bring_the_cooldown_only(world: World, reason: str) -> None:
    closed(world, T0, reason)
    record_protections(world.connection, world.session, T0)
    assert [row[0] for row in locks(world)] == ["COOLDOWN"]


def test_many_stops_lock_every_symbol_and_are_announced(world: World) -> None:
    for k in range(4):
        closed(world, T0 + k * HOUR / 2, "LIQUIDATION" if k else "STOP", side="SHORT")
    verdict = ask(world, T0 + 2 * HOUR, "ETHUSDT")
    assert refused_by(verdict) == "stop_guard"
    assert verdict.reason == "stop_guard: 3.5 against a limit of 0"
    events = world.rows(
        "select severity, subject, message from events where kind = 'risk_lock' and subject = 'account'"
    )
    assert events == [("warning", "account", "STOP_GUARD: no entries until 2024-03-04 17:30 UTC")]


def test_recording_again_changes_nothing(world: World) -> None:
    closed(world, T0)
    mark(world, T0, 6_000.0)
    assert record_protections(world.connection, world.session, T0) == 4
    before = locks(world)
    assert record_protections(world.connection, world.session, T0) == 0
    assert record_protections(world.connection, world.session, T0 + timedelta(minutes=5)) == 0
    assert locks(world) == before


def test_loss_of_a_day_locks_until_midnight_even_if_it_is_made_good(world: World) -> None:
    midnight = datetime(2024, 3, 5, tzinfo=T0.tzinfo)
    for minutes, value in ((0, 10_000.0), (15, 9_400.0), (30, 10_100.0)):
        mark(world, T0 + timedelta(minutes=minutes), value)
    assert refused_by(ask(world, T0 + HOUR)) == "daily_loss_lock"
    [(reason, _, _, start, end)] = locks(world)
    assert (reason, start, end) == ("DAILY_LOSS", T0 + timedelta(minutes=15), midnight)
    mark(world, midnight, 10_100.0)
    assert refused_by(ask(world, midnight)) is None


def test_drawdown_locks_for_its_time_and_again_while_it_lasts(world: World) -> None:
    for hours, value in ((0, 6_900.0), (20, 6_900.0), (25, 6_950.0), (30, 9_000.0)):
        mark(world, T0 + hours * HOUR, value)
    free = {"max_daily_loss": 1.0}
    assert refused_by(ask(world, T0 + 20 * HOUR, **free)) == "drawdown"
    assert refused_by(ask(world, T0 + 30 * HOUR, **free)) == "drawdown_lock"
    drawdown = [(start - T0, end - T0) for reason, _, _, start, end in locks(world) if reason == "DRAWDOWN"]
    assert drawdown == [(0 * HOUR, 24 * HOUR), (25 * HOUR, 49 * HOUR)]
    assert refused_by(ask(world, T0 + 49 * HOUR, **free)) is None


def test_lock_that_a_person_lifts_stays_lifted(world: World) -> None:
    closed(world, T0)
    assert refused_by(ask(world, T0 + HOUR)) == "stop_lock"
    session_id = world.session.session_id
    assert risk_locks.lift(world.connection, session_id, T0 + HOUR) == 1
    assert refused_by(ask(world, T0 + 2 * HOUR)) is None
    assert risk_locks.in_force(world.connection, session_id, T0 + 2 * HOUR) == []
    [before] = risk_locks.in_force(world.connection, session_id, T0 + HOUR / 2)
    assert (before.symbol, before.lock.reason) == ("BTCUSDT", LockReason.STOP)


# The account


def test_what_is_free_is_cash_less_margins_and_waiting_entries(world: World) -> None:
    world.signal()
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    [(quantity,)] = world.rows("select quantity from orders where leg = 'ENTRY'")
    margin = float(quantity) * 100 / 5
    waiting = portfolio_view(world.connection, world.session, T0)
    assert waiting.free_cash == pytest.approx(10_000 - margin * (1 + 5 * 0.00055))
    world.bar(0, 100, 100.5, 99.5, 100.2)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    [(cash,)] = world.rows("select cash from paper_accounts")
    held = portfolio_view(world.connection, world.session, T0 + BAR)
    assert held.free_cash == pytest.approx(float(cash), abs=1e-6)
    assert [(e.entry_price, e.additions) for e in held.exposures] == [(pytest.approx(100.05), 0)]


# Correlation


def store_walks(world: World, *, common: float, days: int = 31) -> None:
    """Hourly closes of both symbols up to T0 whose returns share so much."""
    dice = np.random.default_rng(1)
    hours = days * 24
    shared = dice.standard_normal(hours)
    for key in world.ids.values():
        close = 100 * np.exp(0.01 * np.cumsum(common * shared + (1 - common) * dice.standard_normal(hours)))
        ts = pd.date_range(end=T0 - HOUR, periods=hours, freq="1h", unit="us")
        frame = pd.DataFrame({"ts": ts, "open": close, "high": close, "low": close, "close": close, "volume": 1.0})
        with world.connection.cursor() as cursor:
            candles.upsert_candles(cursor, key, Timeframe.H1, frame)


def hold(world: World) -> None:
    world.signal("ETHUSDT")
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)


@pytest.mark.parametrize(
    ("common", "side", "refused"), [(0.9, LONG, "correlation"), (0.9, SHORT, None), (0.3, LONG, None)]
)
def test_symbol_that_moves_with_a_held_one_is_refused_in_its_direction(
    world: World, common: float, side: PositionSide, refused: str | None
) -> None:
    store_walks(world, common=common)
    hold(world)
    verdict = ask(world, T0, side=side)
    assert refused_by(verdict) == refused
    [result] = [r for r in verdict.results if r.rule == "correlation"]
    assert (result.value is None) == (side is SHORT)


def test_correlation_is_as_of_the_last_midnight(world: World) -> None:
    store_walks(world, common=0.9)
    hold(world)
    verdict = ask(world, T0)
    midnight = T0.replace(hour=0)
    world.connection.execute(
        "update ohlcv_1h set open = p, high = p, low = p, close = p "
        "from (select instrument_id, ts, close * (1 + random()) as p from ohlcv_1h) r "
        "where ohlcv_1h.instrument_id = r.instrument_id and ohlcv_1h.ts = r.ts and ohlcv_1h.ts >= %s",
        (midnight,),
    )
    assert ask(world, T0) == verdict
    world.connection.execute("delete from ohlcv_1h where ts < %s", (midnight - 9 * 24 * HOUR,))
    [result] = [r for r in ask(world, T0).results if r.rule == "correlation"]
    assert (result.value, result.outcome) == (None, Outcome.ALLOW)


# Verdicts


def test_verdict_is_kept_with_every_rule_before_its_signal_is_stored(world: World) -> None:
    store_walks(world, common=0.9)
    hold(world)
    verdict = ask(world, T0)
    signal_id = world.signal()
    for _ in range(2):
        keep_assessment(world.connection, world.session, signal_id, proposal(world), Stage.EMISSION, verdict, T0)
    [(outcome, reason, quantity, rules)] = world.rows(
        "select outcome, reason, quantity, rules from risk_assessments where signal_id = %s", signal_id
    )
    assert (outcome, quantity) == ("REFUSE", 0.0)
    assert reason == verdict.reason
    assert [rule["rule"] for rule in rules] == [result.rule for result in verdict.results]
    assert rules[0] == {"rule": "position_of_symbol", "outcome": "ALLOW", "value": 0.0, "limit": 1.0}


def test_session_without_rules_is_not_locked(connection: Connection) -> None:
    world = build_world(connection, limits=RiskLimits().without_gates())
    for k in range(6):
        closed(world, T0 + k * HOUR / 8)
    mark(world, T0, 5_000.0)
    assert refused_by(ask(world, T0 + HOUR)) is None
    assert locks(world) == []


def test_r_is_measured_from_the_decision_s_close_to_the_first_stop(world: World) -> None:
    world.signal()
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    world.bar(0, 100.3, 100.5, 98, 98.5)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    [(quantity, risk)] = world.rows(
        "select p.quantity_initial, r.initial_risk from positions p join position_risk r using (position_id)"
    )
    assert risk == pytest.approx(float(quantity) * (100.0 - 99.0))
    assert session_performance(world.connection, world.session.session_id).average_r == pytest.approx(-1.3, abs=0.3)


def test_r_of_a_position_without_a_signal_is_measured_from_its_entry(world: World) -> None:
    position_id = closed(world, T0)
    world.connection.execute("update positions set initial_stop_price = 98 where position_id = %s", (position_id,))
    assert world.rows("select initial_risk from position_risk") == [(2.0,)]


def test_order_path_keeps_its_verdict_of_refusals_too(world: World) -> None:
    closed(world, T0)
    refused, executed = world.signal(), world.signal("ETHUSDT")
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    kept = world.rows("select signal_id, stage, outcome, reason from risk_assessments order by outcome")
    assert kept == [
        (executed, "ORDER", "ALLOW", "no rule objects"),
        (refused, "ORDER", "REFUSE", "stop_lock: 4 against a limit of 0"),
    ]
    assert world.signal_status(refused) == "REJECTED"
