"""From an active signal over one bracket on the exchange to a position and its end, in a real database."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.application.trading.execution import (
    ExecutionReport,
    SynchronisationReport,
    execute_signals,
    resolve_pending,
    synchronise,
)
from trading_pipelines.domain.execution.orders import TRANSITIONS, Leg, OrderRequest, OrderSide, OrderType
from trading_pipelines.domain.execution.session import SessionMode, SessionStatus
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import sessions

ALL_ACCEPTED = dict.fromkeys(("E-0", "S-0", "T1-0", "T2-0", "T3-0"), "ACCEPTED")


@pytest.fixture
def world(connection: Connection) -> World:
    return build_world(connection)


def execute(world: World, bar: int = 0, price: float = 100.0) -> ExecutionReport:
    return execute_signals(
        world.connection, world.session, world.exchange, T0 + bar * BAR, quotes=world.quotes(price), kill=None
    )


def sync(world: World, bar: int = 1) -> SynchronisationReport:
    return synchronise(world.connection, world.session, world.exchange, T0 + bar * BAR)


# Tables of legal changes


def test_database_holds_the_same_transitions_as_the_code(connection: Connection) -> None:
    stored = connection.execute("select from_status, to_status from order_transitions").fetchall()

    assert set(stored) == {(a.value, b.value) for a, b in TRANSITIONS}


@pytest.mark.parametrize("status", ["INTENT", "SENT", "ACCEPTED"])
def test_illegal_order_update_is_refused_by_the_database(world: World, status: str) -> None:
    world.signal()
    execute(world)
    world.bar(0, 100, 100.5, 99.5, 100)
    sync(world)

    with pytest.raises(psycopg.errors.CheckViolation, match=r"FILLED -> \w+ is not a legal status change"):
        world.connection.execute("update orders set status = %s where leg = 'ENTRY'", (status,))


def test_executed_signal_cannot_be_made_active_again(world: World) -> None:
    world.signal()
    execute(world)

    with pytest.raises(psycopg.errors.CheckViolation, match="EXECUTED -> ACTIVE"):
        world.connection.execute("update signals set status = 'ACTIVE'")


def test_order_that_does_not_start_as_an_intent_is_refused(world: World) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="starts as INTENT"):
        world.connection.execute(
            "insert into orders (client_order_id, session_id, instrument_id, leg, side, type, reduce_only, quantity, "
            "status, created_at, updated_at) values ('x', %s, %s, 'ENTRY', 'BUY', 'MARKET', false, 1, 'SENT', %s, %s)",
            (world.session.session_id, world.ids["BTCUSDT"], T0, T0),
        )


# Execution


def test_signal_becomes_one_bracket_on_the_exchange(world: World) -> None:
    signal_id = world.signal()

    report = execute(world)

    assert report.executed == (signal_id,)
    assert world.signal_status(signal_id) == "EXECUTED"
    assert world.statuses(signal_id) == ALL_ACCEPTED
    quantity, ladder = world.rows(
        "select (select quantity from orders where leg = 'ENTRY'), "
        "(select array_agg(quantity order by leg) from orders where leg like 'TP_')"
    )[0]
    assert len(world.exchange.fetch_open_orders()) == 5
    assert sum(ladder) == quantity
    # Risk of 1 % of 10,000 at the full scale (0.8 - 0.52) / 0.48, over stop distance 1 % and costs 0.21 %.
    assert float(quantity) == pytest.approx(100 * (0.28 / 0.48) / (100 * (0.01 + 0.0021)), abs=0.001)


def test_second_call_sends_nothing(world: World) -> None:
    signal_id = world.signal()
    execute(world)

    report = execute(world)

    assert report.executed == ()
    assert world.rows("select count(*) from paper_orders where leg = 'ENTRY'") == [(1,)]
    assert world.statuses(signal_id) == ALL_ACCEPTED


def test_signal_whose_price_has_moved_is_cancelled_with_the_numbers(world: World) -> None:
    signal_id = world.signal()

    report = execute(world, price=100.6)

    assert report.cancelled == (signal_id,)
    assert world.rows("select status, status_reason from signals") == [
        ("CANCELLED", "price moved 0.60 R from the set-up, allowed 0.5 R")
    ]
    assert world.rows("select count(*) from orders") == [(0,)]


def test_signal_without_a_quote_waits(world: World) -> None:
    signal_id = world.signal()

    report = execute_signals(world.connection, world.session, world.exchange, T0, quotes={}, kill=None)

    assert report.waiting == (signal_id,)
    assert world.signal_status(signal_id) == "ACTIVE"


def test_signal_that_has_expired_is_not_looked_at(world: World) -> None:
    signal_id = world.signal()

    report = execute(world, bar=16)

    assert report.executed == report.waiting == ()
    assert world.signal_status(signal_id) == "ACTIVE"


def test_paused_session_opens_nothing(world: World) -> None:
    signal_id = world.signal()
    sessions.set_status(world.connection, world.session.session_id, SessionStatus.PAUSED)

    assert execute(world).waiting == (signal_id,)
    assert world.rows("select count(*) from orders") == [(0,)]


def test_second_signal_of_a_symbol_is_rejected_by_a_named_rule(world: World) -> None:
    world.signal()
    execute(world)
    second = world.signal(bar=1)

    assert execute(world, bar=1).rejected == (second,)
    assert world.rows("select status_reason from signals where signal_id = %s", second) == [
        ("position_of_symbol: 1 against a limit of 1",)
    ]


def test_more_confident_signal_goes_first_and_takes_the_only_place(connection: Connection) -> None:
    world = build_world(connection, limits=RiskLimits(max_open_positions=1))
    modest, confident = world.signal("BTCUSDT", confidence=0.7), world.signal("ETHUSDT", confidence=0.9)

    report = execute(world)

    assert report.executed == (confident,)
    assert report.rejected == (modest,)
    assert "open_positions" in world.rows("select status_reason from signals where signal_id = %s", modest)[0][0]


def test_cap_reduces_the_size_and_says_so(connection: Connection) -> None:
    world = build_world(connection, limits=RiskLimits(max_margin_per_trade=0.01))
    world.signal()

    execute(world)

    # 1 % of 10,000 as margin at leverage 5 and price 100.
    assert world.rows("select quantity from orders where leg = 'ENTRY'") == [(Decimal("5.000"),)]
    [(message,)] = world.rows("select message from events where kind = 'size_reduced'")
    assert message.startswith("margin_per_trade: ")


def test_order_that_the_exchange_refuses_rejects_the_signal_with_the_exchange_s_reason(world: World) -> None:
    signal_id = world.signal()
    world.rows("update paper_accounts set cash = 1 returning 1")

    assert execute(world).rejected == (signal_id,)
    assert set(world.statuses(signal_id).values()) == {"REJECTED"}
    assert world.rows("select status_reason from signals")[0][0].startswith("insufficient_margin")


def test_exchange_without_a_price_leaves_the_signal_waiting_and_a_later_call_executes_it(world: World) -> None:
    signal_id = world.signal()
    world.rows("delete from paper_markets returning 1")

    assert execute(world).waiting == (signal_id,)
    assert set(world.statuses(signal_id).values()) == {"INTENT"}
    world.bar(-1, 100, 100, 100, 100)

    assert execute(world).executed == (signal_id,)
    assert world.statuses(signal_id) == ALL_ACCEPTED


def test_intent_of_a_signal_that_has_ended_is_dropped(world: World) -> None:
    signal_id = world.signal()
    world.rows("delete from paper_markets returning 1")
    execute(world)

    later = T0 + timedelta(hours=5)
    assert resolve_pending(world.connection, world.session, world.exchange, later) == 0

    assert set(world.statuses(signal_id).values()) == {"CANCELLED"}


def test_live_session_without_a_kill_switch_is_a_programming_error(world: World) -> None:
    live = replace(world.session, mode=SessionMode.PAPER)

    with pytest.raises(ValueError, match="kill switch"):
        execute_signals(world.connection, live, world.exchange, T0, quotes={}, kill=None)


# Fills and positions


def test_entry_fill_opens_a_protected_position(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.bar(0, 100, 100.5, 99.5, 100.2)

    report = sync(world)

    assert len(report.opened) == 1
    [(quantity, protected, stop, entry, owner)] = world.rows(
        "select quantity_open, quantity_protected, stop_price, entry_price, signal_id from positions"
    )
    assert quantity == protected > 0
    assert (float(stop), float(entry), owner) == (99.0, pytest.approx(100.05), signal_id)
    assert world.statuses(signal_id) == {**ALL_ACCEPTED, "E-0": "FILLED"}


def test_synchronising_twice_changes_nothing(world: World) -> None:
    world.signal()
    execute(world)
    world.bar(0, 100, 102.5, 99.5, 102)
    sync(world)
    everything = (
        "select (select jsonb_agg(p) from positions p), (select jsonb_agg(o) from orders o), "
        "(select count(*) from events)"
    )
    before = world.rows(everything)

    report = sync(world)

    assert report.fills == 0
    assert world.rows(everything) == before


@pytest.mark.parametrize(
    ("bars", "status", "reason"),
    [
        ([(100, 107, 99.5, 106)], "HIT_TP", "TP3"),
        ([(100, 100.5, 98, 98.5)], "HIT_SL", "STOP"),
        ([(100, 102.5, 99.5, 102), (100, 101, 98, 99)], "HIT_SL", "TRAILING_STOP"),
    ],
)
def test_end_of_a_position_ends_its_signal(
    world: World, bars: list[tuple[float, float, float, float]], status: str, reason: str
) -> None:
    signal_id = world.signal()
    execute(world)
    for index, prices in enumerate(bars):
        world.bar(index, *prices)
        sync(world, index + 1)

    assert world.signal_status(signal_id) == status
    [(state, open_, closed_by)] = world.rows("select status, quantity_open, close_reason from positions")
    assert (state, open_, closed_by) == ("CLOSED", 0, reason)
    assert not {"ACCEPTED", "INTENT", "SENT"} & set(world.statuses(signal_id).values())


def test_positions_fees_and_funding_reconcile_with_the_account(world: World) -> None:
    world.signal()
    execute(world)
    for index, prices in enumerate([(100, 102.5, 99.5, 102), (102, 104, 101, 103.8), (103.8, 107, 103, 106)]):
        world.bar(index, *prices)
        sync(world, index + 1)

    [(net, fills_net, cash)] = world.rows(
        "select (select sum(realised_pnl - fees - funding) from positions), "
        "(select sum(realised_pnl - fee) from fills), (select cash from paper_accounts)"
    )
    assert net == fills_net == cash - 10_000


def test_liquidation_gets_an_order_of_its_own_and_closes_the_signal(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.bar(0, 100, 100.5, 99.5, 100)
    sync(world)
    world.exchange.cancel_order(f"{signal_id.hex[:24]}-S-0")

    world.bar(1, 100, 100, 70, 75)
    sync(world, 2)

    assert world.signal_status(signal_id) == "CLOSED"
    assert world.rows("select status, status_reason from orders where leg = 'EXIT'") == [("FILLED", "LIQUIDATION")]
    assert world.rows("select close_reason from positions") == [("LIQUIDATION",)]
    assert world.rows("select count(*) from events where severity = 'critical' and kind = 'fill'") == [(1,)]


def test_lost_stop_is_noticed_and_placed_again(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.bar(0, 100, 100.5, 99.5, 100)
    sync(world)
    world.exchange.cancel_order(f"{signal_id.hex[:24]}-S-0")

    report = sync(world)

    assert report.repaired == 1
    assert world.statuses(signal_id)["S-1"] == "ACCEPTED"
    [(covered, stop)] = world.rows("select quantity_open = quantity_protected, stop_price from positions")
    assert (covered, stop) == (True, 99)
    assert world.rows("select kind from events where severity = 'critical'") == [("unprotected_position",)]


def test_lost_stop_that_would_trigger_at_once_closes_the_position_instead(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.bar(0, 100, 100.5, 99.5, 100)
    sync(world)
    world.exchange.cancel_order(f"{signal_id.hex[:24]}-S-0")
    world.bar(1, 99.5, 99.5, 98, 98.5)

    sync(world, 2)
    world.bar(2, 98.6, 99, 98, 98.5)
    sync(world, 3)

    assert world.statuses(signal_id)["S-1"] == "REJECTED"
    assert world.rows("select status, close_reason from positions") == [("CLOSED", "UNPROTECTED")]
    assert world.signal_status(signal_id) == "CLOSED"


def test_entry_cancelled_on_the_exchange_closes_its_signal(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.exchange.cancel_order(f"{signal_id.hex[:24]}-E-0")

    sync(world)

    assert world.signal_status(signal_id) == "CLOSED"
    assert set(world.statuses(signal_id).values()) == {"CANCELLED"}


def test_entry_that_was_given_up_here_but_arrived_late_is_cancelled_there(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.rows("update orders set status = 'CANCELLED' returning 1")

    sync(world)

    assert world.exchange.fetch_open_orders() == []
    assert world.rows("select subject from events where kind = 'orphan_order'") == [(f"{signal_id.hex[:24]}-E-0",)]


def test_order_that_lands_after_its_signal_expired_is_traded_on_and_reported(world: World) -> None:
    signal_id = world.signal()
    execute(world)
    world.connection.execute("alter table signals disable trigger signals_transition")
    world.connection.execute("update signals set status = 'EXPIRED'")
    world.connection.execute("alter table signals enable trigger signals_transition")
    world.connection.commit()
    world.bar(0, 100, 107, 99.5, 106)

    report = sync(world)

    assert (len(report.opened), len(report.closed)) == (1, 1)
    assert world.signal_status(signal_id) == "EXPIRED"
    assert world.rows("select subject from events where kind = 'late_execution'") == [(str(signal_id),)]


def test_fill_of_an_order_from_outside_gets_an_order_and_a_position(world: World) -> None:
    entry = replace(outside_entry(world), client_order_id="by hand")
    world.exchange.create_order(entry)
    world.bar(0, 100, 100.5, 99.5, 100)

    report = sync(world)

    assert len(report.opened) == 1
    assert world.rows("select leg, status, status_reason from orders where leg = 'ENTRY'") == [
        ("ENTRY", "FILLED", "OUTSIDE")
    ]


def test_position_from_outside_has_no_stop_to_restore_and_is_closed(world: World) -> None:
    world.exchange.create_order(outside_entry(world))
    world.bar(0, 100, 100.5, 99.5, 100)
    sync(world)
    world.bar(1, 100, 100.5, 99.5, 100)

    sync(world, 2)

    assert world.rows("select status, close_reason from positions") == [("CLOSED", "UNPROTECTED")]


def outside_entry(world: World) -> OrderRequest:
    """An entry that the platform did not send."""
    return OrderRequest(
        client_order_id="outside-E-0",
        instrument_id=world.ids["BTCUSDT"],
        leg=Leg.ENTRY,
        side=OrderSide.BUY,
        type=OrderType.MARKET,
        quantity=Decimal(1),
        reduce_only=False,
        requested_at=T0,
        leverage=Decimal(5),
    )


def test_many_synchronising_at_once_take_every_fill_over_once(world: World, database: str) -> None:
    world.signal()
    execute(world)
    world.bar(0, 100, 107, 99.5, 106)
    together = threading.Barrier(4)
    found: list[int] = []

    def work() -> None:
        with connect(database) as own:
            exchange = PaperExchange(own, world.session.session_id, world.session.execution)
            together.wait()
            found.append(synchronise(own, world.session, exchange, T0 + BAR).fills)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found) == [0, 0, 0, 4]
    assert world.rows("select count(*) from events where kind = 'fill'") == [(4,)]
    assert world.rows("select status, close_reason from positions") == [("CLOSED", "TP3")]
