"""Sums of trades and the newest quote do not depend on how messages travel."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.adapters.streams import Intake
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.trades import FlowBook, MinuteFlow, Trade

START = datetime(2026, 5, 4, 3, 21, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def trade(number: int, at: datetime | None = None, price: float = 100.0) -> Trade:
    return Trade("BTCUSDT", str(number), at or START + number * SECOND, price, 2.0, number % 2 == 0)


@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 1000),
    doubles=st.lists(st.integers(0, 59), max_size=20),
)
def test_any_order_and_any_repetition_ends_in_the_same_sums(count: int, seed: int, doubles: list[int]) -> None:
    trades = [trade(number, price=100.0 + number) for number in range(count)]
    shaken = [*trades, *(trades[index % count] for index in doubles)]
    random.Random(seed).shuffle(shaken)
    intake = Intake(lambda: START + 2 * MINUTE)
    for one in shaken:
        intake.trade_message([one], numbered=True)
    (flow,) = intake.flow.take_changed().values()
    assert (flow.trades, flow.volume) == (count, 2.0 * count)
    assert flow.buy_volume == 2.0 * ((count + 1) // 2)
    assert (flow.last_price, flow.last_ts) == (trades[-1].price, trades[-1].ts)
    assert intake.counters.duplicates == len(doubles)


@given(missing=st.sets(st.integers(1, 38), max_size=20))
def test_trades_that_never_come_are_counted_by_their_numbers(missing: set[int]) -> None:
    intake = Intake(lambda: START + 2 * MINUTE)
    for number in range(40):
        if number not in missing:
            intake.trade_message([trade(number)], numbered=True)
    assert intake.counters.lost == len(missing)
    assert intake.counters.reordered == 0


def test_trade_that_comes_after_all_is_not_lost() -> None:
    intake = Intake(lambda: START + 2 * MINUTE)
    for number in (1, 3, 4, 2):
        intake.trade_message([trade(number)], numbered=True)
    assert (intake.counters.lost, intake.counters.reordered) == (0, 1)


@given(order=st.permutations(range(8)))
def test_newest_quote_wins_whatever_the_order(order: list[int]) -> None:
    intake = Intake(lambda: START + MINUTE)
    for second in order:
        if intake.admits_quote("BTCUSDT", START + second * SECOND):
            intake.quote(Ticker("BTCUSDT", START + second * SECOND, 100.0 + second))
    assert intake.take().quotes["BTCUSDT"][0].price == 107.0
    assert intake.counters.messages == 8
    assert intake.counters.quotes + intake.counters.reordered == 8


def test_quote_that_could_not_be_stored_does_not_replace_a_newer_one() -> None:
    intake = Intake(lambda: START + MINUTE)
    intake.quote(Ticker("BTCUSDT", START, 100.0))
    intake.quote(Ticker("SOLUSDT", START, 10.0))
    arrivals = intake.take()
    intake.quote(Ticker("BTCUSDT", START + SECOND, 101.0))
    intake.give_back(arrivals)
    again = intake.take().quotes
    assert {symbol: ticker.price for symbol, (ticker, _) in again.items()} == {"BTCUSDT": 101.0, "SOLUSDT": 10.0}


def test_delay_is_measured_by_the_clock_of_the_venue() -> None:
    intake = Intake(lambda: START - 30 * SECOND)
    intake.offset = 30 * SECOND + timedelta(milliseconds=40)
    assert intake.admits_quote("BTCUSDT", START)
    assert intake.delay().p99_ms == 40.0


def test_only_minutes_that_were_watched_throughout_are_whole() -> None:
    book = FlowBook()
    book.begin(START + 10 * SECOND)
    for minutes in range(5):
        book.add(trade(0, START + minutes * MINUTE + 20 * SECOND))
        if minutes == 2:
            book.interrupt()
            book.begin(START + 2 * MINUTE + 40 * SECOND)
    book.settle(START + 4 * MINUTE + 30 * SECOND)
    assert [flow.is_whole for _, flow in sorted(book.take_changed().items())] == [False, False, False, True, False]


def test_end_of_a_minute_has_been_watched_when_any_later_trade_has_come() -> None:
    book = FlowBook()
    book.begin(START)
    book.add(trade(0, START + SECOND))
    book.settle(START + 2 * MINUTE)
    assert [flow.is_whole for flow in book.take_changed().values()] == [False]
    book.add(replace(trade(1, START + MINUTE), symbol="SOLUSDT"))
    book.settle(START + 2 * MINUTE)
    book.interrupt()
    assert {symbol: flow.is_whole for (symbol, _), flow in book.take_changed().items()} == {
        "BTCUSDT": True,
        "SOLUSDT": False,
    }


def test_sums_go_on_from_what_is_stored() -> None:
    book = FlowBook()
    book.restore("BTCUSDT", MinuteFlow(START, 3, 6.0, 2.0, 600.0, 101.0, START + 30 * SECOND))
    book.add(trade(0, START + 20 * SECOND))
    book.add(trade(1, START + 40 * SECOND, 102.0))
    (flow,) = book.take_changed().values()
    assert (flow.trades, flow.volume, flow.last_price) == (5, 10.0, 102.0)


def test_minutes_that_are_stored_are_let_go_and_take_no_more_trades() -> None:
    book = FlowBook()
    book.add(trade(0, START))
    book.take_changed()
    book.settle(START + timedelta(minutes=10))
    book.add(trade(1, START))
    assert (book.take_changed(), book.late) == ({}, 1)


def test_minutes_wait_for_the_database_up_to_a_number() -> None:
    book = FlowBook(most=3)
    for minutes in range(5):
        book.add(trade(0, START + minutes * MINUTE))
    book.settle(START + timedelta(minutes=30))
    assert [flow.ts for flow in book.take_changed().values()] == [START + m * MINUTE for m in (2, 3, 4)]
    assert book.given_up == 2


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_price_that_cannot_be_is_left_out(price: float) -> None:
    intake = Intake(lambda: START + MINUTE)
    intake.quote(Ticker("BTCUSDT", START, price))
    intake.trade_message([trade(0, price=price)], numbered=False)
    assert (intake.take().quotes, intake.counters.unreadable) == ({}, 2)
