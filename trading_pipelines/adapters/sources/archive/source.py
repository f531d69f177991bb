"""One exchange of an archive as a source of market data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from trading_pipelines.adapters.sources.archive.files import (
    CandleFile,
    open_candles,
    read_funding,
    read_mark_prices,
    readable,
)
from trading_pipelines.adapters.sources.archive.layout import (
    FUNDING,
    MARK,
    SeriesFile,
    find_files,
    is_candles,
    mark_files_beside,
)
from trading_pipelines.adapters.sources.base import MARK_COLUMNS, OPEN_INTEREST_COLUMNS, CandlePage, empty_frame
from trading_pipelines.adapters.sources.venues import kind_of
from trading_pipelines.domain.market.candles import TS_DTYPE, empty_candles
from trading_pipelines.domain.market.instrument import Instrument, Listing, MarketKind, split_symbol
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.errors import UserError

_FUNDING_FILE = Path("funding", "funding_rates.parquet")
"""Funding of all exchanges in one file, inside the folder or beside it."""
_ROWS_TO_SORT = 500_000
"""Of a file that is not in the order of time, about so many are held at once."""
_FUNDING_COLUMNS = ("exchange", "symbol", "ts", "funding_rate")


class ArchiveSource:
    """One exchange's files; its time stands still at the end of the newest candle."""

    name = "archive"

    def __init__(self, folder: Path, exchange: str) -> None:
        self.exchange = exchange
        self._folder = folder

    def now(self) -> datetime:
        """Close of the newest candle of all symbols; a file that cannot be read does not count.

        Raises
        ------
        UserError
            None of the files can be read; the message names one.
        """
        return self._end

    @cached_property
    def _end(self) -> datetime:
        ends: list[datetime] = []
        unreadable: list[UserError] = []
        for series in self._series.values():
            for timeframe, files in series.items():
                try:
                    ends.append(_end_of(files, timeframe))
                except UserError as error:
                    unreadable.append(error)
        if unreadable and not ends:
            raise unreadable[0]
        return max(ends, default=EPOCH)

    def instruments(self) -> list[Instrument]:
        """Every symbol with a candle file; an archive knows no steps or minimums."""
        kind = kind_of(self.exchange)
        return [
            Instrument(
                self.exchange,
                symbol,
                *split_symbol(symbol),
                kind,
                funding_interval_minutes=self._funding_interval(symbol) if kind is MarketKind.PERPETUAL else None,
            )
            for symbol in self._series
        ]

    def listings(self) -> list[Listing]:
        """The same: an archive does not say what else there was."""
        return [Listing(instrument) for instrument in self.instruments()]

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """Those that there is a file of."""
        return tuple(self._series.get(symbol, {}))

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """Batches of the files, one file after the other.

        A file answers for the period in its name, or for the time from its first to its last candle; where two overlap
        the one that begins first does.
        """
        for file in self._series[instrument.symbol][timeframe]:
            for page in _pages_of(file, timeframe, start, end):
                yield page
                start = page.end

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Rates of the funding file; exchanges stamp them some milliseconds late, so times are rounded to minutes."""
        rates = self._funding_of(instrument.symbol)
        return rates[(rates["ts"] >= start) & (rates["ts"] < end)].reset_index(drop=True)

    def open_interest(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """None: no layout of an archive holds it by instrument."""
        return empty_frame(OPEN_INTEREST_COLUMNS)

    def mark_prices(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Hours of the symbol's files, in the archive or in the folder `mark` beside it; the former counts."""
        found = [empty_frame(MARK_COLUMNS)]
        for file in (*mark_files_beside(self._folder, self.exchange), *self._files):
            if file.dataset == MARK and file.symbol == instrument.symbol:
                with readable(file.path):
                    found.append(read_mark_prices(file.path))
        prices = pd.concat(found, ignore_index=True).drop_duplicates("ts", keep="last").sort_values("ts")
        return prices[(prices["ts"] >= start) & (prices["ts"] < end)].reset_index(drop=True)

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """The newest close of each symbol, dated by the end of its candle."""
        return [ticker for symbol in symbols if (ticker := self._ticker(symbol)) is not None]

    def _ticker(self, symbol: str) -> Ticker | None:
        closed, _, timeframe = max((_end_of(files, t), -t.minutes, t) for t, files in self._series[symbol].items())
        since = closed - timedelta(days=1)
        found = [
            page.candles
            for file in self._series[symbol][timeframe]
            if file.period is None or file.period[1] > since
            for page in _pages_of(file, timeframe, since, closed)
        ]
        day = pd.concat([empty_candles(), *found]).sort_values("ts")
        if day.empty:
            return None
        price = float(day["close"].iloc[-1])
        return Ticker(
            symbol,
            closed,
            price,
            change_24h=price / float(day["open"].iloc[0]) - 1,
            quote_volume_24h=float((day["close"] * day["volume"]).sum()),
        )

    @cached_property
    def _files(self) -> list[SeriesFile]:
        return [file for file in find_files(self._folder) if file.exchange == self.exchange]

    @cached_property
    def _series(self) -> dict[str, dict[Timeframe, list[SeriesFile]]]:
        """Candle files by symbol and timeframe, both ascending; those of one series by their period."""
        found: dict[str, dict[Timeframe, list[SeriesFile]]] = {}
        candles = [file for file in self._files if is_candles(file)]
        order = {file.path: (file.symbol, Timeframe(file.dataset).minutes, *_period(file)) for file in candles}
        for file in sorted(candles, key=lambda file: order[file.path]):
            found.setdefault(file.symbol, {}).setdefault(Timeframe(file.dataset), []).append(file)
        return found

    def _funding_interval(self, symbol: str) -> int | None:
        """The usual distance of two settlements in minutes; venues have several."""
        steps = self._funding_of(symbol)["ts"].diff().dropna()
        return None if steps.empty else int(steps.dt.total_seconds().median() // 60)

    def _funding_of(self, symbol: str) -> pd.DataFrame:
        return self._funding.get(symbol, pd.DataFrame({"ts": pd.Series(dtype=TS_DTYPE), "rate": []}))

    @cached_property
    def _funding(self) -> dict[str, pd.DataFrame]:
        """Settlements by symbol, of the common file and of each symbol's own files."""
        found = [self._common_funding]
        for file in self._files:
            if file.dataset == FUNDING:
                with readable(file.path):
                    found.append(read_funding(file.path).assign(symbol=file.symbol))
        rates = pd.concat(found, ignore_index=True)
        rates["ts"] = rates["ts"].dt.round("min").astype(TS_DTYPE)
        rates = rates.drop_duplicates(["symbol", "ts"], keep="last").sort_values(["symbol", "ts"])
        return {str(symbol): group[["ts", "rate"]].reset_index(drop=True) for symbol, group in rates.groupby("symbol")}

    @property
    def _common_funding(self) -> pd.DataFrame:
        path = next(
            (p for folder in (self._folder, self._folder.parent) if (p := folder / _FUNDING_FILE).is_file()), None
        )
        if path is None:
            return pd.DataFrame({"symbol": pd.Series(dtype="str"), "ts": pd.Series(dtype=TS_DTYPE), "rate": []})
        with readable(path):
            table = pq.read_table(path, columns=list(_FUNDING_COLUMNS), filters=[("exchange", "==", self.exchange)])
        rates = table.to_pandas().rename(columns={"funding_rate": "rate"})
        return rates.assign(ts=pd.to_datetime(rates["ts"], utc=True).astype(TS_DTYPE))[["symbol", "ts", "rate"]]


def _period(file: SeriesFile) -> tuple[bool, datetime, datetime]:
    """Where a file stands in its series: undated ones first, of dated ones the longer before the shorter."""
    if file.period is None:
        return False, EPOCH, EPOCH
    start, end = file.period
    return True, start, EPOCH + (datetime.max.replace(tzinfo=UTC) - end)


def _end_of(files: Sequence[SeriesFile], timeframe: Timeframe) -> datetime:
    """Close of a series' newest candle; the epoch if it has none.

    A dated file is complete when it is published, so only the newest one has to be opened.
    """
    dated = [file for file in files if file.period is not None]
    newest = max(dated, key=lambda file: file.period or (EPOCH, EPOCH), default=None)
    looked_at = [file for file in files if file.period is None or file is newest]
    return max(_moment_after_last(file, timeframe) for file in looked_at)


def _moment_after_last(file: SeriesFile, timeframe: Timeframe) -> datetime:
    with readable(file.path):
        held = _survey(open_candles(file.path))
    return EPOCH if held.span is None else held.span[1] + timeframe.delta


@dataclass(frozen=True)
class _Survey:
    """What a file holds, by its open times alone."""

    rows: int
    span: tuple[datetime, datetime] | None
    """Earliest and latest open time; None without any that can be read."""
    ascending: bool
    """Whether the rows are in the order of time, and each has one."""
    wanted: tuple[int, int]
    """If so: positions of the first row that is wanted and of the first after those."""


def _survey(file: CandleFile, start: datetime = EPOCH, end: datetime = EPOCH) -> _Survey:
    """Go through the times of a file of which the bars in [start, end) are wanted."""
    sought = [np.datetime64(t.replace(tzinfo=None), "us") for t in (start, end)]
    rows, ascending, before = 0, True, np.zeros(2, int)
    earliest, latest, newest = (np.datetime64("NaT", "us") for _ in range(3))
    for times in file.times():
        if len(times) == 0:
            continue
        in_order = (times[1:] >= times[:-1]).all() and not (np.isnat(times[0]) or times[0] < newest)
        rows, ascending, newest = rows + len(times), ascending and bool(in_order), times[-1]
        earliest, latest = np.fmin(earliest, np.fmin.reduce(times)), np.fmax(latest, np.fmax.reduce(times))
        before += np.searchsorted(times, sought)
    span = None if np.isnat(earliest) else (_moment(earliest), _moment(latest))
    return _Survey(rows, span, ascending, (int(before[0]), int(before[1])))


def _moment(time: np.datetime64) -> datetime:
    return pd.Timestamp(time).to_pydatetime().replace(tzinfo=UTC)


def _pages_of(file: SeriesFile, timeframe: Timeframe, start: datetime, end: datetime) -> Iterator[CandlePage]:
    """What one file answers of [start, end)."""
    if file.period is not None and (file.period[1] <= start or file.period[0] >= end):
        return
    with readable(file.path):
        opened = open_candles(file.path)
        held = _survey(opened, start, end)
    if held.span is None:
        return
    first, last = file.period or (held.span[0], held.span[1] + timeframe.delta)
    start, end = max(start, first), min(end, last)
    if start < end:
        with readable(file.path):
            frames = opened.frames(*held.wanted) if held.ascending else _sorted(opened, held.rows, start, end)
            yield from _pages(frames, start, end)


def _sorted(file: CandleFile, rows: int, start: datetime, end: datetime) -> Iterator[pd.DataFrame]:
    """The rows of [start, end) in order, from a file read anew for each stretch of time that fits into memory."""
    edges = pd.date_range(start, end, periods=rows // _ROWS_TO_SORT + 2, unit="us")
    for number, (since, until) in enumerate(pairwise(edges)):
        parts = [
            frame[frame["ts"].between(since, until, inclusive="left") | ((number == 0) & frame["ts"].isna())]
            for frame in file.frames()
        ]
        yield pd.concat(parts, ignore_index=True).sort_values("ts", kind="stable", na_position="first")


def _pages(frames: Iterator[pd.DataFrame], start: datetime, end: datetime) -> Iterator[CandlePage]:
    """Cut frames into pages; rows of a frame's last time wait for the next one, which may repeat that time."""
    waiting = empty_candles()
    for frame in frames:
        newest = waiting["ts"].max()
        if newest > start:
            held = waiting["ts"] == newest
            yield CandlePage(start, newest.to_pydatetime(), waiting[~held])
            start, waiting = newest.to_pydatetime(), waiting[held]
        outside = (frame["ts"] < start) | (frame["ts"] >= end)
        waiting = pd.concat([waiting, frame[~outside]], ignore_index=True)
    yield CandlePage(start, end, waiting)
