"""Additions, fills in parts and exits by hand, in a real database: what is open is always what is protected."""

from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.application.trading.execution import (
    ExecutionReport,
    SynchronisationReport,
    execute_signals,
    synchronise,
)
from trading_pipelines.application.trading.protection import Sent, close_position, move_target
from trading_pipelines.domain.execution.orders import Leg
from trading_pipelines.domain.execution.venue import VenueParams
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models.positions import list_orders, open_positions, protection
from trading_pipelines.store.repositories import positions
from trading_pipelines.store.repositories.positions import OpenPosition

PYRAMIDING = RiskLimits(pyramiding=True, max_margin_per_trade=0.05)
INSTRUCTION = UUID(int=99 << 64)


@pytest.fixture
def world(connection: Connection) -> World:
    return build_world(connection, limits=PYRAMIDING)


@pytest.fixture
def thin(connection: Connection) -> World:
    """A market of which one tenth of each bar's volume may be filled."""
    return build_world(connection, venue=VenueParams(liquidity_share=0.1))


def execute(world: World, bar: int = 0, price: float = 100.0) -> ExecutionReport:
    return execute_signals(
        world.connection, world.session, world.exchange, T0 + bar * BAR, quotes=world.quotes(price), kill=None
    )


def sync(world: World, bar: int = 1) -> SynchronisationReport:
    return synchronise(world.connection, world.session, world.exchange, T0 + bar * BAR)


def held(world: World) -> OpenPosition:
    [position] = positions.open_positions(world.connection, world.session.session_id)
    world.connection.commit()
    return position


def protected(world: World) -> bool:
    """Whether books and exchange agree that all of the position has its stop."""
    return world.rows(
        "select p.quantity_open = p.quantity_protected and p.quantity_open = e.quantity "
        "and e.quantity = (select sum(o.quantity - o.filled_quantity) from paper_orders o where o.leg = 'STOP' "
        "and o.status = 'OPEN') from positions p join paper_positions e using (instrument_id) where p.status = 'OPEN'"
    ) == [(True,)]


def opened(world: World) -> UUID:
    """A position of a signal with distant targets, 4 % in profit."""
    signal_id = world.signal(atr=3)
    execute(world)
    world.bar(0, 100, 105, 99.5, 104)
    sync(world)
    return signal_id


# Additions


def test_second_signal_of_a_winning_position_adds_to_it_with_all_exits_in_one_request(world: World) -> None:
    first = opened(world)
    before = held(world)
    second = world.signal(bar=1, price=104, atr=3)

    report = execute(world, 1, 104)
    waiting = (protected(world), held(world).stop_price)
    world.bar(1, 104.2, 105, 103.5, 104.5)
    sync(world, 2)

    assert report.executed == (second,)
    assert waiting == (True, 97)
    after = held(world)
    assert protected(world)
    [(added,)] = world.rows("select quantity from orders where leg = 'ADD'")
    assert after.quantity_open == before.quantity_open + added
    assert (after.position_id, after.stop_price) == (before.position_id, 101)
    average = (float(before.quantity_open) * 100.05 + float(added) * 104.2 * 1.0005) / float(after.quantity_open)
    assert float(after.entry_price) == pytest.approx(average, rel=1e-12)
    [(theirs,)] = world.rows("select entry_price from paper_positions")
    assert float(after.entry_price) == pytest.approx(float(theirs), rel=1e-14)
    targets = world.rows(
        "select leg, quantity, trigger_price::float8 from orders where leg like 'TP_' and status = 'ACCEPTED' "
        "order by leg"
    )
    assert sum(quantity for _, quantity, _ in targets) == after.quantity_open
    assert [price for _, _, price in targets] == [106.0, 110.5, 118.0]
    assert world.statuses(first)["S-0"] == world.statuses(first)["T1-0"] == "CANCELLED"


def test_margin_and_liquidation_price_of_an_enlarged_position_are_those_of_the_exchange(world: World) -> None:
    opened(world)
    world.signal(bar=1, price=104, atr=3)
    execute(world, 1, 104)
    world.bar(1, 104.2, 107, 103.5, 104.5)
    sync(world, 2)

    [(margin, liquidation)] = world.rows(
        "select round(p.entry_margin * p.quantity_open / p.quantity_initial, 6) "
        "- round(e.entry_margin * e.quantity / e.quantity_initial, 6), p.liquidation_price - e.liquidation_price "
        "from positions p join paper_positions e using (instrument_id)"
    )
    assert margin == 0
    assert abs(float(liquidation)) < 1e-9


def test_end_of_an_enlarged_position_ends_both_signals_and_reconciles_to_the_last_digit(world: World) -> None:
    first = opened(world)
    second = world.signal(bar=1, price=104, atr=3)
    execute(world, 1, 104)
    for index, prices in enumerate([(104.2, 107, 103.5, 104.5), (104, 104, 100, 100.5)], start=1):
        world.bar(index, *prices)
        sync(world, index + 1)

    assert world.signal_status(first) == world.signal_status(second) == "HIT_SL"
    [(net, cash)] = world.rows(
        "select (select sum(realised_pnl - fees - funding) from positions), (select cash from paper_accounts)"
    )
    assert net == cash - 10_000
    [(bought, sold)] = world.rows(
        "select sum(quantity * price) filter (where side = 'BUY'), sum(quantity * price) filter (where side = 'SELL') "
        "from fills"
    )
    [(realised,)] = world.rows("select sum(realised_pnl) from fills")
    assert abs(sold - bought - realised) < Decimal("1e-9")


def test_addition_to_a_position_that_was_stopped_first_is_given_up(world: World) -> None:
    opened(world)
    second = world.signal(bar=1, price=104, atr=3)
    execute(world, 1, 104)

    world.bar(1, 96, 97, 95, 96)
    sync(world, 2)

    assert world.signal_status(second) == "CLOSED"
    assert set(world.statuses(second).values()) == {"CANCELLED"}
    assert world.rows("select status, close_reason from positions") == [("CLOSED", "STOP")]
    assert world.exchange.fetch_open_orders() == []


def test_without_pyramiding_the_second_signal_is_rejected(connection: Connection) -> None:
    world = build_world(connection)
    opened(world)
    second = world.signal(bar=1, price=104, atr=3)

    assert execute(world, 1, 104).rejected == (second,)


# Fills in parts


def test_entry_that_fills_in_parts_is_protected_at_every_part(thin: World) -> None:
    signal_id = thin.signal()
    execute(thin)
    [(asked,)] = thin.rows("select quantity from orders where leg = 'ENTRY'")
    seen = []
    for index in range(4):
        thin.bar(index, 100, 100.5, 99.5, 100, volume=170)
        sync(thin, index + 1)
        seen.append((held(thin).quantity_open, thin.statuses(signal_id)["E-0"], protected(thin)))

    assert [status for _, status, _ in seen] == ["PARTIALLY_FILLED", "PARTIALLY_FILLED", "FILLED", "FILLED"]
    assert [quantity for quantity, _, _ in seen] == [17, 34, asked, asked]
    assert all(covered for _, _, covered in seen)
    assert thin.rows("select count(*) from events where kind = 'unprotected_position'") == [(0,)]
    assert thin.rows("select count(distinct position_id) from positions") == [(1,)]


def test_stop_that_fills_in_parts_closes_the_position_over_several_bars(thin: World) -> None:
    signal_id = thin.signal()
    execute(thin)
    thin.bar(0, 100, 100.5, 99.5, 100)
    sync(thin)
    whole = held(thin).quantity_open
    thin.bar(1, 100, 100, 98, 98.5, volume=200)
    sync(thin, 2)
    part = (held(thin).quantity_open, thin.statuses(signal_id)["S-0"], protected(thin))
    thin.bar(2, 98.4, 99, 98, 98.5, volume=2000)
    sync(thin, 3)

    assert part == (whole - 20, "PARTIALLY_FILLED", True)
    assert thin.rows("select status, close_reason, quantity_open from positions") == [("CLOSED", "STOP", 0)]
    assert thin.signal_status(signal_id) == "HIT_SL"
    assert thin.rows("select sum(quantity) from fills where kind = 'STOP'") == [(whole,)]


def test_entry_whose_rest_is_cancelled_goes_on_with_what_it_has(thin: World) -> None:
    signal_id = thin.signal()
    execute(thin)
    thin.bar(0, 100, 100.5, 99.5, 100, volume=100)
    thin.exchange.cancel_order(f"{signal_id.hex[:24]}-E-0")

    sync(thin)

    assert held(thin).quantity_open == 10
    assert protected(thin)
    assert thin.statuses(signal_id)["E-0"] == "CANCELLED"
    assert thin.signal_status(signal_id) == "EXECUTED"


# By hand


def test_part_is_closed_once_however_often_it_is_asked_for(world: World) -> None:
    opened(world)
    before = held(world)

    sent = [
        close_position(
            world.connection,
            world.session,
            world.exchange,
            held(world),
            "MANUAL",
            T0 + BAR,
            quantity=Decimal(1),
            trade_id=INSTRUCTION,
        )
        for _ in range(2)
    ]
    world.bar(1, 104, 105, 103, 104)
    sync(world, 2)

    assert sent == [Sent.PLACED, Sent.NOT_SENT]
    assert held(world).quantity_open == before.quantity_open - 1
    assert protected(world)
    [(targets,)] = world.rows("select sum(quantity) from orders where leg like 'TP_' and status = 'ACCEPTED'")
    assert targets == held(world).quantity_open


def test_closing_all_while_a_part_is_leaving_closes_the_rest(world: World) -> None:
    opened(world)
    arguments = (world.connection, world.session, world.exchange)
    close_position(*arguments, held(world), "MANUAL", T0 + BAR, quantity=Decimal(1), trade_id=INSTRUCTION)

    sent = close_position(*arguments, held(world), "TEST", T0 + BAR)
    again = close_position(*arguments, held(world), "TEST", T0 + BAR)
    world.bar(1, 104, 105, 103, 104)
    sync(world, 2)

    assert (sent, again) == (Sent.PLACED, Sent.NOT_SENT)
    assert world.rows("select status, quantity_open from positions") == [("CLOSED", 0)]
    assert world.rows("select count(*) from orders where leg = 'EXIT' and status = 'FILLED'") == [(2,)]


def test_target_moved_by_hand_keeps_its_size_and_fills_at_its_new_price(world: World) -> None:
    signal_id = opened(world)
    [(size,)] = world.rows("select quantity from orders where leg = 'TP1'")

    sent = move_target(
        world.connection, world.session, world.exchange, held(world), Leg.TP1, Decimal("104.5"), T0 + BAR
    )
    shown = open_positions(world.connection, world.session.session_id).loc[0, "tp1_price"]
    world.bar(1, 104, 104.6, 103, 104)
    sync(world, 2)

    assert sent is Sent.PLACED
    assert shown == 104.5
    assert world.rows("select quantity, reference_price::float8 from fills where kind = 'TP1'") == [(size, 104.5)]
    assert world.statuses(signal_id)["T1-1"] == "FILLED"
    assert protected(world)


def test_target_on_the_wrong_side_is_refused_and_the_old_one_stays(world: World) -> None:
    opened(world)

    sent = move_target(world.connection, world.session, world.exchange, held(world), Leg.TP1, Decimal("0.001"), T0)

    assert sent is Sent.REFUSED
    assert world.rows("select reject_code from orders where status = 'REJECTED'") == [("bad_price_step",)]
    assert world.rows("select count(*) from paper_orders where leg = 'TP1' and status = 'OPEN'") == [(1,)]


# What must not be changed by hand, and what is measured


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("update positions set status = 'OPEN'", "CLOSED -> OPEN"),
        ("update positions set status = 'SHUT'", "position"),
        ("update positions set quantity_open = 1", "closed_means_nothing_open"),
        ("update sessions set status = 'STOPPED'; update sessions set status = 'RUNNING'", "STOPPED -> RUNNING"),
        ("update signals set status = 'EXECUTED'", "HIT_SL -> EXECUTED"),
        ("update orders set status = 'ACCEPTED' where status = 'FILLED'", "FILLED -> ACCEPTED"),
        ("update orders set filled_quantity = 0, quantity = 0 where leg = 'STOP'", "orders_quantity_check"),
    ],
)
def test_database_refuses_what_is_no_legal_change(world: World, statement: str, message: str) -> None:
    opened(world)
    world.bar(1, 100, 100, 96, 96)
    sync(world, 2)

    with pytest.raises(psycopg.errors.CheckViolation, match=message):
        world.connection.execute(statement.encode())


def test_protection_is_measured_at_every_look_and_a_gap_is_alerted_at_once(world: World) -> None:
    signal_id = opened(world)
    sync(world, 2)
    world.exchange.cancel_order(f"{signal_id.hex[:24]}-S-0")
    sync(world, 3)
    sync(world, 4)

    spans = world.rows(
        "select looks, quantity_protected = quantity_open from protection_checks order by since",
    )
    assert spans == [(2, True), (2, False), (1, True)]
    assert world.rows("select count(*) from events where kind = 'unprotected_position' and severity = 'critical'") == [
        (1,)
    ]
    [summary] = protection(world.connection, world.session.session_id, T0 + 5 * BAR).itertuples()
    assert (summary.positions, summary.covered) == (1, 1)
    assert summary.gaps_24h == 1


def test_history_of_orders_names_prices_slippage_commission_result_and_reason(world: World) -> None:
    opened(world)
    world.bar(1, 100, 100, 96, 96)
    sync(world, 2)
    world.rows("update paper_accounts set cash = 1 returning 1")
    refused = world.signal("ETHUSDT", bar=1, price=100)
    execute(world, 1)

    history = list_orders(world.connection, world.session.session_id).to_dict("records")
    filled = {row["leg"]: row for row in history if row["status"] == "FILLED"}
    assert (filled["ENTRY"]["requested_price"], filled["ENTRY"]["average_price"]) == (100.0, pytest.approx(100.05))
    assert filled["STOP"]["slippage_bps"] == pytest.approx(5.0)
    assert filled["STOP"]["slippage"] == pytest.approx(0.0005 * 97 * filled["STOP"]["quantity"], rel=1e-3)
    assert filled["STOP"]["fee"] == pytest.approx(
        0.00055 * filled["STOP"]["average_price"] * filled["STOP"]["quantity"]
    )
    assert filled["STOP"]["realised_pnl"] < 0
    reasons = {row["client_order_id"]: row["reject_code"] for row in history}
    assert reasons[f"{refused.hex[:24]}-E-0"] == "insufficient_margin"
