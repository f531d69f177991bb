"""The backtest as its callers see it: preparation, frames, accounting, causality. Its numbers are tested in parity."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.backtest import BacktestInput, BacktestResult, run_backtest
from trading_pipelines.domain.strategies.base import CLOSE_LONG, Bars, Signals, Strategy, StrategyInput
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS, EmaCross

START = pd.Timestamp("2025-01-01", tz="UTC")
EXECUTION = ExecutionParams()
CAPITAL = 10_000.0


@dataclass(frozen=True)
class Scripted(Strategy):
    """Says at given bars what it is told to say; ATR is 1 throughout."""

    name: ClassVar[str] = "scripted"

    entries: dict[int, int]
    exits: dict[int, int] = dataclasses.field(default_factory=dict)

    def signals(self, data: StrategyInput) -> Signals:
        bars = data.bars
        entry, leave = np.zeros(len(bars), np.int8), np.zeros(len(bars), np.uint8)
        entry[list(self.entries)] = list(self.entries.values())
        leave[list(self.exits)] = list(self.exits.values())
        return Signals(entry, np.full(len(bars), 0.65), leave, np.ones(len(bars)))


def candles(*bars: tuple[float, float, float, float], start: pd.Timestamp = START) -> pd.DataFrame:
    frame = pd.DataFrame(bars, columns=["open", "high", "low", "close"], dtype=float)
    frame.insert(0, "ts", pd.date_range(start, periods=len(bars), freq="5min", unit="us"))
    return frame.assign(volume=1.0)


def quiet(price: float = 100.0) -> tuple[float, float, float, float]:
    return price, price, price, price


def walk(seed: int, bars: int, step: float = 0.0006, inner: int = 20) -> pd.DataFrame:
    """Aggregate a fine random walk, so that highs and lows lie on its path."""
    dice = np.random.default_rng(seed)
    path = 100 * np.exp(np.cumsum(step * dice.standard_normal(bars * inner) - step**2 / 2)).reshape(bars, inner)
    opened = np.concatenate(([100.0], path[:-1, -1]))
    high, low = np.maximum(path.max(axis=1), opened), np.minimum(path.min(axis=1), opened)
    return candles(*zip(opened, high, low, path[:, -1], strict=True))


def run(frames: dict[str, pd.DataFrame], strategy: Scripted | EmaCross, **funding: pd.DataFrame) -> BacktestResult:
    data = BacktestInput.from_frames(frames, Timeframe.M5, funding=funding)
    return run_backtest(data, strategy, EXECUTION, BENCHMARK_LIMITS, CAPITAL)


def test_trade_is_told_from_decision_to_exit() -> None:
    frame = candles(quiet(), quiet(), quiet(101.0), (101.0, 103.7, 101.0, 103.0), (103.0, 103.0, 100.0, 100.5), quiet())
    result = run({"AUSDT": frame}, Scripted({1: 1}))
    (trade,) = result.trades.to_dict("records")
    assert (trade["symbol"], trade["side"], trade["closed_by"], trade["exit_reason"]) == (
        "AUSDT",
        "LONG",
        "STOP",
        np.nan,
    )
    assert (trade["decided_at"], trade["opened_at"], trade["closed_at"]) == tuple(
        START + pd.Timedelta(minutes=m) for m in (10, 10, 20)
    )
    assert trade["reference_price"] == 100.0
    assert trade["entry_price"] == 101.0 * 1.0005
    assert trade["stop_price"] == 99.0
    assert trade["initial_risk"] == trade["quantity"] * 1.0
    assert trade["r"] == trade["net"] / trade["initial_risk"]
    assert trade["net"] == trade["pnl"] - trade["fees"]
    assert list(result.fills["kind"]) == ["ENTRY", "TP1", "TP2", "STOP"]
    # Trail of the close at 103, above break-even.
    assert result.fills["reference_price"].iloc[-1] == 103.0 - 1.5
    assert result.final_equity == pytest.approx(CAPITAL + trade["net"])


def test_position_still_open_at_the_end_counts_in_the_equity_only() -> None:
    result = run({"AUSDT": candles(quiet(), quiet(), quiet(101.0))}, Scripted({1: 1}))
    (trade,) = result.trades.to_dict("records")
    assert trade["closed_at"] is pd.NaT
    assert pd.isna(trade["closed_by"])
    assert result.performance.trades == 0
    unrealised = trade["quantity"] * (101.0 - trade["entry_price"])
    assert result.final_equity == pytest.approx(result.cash + unrealised)


def test_emergency_exit_is_filled_at_the_next_open() -> None:
    frame = candles(quiet(), quiet(), quiet(), (101.0, 101.5, 100.5, 101.0), quiet())
    result = run({"AUSDT": frame}, Scripted({0: 1}, {2: CLOSE_LONG}))
    (trade,) = result.trades.to_dict("records")
    assert (trade["closed_by"], trade["exit_reason"]) == ("EXIT", "signal")
    assert result.fills["reference_price"].iloc[-1] == 101.0


def test_opposite_cross_closes_and_does_not_open() -> None:
    falling, rising = np.linspace(200, 150, 120), np.linspace(150, 260, 60)
    closes = np.concatenate((falling, rising, rising[::-1], rising))
    frame = candles(*((c, c + 0.01, c - 0.01, c) for c in closes))
    signals = EmaCross().signals(
        StrategyInput(
            Bars(
                "A", frame["ts"].array.asi8, *(frame[c].to_numpy() for c in ("open", "high", "low", "close", "volume"))
            ),
            Timeframe.M5,
        )
    )
    assert sorted(set(signals.entry.tolist())) == [-1, 0, 1]
    assert not signals.entry[:80].any()
    assert ((signals.entry == -1) == (signals.exit == CLOSE_LONG)).all()


def test_candidates_of_one_close_are_taken_by_confidence_then_symbol() -> None:
    @dataclass(frozen=True)
    class Ranked(Strategy):
        name: ClassVar[str] = "ranked"

        def signals(self, data: StrategyInput) -> Signals:
            confidence = {"AUSDT": 0.6, "BUSDT": 0.9, "CUSDT": 0.6, "DUSDT": 0.6}[data.bars.symbol]
            n = len(data.bars)
            entry = np.ones(n, np.int8)
            return Signals(entry, np.full(n, confidence), np.zeros(n, np.uint8), np.ones(n))

    frames = {s: candles(quiet(), quiet(), quiet()) for s in ("DUSDT", "CUSDT", "BUSDT", "AUSDT")}
    data = BacktestInput.from_frames(frames, Timeframe.M5)
    limits = BENCHMARK_LIMITS.model_copy(update={"max_open_positions": 2})
    result = run_backtest(data, Ranked(), EXECUTION, limits, CAPITAL)
    assert sorted(result.trades["symbol"]) == ["AUSDT", "BUSDT"]
    assert result.refusals["open_positions"] == 2 + 2 + 2


def test_funding_belongs_to_the_first_open_at_or_after_it() -> None:
    frame = candles(*[quiet()] * 6)
    settled = pd.DataFrame(
        {
            "ts": [START + pd.Timedelta(minutes=m) for m in (5, 15, 20.001)],
            "rate": [0.5, 0.001, 0.002],
            "mark": [100.0, 110.0, np.nan],
        }
    )
    result = run({"AUSDT": frame}, Scripted({0: 1}), AUSDT=settled)
    paid = result.fills[result.fills["kind"] == "FUNDING"]
    quantity = result.trades["quantity"].iloc[0]
    # The one due at the open of the entry is not paid; the late one is at the open after it, at that open's price.
    assert list(paid["ts"]) == [START + pd.Timedelta(minutes=m) for m in (15, 25)]
    assert paid["pnl"].tolist() == pytest.approx([-quantity * 0.001 * 110.0, -quantity * 0.002 * 100.0])
    assert result.trades["funding"].iloc[0] == pytest.approx(-paid["pnl"].sum())


@pytest.mark.parametrize("seed", range(3))
def test_equity_is_start_plus_results_minus_costs_at_every_bar(seed: int) -> None:
    frames = {s: walk(10 * seed + i, 1500) for i, s in enumerate(("AUSDT", "BUSDT", "CUSDT"))}
    settled = pd.DataFrame({"ts": pd.date_range(START, periods=200, freq="40min"), "rate": 0.0005})
    result = run(frames, EmaCross(5, 20), **dict.fromkeys(frames, settled))
    fills = result.fills
    flows = (fills["pnl"] - fills["fee"]).groupby(fills["ts"]).sum()
    expected = CAPITAL + flows.reindex(frames["AUSDT"]["ts"], fill_value=0.0).cumsum().to_numpy()
    sides = np.where(result.trades["side"] == "LONG", 1, -1)[fills["trade"]]
    moved = np.select([fills["kind"] == "ENTRY", fills["kind"] == "FUNDING"], [1, 0], -1) * sides * fills["quantity"]
    entry = result.trades["entry_price"].to_numpy()[fills["trade"]]
    for symbol, frame in frames.items():
        own = (fills["symbol"] == symbol).to_numpy()
        held, cost = (
            values[own].groupby(fills["ts"][own]).sum().reindex(frame["ts"], fill_value=0.0).cumsum().to_numpy()
            for values in (moved, moved * entry)
        )
        expected += held * frame["close"].to_numpy() - cost
    np.testing.assert_allclose(result.equity, expected, rtol=1e-9)
    assert len(result.trades) > 50


def test_random_walk_loses_about_its_costs() -> None:
    """Sides are right by chance: what is left of many trades is what they cost."""
    frames = {f"{i:02d}USDT": walk(i, 12_000) for i in range(4)}
    result = run(frames, EmaCross(5, 20))
    figures = result.performance
    costs = figures.fees + figures.slippage
    assert figures.trades > 1000
    assert figures.net_pnl < 0
    # Before costs nothing is won or lost, within four standard errors.
    gross = result.trades["pnl"] + result.trades["slippage"]
    assert abs(gross.sum()) < 4 * gross.std() * math.sqrt(len(gross))
    assert 0.7 < -figures.net_pnl / costs < 1.3


@pytest.mark.parametrize("cut", [300, 700, 1100])
def test_nothing_before_a_bar_depends_on_what_comes_after_it(cut: int) -> None:
    whole = {s: walk(i, 1500) for i, s in enumerate(("AUSDT", "BUSDT"))}
    changed = {s: f.copy() for s, f in whole.items()}
    for frame in changed.values():
        frame.loc[cut:, ["open", "high", "low", "close"]] *= 1.5
    first, second = run(whole, EmaCross(5, 20)), run(changed, EmaCross(5, 20))
    np.testing.assert_array_equal(first.equity[:cut], second.equity[:cut])
    before = START + pd.Timedelta(minutes=5 * cut)
    pd.testing.assert_frame_equal(first.fills[first.fills["ts"] < before], second.fills[second.fills["ts"] < before])
    assert (first.fills["ts"] < before).sum() > 20


def test_two_runs_are_equal_to_the_last_bit() -> None:
    frames = {s: walk(i, 3000) for i, s in enumerate(("AUSDT", "BUSDT", "CUSDT"))}
    first, second = run(frames, EmaCross()), run(dict(reversed(frames.items())), EmaCross())
    np.testing.assert_array_equal(first.equity, second.equity)
    pd.testing.assert_frame_equal(first.trades, second.trades)


def test_symbol_without_candles_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs candles"):
        BacktestInput.from_frames({"AUSDT": candles()}, Timeframe.M5)
    with pytest.raises(ValueError, match="needs candles"):
        BacktestInput.from_frames({}, Timeframe.M5)


def test_finer_bars_must_be_finer() -> None:
    frames = {"AUSDT": candles(quiet())}
    with pytest.raises(ValueError, match="not finer"):
        BacktestInput.from_frames(frames, Timeframe.M5, finer=(Timeframe.H1, frames))


def test_run_without_candidates_keeps_the_capital() -> None:
    result = run({"AUSDT": candles(*[quiet()] * 5)}, Scripted({}))
    assert result.equity.tolist() == [CAPITAL] * 5
    assert (len(result.trades), len(result.fills), result.refusals) == (0, 0, {})
    assert result.performance.trades == 0
