"""Trades by hand and changes of sessions: written down, carried out once, refused with a reason."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lives import Crash, Fault, mortal_connection
from trading_world import BAR, T0, World, build_world

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable
from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.application.trading import instructions
from trading_pipelines.application.trading.execution import synchronise
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.application.trading.manual import Desk
from trading_pipelines.application.trading.monitor import finish_stop
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.domain.execution.orders import BracketRequest
from trading_pipelines.domain.execution.session import SessionMode
from trading_pipelines.settings import TraderSettings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import sessions
from trading_pipelines.store.repositories.instructions import InstructionKind, InstructionStatus

LONG = {"symbol": "BTCUSDT", "side": "LONG", "stop": 99.0}


@pytest.fixture
def world(connection: Connection) -> World:
    world = build_world(connection, mode=SessionMode.PAPER)
    assert reconcile(connection, world.session, world.exchange, T0, TraderSettings()).known
    return world


@pytest.fixture
def kill(database: str, tmp_path: Path) -> KillSwitch:
    return KillSwitch(tmp_path, lambda: connect(database))


@pytest.fixture
def desk(world: World, kill: KillSwitch) -> Desk:
    return Desk(world.session, world.exchange, kill, world.quotes())


def give(
    world: World, kind: InstructionKind, arguments: Mapping[str, Any], *, key: str = "one", at: datetime = T0
) -> None:
    instructions.submit(
        world.connection,
        world.session.session_id,
        kind,
        arguments,
        key=key,
        by="test",
        as_of=at,
        valid_seconds=30,
    )


def outcome(world: World, key: str = "one") -> tuple[str, str]:
    [(status, text)] = world.rows("select status, outcome from manual_instructions where idempotency_key = %s", key)
    return status, text


def opened(world: World, desk: Desk) -> str:
    """Open a long by hand and let it fill; the position's id."""
    give(world, InstructionKind.OPEN, LONG, key="opening")
    instructions.carry_out(world.connection, desk, T0)
    world.bar(0, 100, 100.5, 99.5, 100)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    [(position_id,)] = world.rows("select position_id::text from positions where status = 'OPEN'")
    return position_id


# Opening


def test_opening_by_hand_goes_through_the_order_path_and_ends_protected(world: World, desk: Desk) -> None:
    opened(world, desk)

    assert outcome(world, "opening") == ("DONE", "the entry is sent with its stop and targets")
    assert world.rows("select strategy, status, stop_price, tp1_price from signals") == [
        ("manual", "EXECUTED", 99, 102)
    ]
    assert world.rows("select outcome, strategy, reason from decisions") == [("SIGNAL", "manual", "asked for by test")]
    assert world.rows("select leg from orders where status = 'FILLED'") == [("ENTRY",)]
    assert world.rows("select quantity_open = quantity_protected, stop_price from positions") == [
        (True, Decimal("99.00"))
    ]


def test_same_request_twice_is_one_trade(world: World, desk: Desk) -> None:
    for _ in range(3):
        give(world, InstructionKind.OPEN, LONG)
        instructions.carry_out(world.connection, desk, T0)

    assert world.rows("select count(*) from manual_instructions") == [(1,)]
    assert world.rows("select count(*) from orders where leg = 'ENTRY'") == [(1,)]


def test_size_is_a_share_of_the_full_risk(world: World, desk: Desk) -> None:
    give(world, InstructionKind.OPEN, LONG | {"size": 1.0}, key="full")
    give(world, InstructionKind.OPEN, LONG | {"symbol": "ETHUSDT", "size": 0.5}, key="half")
    instructions.carry_out(world.connection, desk, T0)

    rows = world.rows("select quantity from orders where leg = 'ENTRY' order by quantity")
    assert float(rows[0][0]) == pytest.approx(float(rows[1][0]) / 2, rel=0.01)


def test_own_targets_are_kept(world: World, desk: Desk) -> None:
    give(world, InstructionKind.OPEN, LONG | {"targets": [101, 103, 108]})
    instructions.carry_out(world.connection, desk, T0)

    assert world.rows("select trigger_price from orders where leg in ('TP1', 'TP2', 'TP3') order by leg") == [
        (Decimal("101.00"),),
        (Decimal("103.00"),),
        (Decimal("108.00"),),
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (LONG | {"stop": 101.0}, "lies below the price"),
        (LONG | {"side": "UP"}, "a side is LONG or SHORT"),
        (LONG | {"size": 2}, "a share of the full risk"),
        (LONG | {"targets": [103, 101, 108]}, "three targets"),
        (LONG | {"symbol": "XYZUSDT"}, "does not trade XYZUSDT"),
        ({"symbol": "BTCUSDT", "side": "LONG"}, "no ATR"),
        ({"side": "LONG"}, "unreadable"),
    ],
)
def test_opening_that_makes_no_sense_is_refused_with_the_reason(
    world: World, desk: Desk, arguments: dict[str, Any], reason: str
) -> None:
    give(world, InstructionKind.OPEN, arguments)
    instructions.carry_out(world.connection, desk, T0)

    status, text = outcome(world)
    assert status == "REFUSED"
    assert reason in text
    assert world.rows("select count(*) from orders") == [(0,)]


def test_opening_that_risks_too_much_for_its_targets_says_what_to_do(world: World, desk: Desk) -> None:
    give(world, InstructionKind.OPEN, LONG | {"targets": [100.5, 101, 101.5]})
    instructions.carry_out(world.connection, desk, T0)

    status, text = outcome(world)
    assert status == "REFUSED"
    assert text.startswith("risk_reward: 1 against a limit of 2: name targets farther away or a stop nearer")
    assert "TRADING_RISK__MIN_RISK_REWARD" in text


def test_engaged_kill_switch_refuses_an_opening_and_lets_a_close_through(
    world: World, desk: Desk, kill: KillSwitch
) -> None:
    position_id = opened(world, desk)
    kill.engage("news")

    give(world, InstructionKind.OPEN, LONG | {"symbol": "ETHUSDT"}, key="new")
    give(world, InstructionKind.CLOSE, {"symbol": "BTCUSDT", "position_id": position_id}, key="close")
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world, "new") == ("REFUSED", "the kill switch is engaged: news")
    assert outcome(world, "close")[0] == "DONE"


def test_account_that_is_not_known_refuses_an_opening(world: World, desk: Desk) -> None:
    world.rows("update account_truth set known = false, reason = 'a position differs' returning 1")

    give(world, InstructionKind.OPEN, LONG)
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world) == ("REFUSED", "a position differs")


def test_paused_session_opens_nothing_by_hand(world: World, desk: Desk) -> None:
    world.rows("update sessions set status = 'PAUSED' returning 1")

    give(world, InstructionKind.OPEN, LONG)
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world) == ("REFUSED", "the session is PAUSED")


def test_risk_rules_refuse_a_second_position_of_the_symbol(world: World, desk: Desk) -> None:
    opened(world, desk)

    give(world, InstructionKind.OPEN, LONG, key="again", at=T0 + timedelta(seconds=1))
    instructions.carry_out(world.connection, desk, T0 + timedelta(seconds=1))

    assert outcome(world, "again")[0] == "REFUSED"


class Unreachable(PaperExchange):
    def create_bracket(self, request: BracketRequest) -> Any:
        raise ExchangeUnavailable("down")


def test_opening_that_cannot_be_sent_expires_and_is_never_sent_later(world: World, desk: Desk) -> None:
    give(world, InstructionKind.OPEN, LONG)
    down = Unreachable(world.connection, world.session.session_id, world.session.execution)
    instructions.carry_out(world.connection, Desk(world.session, down, desk.kill, desk.quotes), T0)
    assert world.rows("select status from manual_instructions") == [("PENDING",)]

    instructions.carry_out(world.connection, desk, T0 + timedelta(seconds=31))
    instructions.carry_out(world.connection, desk, T0 + timedelta(seconds=62))

    assert outcome(world) == ("EXPIRED", "could not be carried out in time")
    assert world.rows("select status from signals") == [("EXPIRED",)]
    assert world.rows("select count(*) from paper_orders") == [(0,)]


# Closing and moving the stop


def test_close_by_hand_fills_at_the_next_price_and_says_who_closed(world: World, desk: Desk) -> None:
    position_id = opened(world, desk)
    close = {"symbol": "BTCUSDT", "position_id": position_id}

    give(world, InstructionKind.CLOSE, close, at=T0 + BAR)
    instructions.carry_out(world.connection, desk, T0 + BAR)
    world.bar(1, 101, 101, 101, 101)
    synchronise(world.connection, world.session, world.exchange, T0 + 2 * BAR)
    give(world, InstructionKind.CLOSE, close, key="again", at=T0 + 2 * BAR)
    instructions.carry_out(world.connection, desk, T0 + 2 * BAR)

    assert world.rows("select status, close_reason from positions") == [("CLOSED", "MANUAL")]
    assert outcome(world, "again") == ("DONE", "the position is closed already")
    assert world.rows("select count(*) from orders where leg = 'EXIT'") == [(1,)]


def test_stop_is_moved_to_the_venue_s_step(world: World, desk: Desk) -> None:
    position_id = opened(world, desk)

    give(world, InstructionKind.STOP, {"symbol": "BTCUSDT", "position_id": position_id, "price": 99.504})
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world) == ("DONE", "the stop is at 99.50")
    assert world.rows("select stop_price, quantity_open = quantity_protected from positions") == [
        (Decimal("99.50"), True)
    ]


@pytest.mark.parametrize(
    ("price", "reason"), [(100.5, "lies below the price"), (50, "liquidated at"), (-1, "positive number")]
)
def test_stop_that_protects_nothing_is_refused(world: World, desk: Desk, price: float, reason: str) -> None:
    position_id = opened(world, desk)

    give(world, InstructionKind.STOP, {"symbol": "BTCUSDT", "position_id": position_id, "price": price})
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world)[0] == "REFUSED"
    assert reason in outcome(world)[1]
    assert world.rows("select stop_price from positions") == [(Decimal("99.00"),)]


def test_part_of_a_position_is_closed_once_and_the_rest_stays_protected(world: World, desk: Desk) -> None:
    position_id = opened(world, desk)
    [(before,)] = world.rows("select quantity_open from positions")

    give(world, InstructionKind.CLOSE, {"symbol": "BTCUSDT", "position_id": position_id, "share": 0.5}, at=T0 + BAR)
    instructions.carry_out(world.connection, desk, T0 + BAR)
    world.bar(1, 101, 101, 101, 101)
    synchronise(world.connection, world.session, world.exchange, T0 + 2 * BAR)

    [(status, left, protected)] = world.rows("select status, quantity_open, quantity_protected from positions")
    assert (status, left) == ("OPEN", protected)
    assert float(left) == pytest.approx(float(before) / 2, abs=0.001)
    assert reconcile(world.connection, world.session, world.exchange, T0 + 2 * BAR, TraderSettings()).known


def test_target_is_moved_and_one_that_the_price_has_passed_is_refused(world: World, desk: Desk) -> None:
    position_id = opened(world, desk)
    move = {"symbol": "BTCUSDT", "position_id": position_id, "number": 2}

    give(world, InstructionKind.TARGET, move | {"price": 104.0}, key="good")
    give(world, InstructionKind.TARGET, move | {"price": 99.5}, key="passed")
    give(world, InstructionKind.TARGET, move | {"price": 105.0, "number": 4}, key="which")
    instructions.carry_out(world.connection, desk, T0)

    assert outcome(world, "good") == ("DONE", "target 2 is at 104.00")
    assert outcome(world, "passed")[0] == "REFUSED"
    assert outcome(world, "which")[0] == "REFUSED"
    prices = world.rows("select trigger_price from paper_orders where leg = 'TP2' and status = 'OPEN'")
    assert prices == [(Decimal("104.00"),)]


# Sessions


def test_session_is_paused_started_and_stopped_by_instruction(world: World, desk: Desk) -> None:
    for key, action in enumerate(("pause", "start", "stop")):
        give(world, InstructionKind.SESSION, {"action": action}, key=str(key))
        instructions.carry_out(world.connection, desk, T0)

    assert world.rows("select status from sessions") == [("STOPPED",)]
    give(world, InstructionKind.SESSION, {"action": "start"}, key="late")
    instructions.carry_out(world.connection, desk, T0)
    assert outcome(world, "late")[0] == "REFUSED"


def test_session_with_something_open_stops_only_once_it_is_flat(world: World, desk: Desk) -> None:
    opened(world, desk)
    give(world, InstructionKind.SESSION, {"action": "stop"}, key="no")
    give(world, InstructionKind.SESSION, {"action": "stop", "flatten": True}, key="yes", at=T0 + timedelta(seconds=1))
    instructions.carry_out(world.connection, desk, T0 + timedelta(seconds=1))

    assert outcome(world, "no")[0] == "REFUSED"
    assert outcome(world, "yes")[0] == "DONE"
    assert world.rows("select status from sessions") == [("PAUSED",)]
    assert not finish_stop(world.connection, world.session, world.exchange, T0 + BAR)
    world.bar(1, 101, 101, 101, 101)
    synchronise(world.connection, world.session, world.exchange, T0 + 2 * BAR)
    assert finish_stop(world.connection, world.session, world.exchange, T0 + 2 * BAR)
    assert world.rows("select status from sessions") == [("STOPPED",)]
    assert world.rows("select close_reason from positions") == [("SESSION_STOPPED",)]


@pytest.mark.parametrize(("before", "after"), [("STOPPED", "RUNNING"), ("STOPPED", "PAUSED")])
def test_database_refuses_an_illegal_change_of_a_session(world: World, before: str, after: str) -> None:
    world.rows("update sessions set status = %s returning 1", before)

    with pytest.raises(psycopg.errors.CheckViolation, match="not a legal status change"):
        world.rows("update sessions set status = %s returning 1", after)


def test_database_refuses_to_stop_a_session_that_is_not_flat(world: World, desk: Desk) -> None:
    opened(world, desk)

    with pytest.raises(psycopg.errors.CheckViolation, match="close them before"):
        world.rows("update sessions set status = 'STOPPED' returning 1")


def test_database_refuses_to_carry_out_an_instruction_again(world: World, desk: Desk) -> None:
    give(world, InstructionKind.OPEN, LONG)
    instructions.carry_out(world.connection, desk, T0)

    with pytest.raises(psycopg.errors.CheckViolation, match="not a legal status change"):
        world.rows("update manual_instructions set status = 'PENDING' returning 1")


# Whatever dies


def test_death_at_any_statement_of_an_opening_ends_in_one_trade(world: World, desk: Desk, database: str) -> None:
    give(world, InstructionKind.OPEN, LONG)
    deaths = 0
    while True:
        connection = mortal_connection(database, Fault(deaths + 1))
        exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
        mortal = Desk(world.session, exchange, desk.kill, desk.quotes)
        try:
            instructions.carry_out(connection, mortal, T0)
        except (Crash, psycopg.OperationalError):
            deaths += 1
            continue
        finally:
            connection.close()
        break

    instructions.carry_out(world.connection, desk, T0)
    assert deaths > 10
    assert outcome(world)[0] == "DONE"
    assert world.rows("select count(*) from signals") == [(1,)]
    assert world.rows("select count(*) from paper_orders where leg = 'ENTRY'") == [(1,)]


def test_two_workers_carry_an_instruction_out_once(world: World, desk: Desk, database: str) -> None:
    give(world, InstructionKind.OPEN, LONG)
    key = f"instructions:{world.session.session_id}"
    with connect(database) as other:
        other.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))
        assert instructions.carry_out(world.connection, desk, T0) == []
        other.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))

    [handled] = instructions.carry_out(world.connection, desk, T0)
    assert handled.status is InstructionStatus.DONE


def test_stopping_is_not_forgotten_by_a_restart(world: World, desk: Desk) -> None:
    opened(world, desk)
    give(world, InstructionKind.SESSION, {"action": "stop", "flatten": True})
    instructions.carry_out(world.connection, desk, T0)

    assert sessions.is_stop_requested(world.connection, world.session.session_id)
