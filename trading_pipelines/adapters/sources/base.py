"""What every source of market data offers; validation and storage belong to `application.market_data.ingestion`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd

from trading_pipelines.domain.market.candles import TS_DTYPE
from trading_pipelines.domain.market.instrument import Instrument, Listing
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.errors import UserError


class SourceError(UserError):
    """The source did not deliver; the message names it and the cause in one line."""


@dataclass(frozen=True)
class CandlePage:
    """The source's answer for the span [start, end): its candles, or the fact that it has none.

    Because a page says which span it answers, coverage can be stored page by page and an
    interrupted backfill goes on where it stopped.

    Attributes
    ----------
    candles : pandas.DataFrame
        ts, open, high, low, close, volume as received: nothing is checked yet.
    """

    start: datetime
    end: datetime
    candles: pd.DataFrame


OPEN_INTEREST_COLUMNS = ("ts", "quantity", "value_usd")
MARK_COLUMNS = ("ts", "open", "high", "low", "close")


def empty_frame(columns: Sequence[str]) -> pd.DataFrame:
    """No rows of `ts` and numbers."""
    return pd.DataFrame({c: pd.Series(dtype=TS_DTYPE if c == "ts" else "float64") for c in columns})


class MarketDataSource(Protocol):
    """One venue's market data; all times are UTC."""

    @property
    def name(self) -> str:
        """Kind of source: `simulated`, `archive` or `ccxt`."""
        ...

    @property
    def exchange(self) -> str:
        """Exchange key of its instruments, for example `bybit`."""
        ...

    def now(self) -> datetime:
        """The source's clock: wall clock of a live venue, end of the data of an archive."""
        ...

    def instruments(self) -> list[Instrument]:
        """What is fetched and traded where no symbol is named, by symbol."""
        ...

    def listings(self) -> list[Listing]:
        """Every pair that the venue lists, those that do not trade too, by symbol.

        A pair that left the list for good may be missing in it.
        """
        ...

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """Candle lengths on offer for `symbol`, ascending."""
        ...

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """Yield the candles that open in [start, end), page by page in ascending order.

        The pages join without a hole and never reach past the newest bar that is closed by the
        source's clock: the forming candle is not served.
        """
        ...

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Funding settled in [start, end): ts and rate (fraction of notional, paid by longs)."""
        ...

    def open_interest(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Open contracts at the full hours of [start, end) as far back as the venue tells, ascending.

        Columns ts, quantity (base currency) and value_usd (NaN where the venue does not say); empty where there is
        none.
        """
        ...

    def mark_prices(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Closed hourly candles of the mark price that open in [start, end), ascending: ts, open, high, low, close."""
        ...

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """Newest quotes; a symbol without one is left out."""
        ...
