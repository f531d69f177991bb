"""Which file of a folder belongs to which series, told by names alone; nothing is opened.

Three layouts may lie side by side in one folder:

- `<exchange>/<SYMBOL>/<timeframe>.parquet`, our own;
- the public data of Binance as it is downloaded, zipped or unpacked, at any depth:
  `BTCUSDT-5m-2024-01.zip`, `BTCUSDT-fundingRate-2024-01.csv`; a folder `um` above it means USD-margined perpetuals;
- what freqtrade stores: `<exchange>/BTC_USDT-5m.feather` and `<exchange>/futures/BTC_USDT_USDT-5m-futures.feather`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trading_pipelines.adapters.sources.venues import VENUES
from trading_pipelines.domain.market.instrument import split_symbol
from trading_pipelines.domain.market.timeframe import Timeframe

FUNDING = "funding"
MARK = "mark"
"""Hourly candles of the mark price."""
MARK_TIMEFRAME = Timeframe.H1
LAYOUTS = "<exchange>/<SYMBOL>/<timeframe>.parquet, Binance's BTCUSDT-5m-2024-01.zip or freqtrade's BTC_USDT-5m.feather"

_SUFFIXES = {".parquet", ".feather", ".csv", ".zip"}
_BINANCE = re.compile(r"(?P<symbol>[A-Z0-9]+)-(?P<dataset>\d+[mhd]|fundingRate)-(?P<month>\d{4}-\d\d)(-(?P<day>\d\d))?")
_FREQTRADE = re.compile(
    r"(?P<base>[A-Z0-9]+)_(?P<quote>[A-Z0-9]+)(_(?P<settle>[A-Z0-9]+))?"
    r"-(?P<timeframe>\d+[mhd])(-(?P<kind>futures|funding_rate|mark))?"
)
_MARK_FOLDER = "markPriceKlines"
_NOT_TRADED = {"indexPriceKlines", "premiumIndexKlines"}
"""Candles of what nobody trades, named like those of what is traded."""
_FREQTRADE_EXCHANGES = {
    ("binance", True): "binanceusdm",
    ("bybit", False): "bybit_spot",
    ("mexc", True): "mexc_swap",
}


@dataclass(frozen=True)
class SeriesFile:
    """One file of a series.

    Attributes
    ----------
    dataset : str
        A timeframe, `FUNDING` or `MARK`.
    period : pair of datetimes or None
        The span [start, end) that the name promises; None where only the content tells.
    """

    path: Path
    exchange: str
    symbol: str
    dataset: str
    period: tuple[datetime, datetime] | None = None


def find_files(folder: Path) -> Iterator[SeriesFile]:
    """Every file under `folder` whose name is that of a series, in the order of the paths."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and (found := _recognise(folder, path)) is not None:
            yield found


def exchanges_in(folder: Path) -> list[str]:
    """Names of the exchanges of which an archive holds candles."""
    return sorted({file.exchange for file in find_files(folder) if is_candles(file)})


def is_candles(file: SeriesFile) -> bool:
    """Whether it holds candles of trades."""
    return file.dataset not in (FUNDING, MARK)


def mark_files_beside(folder: Path, exchange: str) -> Iterator[SeriesFile]:
    """Files of mark prices in the folder `mark` that lies beside the archive, in our own layout."""
    for path in sorted(folder.parent.glob(f"{MARK}/{exchange}/*/{MARK_TIMEFRAME}.parquet")):
        yield SeriesFile(path, exchange, path.parent.name, MARK)


def _recognise(folder: Path, path: Path) -> SeriesFile | None:
    above = path.relative_to(folder).parts[:-1]
    found = _own(path, above) or _binance(path, above) or _freqtrade(path, above)
    if found is None or (is_candles(found) and found.dataset not in list(Timeframe)):
        return None
    try:
        split_symbol(found.symbol)
    except ValueError:
        return None
    return found


def _own(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    if path.suffix != ".parquet":
        return None
    if len(above) == 3 and above[0] == MARK and path.stem == MARK_TIMEFRAME:
        return SeriesFile(path, above[1], above[2], MARK)
    if len(above) != 2:
        return None
    return SeriesFile(path, above[0], above[1], path.stem)


def _binance(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    match = _BINANCE.fullmatch(path.stem)
    if match is None or path.suffix not in (".csv", ".zip") or "cm" in above or _NOT_TRADED & set(above):
        return None
    spot = above[0] if above and above[0] in VENUES else "binance"
    exchange = "binanceusdm" if "um" in above else spot
    dataset = FUNDING if match["dataset"] == "fundingRate" else match["dataset"]
    if _MARK_FOLDER in above:
        if dataset != MARK_TIMEFRAME:
            return None
        dataset = MARK
    return SeriesFile(path, exchange, match["symbol"], dataset, _period(match["month"], match["day"]))


def _freqtrade(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    match = _FREQTRADE.fullmatch(path.stem)
    if match is None or path.suffix not in (".feather", ".parquet") or set(above) <= {"futures"}:
        return None
    *_, exchange = (folder for folder in above if folder != "futures")
    exchange = _FREQTRADE_EXCHANGES.get((exchange, match["settle"] is not None), exchange)
    dataset = FUNDING if match["kind"] == "funding_rate" else match["timeframe"]
    if match["kind"] == "mark":
        if dataset != MARK_TIMEFRAME:
            return None
        dataset = MARK
    return SeriesFile(path, exchange, match["base"] + match["quote"], dataset)


def _period(month: str, day: str | None) -> tuple[datetime, datetime] | None:
    """The month or the day that a name like 2024-01 or 2024-01-31 means."""
    try:
        start = datetime.strptime(f"{month}-{day or '01'}", "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    if day is not None:
        return start, start + timedelta(days=1)
    return start, (start + timedelta(days=31)).replace(day=1)
