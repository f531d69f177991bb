"""vectorbt on the settings nearest to the benchmark, and its trades against ours where both mean the same.

vectorbt has one stop and one target, no partial exits, no caps over symbols and no liquidation. For the speed it gets
the same signals, one target at the ladder's mean distance, fees and slippage. For the agreement both get a plain stop
and target without costs, on candles that open where the last one closed: vectorbt enters at a close, we at the open
after it. It trades a symbol once per bar, so entries that our engine would take at the close of the bar of an exit are
left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import vectorbt as vbt
from backtest_terms import CAPITAL, EXECUTION, speed

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.backtest import BacktestInput, run_backtest
from trading_pipelines.domain.strategies.base import Bars, Signals, Strategy, StrategyInput
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS, EmaCross

MEAN_TARGET_ATR = sum(w * k for w, k in zip(EXECUTION.target_weights, EXECUTION.target_atr, strict=True))
POSITION_VALUE = 0.66 * CAPITAL
"""About what the risk rule gives for the stop distances of 5-minute bars."""

PLAIN = ExecutionParams(taker_fee_rate=0, slippage_rate=0, target_weights=(0.01, 0.01, 0.98))
"""With few steps in a position, the last target alone has something to close."""
STOP_ATR, TARGET_ATR = PLAIN.stop_atr, PLAIN.target_atr[2]
SMALL = BENCHMARK_LIMITS.model_copy(update={"max_margin_per_trade": 1e-6, "risk_per_trade": 0.2})
"""The cap per trade binds always, at a notional that hardly moves."""


def compare(frames: Mapping[str, pd.DataFrame], timeframe: Timeframe, repeat: int) -> dict[str, Any]:
    """Speed from loaded frames to orders, trades and equity, and the agreement of plain trades."""
    symbol_bars = sum(len(frame) for frame in frames.values())
    _nearest(frames)  # compile
    compared = [_agreement(symbol, frame, timeframe) for symbol, frame in frames.items()]
    return {
        "version": vbt.__version__,
        "end_to_end": speed(lambda: _nearest(frames), repeat, symbol_bars),
        "plain_trades_compared": sum(count for count, _ in compared),
        "plain_trades_equal": all(equal for _, equal in compared),
    }


def _nearest(frames: Mapping[str, pd.DataFrame]) -> tuple[int, float]:
    """All symbols in one account, filled at the open after the signal."""
    columns = {name: pd.DataFrame({s: f[name].to_numpy() for s, f in frames.items()}) for name in _PRICES}
    told = {s: EmaCross().signals(StrategyInput(_bars(s, f), Timeframe.M5)) for s, f in frames.items()}
    atr = pd.DataFrame({s: t.atr for s, t in told.items()}).shift(1) / columns["open"]
    entry = pd.DataFrame({s: t.entry for s, t in told.items()}).shift(1, fill_value=0)
    portfolio = vbt.Portfolio.from_signals(
        columns["close"],
        entries=entry > 0,
        short_entries=entry < 0,
        open=columns["open"],
        high=columns["high"],
        low=columns["low"],
        price=columns["open"],
        sl_stop=atr * EXECUTION.stop_atr,
        tp_stop=atr * MEAN_TARGET_ATR,
        stop_entry_price="price",
        upon_opposite_entry="close",
        size=POSITION_VALUE,
        size_type="value",
        fees=EXECUTION.taker_fee_rate,
        slippage=EXECUTION.slippage_rate,
        init_cash=CAPITAL,
        cash_sharing=True,
        group_by=True,
        freq="5min",
    )
    return len(portfolio.trades.records), float(portfolio.value().iloc[-1])


def _agreement(symbol: str, frame: pd.DataFrame, timeframe: Timeframe) -> tuple[int, bool]:
    """Number of trades, and whether all have the same bars and prices."""
    candles = _without_gaps(frame)
    instrument = _one_step(symbol, candles)
    data = BacktestInput.from_frames({symbol: candles}, timeframe, instruments={symbol: instrument})
    strategy = _Without(EmaCross(), frozenset())
    while True:
        trades = run_backtest(data, strategy, PLAIN, SMALL, CAPITAL).trades
        trades = trades[trades["closed_at"].notna()]
        stopped = trades["closed_by"] != "EXIT"
        closed = np.searchsorted(data.market.open_time, pd.DatetimeIndex(trades["closed_at"]).as_unit("us").asi8)
        clash = frozenset(closed[stopped].tolist()) - strategy.bars
        clash &= frozenset(np.flatnonzero(strategy.signals(data.inputs[0]).entry).tolist())
        if not clash:
            break
        strategy = _Without(strategy.inner, strategy.bars | clash)
    told = strategy.signals(data.inputs[0])
    portfolio = vbt.Portfolio.from_signals(
        candles["close"],
        entries=told.entry > 0,
        short_entries=told.entry < 0,
        open=candles["open"],
        high=candles["high"],
        low=candles["low"],
        sl_stop=told.atr * STOP_ATR / candles["close"].to_numpy(),
        tp_stop=told.atr * TARGET_ATR / candles["close"].to_numpy(),
        stop_entry_price="close",
        upon_opposite_entry="close",
        size=1.0,
        init_cash=1e12,
        freq="5min",
    )
    theirs = portfolio.trades.records
    theirs = theirs[theirs["status"] == 1]
    opened = np.searchsorted(data.market.open_time, pd.DatetimeIndex(trades["opened_at"]).as_unit("us").asi8)
    # A decided exit is filled at the open after the close at which vectorbt fills it.
    ours = np.column_stack((opened - 1, closed - ~stopped, trades["entry_price"], _exit_prices(trades)))
    columns = ("entry_idx", "exit_idx", "entry_price", "exit_price")
    expected = np.column_stack([theirs[name].to_numpy() for name in columns])
    equal = ours.shape == expected.shape and bool(np.allclose(ours, expected, rtol=1e-12, atol=0))
    return len(ours), equal


def _exit_prices(trades: pd.DataFrame) -> pd.Series:
    """Every trade is closed by one fill."""
    side = np.where(trades["side"] == "LONG", 1.0, -1.0)
    return trades["entry_price"] + side * trades["pnl"] / trades["quantity"]


def _without_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    candles = frame.copy()
    candles.loc[1:, "open"] = frame["close"].to_numpy()[:-1]
    candles["high"] = candles[["high", "open"]].max(axis=1)
    candles["low"] = candles[["low", "open"]].min(axis=1)
    return candles


def _one_step(symbol: str, candles: pd.DataFrame) -> Instrument:
    """A step so coarse that no position reaches a hundred of them."""
    notional = SMALL.max_margin_per_trade * CAPITAL * PLAIN.leverage
    step = Decimal(f"{0.5 * notional / candles['close'].max():.3g}")
    return Instrument("benchmark", symbol, symbol, "USDT", MarketKind.PERPETUAL, quantity_step=step)


@dataclass(frozen=True)
class _Without(Strategy):
    """A strategy without its entries at some bars."""

    name: ClassVar[str] = "without"

    inner: EmaCross
    bars: frozenset[int]

    def signals(self, data: StrategyInput) -> Signals:
        told = self.inner.signals(data)
        entry = told.entry.copy()
        entry[list(self.bars)] = 0
        return Signals(entry, told.confidence, told.exit, told.atr)


_PRICES = ("open", "high", "low", "close")


def _bars(symbol: str, frame: pd.DataFrame) -> Bars:
    prices = [frame[name].to_numpy(np.float64) for name in (*_PRICES, "volume")]
    return Bars(symbol, pd.DatetimeIndex(frame["ts"]).as_unit("us").asi8, *prices)
