"""The compiled backtest against the slow reference: the same trades, fills and equity."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import reference_simulator as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_markets import Market, RandomStrategy, random_market

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.simulation.backtest import REFUSALS, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Bars, Strategy, StrategyInput
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS, EmaCross

CAPITAL = 10_000.0
SUM_TOLERANCE = 1e-12
"""Relative error granted where funding is paid.

The engine multiplies the quantity by rate·mark, summed beforehand over the settlements of a bar; the reference adds up
payments of quantity·mark·rate. Both are the model's formula, rounded differently in the 16th digit, which the account
then carries on. Without funding nothing is granted: the numbers are equal to the last bit.
"""

markets = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "symbols": st.integers(1, 7),
        "bars": st.sampled_from([60, 200, 500]),
        "wild": st.booleans(),
        "steps": st.booleans(),
        "finer": st.booleans(),
        "alike": st.booleans(),
    }
)
rules = st.fixed_dictionaries(
    {
        "leverage": st.sampled_from([1.0, 5.0, 20.0, 50.0]),
        "max_holding_hours": st.sampled_from([None, None, 1.0]),
    }
).map(lambda numbers: ExecutionParams(**numbers))
limits = st.sampled_from(
    [
        RiskLimits(),
        BENCHMARK_LIMITS,
        RiskLimits(liquidation_buffer=1, max_open_positions=2, max_daily_loss=0.02),
        RiskLimits(max_drawdown_new_trades=0.05, max_drawdown_close_all=0.08),
    ]
)
protections = st.fixed_dictionaries(
    {
        "require_free_margin": st.booleans(),
        "max_margin_per_direction": st.sampled_from([0.6, 1.0]),
        "min_risk_reward": st.sampled_from([None, 2.0, 3.9]),
        "max_correlation": st.sampled_from([None, 0.2, 0.7]),
        "correlation_days": st.sampled_from([2, 30]),
        "correlation_min_hours": st.just(24),
        "cooldown_minutes": st.sampled_from([0.0, 7.0, 30.0]),
        "stop_lock_hours": st.sampled_from([0.0, 1.0, 4.0]),
        "reentry": st.booleans(),
        "stop_guard_stops": st.sampled_from([None, 2, 5, 16]),
        "stop_guard_window_hours": st.sampled_from([1.0, 24.0]),
        "stop_guard_lock_hours": st.sampled_from([0.5, 4.0]),
        "max_drawdown_new_trades": st.sampled_from([0.02, 0.3]),
        "drawdown_lock_hours": st.sampled_from([0.0, 2.0, 24.0]),
        "max_daily_loss": st.sampled_from([0.01, 0.05, 1.0]),
        "pyramiding": st.booleans(),
        "pyramid_min_profit": st.sampled_from([0.0, 0.002, 0.03]),
        "max_additions": st.sampled_from([1, 3]),
    }
).map(lambda numbers: RiskLimits(**numbers))


@settings(max_examples=150, deadline=None)
@given(markets, st.integers(0, 2**32), rules, limits)
def test_random_decisions_on_random_markets_give_the_same_numbers(
    numbers: dict[str, object], seed: int, execution: ExecutionParams, limits: RiskLimits
) -> None:
    compare(random_market(**numbers), RandomStrategy(seed), execution, limits)


@settings(max_examples=150, deadline=None)
@given(markets, st.integers(0, 2**32), rules, protections, st.sampled_from([0.02, 0.2, 0.6]))
def test_locks_additions_reentries_and_correlation_give_the_same_numbers(
    numbers: dict[str, object], seed: int, execution: ExecutionParams, limits: RiskLimits, entry_rate: float
) -> None:
    compare(random_market(**numbers), RandomStrategy(seed, entry_rate), execution, limits)


@settings(max_examples=60, deadline=None)
@given(markets, st.integers(0, 2**32), rules, limits | protections)
def test_funding_is_paid_alike(
    numbers: dict[str, object], seed: int, execution: ExecutionParams, limits: RiskLimits
) -> None:
    market = random_market(**numbers, funding=True)
    compare(market, RandomStrategy(seed), execution, limits, tolerance=SUM_TOLERANCE)


def test_random_markets_reach_every_kind_of_fill_and_every_rule() -> None:
    fills, refusals, exits, additions = Counter[str](), Counter[str](), Counter[str](), 0
    lax = BENCHMARK_LIMITS.model_copy(update={"liquidation_buffer": 1})
    every = (
        lax.model_copy(update={"max_drawdown_new_trades": 0.05, "max_drawdown_close_all": 0.06}),
        lax.model_copy(update={"max_open_positions": 3, "max_daily_loss": 0.03}),
        BENCHMARK_LIMITS,
        lax.model_copy(update={"require_free_margin": True, "max_margin_per_direction": 1.0}),
        lax.model_copy(update={"pyramiding": True, "pyramid_min_profit": 0.002, "max_drawdown_new_trades": 0.02}),
        lax.model_copy(update={"stop_lock_hours": 4.0, "reentry": True, "stop_guard_stops": 4}),
        lax.model_copy(update={"stop_lock_hours": 4.0, "cooldown_minutes": 30, "max_correlation": 0.3}),
        lax.model_copy(update={"min_risk_reward": 4.0}),
    )
    for seed in range(24):
        market = random_market(
            seed, symbols=7, bars=500, wild=seed % 2 == 0, steps=True, funding=True, alike=seed % 3 == 0
        )
        execution = ExecutionParams(leverage=(5, 50, 1, 1)[seed % 4], max_holding_hours=3)
        limits = every[seed % 8].model_copy(update={"correlation_min_hours": 24, "drawdown_lock_hours": 24.0})
        result = run_backtest(market.prepared(), RandomStrategy(seed, 0.5, 0.003), execution, limits)
        fills.update(result.fills["kind"])
        exits.update(result.trades["exit_reason"].dropna())
        additions += int(result.trades["additions"].sum())
        refusals.update(result.refusals)
        refusals.update(result.trades["size_rule"])
    assert set(fills) == {"ENTRY", "TP1", "TP2", "TP3", "STOP", "LIQUIDATION", "EXIT", "FUNDING"}
    assert additions > 0
    assert set(exits) == {"signal", "drawdown", "time_limit"}
    assert set(REFUSALS.values()) - set(refusals) <= {"no_equity", "margin_per_symbol"}


@pytest.mark.real_data
@pytest.mark.parametrize("leverage", [5.0, 50.0])
def test_ema_cross_on_real_candles_gives_the_same_numbers(real_data_dir: Path, leverage: float) -> None:
    symbols = ("BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT")
    market = real_market(real_data_dir, "binance", symbols, "5m", "2025-01-01", "2025-04-01")
    result = compare(market, EmaCross(), ExecutionParams(leverage=leverage), BENCHMARK_LIMITS)
    assert len(result.trades) > 500


@pytest.mark.real_data
@pytest.mark.parametrize(
    "limits",
    [
        RiskLimits(max_correlation=0.8),
        RiskLimits(reentry=True, pyramiding=True, pyramid_min_profit=0.01, max_correlation=0.75),
        RiskLimits(max_daily_loss=0.02, max_drawdown_new_trades=0.2, stop_guard_stops=9, max_correlation=0.7),
    ],
)
def test_every_rule_on_real_candles_gives_the_same_numbers(real_data_dir: Path, limits: RiskLimits) -> None:
    symbols = ("ADAUSDT", "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
    market = real_market(real_data_dir, "binance", symbols, "5m", "2025-01-01", "2025-03-01")
    strategy = RandomStrategy(7, entry_rate=0.02, exit_rate=0.002)
    result = compare(replace(market, instruments=venue_of(market)), strategy, ExecutionParams(), limits)
    assert len(result.trades) > 50
    assert "correlation" in result.refusals


@pytest.mark.real_data
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 220), st.integers(2, 8), st.integers(0, 2**32), st.sampled_from([0.02, 0.2]), rules, protections)
def test_random_decisions_on_random_days_of_real_candles_give_the_same_numbers(
    real_data_dir: Path,
    day: int,
    symbols: int,
    seed: int,
    entry_rate: float,
    execution: ExecutionParams,
    limits: RiskLimits,
) -> None:
    names = ("ADAUSDT", "BNBUSDT", "BTCUSDT", "DOGEUSDT", "ETHUSDT", "SOLUSDT", "SUIUSDT", "XRPUSDT")[:symbols]
    start = pd.Timestamp("2025-01-01") + pd.Timedelta(days=day)
    market = real_market(real_data_dir, "binance", names, "5m", str(start), str(start + pd.Timedelta(days=4)))
    market = replace(market, instruments=venue_of(market))
    compare(market, RandomStrategy(seed, entry_rate, 0.005), execution, limits)


@pytest.mark.real_data
@pytest.mark.parametrize("seed", range(3))
def test_random_decisions_with_real_funding_give_the_same_numbers(real_data_dir: Path, seed: int) -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    market = real_market(real_data_dir, "binanceusdm", symbols, "1h", "2025-01-01", "2025-07-01")
    strategy = RandomStrategy(seed, entry_rate=0.05)
    result = compare(market, strategy, ExecutionParams(leverage=20), BENCHMARK_LIMITS, tolerance=SUM_TOLERANCE)
    assert (result.trades["funding"] != 0).sum() > 20


def compare(
    market: Market, strategy: Strategy, execution: ExecutionParams, limits: RiskLimits, tolerance: float = 0.0
) -> BacktestResult:
    """Run both simulators and hold every trade, fill and mark of one against the other."""
    data = market.prepared()
    result = run_backtest(data, strategy, execution, limits, CAPITAL)
    account = run_reference(market, strategy, execution, limits)
    bar = {int(ts): i for i, ts in enumerate(data.market.open_time)}

    def index(times: "pd.Series[pd.Timestamp]") -> list[int | None]:
        return [bar.get(int(ts)) for ts in pd.DatetimeIndex(times).as_unit("us").asi8]

    fills = result.fills
    columns = ["kind", "quantity", "reference_price", "price", "fee", "pnl"]
    ours = zip(fills["symbol"], index(fills["ts"]), *(fills[c] for c in columns), strict=True)
    assert_rows_equal(list(ours), [tuple(vars(f).values()) for f in account.fills], tolerance)
    trades = result.trades
    ours = zip(
        *(trades[c] for c in ("symbol", "side")),
        index(trades["opened_at"]),
        *(trades[c] for c in ("quantity", "entry_price", "stop_price", "initial_risk", "additions")),
        index(trades["closed_at"]),
        [None if pd.isna(kind) else kind for kind in trades["closed_by"]],
        *(trades[c] for c in ("pnl", "fees", "funding")),
        strict=True,
    )
    assert_rows_equal(list(ours), [tuple(vars(t).values()) for t in account.trades], tolerance)
    assert_rows_equal([(e,) for e in result.equity], [(e,) for e in account.equity], tolerance)
    for in_parts, from_flows in account.identities:
        assert math.isclose(in_parts, from_flows, rel_tol=1e-12, abs_tol=1e-12 * CAPITAL)
    return result


def assert_rows_equal(
    ours: Sequence[tuple[object, ...]], theirs: Sequence[tuple[object, ...]], tolerance: float
) -> None:
    """Equal in length and value; floats within the tolerance relative to themselves, or sums to the capital."""
    assert len(ours) == len(theirs)
    for row, expected in zip(ours, theirs, strict=True):
        for a, b in zip(row, expected, strict=True):
            if isinstance(a, float) and isinstance(b, float):
                assert math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance * CAPITAL), (row, expected)
            else:
                assert a == b, (row, expected)


def run_reference(
    market: Market, strategy: Strategy, execution: ExecutionParams, limits: RiskLimits
) -> reference.Account:
    """Tell the reference the same story in its own words."""
    times = sorted({int(ts) for frame in market.frames.values() for ts in microseconds(frame)})
    length, coarse = (tf.minutes * 60_000_000 for tf in (market.grid, market.timeframe))
    decides = [False] * len(times)
    symbols: list[reference.Symbol] = []
    for name in sorted(market.frames):
        told = strategy.signals(StrategyInput(as_bars(name, market.candles[name]), market.timeframe))
        decisions: dict[int, reference.Decision] = {}
        closes = market.candles[name]["close"].tolist()
        closing = np.searchsorted(times, microseconds(market.candles[name]) + coarse - length, side="right") - 1
        for k, at in enumerate(closing.tolist()):
            decides[at] = True
            decisions[at] = reference.Decision(
                close=closes[k],
                atr=None if math.isnan(told.atr[k]) else float(told.atr[k]),
                entry={1: "LONG", -1: "SHORT", 0: None}[int(told.entry[k])],
                confidence=float(told.confidence[k]),
                close_longs=bool(told.exit[k] & CLOSE_LONG),
                close_shorts=bool(told.exit[k] & CLOSE_SHORT),
            )
        symbols.append(told_symbol(name, market, {ts: i for i, ts in enumerate(times)}, decisions))
    hours = execution.max_holding_hours
    return reference.simulate(
        symbols,
        times,
        length,
        decides,
        CAPITAL,
        reference.Rules(
            leverage=execution.leverage,
            time_limit=None if hours is None else hours * 3_600_000_000,
            cap_direction=limits.max_margin_per_direction,
            most_positions=limits.max_open_positions,
            liquidation_buffer=limits.liquidation_buffer,
            drawdown_stop=limits.max_drawdown_new_trades,
            drawdown_close=limits.max_drawdown_close_all,
            daily_loss=limits.max_daily_loss,
            free_margin=limits.require_free_margin,
            risk_reward=limits.min_risk_reward,
            correlation=limits.max_correlation,
            correlation_days=limits.correlation_days,
            correlation_hours=limits.correlation_min_hours,
            cooldown=limits.cooldown_minutes * 60_000_000,
            stop_lock=limits.stop_lock_hours * reference.HOUR,
            reentry_share=limits.reentry_scale if limits.reentry else None,
            guard_stops=limits.stop_guard_stops,
            guard_window=limits.stop_guard_window_hours * reference.HOUR,
            guard_lock=limits.stop_guard_lock_hours * reference.HOUR,
            drawdown_lock=limits.drawdown_lock_hours * reference.HOUR,
            addition_profit=limits.pyramid_min_profit if limits.pyramiding else None,
            most_additions=limits.max_additions,
        ),
    )


def told_symbol(
    name: str, market: Market, index: dict[int, int], decisions: dict[int, reference.Decision]
) -> reference.Symbol:
    frame, due, instrument = market.frames[name], market.funding.get(name), market.instruments.get(name)
    prices = zip(*(frame[c].tolist() for c in ("open", "high", "low", "close")), strict=True)
    funding: list[tuple[int, float, float | None]] = []
    if due is not None:
        for ts, rate, mark in zip(microseconds(due), due["rate"].tolist(), due["mark"].tolist(), strict=True):
            funding.append((int(ts), rate, None if math.isnan(mark) else mark))
    return reference.Symbol(
        name,
        {index[int(ts)]: reference.Bar(*p) for ts, p in zip(microseconds(frame), prices, strict=True)},
        decisions,
        funding,
        step=float(instrument.quantity_step) if instrument else 0.0,
        price_step=float(instrument.price_step) if instrument else 0.0,
        smallest_quantity=float(instrument.min_quantity) if instrument else 0.0,
        smallest_notional=float(instrument.min_notional) if instrument else 0.0,
    )


def as_bars(name: str, frame: pd.DataFrame) -> Bars:
    columns = [frame[c].to_numpy(np.float64) for c in ("open", "high", "low", "close", "volume")]
    return Bars(name, microseconds(frame), *columns)


def microseconds(frame: pd.DataFrame) -> npt.NDArray[np.int64]:
    return pd.DatetimeIndex(frame["ts"]).as_unit("us").asi8


def real_market(folder: Path, exchange: str, symbols: Sequence[str], timeframe: str, start: str, end: str) -> Market:
    """Recorded candles, with recorded funding where there is some."""
    frames = {
        s: between(pd.read_parquet(folder / "ohlcv" / exchange / s / f"{timeframe}.parquet"), start, end)
        for s in symbols
    }
    recorded = pd.read_parquet(folder / "funding" / "funding_rates.parquet")
    recorded = recorded[recorded["exchange"] == exchange]
    funding = {
        s: between(recorded[recorded["symbol"] == s], start, end).assign(mark=np.nan, rate=lambda f: f["funding_rate"])
        for s in symbols
    }
    return Market(Timeframe(timeframe), frames, Timeframe(timeframe), frames, funding, {})


def venue_of(market: Market) -> dict[str, Instrument]:
    """Steps as coarse as the recorded prices allow to be seen."""
    step = {s: Decimal(10) ** (math.floor(math.log10(f["close"].iloc[0])) - 4) for s, f in market.frames.items()}
    return {
        s: Instrument("test", s, s[:-4], "USDT", MarketKind.PERPETUAL, step[s], 1 / step[s] / 100_000, Decimal(0))
        for s in market.frames
    }


def between(frame: pd.DataFrame, start: str, end: str) -> pd.DataFrame:
    first, last = (pd.Timestamp(day, tz="UTC") for day in (start, end))
    return frame[(frame["ts"] >= first) & (frame["ts"] < last)].reset_index(drop=True)
