"""The paper exchange in its database: nothing is done twice, nothing is lost, restarts go on."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OrderRefused
from trading_pipelines.adapters.exchanges.paper import FundingEvent, MarketEvent, PaperExchange
from trading_pipelines.domain.execution.orders import (
    BracketRequest,
    Leg,
    OrderRequest,
    OrderSide,
    OrderStatus,
    OrderType,
    client_order_id,
)
from trading_pipelines.store.connection import Connection, connect


@pytest.fixture
def world(connection: Connection) -> World:
    return build_world(connection)


SIGNAL = UUID(int=5 << 64)


def order(world: World, leg: Leg, quantity: str, trigger: str | None = None) -> OrderRequest:
    entering = leg is Leg.ENTRY
    kind = OrderType.MARKET if trigger is None else OrderType.TAKE_PROFIT_MARKET
    return OrderRequest(
        client_order_id=client_order_id(SIGNAL, leg),
        instrument_id=world.ids["BTCUSDT"],
        leg=leg,
        side=OrderSide.BUY if entering else OrderSide.SELL,
        type=OrderType.STOP_MARKET if leg is Leg.STOP else kind,
        quantity=Decimal(quantity),
        reduce_only=not entering,
        requested_at=T0,
        trigger_price=None if trigger is None else Decimal(trigger),
        leverage=Decimal(5) if entering else None,
    )


def bracket(world: World) -> BracketRequest:
    return BracketRequest(
        entry=order(world, Leg.ENTRY, "10"),
        stop=order(world, Leg.STOP, "10", "98"),
        targets=(
            order(world, Leg.TP1, "3", "104"),
            order(world, Leg.TP2, "4", "107"),
            order(world, Leg.TP3, "3", "112"),
        ),
    )


def test_repeated_request_returns_the_order_that_is_there(world: World) -> None:
    first = world.exchange.create_bracket(bracket(world))

    assert world.exchange.create_bracket(bracket(world)) == first
    assert world.rows("select count(*) from paper_orders") == [(5,)]


def test_repeated_request_after_the_fill_reports_the_fill_and_opens_nothing(world: World) -> None:
    world.exchange.create_bracket(bracket(world))
    world.bar(0, 100, 113, 99, 112)

    reports = world.exchange.create_bracket(bracket(world))

    assert [r.status for r in reports] == [
        OrderStatus.FILLED,
        OrderStatus.CANCELLED,
        OrderStatus.FILLED,
        OrderStatus.FILLED,
        OrderStatus.FILLED,
    ]
    assert world.exchange.fetch_positions() == []


def test_same_request_from_many_connections_at_once_makes_one_order(world: World, database: str) -> None:
    together = threading.Barrier(6)

    def send() -> None:
        with connect(database) as connection:
            exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
            together.wait()
            exchange.create_bracket(bracket(world))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert world.rows("select count(*), count(distinct exchange_order_id) from paper_orders") == [(5, 5)]


def test_order_that_was_never_placed_is_not_found(world: World) -> None:
    assert world.exchange.fetch_order("nothing-E-0") is None
    with pytest.raises(OrderRefused, match="order_not_found"):
        world.exchange.cancel_order("nothing-E-0")


def test_unknown_symbol_is_refused(world: World) -> None:
    with pytest.raises(OrderRefused, match="unknown_symbol"):
        world.exchange.create_order(replace(order(world, Leg.ENTRY, "1"), instrument_id=10_000))


def test_halted_symbol_is_refused(world: World) -> None:
    world.rows("update instruments set status = 'halted' returning 1")

    with pytest.raises(OrderRefused, match="unknown_symbol"):
        world.exchange.create_order(order(world, Leg.ENTRY, "1"))


def test_market_without_a_price_is_unavailable_and_stores_nothing(world: World) -> None:
    world.rows("delete from paper_markets returning 1")

    with pytest.raises(ExchangeUnavailable, match="no price"):
        world.exchange.create_bracket(bracket(world))

    assert world.rows("select count(*) from paper_orders") == [(0,)]


def test_refused_bracket_leaves_nothing_behind(world: World) -> None:
    wrong = replace(bracket(world), stop=order(world, Leg.STOP, "10", "100.5"))

    with pytest.raises(OrderRefused, match="would_trigger_immediately"):
        world.exchange.create_bracket(wrong)

    assert world.rows("select count(*) from paper_orders") == [(0,)]
    assert world.rows("select sequence from paper_accounts") == [(0,)]


def test_exchange_goes_on_after_a_restart_with_bars_given_again_first(world: World, database: str) -> None:
    world.exchange.create_bracket(bracket(world))
    world.bar(0, 100, 101, 99, 100)
    with connect(database) as connection:
        restarted = PaperExchange(connection, world.session.session_id, world.session.execution)
        seen = restarted.advanced_to()[world.ids["BTCUSDT"]]
        bars = [(100, 101, 99, 100), (100, 105, 100, 104), (104, 104.5, 103, 104)]
        missed = [
            MarketEvent(world.ids["BTCUSDT"], T0 + i * BAR, T0 + (i + 1) * BAR, o, h, low, c)
            for i, (o, h, low, c) in enumerate(bars)
        ]
        filled = restarted.advance(missed)
        again = restarted.advance(missed)

    assert seen == T0 + BAR
    assert (filled, again) == (1, 0)
    assert world.rows("select array_agg(kind order by sequence) from paper_fills") == [(["ENTRY", "TP1"],)]


def test_each_market_moves_at_its_own_pace(world: World) -> None:
    world.exchange.create_bracket(bracket(world))

    world.bar(4, 90, 90, 90, 90, "ETHUSDT")
    world.bar(0, 100, 101, 99, 100, "BTCUSDT")

    assert world.rows("select count(*) from paper_fills") == [(1,)]
    assert world.exchange.advanced_to() == {world.ids["BTCUSDT"]: T0 + BAR, world.ids["ETHUSDT"]: T0 + 5 * BAR}


def test_tick_is_an_event_of_one_price(world: World) -> None:
    world.exchange.create_bracket(bracket(world))

    world.exchange.advance([MarketEvent.tick(world.ids["BTCUSDT"], T0 + timedelta(seconds=2), 100.3)])
    world.exchange.advance([MarketEvent.tick(world.ids["BTCUSDT"], T0 + timedelta(seconds=4), 97.9)])

    assert world.rows("select kind, reference_price::float8 from paper_fills order by sequence") == [
        ("ENTRY", 100.3),
        ("STOP", 97.9),
    ]


def test_cash_margin_and_unrealised_result_are_start_capital_plus_results_minus_costs(world: World) -> None:
    world.exchange.create_bracket(bracket(world))
    bars = [(100, 101, 99, 100.5), (100.5, 105, 100, 104), (104, 108, 103, 107), (107, 107, 99, 101)]
    for index, prices in enumerate(bars):
        start = T0 + index * BAR
        funding = (FundingEvent(start, 0.0001, 100.0),)
        event = MarketEvent(world.ids["BTCUSDT"], start, start + BAR, *prices)
        world.exchange.advance([replace(event, funding=funding)])
        balance = world.exchange.fetch_balance()
        [(booked,)] = world.rows(
            "select 10000 + (select sum(realised_pnl - fee) from paper_fills) "
            "- coalesce((select sum(amount) from paper_funding), 0)"
        )
        assert balance.equity == booked + balance.unrealised_pnl

    assert [f.ts for f in world.exchange.fetch_funding(0)] == [T0 + BAR, T0 + 2 * BAR, T0 + 3 * BAR]
    assert world.exchange.fetch_balance().margin > 0


def test_fills_are_read_on_from_a_sequence(world: World) -> None:
    world.exchange.create_bracket(bracket(world))
    world.bar(0, 100, 105, 99, 104)
    entry, target = world.exchange.fetch_fills(0)

    assert [f.fill_id for f in world.exchange.fetch_fills(entry.sequence)] == [target.fill_id]
    assert world.exchange.fetch_fills(target.sequence) == []


def test_account_of_one_session_knows_nothing_of_another(world: World, connection: Connection) -> None:
    other = build_world(connection)
    world.exchange.create_bracket(bracket(world))

    assert other.exchange.fetch_open_orders() == []
    assert other.exchange.create_bracket(bracket(other))[0].status is OrderStatus.ACCEPTED


def test_account_without_a_session_cannot_be_opened(connection: Connection) -> None:
    exchange = PaperExchange(connection, uuid4(), build_world(connection).session.execution)

    with pytest.raises(ExchangeUnavailable):
        exchange.fetch_balance()


def test_failure_in_the_middle_of_an_operation_undoes_all_of_it(world: World) -> None:
    world.exchange.create_bracket(bracket(world))
    world.connection.execute("alter table paper_fills add constraint broken check (kind <> 'TP1')")
    world.connection.commit()
    before = world.rows("select cash, sequence from paper_accounts")

    with pytest.raises(psycopg.errors.CheckViolation):
        world.bar(0, 100, 105, 99, 104)

    assert world.rows("select cash, sequence from paper_accounts") == before
    assert world.rows("select count(*) from paper_positions") == [(0,)]
    assert world.rows("select max(advanced_to) from paper_markets") == [(T0,)]
