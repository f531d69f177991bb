"""At a close: stops trail, the account is marked, exits are sent, and a repeated call changes nothing."""

from decimal import Decimal

import pytest
from trading_world import BAR, T0, World, build_world

from trading_pipelines.application.risk.portfolio import portfolio_view
from trading_pipelines.application.trading.execution import execute_signals, synchronise
from trading_pipelines.application.trading.monitor import (
    BarClose,
    ExitDecision,
    ManagementReport,
    manage_at_close,
    mark_positions,
)
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.execution.orders import PositionSide
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.store.connection import Connection


def opened(world: World, side: str = "LONG") -> World:
    world.signal(side=side)
    execute_signals(world.connection, world.session, world.exchange, T0, quotes=world.quotes(), kill=None)
    return world


def close(
    world: World, index: int, price: float, *exits: ExitDecision, atr: float = 1.0, symbol: str = "BTCUSDT"
) -> ManagementReport:
    at = T0 + (index + 1) * BAR
    synchronise(world.connection, world.session, world.exchange, at)
    bars = {world.ids[symbol]: BarClose(at - BAR, at, price, atr)}
    return manage_at_close(world.connection, world.session, world.exchange, bars, at, exits=exits)


@pytest.fixture
def world(connection: Connection) -> World:
    return opened(build_world(connection))


def test_stop_stays_before_the_first_target(world: World) -> None:
    world.bar(0, 100, 101.9, 99.5, 101.9)

    assert close(world, 0, 101.9).stops_moved == 0
    assert world.rows("select stop_price from positions") == [(Decimal("99.00"),)]


@pytest.mark.parametrize(
    ("price", "stop"),
    [
        (100.5, Decimal("100.26")),  # break-even: 100.05 * (1 + 2 * 0.00055 + 2 * 0.0005)
        (102.4, Decimal("100.90")),  # trail: 102.4 - 1.5 ATR
    ],
)
def test_stop_moves_to_the_better_of_break_even_and_trail(world: World, price: float, stop: Decimal) -> None:
    world.bar(0, 100, 102.5, 99.5, price)

    assert close(world, 0, price).stops_moved == 1

    assert world.rows("select stop_price, initial_stop_price, quantity_open = quantity_protected from positions") == [
        (stop, Decimal("99.00"), True)
    ]
    assert world.rows("select trigger_price from paper_orders where leg = 'STOP' and status = 'OPEN'") == [(stop,)]


def test_short_trails_in_the_mirror(connection: Connection) -> None:
    world = opened(build_world(connection), "SHORT")
    world.bar(0, 100, 100.5, 97.5, 97.6)

    close(world, 0, 97.6)

    assert world.rows("select stop_price from positions") == [(Decimal("99.10"),)]


def test_stop_never_moves_back(world: World) -> None:
    world.bar(0, 100, 103, 99.5, 103)
    close(world, 0, 103)
    world.bar(1, 103, 103, 102, 102.2)

    assert close(world, 1, 102.2).stops_moved == 0
    assert world.rows("select stop_price from positions") == [(Decimal("101.50"),)]


def test_repeated_close_changes_nothing(world: World) -> None:
    world.bar(0, 100, 102.5, 99.5, 102.4)
    first = close(world, 0, 102.4)
    tables = "select (select jsonb_agg(o) from orders o), (select jsonb_agg(e) from equity e)"
    before = world.rows(tables)

    second = close(world, 0, 102.4)

    assert (first.stops_moved, second.stops_moved, second.equity) == (1, 0, first.equity)
    assert world.rows(tables) == before


def test_equity_is_cash_margin_and_unrealised_result_at_the_close(world: World) -> None:
    world.bar(0, 100, 101, 99.5, 101)

    report = close(world, 0, 101)

    [(quantity, entry, fees)] = world.rows("select quantity_open, entry_price, fees from positions")
    expected = 10_000 + float(quantity) * (101 - float(entry)) - float(fees)
    [(ts, equity, parts, peak)] = world.rows("select ts, equity, cash + margin + unrealised, peak from equity")
    assert ts == T0 + BAR
    assert equity == parts == report.equity == peak == pytest.approx(expected, abs=1e-9)


def test_peak_is_the_running_maximum(world: World) -> None:
    for index, price in enumerate([101, 100.2, 101.5, 99.8]):
        world.bar(index, price, max(price, 100), min(price, 100), price)
        close(world, index, price)

    equity = [row[0] for row in world.rows("select equity from equity order by ts")]
    peaks = [row[0] for row in world.rows("select peak from equity order by ts")]
    assert peaks == [max([10_000.0, *equity[: n + 1]]) for n in range(4)]


def test_decided_exit_closes_at_the_next_open_with_its_reason(world: World) -> None:
    world.bar(0, 100, 101, 99.5, 100.5)
    decision = ExitDecision(world.ids["BTCUSDT"], "MODEL_REVERSAL")

    assert len(close(world, 0, 100.5, decision).exits) == 1
    assert close(world, 0, 100.5, decision).exits == ()
    world.bar(1, 100.6, 101, 100, 101)
    close(world, 1, 101)

    assert world.rows("select status, close_reason from positions") == [("CLOSED", "MODEL_REVERSAL")]
    assert world.rows("select kind, reference_price::float8 from fills order by sequence") == [
        ("ENTRY", 100.0),
        ("EXIT", 100.6),
    ]
    assert world.rows("select status from signals") == [("CLOSED",)]


def test_drawdown_closes_everything(connection: Connection) -> None:
    world = opened(
        build_world(connection, limits=RiskLimits(max_drawdown_new_trades=0.001, max_drawdown_close_all=0.002))
    )
    world.bar(0, 100, 100.5, 99.2, 99.3)

    assert len(close(world, 0, 99.3).exits) == 1
    assert world.rows("select status_reason from orders where leg = 'EXIT'") == [("DRAWDOWN",)]


def test_time_limit_closes_a_position_that_was_open_for_as_long(connection: Connection) -> None:
    world = opened(build_world(connection, execution=ExecutionParams(max_holding_hours=0.5)))
    world.bar(0, 100, 100.5, 99.5, 100)
    early = close(world, 0, 100)
    world.bar(1, 100, 100.5, 99.5, 100)

    late = close(world, 1, 100)

    assert (len(early.exits), len(late.exits)) == (0, 1)
    assert world.rows("select status_reason from orders where leg = 'EXIT'") == [("TIME_LIMIT",)]


def test_position_whose_symbol_has_no_bar_keeps_stop_and_mark(world: World) -> None:
    world.bar(0, 100, 102.5, 99.5, 102)
    close(world, 0, 102)
    before = world.rows("select stop_price, mark_price from positions")

    close(world, 1, 50, symbol="ETHUSDT")

    assert world.rows("select stop_price, mark_price from positions") == before


def test_marking_values_open_positions_at_current_prices(world: World) -> None:
    world.bar(0, 100, 101, 99.5, 100)
    close(world, 0, 100)

    mark_positions(world.connection, world.session, {world.ids["BTCUSDT"]: 101.25}, T0 + BAR)

    [(mark, unrealised, quantity, entry)] = world.rows(
        "select mark_price, unrealised_pnl, quantity_open, entry_price from positions"
    )
    assert mark == Decimal("101.25")
    assert unrealised == quantity * (mark - entry)


# The view that the risk rules judge


def test_view_counts_an_accepted_entry_before_it_fills(world: World) -> None:
    view = portfolio_view(world.connection, world.session, T0)

    [(quantity,)] = world.rows("select quantity from orders where leg = 'ENTRY'")
    assert view.equity == view.peak_equity == view.day_open_equity == 10_000
    [exposure] = view.exposures
    assert (exposure.side, exposure.margin) == (PositionSide.LONG, pytest.approx(float(quantity) * 100 / 5))


def test_view_counts_the_margin_of_what_is_still_open(world: World) -> None:
    world.bar(0, 100, 102.5, 99.5, 102)
    close(world, 0, 102)

    [exposure] = portfolio_view(world.connection, world.session, T0 + BAR).exposures

    [(margin,)] = world.rows("select entry_margin * quantity_open / quantity_initial from positions")
    assert exposure.margin == pytest.approx(float(margin))


def test_view_leaves_out_a_position_with_a_decided_exit(world: World) -> None:
    world.bar(0, 100, 101, 99.5, 100)
    close(world, 0, 100, ExitDecision(world.ids["BTCUSDT"], "TEST"))

    assert portfolio_view(world.connection, world.session, T0 + BAR).exposures == ()


def test_view_takes_the_mark_of_midnight_as_the_day_s_opening(world: World) -> None:
    world.rows(
        "insert into equity (session_id, ts, equity, cash, margin, unrealised, peak) "
        "select session_id, t.ts, t.equity, 0, 0, 0, t.peak from sessions, (values "
        "('2024-03-03 23:45+00'::timestamptz, 9000, 10000), ('2024-03-04 00:00+00', 9500, 10000), "
        "('2024-03-04 11:00+00', 9300, 10000)) as t (ts, equity, peak) returning 1"
    )

    view = portfolio_view(world.connection, world.session, T0)

    assert (view.equity, view.day_open_equity, view.peak_equity) == (9300, 9500, 10_000)
