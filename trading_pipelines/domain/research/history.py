"""A stretch of market that is loaded once and traded in parts.

Belongs here: cutting a window out of what strategies see. Does not belong here: loading, and trading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.backtest import BacktestInput
from trading_pipelines.domain.strategies.base import Bars, StrategyInput

Integers = npt.NDArray[np.int64]

_PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class MarketHistory:
    """What is known of a market, per symbol.

    Attributes
    ----------
    inputs : mapping of StrategyInput
        With so much history before the first traded bar as the most demanding strategy needs.
    funding : mapping of frames
        ts and rate.
    finer : timeframe and candle frames, or None
        The bars on which fills are made, if not those of the strategy.
    """

    timeframe: Timeframe
    inputs: Mapping[str, StrategyInput]
    funding: Mapping[str, pd.DataFrame]
    instruments: Mapping[str, Instrument]
    finer: tuple[Timeframe, Mapping[str, pd.DataFrame]] | None = None

    def whole(self) -> BacktestInput:
        """All of it as the input of a backtest."""
        return self._as_input(self.inputs)

    def between(self, start: int, end: int) -> BacktestInput | None:
        """The bars that open in [start, end), microseconds since 1970; None where no symbol has one.

        A strategy sees as much history before them as it sees before the whole, as far as there is any.
        """
        cut = {symbol: _window(seen, start, end) for symbol, seen in self.inputs.items()}
        traded = {symbol: seen for symbol, seen in cut.items() if len(seen.bars) > seen.warm_up}
        return self._as_input(traded, start, end) if traded else None

    def _as_input(
        self, inputs: Mapping[str, StrategyInput], start: int | None = None, end: int | None = None
    ) -> BacktestInput:
        finer = self.finer
        if finer is not None:
            finer = finer[0], {symbol: _rows(finer[1][symbol], start, end) for symbol in inputs}
        return BacktestInput.from_frames(
            {symbol: _candles(seen) for symbol, seen in inputs.items()},
            self.timeframe,
            funding={symbol: _rows(self.funding[symbol], start, end) for symbol in inputs},
            instruments={symbol: self.instruments[symbol] for symbol in inputs},
            finer=finer,
            inputs=inputs,
        )


def _window(seen: StrategyInput, start: int, end: int) -> StrategyInput:
    """What the strategy sees for the bars of a window, and its usual history before them."""
    opened, last = (int(i) for i in np.searchsorted(seen.bars.ts, (start, end)))
    opened = max(opened, seen.warm_up)
    first, last = max(opened - seen.warm_up, 0), max(last, opened)
    known = seen.before(last)
    bars = known.bars
    return replace(
        known,
        bars=Bars(bars.symbol, bars.ts[first:], *(getattr(bars, name)[first:] for name in _PRICES)),
        warm_up=opened - first,
        features={name: values[first:] for name, values in known.features.items()},
        predictions=None if known.predictions is None else known.predictions.take(slice(first, None)),
        scores=None if known.scores is None else known.scores.take(slice(first, None)),
    )


def _candles(seen: StrategyInput) -> pd.DataFrame:
    """The bars after the warm-up as a candle frame."""
    after = slice(seen.warm_up, None)
    ts = pd.DatetimeIndex(seen.bars.ts[after].view("datetime64[us]")).tz_localize("UTC")
    return pd.DataFrame({"ts": ts, **{name: getattr(seen.bars, name)[after] for name in _PRICES}})


def _rows(frame: pd.DataFrame, start: int | None, end: int | None) -> pd.DataFrame:
    """The rows of a frame whose ts lies in [start, end)."""
    if start is None or end is None:
        return frame
    ts: Integers = pd.DatetimeIndex(frame["ts"]).as_unit("us").asi8
    first, last = (int(i) for i in np.searchsorted(ts, (start, end)))
    return frame.iloc[first:last]
