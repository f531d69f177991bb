"""The simulated market as a source: what of it has been published by now."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd

from trading_pipelines.adapters.sources.base import CandlePage
from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import EXCHANGE, GRID, SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

_PAGE = timedelta(days=64)


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class SimulatedSource:
    """A venue that is always up and has candles until now, made from a seed."""

    name = "simulated"
    exchange = EXCHANGE

    def __init__(self, spec: SimulatedMarketSpec, clock: Callable[[], datetime] = _wall_clock) -> None:
        self._market = SimulatedMarket(spec)
        self._clock = clock

    def now(self) -> datetime:
        """Wall clock, or the clock it was given."""
        return self._clock()

    def instruments(self) -> list[Instrument]:
        """The symbols of the spec."""
        return self._market.instruments()

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """The simulated timeframe and all longer ones."""
        return (GRID, *GRID.longer())

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """Pages of 64 days, from the beginning of the history to the last closed bar."""
        end = min(end, timeframe.floor(self.now()))
        while start < end:
            stop = min(end, Timeframe.D1.floor(start) + _PAGE)
            yield CandlePage(start, stop, self._candles(instrument.symbol, timeframe, start, stop))
            start = stop

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Settlements so far."""
        return self._market.funding(
            instrument.symbol, max(start, self._listed()), min(end, self.now() + timedelta(microseconds=1))
        )

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """Quotes of this instant."""
        now = self.now()
        return [self._market.ticker(symbol, now) for symbol in symbols]

    def _listed(self) -> datetime:
        return Timeframe.D1.floor(self.now()) - timedelta(days=self._market.spec.history_days)

    def _candles(self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime) -> pd.DataFrame:
        first = max(timeframe.floor(start + timeframe.delta - timedelta(microseconds=1)), self._listed())
        last = timeframe.floor(end + timeframe.delta - timedelta(microseconds=1))
        candles = self._market.candles(symbol, first, last)
        return candles if timeframe is GRID else aggregate(candles, timeframe)
