"""The exchange is the truth: whatever happens there behind the platform's back, the books follow, once."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from lives import Crash, Fault, mortal_connection
from trading_world import BAR, T0, World, build_world

from trading_pipelines.adapters.exchanges.base import ExchangeUnavailable, OutcomeUnknown
from trading_pipelines.adapters.exchanges.paper import PaperExchange
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.reconciliation import ReconciliationReport, reconcile
from trading_pipelines.settings import TraderSettings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import positions, truth

RULES = TraderSettings()
STEP = timedelta(seconds=10)


def at(number: int) -> datetime:
    """The time of the n-th comparison."""
    return T0 + BAR + number * STEP


def compare(world: World, number: int, exchange: Any = None, *, thorough: bool = False) -> ReconciliationReport:
    port = world.exchange if exchange is None else exchange
    return reconcile(world.connection, world.session, port, at(number), RULES, thorough=thorough)


@pytest.fixture
def world(connection: Connection) -> World:
    """A long BTC position of which nothing is known to be wrong."""
    world = build_world(connection)
    world.signal()
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    world.bar(0, 100, 100.5, 99.5, 100)
    synchronise(world.connection, world.session, world.exchange, T0 + BAR)
    assert compare(world, 0).known
    return world


def books(world: World) -> list[tuple[Any, ...]]:
    return world.rows("select status, close_reason, quantity_open from positions order by opened_at, position_id")


def kinds(world: World) -> list[tuple[str, bool]]:
    return world.rows("select kind, mended_at is not null from discrepancies order by first_seen_at, kind")  # type: ignore[return-value]


def vanish(world: World, *, paid: Decimal = Decimal(0)) -> None:
    """The position disappears on the exchange with its exits, without a fill; margin and `paid` go to cash."""
    world.rows(
        "update paper_accounts a set cash = cash + p.entry_margin * p.quantity / p.quantity_initial + %s "
        "from paper_positions p where p.session_id = a.session_id returning 1",
        paid,
    )
    world.rows("delete from paper_positions returning 1")
    world.rows("update paper_orders set status = 'CANCELLED' where status in ('HELD', 'OPEN') returning 1")


def history(world: World) -> list[list[tuple[Any, ...]]]:
    tables = ("fills", "orders", "positions", "discrepancies", "events")
    return [
        world.rows(f"select to_jsonb(t) - 'last_seen_at' - 'times_seen' from {t} t order by 1::text") for t in tables
    ]  # type: ignore[arg-type]


# Nothing is wrong


def test_agreement_makes_the_account_known_and_records_nothing(world: World) -> None:
    assert kinds(world) == []
    found = truth.read(world.connection, world.session.session_id)
    assert found is not None
    assert (found.known, found.valid_until) == (True, at(0) + timedelta(seconds=RULES.truth_seconds))


def test_account_that_was_never_compared_is_not_known(connection: Connection) -> None:
    world = build_world(connection)

    assert truth.read(connection, world.session.session_id) is None


def test_entry_that_waits_for_its_fill_is_no_difference(world: World) -> None:
    world.signal("ETHUSDT")
    execute_signals(world.connection, world.session, world.exchange, at(0), quotes=world.quotes(), kill=None)

    assert compare(world, 1).known
    assert kinds(world) == []


# Positions


def test_position_closed_outside_is_refused_first_then_closed_in_the_books(world: World) -> None:
    vanish(world, paid=Decimal(3))

    first, second, third = (compare(world, number) for number in (1, 2, 3))

    assert (first.known, second.known, third.known) == (False, True, True)
    assert "no longer on the exchange" in first.reason
    assert books(world) == [("CLOSED", "OUTSIDE", Decimal(0))]
    assert kinds(world) == [("POSITION_CLOSED_OUTSIDE", True)]
    assert world.rows("select status from signals") == [("CLOSED",)]
    assert world.rows("select realised_pnl from positions") == [(Decimal("3.000000000000"),)]


def test_same_difference_met_again_is_mended_once(world: World) -> None:
    vanish(world)
    compare(world, 1)
    compare(world, 2)
    before = history(world)

    for number in (3, 4, 5):
        assert compare(world, number).known

    assert history(world) == before


def test_position_that_lost_its_margin_was_liquidated(world: World) -> None:
    [(margin,)] = world.rows("select entry_margin from positions")
    vanish(world, paid=-margin)

    compare(world, 1)
    compare(world, 2)

    assert books(world) == [("CLOSED", "LIQUIDATION", Decimal(0))]
    assert kinds(world) == [("LIQUIDATED", True)]
    assert world.rows("select realised_pnl from positions") == [(-margin,)]


def test_position_opened_outside_is_taken_into_the_books_and_not_left_without_a_stop(world: World) -> None:
    open_outside(world)

    first, second = compare(world, 1), compare(world, 2)
    world.bar(1, 100, 100, 100, 100, "ETHUSDT")
    synchronise(world.connection, world.session, world.exchange, at(3))

    assert (first.known, second.known) == (False, True)
    assert kinds(world) == [("POSITION_OPENED_OUTSIDE", True)]
    rows = world.rows(
        "select side, quantity_initial, entry_margin, leverage, liquidation_price, p.status from positions p "
        "join instruments using (instrument_id) where symbol = 'ETHUSDT'"
    )
    assert rows == [("SHORT", Decimal(2), Decimal(40), Decimal(5), Decimal(119), "CLOSED")]
    assert compare(world, 4).known


def open_outside(world: World) -> None:
    world.rows(
        "insert into paper_positions (session_id, instrument_id, bracket_id, side, quantity_initial, quantity, "
        "entry_price, entry_margin, leverage, liquidation_price, tp1_filled, opened_at, funded_to) "
        "values (%s, %s, 'outside', 'SHORT', 2, 2, 100, 40, 5, 119, false, %s, %s) returning 1",
        world.session.session_id,
        world.ids["ETHUSDT"],
        T0 + BAR,
        T0 + BAR,
    )
    world.rows("update paper_accounts set cash = cash - 40 returning 1")


def test_smaller_quantity_on_the_exchange_shrinks_the_books(world: World) -> None:
    [(quantity,)] = world.rows("select quantity_open from positions")
    world.rows("update paper_positions set quantity = quantity - 1 returning 1")
    world.rows(
        "update paper_accounts set cash = cash + (select entry_margin / quantity_initial from paper_positions) "
        "returning 1"
    )
    world.rows("update paper_orders set quantity = least(quantity, %s) where leg = 'STOP' returning 1", quantity - 1)

    compare(world, 1)
    compare(world, 2)

    assert books(world) == [("OPEN", None, quantity - 1)]
    assert kinds(world)[0] == ("QUANTITY", True)


def test_larger_quantity_on_the_exchange_grows_the_books_at_its_average_price(world: World) -> None:
    [(quantity, entry)] = world.rows("select quantity_open, entry_price from positions")
    average = (quantity * entry + Decimal(102)) / (quantity + 1)
    world.rows(
        "update paper_positions set quantity = quantity + 1, quantity_initial = quantity_initial + 1, "
        "entry_price = %s, entry_margin = entry_margin + 20 returning 1",
        average,
    )
    world.rows("update paper_accounts set cash = cash - 20 returning 1")

    compare(world, 1)
    compare(world, 2)

    [(open_, paid, protected)] = world.rows("select quantity_open, entry_price, quantity_protected from positions")
    assert (open_, protected) == (quantity + 1, quantity + 1)
    assert float(paid) == pytest.approx(float(average), abs=1e-9)
    assert compare(world, 3).known


# Orders


def test_order_cancelled_outside_is_cancelled_here_and_the_stop_is_put_back(world: World) -> None:
    world.rows("update paper_orders set status = 'CANCELLED', reason = 'by hand' where leg = 'STOP' returning 1")

    report = compare(world, 1)

    assert report.known
    assert world.rows("select status, count(*) from orders where leg = 'STOP' group by 1 order by 1") == [
        ("ACCEPTED", 1),
        ("CANCELLED", 1),
    ]
    assert world.rows("select quantity_protected = quantity_open from positions") == [(True,)]


def test_orders_that_the_exchange_forgot_are_given_up_and_the_position_is_not_left_bare(world: World) -> None:
    world.rows("delete from paper_orders returning 1")

    compare(world, 1)
    compare(world, 2)

    assert compare(world, 3).known
    assert {order.leg.value for order in world.exchange.fetch_open_orders()} & {"STOP", "EXIT"}
    assert set(kinds(world)) == {("ORDER_MISSING", True)}


def test_entry_that_nobody_sent_is_cancelled_on_the_exchange_at_once(world: World) -> None:
    world.rows(
        "insert into paper_orders (session_id, client_order_id, exchange_order_id, instrument_id, bracket_id, leg, "
        "side, type, reduce_only, quantity, leverage, status, created_at, updated_at) "
        "values (%s, 'from-an-app', 900, %s, 'from-an-app', 'ENTRY', 'BUY', 'MARKET', false, 1, 5, 'OPEN', %s, %s) "
        "returning 1",
        world.session.session_id,
        world.ids["ETHUSDT"],
        T0,
        T0,
    )

    assert compare(world, 1).known

    assert kinds(world) == [("ORPHAN_ORDER", True)]
    assert world.rows("select status from paper_orders where client_order_id = 'from-an-app'") == [("CANCELLED",)]


def test_exit_left_behind_by_a_vanished_position_is_cancelled(world: World) -> None:
    world.rows("delete from paper_positions returning 1")

    for number in range(1, 5):
        compare(world, number)

    assert world.exchange.fetch_open_orders() == []
    assert compare(world, 5).known


# Fills and money


def test_fill_that_the_books_lost_is_taken_from_the_exchange_s_history(world: World) -> None:
    world.bar(1, 100, 102.5, 99.5, 102)
    synchronise(world.connection, world.session, world.exchange, at(0))
    expected = books(world)
    world.rows("delete from fills where kind = 'TP1' returning 1")
    [(position_id,)] = world.rows("select position_id from positions")
    positions.refresh(world.connection, position_id, at(0))
    world.connection.commit()
    assert books(world) != expected

    report = compare(world, 1)

    assert report.known
    assert books(world) == expected
    assert ("FILL_MISSING", True) in kinds(world)
    assert all(mended for _, mended in kinds(world))


def test_fill_that_arrives_after_its_stand_in_takes_its_place(world: World) -> None:
    world.bar(1, 100, 100, 98, 98.5)  # stopped out

    class Late:
        """Knows that the position is gone, and lists the fill later."""

        def __getattr__(self, name: str) -> Any:
            return getattr(world.exchange, name)

        def fetch_fills(self, since_sequence: int) -> list[Any]:
            return [f for f in world.exchange.fetch_fills(since_sequence) if f.kind.value != "STOP"]

    compare(world, 1, Late())
    compare(world, 2, Late())
    assert [row[0] for row in books(world)] == ["CLOSED"]
    assert world.rows("select kind from fills order by ts, sequence")[-1] == ("EXIT",)

    assert compare(world, 3).known

    assert books(world) == [("CLOSED", "STOP", Decimal(0))]
    assert world.rows("select kind, count(*) from fills group by 1 order by 1") == [("ENTRY", 1), ("STOP", 1)]
    assert world.rows("select count(*) from orders where leg = 'EXIT'") == [(0,)]


def test_money_that_no_history_explains_is_recorded_and_taken_over_once(world: World) -> None:
    world.rows("update paper_accounts set cash = cash - 25 returning 1")

    first, second, third = (compare(world, number) for number in (1, 2, 3))

    assert [report.known for report in (first, second, third)] == [False, True, True]
    assert world.rows("select kind, amount, times_seen from discrepancies") == [
        ("BALANCE", Decimal("-25.000000000000"), 2)
    ]

    world.rows("update paper_accounts set cash = cash - 25 returning 1")
    assert not compare(world, 4).known
    assert compare(world, 5).known
    assert world.rows("select sum(amount), count(*) from discrepancies") == [(Decimal("-50.000000000000"), 2)]


# The exchange does not answer


class Broken:
    """An exchange of which one question fails."""

    def __init__(self, exchange: PaperExchange, method: str, error: type[Exception]) -> None:
        self._exchange, self._method, self._error = exchange, method, error

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            return self._fail
        return getattr(self._exchange, name)

    def _fail(self, *_: Any) -> Any:
        raise self._error("timed out")


@pytest.mark.parametrize("error", [ExchangeUnavailable, OutcomeUnknown, RuntimeError])
@pytest.mark.parametrize("method", ["fetch_positions", "fetch_open_orders", "fetch_balance", "fetch_fills"])
def test_question_without_an_answer_makes_the_account_unknown_and_changes_nothing(
    world: World, method: str, error: type[Exception]
) -> None:
    before = books(world)
    broken = Broken(world.exchange, method, error)

    reports = [compare(world, number, broken) for number in range(1, 20)]

    assert not any(report.known for report in reports)
    assert books(world) == before
    assert kinds(world) == []
    assert world.rows("select count(*) from events where kind = 'trading_refused'") == [(1,)]
    assert compare(world, 20).known
    assert world.rows("select kind from events order by event_id desc limit 1") == [("trading_allowed",)]


def test_order_without_an_answer_makes_the_account_unknown_once_it_is_old(world: World) -> None:
    world.signal("ETHUSDT")

    class Silent(Broken):
        def fetch_order(self, _: str) -> Any:
            raise OutcomeUnknown("timed out")

    silent = Silent(world.exchange, "create_bracket", OutcomeUnknown)
    as_of = at(0)
    execute_signals(world.connection, world.session, silent, as_of, quotes=world.quotes(), kill=None)  # type: ignore[arg-type]

    young = reconcile(world.connection, world.session, silent, as_of + timedelta(seconds=5), RULES)  # type: ignore[arg-type]
    old = reconcile(world.connection, world.session, silent, as_of + timedelta(seconds=40), RULES)  # type: ignore[arg-type]

    assert young.known
    assert (old.known, old.reason) == (False, "5 orders are without an answer from the exchange")
    assert compare(world, 8).known


# Interrupted at every statement


@pytest.mark.parametrize("harm", [vanish, open_outside], ids=["closed", "opened"])
def test_death_at_any_statement_ends_in_the_same_books(
    world: World, database: str, harm: Callable[[World], None]
) -> None:
    harm(world)
    compare(world, 1)
    statement = 0
    while True:
        statement += 1
        fault = Fault(statement)
        connection = mortal_connection(database, fault)
        exchange = PaperExchange(connection, world.session.session_id, world.session.execution)
        try:
            reconcile(connection, world.session, exchange, at(1 + statement), RULES)
        except Crash:
            continue
        finally:
            connection.close()
        break

    assert statement > 20
    assert compare(world, 400).known
    assert world.rows("select count(*) from fills where source = 'RECONCILED'") == [(1,)]
    assert world.rows("select kind, mended_at is not null, count(*) from discrepancies group by 1, 2") == [
        ("POSITION_CLOSED_OUTSIDE" if harm is vanish else "POSITION_OPENED_OUTSIDE", True, 1)
    ]
