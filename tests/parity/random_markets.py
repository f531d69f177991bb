"""Random markets and random decisions: gaps, holes, late starts, funding, coarse steps, finer bars."""

import zlib
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.backtest import BacktestInput
from trading_pipelines.domain.strategies.base import CLOSE_LONG, CLOSE_SHORT, Signals, Strategy, StrategyInput

START = pd.Timestamp("2025-01-01 20:00", tz="UTC")
NAMES = ("AUSDT", "BUSDT", "CUSDT", "DUSDT", "EUSDT", "FUSDT", "GUSDT")


@dataclass(frozen=True)
class RandomStrategy(Strategy):
    """Enters and leaves by dice; a few levels of confidence only, so that candidates tie."""

    name: ClassVar[str] = "random"

    seed: int
    entry_rate: float = 0.2
    exit_rate: float = 0.03

    def signals(self, data: StrategyInput) -> Signals:
        bars = data.bars
        dice = np.random.default_rng([self.seed, zlib.crc32(bars.symbol.encode())])
        n = len(bars)
        atr = bars.close * dice.uniform(0.002, 0.03) * dice.uniform(0.8, 1.2, n)
        atr[dice.random(n) < 0.05] = np.nan
        return Signals(
            entry=(dice.choice([-1, 1], n) * (dice.random(n) < self.entry_rate)).astype(np.int8),
            confidence=dice.choice([0.45, 0.55, 0.65, 0.9, 1.0], n),
            exit=(dice.choice([CLOSE_LONG, CLOSE_SHORT, 3], n) * (dice.random(n) < self.exit_rate)).astype(np.uint8),
            atr=atr,
        )


@dataclass(frozen=True)
class Market:
    """What both simulators are told; `frames` are the bars on which fills are made."""

    timeframe: Timeframe
    candles: dict[str, pd.DataFrame]
    grid: Timeframe
    frames: dict[str, pd.DataFrame]
    funding: dict[str, pd.DataFrame]
    instruments: dict[str, Instrument]

    def prepared(self) -> BacktestInput:
        return BacktestInput.from_frames(
            self.candles,
            self.timeframe,
            funding=self.funding,
            instruments=self.instruments,
            finer=None if self.grid is self.timeframe else (self.grid, self.frames),
        )


def random_market(
    seed: int,
    *,
    symbols: int = 3,
    bars: int = 200,
    wild: bool = False,
    steps: bool = False,
    funding: bool = False,
    finer: bool = False,
    alike: bool = False,
) -> Market:
    """Random walks of 5-minute bars; `wild` ones jump far enough to liquidate, those `alike` move together."""
    dice = np.random.default_rng(seed)
    timeframe = Timeframe.M15 if finer else Timeframe.M5
    length = bars * (3 if finer else 1)
    common = 0.005 * dice.standard_normal(length) if alike else None
    frames = {name: random_walk(dice, length, wild=wild, common=common) for name in NAMES[:symbols]}
    return Market(
        timeframe=timeframe,
        candles={s: aggregate(f, timeframe) for s, f in frames.items()} if finer else frames,
        grid=Timeframe.M5,
        frames=frames,
        funding={s: _funding(dice, f) for s, f in frames.items()} if funding else {},
        instruments={s: _instrument(dice, s) for s in frames} if steps else {},
    )


def random_walk(
    dice: np.random.Generator,
    bars: int,
    *,
    wild: bool = False,
    holes: bool = True,
    common: npt.NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """Candles whose expected return is zero; `common` returns come on top of their own."""
    noise = dice.uniform(0.001, 0.01) * dice.standard_normal(bars)
    if common is not None:
        noise += common
    if holes:
        noise += (dice.random(bars) < 0.03) * dice.standard_normal(bars) * (0.15 if wild else 0.02)
    close = 100 * 10 ** dice.uniform(-2, 2) * np.exp(np.cumsum(noise - noise.var() / 2))
    opened = np.roll(close, 1)
    opened[0] = close[0]
    if holes:
        opened *= np.exp(0.001 * dice.standard_normal(bars))
    body = np.stack((opened, close))
    wicks = np.abs(dice.standard_normal((2, bars))) * 0.5 * noise.std()
    frame = pd.DataFrame(
        {
            "ts": pd.date_range(START, periods=bars, freq="5min", unit="us"),
            "open": opened,
            "high": body.max(axis=0) * (1 + wicks[0]),
            "low": body.min(axis=0) * (1 - wicks[1]),
            "close": close,
            "volume": 1.0,
        }
    )
    keep = dice.random(bars) > (0.03 if holes else -1)
    if holes:
        keep[: dice.integers(0, bars // 4)] = False
    return frame[keep].reset_index(drop=True)


def _funding(dice: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    """Settlements each 40 minutes, some a few milliseconds late as real ones are, some without a mark price."""
    ts = pd.date_range(START, frame["ts"].iloc[-1], freq="40min", unit="us")
    late = pd.to_timedelta(dice.choice([0, 0, 7], len(ts)), unit="ms")
    mark = frame["close"].iloc[0] * dice.uniform(0.9, 1.1, len(ts))
    mark[dice.random(len(ts)) < 0.5] = np.nan
    return pd.DataFrame({"ts": (ts + late).as_unit("us"), "rate": dice.normal(0, 0.001, len(ts)), "mark": mark})


def _instrument(dice: np.random.Generator, symbol: str) -> Instrument:
    step = Decimal(str(dice.choice(["0.001", "0.1", "1", "0.03", "5"])))
    price_step = Decimal(str(dice.choice(["0.0001", "0.01", "0.05", "0.5"])))
    return Instrument("test", symbol, symbol[:1], "USDT", MarketKind.PERPETUAL, price_step, step, step, Decimal(5))
