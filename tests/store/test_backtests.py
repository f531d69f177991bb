"""Backtests of stored candles: the result is that of the engine, and the stored rows are the result."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.application.market_data.market_events import market_events
from trading_pipelines.application.research import backtest as backtests
from trading_pipelines.application.research import search as searches
from trading_pipelines.application.research.backtest import BacktestRequest
from trading_pipelines.application.research.search import SearchRequest
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.signals.policy import Direction
from trading_pipelines.domain.simulation.backtest import BacktestInput, run_backtest
from trading_pipelines.domain.strategies.base import StrategyInput
from trading_pipelines.domain.strategies.ema_cross import EmaCross
from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models import backtests as stored_backtests
from trading_pipelines.store.repositories import candles, derivatives, funding, instruments

START = datetime(2025, 3, 1, tzinfo=UTC)
QUARTER = Timeframe.M15


def walk(bars: int, seed: int, start: datetime = START, timeframe: Timeframe = QUARTER) -> pd.DataFrame:
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.004 * dice.standard_normal(bars)))
    opened = np.concatenate(([100.0], close[:-1]))
    wicks = 0.002 * np.abs(dice.standard_normal((2, bars)))
    return pd.DataFrame(
        {
            "ts": pd.date_range(start, periods=bars, freq=timeframe.delta, unit="us"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wicks[0]),
            "low": np.minimum(opened, close) * (1 - wicks[1]),
            "close": close,
            "volume": 1.0,
        }
    )


def store(
    connection: Connection, exchange: str, frames: Mapping[str, pd.DataFrame], timeframe: Timeframe = QUARTER
) -> dict[str, Instrument]:
    """Store candles of perpetuals with small steps, under their base's name."""
    steps: dict[str, Any] = {
        "price_step": Decimal("0.0001"),
        "quantity_step": Decimal("0.001"),
        "min_notional": Decimal(5),
    }
    made = {
        symbol: Instrument(exchange, symbol, symbol.removesuffix("USDT"), "USDT", MarketKind.PERPETUAL, **steps)
        for symbol in frames
    }
    instruments.save(connection, made.values())
    ids = instruments.by_symbol(connection, exchange)
    with connection.cursor() as cursor:
        for symbol, frame in frames.items():
            candles.upsert_candles(cursor, ids[symbol].instrument_id, timeframe, frame)
    return made


def request(symbols: Sequence[str], **changes: Any) -> BacktestRequest:
    given = {
        "strategy": "ema_cross",
        "exchange": "bybit",
        "symbols": tuple(symbols),
        "timeframe": QUARTER,
        "start": START + timedelta(days=20),
        "end": START + timedelta(days=50),
    }
    return BacktestRequest(**{**given, **changes})


@pytest.fixture
def market(scratch: Connection) -> Connection:
    store(scratch, "bybit", {"BTCUSDT": walk(5_000, 1), "ETHUSDT": walk(5_000, 2)})
    return scratch


def run(connection: Connection, asked: BacktestRequest, **options: Any) -> backtests.Backtest:
    return backtests.backtest(connection, load_settings(), asked, **options)


def test_stored_rows_are_the_result(market: Connection) -> None:
    finished = run(market, request(["BTCUSDT", "ETHUSDT"]))
    found = stored_backtests.backtest(market, finished.backtest_id)
    assert found is not None
    assert found.performance == finished.result.performance
    assert found.performance.trades > 20
    assert found.strategy == "ema_cross"
    assert found.params == {"fast": 20, "slow": 80, "atr_period": 14, "confidence": 0.65}
    assert found.bars == 2 * 30 * 96
    trades = stored_backtests.trades(market, finished.backtest_id)
    for name in ("quantity", "entry_price", "net", "r", "initial_risk"):
        np.testing.assert_array_equal(trades[name], finished.result.trades[name])
    assert (trades["symbol"] == finished.result.trades["symbol"].astype(str)).all()
    assert trades["opened_at"].equals(finished.result.trades["opened_at"])
    fills = stored_backtests.fills(market, finished.backtest_id)
    np.testing.assert_array_equal(fills["price"], finished.result.fills["price"])
    marks = stored_backtests.equity(market, finished.backtest_id)
    np.testing.assert_array_equal(marks["equity"], finished.result.equity)


def test_same_backtest_again_replaces_its_rows(market: Connection) -> None:
    first, second = run(market, request(["BTCUSDT"])), run(market, request(["BTCUSDT"]))
    assert first.backtest_id == second.backtest_id
    assert len(stored_backtests.list_backtests(market)) == 1


@pytest.mark.parametrize("change", [{"capital": 5_000.0}, {"params": {"fast": 10}}, {"direction": Direction.LONG}])
def test_another_question_is_another_backtest(market: Connection, change: dict[str, Any]) -> None:
    assert run(market, request(["BTCUSDT"])).backtest_id != run(market, request(["BTCUSDT"], **change)).backtest_id


def test_corrected_candle_makes_another_backtest(market: Connection) -> None:
    before = run(market, request(["BTCUSDT"]))
    market.execute(
        "update ohlcv_15m set volume = volume + 1 where instrument_id ="
        " (select instrument_id from instruments where symbol = 'BTCUSDT') and ts = %s",
        (START + timedelta(days=30),),
    )
    after = run(market, request(["BTCUSDT"]))
    assert before.input_hash != after.input_hash
    assert before.backtest_id != after.backtest_id


def test_history_before_the_range_warms_the_strategy_up(market: Connection) -> None:
    """The first days trade as they do in a backtest that began long before."""
    late = run(market, request(["BTCUSDT"])).result.candidates
    early = run(market, request(["BTCUSDT"], start=START)).result.candidates
    shared = early[early["decided_at"] > pd.Timestamp(START + timedelta(days=20))]
    assert late["decided_at"].tolist() == shared["decided_at"].tolist()


def test_strategy_check_is_stored_and_can_be_left_out(market: Connection) -> None:
    checked = stored_backtests.backtest(market, run(market, request(["BTCUSDT"])).backtest_id)
    assert checked is not None
    assert checked.strategy_check is not None
    assert checked.strategy_check["passed"] is True
    assert checked.strategy_check["lookahead_samples"] == 24
    skipped = stored_backtests.backtest(market, run(market, request(["ETHUSDT"]), check=False).backtest_id)
    assert skipped is not None
    assert skipped.strategy_check is None


def test_bitcoin_is_held_over_the_same_time_with_the_same_capital(market: Connection) -> None:
    finished = run(market, request(["ETHUSDT"]))
    assert finished.benchmark is not None
    frame = walk(5_000, 1)
    inside = frame[(frame["ts"] >= finished.request.start) & (frame["ts"] < finished.request.end)]
    paid = inside["open"].iloc[0] * 1.0005 * 1.00055
    assert finished.benchmark.symbol == "BTCUSDT"
    assert finished.benchmark.equity[-1] == pytest.approx(10_000 * inside["close"].iloc[-1] / paid, rel=1e-12)
    assert finished.benchmark.performance.end_equity == finished.benchmark.equity[-1]


def test_exchange_without_bitcoin_has_nothing_to_hold(scratch: Connection) -> None:
    store(scratch, "mexc", {"ETHUSDT": walk(5_000, 2)})
    finished = run(scratch, request(["ETHUSDT"], exchange="mexc"))
    assert finished.benchmark is None
    marks = stored_backtests.equity(scratch, finished.backtest_id)
    assert marks["benchmark"].isna().all()


def test_finer_candles_decide_the_order_within_a_bar(market: Connection) -> None:
    minutes = walk(15_000, 7, timeframe=Timeframe.M5)
    by_quarter = minutes.set_index("ts").resample("15min")
    coarse = pd.DataFrame(
        {
            "open": by_quarter["open"].first(),
            "high": by_quarter["high"].max(),
            "low": by_quarter["low"].min(),
            "close": by_quarter["close"].last(),
            "volume": by_quarter["volume"].sum(),
        }
    ).reset_index()
    store(market, "bybit", {"SOLUSDT": coarse})
    store(market, "bybit", {"SOLUSDT": minutes}, Timeframe.M5)
    rough = run(market, request(["SOLUSDT"]))
    fine = run(market, request(["SOLUSDT"], finer=Timeframe.M5))
    assert fine.result.candidates["decided_at"].tolist() == rough.result.candidates["decided_at"].tolist()
    assert len(fine.data.market.open_time) == 3 * len(rough.data.market.open_time)
    assert fine.backtest_id != rough.backtest_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"symbols": ("DOGEUSDT",)}, "DOGEUSDT is not stored for bybit"),
        ({"start": datetime(2024, 1, 1, tzinfo=UTC), "end": datetime(2024, 2, 1, tzinfo=UTC)}, "no 15m candles"),
        ({"finer": Timeframe.H1}, "is not finer"),
        ({"finer": Timeframe.M5}, "no 5m candles"),
        ({"strategy": "ema_crosss"}, "did you mean ema_cross"),
        ({"params": {"quick": 3}}, "no parameter 'quick'"),
    ],
)
def test_question_that_cannot_be_answered_is_one_clear_line(
    market: Connection, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        run(market, replace(request(["BTCUSDT"]), **changes))
    assert "\n" not in str(raised.value)


@pytest.mark.real_data
def test_real_candles_with_funding_give_what_the_engine_gives(scratch: Connection, real_data_dir: Path) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    start, end = datetime(2024, 9, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    frames = {s: pd.read_parquet(real_data_dir / "ohlcv" / "bybit" / s / "15m.parquet") for s in symbols}
    for frame in frames.values():
        frame["ts"] = pd.DatetimeIndex(frame["ts"]).as_unit("us")
    made = store(scratch, "bybit", frames)
    ids = instruments.by_symbol(scratch, "bybit")
    rates = pd.DataFrame({"ts": pd.date_range(start, end, freq="8h", unit="us", inclusive="left"), "rate": 1e-4})
    with scratch.cursor() as cursor:
        for symbol in symbols:
            funding.upsert_rates(cursor, ids[symbol].instrument_id, rates)
    asked = request(symbols, start=start, end=end)
    finished = run(scratch, asked)

    warm_up = EmaCross().needs.warm_up
    inputs, traded = {}, {}
    for symbol, frame in frames.items():
        first, last = (int(n) for n in frame["ts"].searchsorted([start, end]))
        bars = BacktestInput.from_frames({symbol: frame[first - warm_up : last]}, QUARTER).inputs[0].bars
        inputs[symbol], traded[symbol] = StrategyInput(bars, QUARTER, warm_up), frame[first:last]
    data = BacktestInput.from_frames(
        traded, QUARTER, funding=dict.fromkeys(symbols, rates), instruments=made, inputs=inputs
    )
    settings, strategy = load_settings(), EmaCross()
    direct = run_backtest(
        data,
        strategy,
        settings.execution,
        strategy.limits(settings.risk),
        10_000.0,
        strategy.policy(settings.signals),
    )
    pd.testing.assert_frame_equal(finished.result.trades, direct.trades)
    pd.testing.assert_frame_equal(finished.result.fills, direct.fills)
    assert finished.result.performance == direct.performance
    assert direct.performance.trades > 100
    assert direct.performance.funding != 0
    assert finished.check is not None
    assert finished.check.passed


def searched(connection: Connection, **changes: Any) -> searches.Search:
    asked = SearchRequest(
        base=request(["BTCUSDT", "ETHUSDT"]),
        space={"fast": [5, 10, 20], "slow": [15, 40]},
        **{"folds": 3, **changes},
    )
    return searches.search(connection, load_settings(), asked)


def test_search_stores_what_was_tried_and_what_came_of_it(market: Connection) -> None:
    finished = searched(market)
    assert finished.refused == 1  # fast=20 with slow=15
    assert len(finished.trials) == 5
    found = stored_backtests.search(market, finished.search_id)
    assert found is not None
    assert found.space == {"fast": [5, 10, 20], "slow": [15, 40]}
    assert found.plan["trials"] == 5
    assert found.backtest_id == finished.backtest_id
    assert 0 <= found.overfitting["probability"] <= 1
    assert found.overfitting["days"] == 30
    assert [fold["params"] for fold in found.folds] == [finished.trials[fold.chosen].params for fold in finished.folds]
    trials = stored_backtests.trials(market, finished.search_id)
    assert len(trials) == 5
    assert trials["sharpe"].is_monotonic_decreasing
    assert {len(figures) for figures in trials["in_sample"]} == {3}
    outside = stored_backtests.backtest(market, finished.backtest_id)
    assert outside is not None
    assert outside.search_id == finished.search_id
    assert outside.performance == finished.stitched.performance
    assert outside.starts_at == finished.parts[0].start
    marks = stored_backtests.equity(market, finished.backtest_id)
    np.testing.assert_array_equal(marks["equity"], finished.stitched.equity)
    assert len(stored_backtests.trades(market, finished.backtest_id)) == len(finished.stitched.trades)


EVERY_BAR = """
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading_pipelines.domain.strategies.base import Signals, Strategy, StrategyInput


@dataclass(frozen=True)
class EveryBar(Strategy):
    name: ClassVar[str] = "every_bar"

    def signals(self, data: StrategyInput) -> Signals:
        ones = np.ones(len(data.bars))
        return Signals(ones.astype(np.int8), 0.7 * ones, (0 * ones).astype(np.uint8), ones)
"""


def test_what_the_gates_refuse_is_counted_and_kept(market: Connection, tmp_path: Path) -> None:
    """A strategy that finds no trade says why."""
    (tmp_path / "every_bar.py").write_text(EVERY_BAR)
    strict = load_settings(signals={"min_net_profit": 0.5})
    asked = request(["BTCUSDT", "ETHUSDT"], strategy=f"{tmp_path}/every_bar.py:EveryBar")
    finished = backtests.backtest(market, strict, asked, check=False)
    found = stored_backtests.backtest(market, finished.backtest_id)
    assert found is not None
    assert (found.candidates, found.rule_refusals) == (0, {})
    assert found.gate_refusals == dict(finished.result.gate_refusals) == {"net_profit": 2 * 30 * 96}


def test_funding_is_paid_on_the_mark_price_where_one_is_stored(market: Connection) -> None:
    """The open stands in for the mark price only where there is none, in backtests as on the paper exchange."""
    instrument_id = instruments.by_symbol(market, "bybit")["BTCUSDT"].instrument_id
    asked = request(["BTCUSDT"])
    due = pd.date_range(asked.start, asked.end, freq="8h", unit="us", inclusive="left")
    jittered = pd.DataFrame({"ts": due + pd.Timedelta(milliseconds=7), "rate": 1e-3})
    marks = pd.DataFrame({"ts": due, **dict.fromkeys(("open", "high", "low", "close"), 200.0)})[1:]
    with market.cursor() as cursor:
        funding.upsert_rates(cursor, instrument_id, jittered)
    on_opens = run(market, asked, check=False)
    with market.cursor() as cursor:
        derivatives.upsert_mark_prices(cursor, instrument_id, marks)
    on_marks = run(market, asked, check=False)
    assert on_marks.input_hash != on_opens.input_hash
    settlements = [
        event
        for bar in market_events(market, [instrument_id], QUARTER, asked.start, asked.end)
        for event in bar.funding
    ]
    assert [event.mark for event in settlements] == [None, *[200.0] * (len(settlements) - 1)]
    for finished in (on_opens, on_marks):
        payments = finished.result.fills[finished.result.fills["kind"] == "FUNDING"]
        price = payments["pnl"].abs() / payments["quantity"] / 1e-3
        assert len(payments) > 3
        expected = payments["reference_price"] if finished is on_opens else pd.Series(200.0, payments.index)
        np.testing.assert_allclose(price, expected)


def test_search_of_a_strategy_that_reads_scores_makes_and_gives_them(market: Connection) -> None:
    base = request(["BTCUSDT", "ETHUSDT"], strategy="composite", params={"avoid": 45.0})
    asked = SearchRequest(base=base, space={"strong": [52.0, 60.0]}, folds=2)
    assert len(searches.search(market, load_settings(), asked).trials) == 2


def test_window_of_a_search_is_the_backtest_of_that_window(market: Connection) -> None:
    finished = searched(market)
    fold = finished.folds[0]
    params = finished.trials[fold.chosen].params
    alone = run(
        market,
        request(["BTCUSDT", "ETHUSDT"], start=fold.window.start, end=fold.window.end, params=params),
        check=False,
    )
    assert alone.result.performance == fold.result.performance
    np.testing.assert_array_equal(alone.result.equity, fold.result.equity)


def test_same_search_again_replaces_its_rows(market: Connection) -> None:
    assert searched(market).search_id == searched(market).search_id
    assert len(stored_backtests.list_searches(market)) == 1
    assert len(stored_backtests.list_backtests(market)) == 1
    assert searched(market, folds=2).search_id != searched(market).search_id


@pytest.mark.parametrize(
    ("space", "changes", "message"),
    [
        ({}, {}, "--space"),
        ({"fast": [5]}, {}, "at least two"),
        ({"quick": [5, 6]}, {}, "no parameter 'quick'"),
        ({"fast": [90, 95]}, {}, "fast < slow"),
        ({"fast": [5, 10]}, {"folds": 3_000}, "too short"),
    ],
)
def test_search_that_cannot_be_made_is_one_clear_line(
    market: Connection, space: dict[str, list[int]], changes: dict[str, Any], message: str
) -> None:
    asked = SearchRequest(base=request(["BTCUSDT"]), space=space, **changes)
    with pytest.raises(UserError, match=message):
        searches.search(market, load_settings(), asked)
