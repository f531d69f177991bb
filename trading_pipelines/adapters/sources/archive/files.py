"""Read one candle file, whatever its format, in batches of bounded size.

Belongs here: columns, headers, units of time and broken rows of each format. Does not belong here: which file belongs
to which series (`layout`) and which rows are sound (`domain.market.candles`).
"""

import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from trading_pipelines.domain.market.candles import CANDLE_COLUMNS, TS_DTYPE
from trading_pipelines.errors import UserError

ROWS_PER_BATCH = 100_000
Times = npt.NDArray[np.datetime64]

_KINDS = {".parquet": "parquet", ".feather": "feather", ".csv": "CSV", ".zip": "zipped CSV"}
_TIME_NAMES = ("ts", "date")
# The columns of Binance's candles; their files have had a header since 2022 for futures, and none for spot.
_BINANCE_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
_BLOCK_BYTES = 1 << 22
# Milliseconds of the year 5138; Binance counts spot times of 2025 and later in microseconds.
_MILLISECONDS_END = 100_000_000_000_000


class CandleFile(Protocol):
    """One opened file."""

    def times(self) -> Iterator[Times]:
        """Open times alone, as datetime64[us] in UTC and in the order of the file; NaT where unreadable."""
        ...

    def frames(self, first: int = 0, last: int = sys.maxsize) -> Iterator[pd.DataFrame]:
        """Candle frames as received that hold the rows of the positions [first, last), and perhaps more."""
        ...


def open_candles(path: Path) -> CandleFile:
    """Open a candle file of any known format."""
    match path.suffix:
        case ".parquet":
            return _ParquetFile(path)
        case ".feather":
            return _FeatherFile(path)
        case _:
            return _CsvFile(path)


def read_funding(path: Path) -> pd.DataFrame:
    """The settlements of one file: ts and rate, unrounded and in any order."""
    if path.suffix in (".feather", ".parquet"):
        table = pa.ipc.open_file(str(path)).read_all() if path.suffix == ".feather" else pq.read_table(path)
        frame = table.select(["date", "open"]).to_pandas()
        return pd.DataFrame({"ts": pd.to_datetime(frame["date"], utc=True).astype(TS_DTYPE), "rate": frame["open"]})
    with _csv_stream(path) as stream:
        frame = pd.read_csv(stream)
    needed = {"calc_time", "last_funding_rate"}
    if not needed <= set(frame.columns):
        raise pa.ArrowInvalid(f"no column {', '.join(sorted(needed - set(frame.columns)))}")
    ts = pd.to_datetime(frame["calc_time"], unit="ms", utc=True).astype(TS_DTYPE)
    return pd.DataFrame({"ts": ts, "rate": pd.to_numeric(frame["last_funding_rate"])})


def read_mark_prices(path: Path) -> pd.DataFrame:
    """The hours of one file: ts and prices, as received; files of mark prices may lack a volume."""
    if path.suffix in (".feather", ".parquet"):
        table = pa.ipc.open_file(str(path)).read_all() if path.suffix == ".feather" else pq.read_table(path)
        time = _time_column(table.schema, CANDLE_COLUMNS[1:5])
        frame = table.select([time, *CANDLE_COLUMNS[1:5]]).to_pandas().rename(columns={time: "ts"})
        return frame.assign(ts=pd.to_datetime(frame["ts"], utc=True).astype(TS_DTYPE))
    file = open_candles(path)
    return pd.concat(list(file.frames()), ignore_index=True)[list(CANDLE_COLUMNS[:5])]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong while it is read.

    Raises
    ------
    UserError
        The file is not what its name says.
    """
    try:
        yield
    except (pa.ArrowException, OSError, zipfile.BadZipFile, ValueError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        kind = _KINDS.get(path.suffix, "candle")
        raise UserError(f"{path}: not a readable {kind} file ({cause}); replace or remove it") from error


@dataclass
class _ParquetFile:
    path: Path

    def __post_init__(self) -> None:
        # Buffered, because a column that is read whole takes as much memory as its row group is long.
        self._file = pq.ParquetFile(self.path, buffer_size=_BLOCK_BYTES, pre_buffer=False)
        self._time = _time_column(self._file.schema_arrow)

    def times(self) -> Iterator[Times]:
        for batch in self._file.iter_batches(ROWS_PER_BATCH, columns=[self._time]):
            yield _microseconds(batch.column(0))

    def frames(self, first: int = 0, last: int = sys.maxsize) -> Iterator[pd.DataFrame]:
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = [i for i, stop in enumerate(ends) if stop > first and stop - sizes[i] < last]
        columns = [self._time, *CANDLE_COLUMNS[1:]]
        for batch in self._file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=columns):
            yield _utc(batch.to_pandas(), self._time)


@dataclass
class _FeatherFile:
    """Arrow's own format on disk, version 2; the file is mapped, not read whole."""

    path: Path

    def __post_init__(self) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(self.path)))
        self._time = _time_column(self._file.schema)

    def times(self) -> Iterator[Times]:
        for i in range(self._file.num_record_batches):
            yield _microseconds(self._file.get_batch(i).column(self._time))

    def frames(self, first: int = 0, last: int = sys.maxsize) -> Iterator[pd.DataFrame]:
        start = 0
        for i in range(self._file.num_record_batches):
            batch = self._file.get_batch(i).select([self._time, *CANDLE_COLUMNS[1:]])
            stop = start + batch.num_rows
            for at in range(max(first, start), min(last, stop), ROWS_PER_BATCH):
                part = batch.slice(at - start, min(ROWS_PER_BATCH, min(last, stop) - at))
                yield _utc(part.to_pandas(), self._time)
            start = stop


@dataclass
class _CsvFile:
    """Text with or without a header, zipped or not; read once for its times and once for the rest.

    A row that has too few or too many fields is handed on as its text, so that the validation can refuse and keep it.
    """

    path: Path
    _odd: list[str] = field(default_factory=list[str])

    def times(self) -> Iterator[Times]:
        for batch in self._batches():
            yield _moments(batch.column(0))

    def frames(self, first: int = 0, last: int = sys.maxsize) -> Iterator[pd.DataFrame]:
        start = 0
        self._odd.clear()
        for batch in self._batches():
            stop = start + batch.num_rows
            if stop > first and start < last:
                ts = pd.Series(_moments(batch.column(0))).dt.tz_localize("UTC")
                numbers = {name: _numbers(batch.column(i)) for i, name in enumerate(CANDLE_COLUMNS[1:], start=1)}
                yield pd.DataFrame({"ts": ts, **numbers})
            start = stop
        if self._odd:
            broken = {name: pd.Series([None] * len(self._odd), dtype="object") for name in CANDLE_COLUMNS[2:]}
            ts = pd.Series(pd.NaT, index=range(len(self._odd)), dtype=TS_DTYPE)
            yield pd.DataFrame({"ts": ts, "open": pd.Series(self._odd, dtype="object"), **broken})

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with _csv_stream(self.path) as stream:
            head = stream.peek(1024).split(b"\n", 1)[0].decode(errors="replace")
            fields = head.strip().split(",")
            if not head.strip():
                return
            names = _header(fields)
            reader = pa_csv.open_csv(
                stream,
                pa_csv.ReadOptions(
                    column_names=names,
                    skip_rows=0 if _is_number(fields[0]) else 1,
                    block_size=_BLOCK_BYTES,
                    use_threads=False,
                ),
                pa_csv.ParseOptions(invalid_row_handler=self._keep_odd),
                # As text: one field that is no number must not spoil its whole file.
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), include_columns=names[: len(CANDLE_COLUMNS)]
                ),
            )
            yield from reader

    def _keep_odd(self, row: Any) -> str:
        self._odd.append(row.text if row.text is not None else "(unreadable row)")
        return "skip"


@contextmanager
def _csv_stream(path: Path) -> Iterator[io.BufferedReader]:
    if path.suffix != ".zip":
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".csv")]
        if len(members) != 1:
            raise pa.ArrowInvalid(f"{len(members)} CSV files inside, expected one")
        with archive.open(members[0]) as member:
            raw: IO[bytes] = member
            yield io.BufferedReader(raw, 1 << 16)  # type: ignore[arg-type]  # a zip member is a raw stream in all but name


def _header(fields: Sequence[str]) -> list[str]:
    """Names of the columns, from the header or as Binance has them."""
    if not _is_number(fields[0]):
        wanted = [name.strip().lower() for name in fields]
        if wanted[1:6] != list(CANDLE_COLUMNS[1:]):
            raise pa.ArrowInvalid(f"columns are {', '.join(fields[:6])}; expected a time, then open to volume")
        return wanted
    if len(fields) < len(CANDLE_COLUMNS):
        raise pa.ArrowInvalid(f"{len(fields)} columns, expected a time, then open to volume")
    return [*_BINANCE_COLUMNS[: len(fields)], *(f"extra_{i}" for i in range(len(_BINANCE_COLUMNS), len(fields)))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _microseconds(column: pa.Array) -> Times:
    return column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)


def _moments(column: pa.Array) -> Times:
    """Times given as milliseconds, microseconds or ISO text; NaT where unreadable."""
    text = column.to_pandas()
    values = pd.to_numeric(text, errors="coerce")
    if values.notna().any() or len(values) == 0:
        microseconds = np.where(values.abs() < _MILLISECONDS_END, values * 1_000, values)
        known = np.isfinite(microseconds)
        moments = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
        moments[known] = microseconds[known].astype(np.int64).view("datetime64[us]")
        return moments
    return pd.to_datetime(text, utc=True, errors="coerce").dt.tz_localize(None).to_numpy("datetime64[us]")


def _numbers(column: pa.Array) -> Any:
    """Numbers, or the text as it is where not all of it are numbers."""
    try:
        return column.cast(pa.float64()).to_pandas()
    except pa.ArrowInvalid:
        return column.to_pandas()


def _time_column(schema: pa.Schema, others: Sequence[str] = CANDLE_COLUMNS[1:]) -> str:
    """Name of the time column; the `others` have to be there too."""
    time = next((name for name in _TIME_NAMES if name in schema.names), None)
    missing = [name for name in others if name not in schema.names]
    if time is None or missing:
        raise pa.ArrowInvalid(f"no column {', '.join(missing if time else ['ts', *missing])}")
    if not pa.types.is_timestamp(schema.field(time).type):
        raise pa.ArrowInvalid(f"column {time} is {schema.field(time).type}, expected a timestamp")
    return time


def _utc(frame: pd.DataFrame, time: str) -> pd.DataFrame:
    ts = pd.to_datetime(frame[time], utc=True).astype(TS_DTYPE)
    return frame.drop(columns=time).assign(ts=ts)[list(CANDLE_COLUMNS)]
