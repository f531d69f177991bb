"""Candles that somebody has downloaded: a folder `<exchange>/<SYMBOL>/<timeframe>.parquet`.

Each file has the columns ts (open of the bar, UTC), open, high, low, close and volume, in any number
of row groups; it is read in batches. Funding lies in one file `funding/funding_rates.parquet` inside the
folder or beside it, with the columns exchange, symbol, ts and funding_rate.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trading_pipelines.adapters.sources.base import CandlePage
from trading_pipelines.adapters.sources.venues import kind_of
from trading_pipelines.domain.market.candles import CANDLE_COLUMNS, TS_DTYPE, empty_candles
from trading_pipelines.domain.market.instrument import Instrument, MarketKind, split_symbol
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.errors import UserError

_ROWS_PER_PAGE = 100_000
_FUNDING_FILE = Path("funding", "funding_rates.parquet")
_FUNDING_COLUMNS = ("exchange", "symbol", "ts", "funding_rate")


def exchanges_in(folder: Path) -> list[str]:
    """Names of the exchanges that an archive holds."""
    return sorted({path.parent.parent.name for path in folder.glob("*/*/*.parquet") if _is_candle_file(path)})


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
        for path, timeframe in ((p, t) for files in self._files.values() for t, p in files.items()):
            try:
                ends.append(_end_of(path, timeframe))
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
            for symbol in self._files
        ]

    def timeframes(self, symbol: str) -> tuple[Timeframe, ...]:
        """Those that there is a file of."""
        return tuple(self._files.get(symbol, {}))

    def candles(
        self, instrument: Instrument, timeframe: Timeframe, start: datetime, end: datetime
    ) -> Iterator[CandlePage]:
        """Batches of the file; it answers for the time from its first to its last candle."""
        path = self._files[instrument.symbol][timeframe]
        with _readable(path):
            file = pq.ParquetFile(path)
            times = _times(file)
        known = times[~np.isnat(times)]
        if len(known) == 0:
            return
        start = max(start, _moment(known.min()))
        end = min(end, _moment(known.max()) + timeframe.delta)
        if start < end:
            with _readable(path):
                yield from _pages(_frames(file, times, start, end), start, end)

    def funding(self, instrument: Instrument, start: datetime, end: datetime) -> pd.DataFrame:
        """Rates of the funding file; exchanges stamp them some milliseconds late, so times are rounded to minutes."""
        rates = self._funding_of(instrument.symbol)
        return rates[(rates["ts"] >= start) & (rates["ts"] < end)].reset_index(drop=True)

    def tickers(self, symbols: Sequence[str]) -> list[Ticker]:
        """The newest close of each symbol, dated by the end of its candle."""
        return [ticker for symbol in symbols if (ticker := self._ticker(symbol)) is not None]

    def _ticker(self, symbol: str) -> Ticker | None:
        closed, _, timeframe = max((_end_of(path, t), -t.minutes, t) for t, path in self._files[symbol].items())
        path = self._files[symbol][timeframe]
        with _readable(path):
            file = pq.ParquetFile(path)
            day = pd.concat([empty_candles(), *_frames(file, _times(file), closed - timedelta(days=1), closed)])
        day = day[day["ts"] >= closed - timedelta(days=1)].sort_values("ts")
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
    def _files(self) -> dict[str, dict[Timeframe, Path]]:
        """Candle files by symbol and timeframe, both ascending."""
        found: dict[str, dict[Timeframe, Path]] = {}
        files = [path for path in (self._folder / self.exchange).glob("*/*.parquet") if _is_candle_file(path)]
        for path in sorted(files, key=lambda path: (path.parent.name, Timeframe(path.stem).minutes)):
            found.setdefault(path.parent.name, {})[Timeframe(path.stem)] = path
        return found

    def _funding_interval(self, symbol: str) -> int | None:
        """The usual distance of two settlements in minutes; venues have several."""
        steps = self._funding_of(symbol)["ts"].diff().dropna()
        return None if steps.empty else int(steps.dt.total_seconds().median() // 60)

    def _funding_of(self, symbol: str) -> pd.DataFrame:
        return self._funding.get(symbol, pd.DataFrame({"ts": pd.Series(dtype=TS_DTYPE), "rate": []}))

    @cached_property
    def _funding(self) -> dict[str, pd.DataFrame]:
        path = next(
            (p for folder in (self._folder, self._folder.parent) if (p := folder / _FUNDING_FILE).is_file()), None
        )
        if path is None:
            return {}
        with _readable(path):
            table = pq.read_table(path, columns=list(_FUNDING_COLUMNS), filters=[("exchange", "==", self.exchange)])
        rates = table.to_pandas().rename(columns={"funding_rate": "rate"})
        rates["ts"] = pd.to_datetime(rates["ts"], utc=True).dt.round("min").astype(TS_DTYPE)
        rates = rates.drop_duplicates(["symbol", "ts"], keep="last").sort_values(["symbol", "ts"])
        return {str(symbol): group[["ts", "rate"]].reset_index(drop=True) for symbol, group in rates.groupby("symbol")}


def _is_candle_file(path: Path) -> bool:
    """Whether the names of folder and file are those of a symbol and a timeframe."""
    try:
        split_symbol(path.parent.name)
    except ValueError:
        return False
    return path.stem in list(Timeframe)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong while it is read."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a readable parquet file ({cause}); replace or remove it") from error


def _times(file: pq.ParquetFile) -> npt.NDArray[np.datetime64]:
    """The column ts alone, to know the span and order of a file before any other column is read."""
    schema = file.schema_arrow
    missing = [name for name in CANDLE_COLUMNS if name not in schema.names]
    if missing:
        raise pa.ArrowInvalid(f"no column {', '.join(missing)}")
    if not pa.types.is_timestamp(schema.field("ts").type):
        raise pa.ArrowInvalid(f"column ts is {schema.field('ts').type}, expected a timestamp")
    column = file.read(columns=["ts"]).column("ts").cast(pa.timestamp("us"))
    return column.to_numpy()


def _end_of(path: Path, timeframe: Timeframe) -> datetime:
    """Close of a file's newest candle; the epoch if it has none."""
    with _readable(path):
        times = _times(pq.ParquetFile(path))
    known = times[~np.isnat(times)]
    return _moment(known.max()) + timeframe.delta if len(known) else EPOCH


def _moment(time: np.datetime64) -> datetime:
    return pd.Timestamp(time).to_pydatetime().replace(tzinfo=UTC)


def _frames(
    file: pq.ParquetFile, times: npt.NDArray[np.datetime64], start: datetime, end: datetime
) -> Iterator[pd.DataFrame]:
    """Ascending frames that hold the rows of [start, end) and more; unordered files are sorted in memory."""
    columns = list(CANDLE_COLUMNS)
    if not (times[1:] >= times[:-1]).all():
        yield _utc(file.read(columns=columns).to_pandas()).sort_values("ts", kind="stable", na_position="first")
        return
    first, last = np.searchsorted(times, [np.datetime64(t.replace(tzinfo=None), "us") for t in (start, end)])
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    ends = np.cumsum(sizes)
    groups = [i for i, stop in enumerate(ends) if stop > first and stop - sizes[i] < last]
    for batch in file.iter_batches(_ROWS_PER_PAGE, row_groups=groups, columns=columns):
        yield _utc(batch.to_pandas())


def _utc(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(ts=pd.to_datetime(frame["ts"], utc=True).astype(TS_DTYPE))


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
