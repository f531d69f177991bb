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
LAYOUTS = "<exchange>/<SYMBOL>/<timeframe>.parquet, Binance's BTCUSDT-5m-2024-01.zip or freqtrade's BTC_USDT-5m.feather"

_SUFFIXES = {".parquet", ".feather", ".csv", ".zip"}
_BINANCE = re.compile(r"(?P<symbol>[A-Z0-9]+)-(?P<dataset>\d+[mhd]|fundingRate)-(?P<month>\d{4}-\d\d)(-(?P<day>\d\d))?")
_FREQTRADE = re.compile(
    r"(?P<base>[A-Z0-9]+)_(?P<quote>[A-Z0-9]+)(_(?P<settle>[A-Z0-9]+))?"
    r"-(?P<timeframe>\d+[mhd])(-(?P<kind>futures|funding_rate))?"
)
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
        A timeframe, or `FUNDING`.
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
    return sorted({file.exchange for file in find_files(folder) if file.dataset != FUNDING})


def _recognise(folder: Path, path: Path) -> SeriesFile | None:
    above = path.relative_to(folder).parts[:-1]
    found = _own(path, above) or _binance(path, above) or _freqtrade(path, above)
    if found is None or (found.dataset != FUNDING and found.dataset not in list(Timeframe)):
        return None
    try:
        split_symbol(found.symbol)
    except ValueError:
        return None
    return found


def _own(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    if path.suffix != ".parquet" or len(above) != 2:
        return None
    return SeriesFile(path, above[0], above[1], path.stem)


def _binance(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    match = _BINANCE.fullmatch(path.stem)
    if match is None or path.suffix not in (".csv", ".zip") or "cm" in above:
        return None
    spot = above[0] if above and above[0] in VENUES else "binance"
    exchange = "binanceusdm" if "um" in above else spot
    dataset = FUNDING if match["dataset"] == "fundingRate" else match["dataset"]
    return SeriesFile(path, exchange, match["symbol"], dataset, _period(match["month"], match["day"]))


def _freqtrade(path: Path, above: tuple[str, ...]) -> SeriesFile | None:
    match = _FREQTRADE.fullmatch(path.stem)
    if match is None or path.suffix not in (".feather", ".parquet") or set(above) <= {"futures"}:
        return None
    *_, exchange = (folder for folder in above if folder != "futures")
    exchange = _FREQTRADE_EXCHANGES.get((exchange, match["settle"] is not None), exchange)
    dataset = FUNDING if match["kind"] == "funding_rate" else match["timeframe"]
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
