"""Recorded history of alternative data in parquet files, as observations dated by when each value could be known.

Nobody noted when these values arrived, so `Series.known_at` says it: a day's figure after its day has ended, plus the
time it takes to be published. Some files are stamped otherwise than what they hold, which their readers put right.
Belongs here: files, columns and stamps of numbers. Does not belong here: those of texts
(`adapters.alternative.archive_texts`) and storing (`application.alternative.history`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from trading_pipelines.adapters.alternative.archive_texts import TEXTS, RecordedTexts, deliver_texts
from trading_pipelines.adapters.alternative.base import Delivery, Refused
from trading_pipelines.domain.alternative.series import MARKET, SERIES, Observation
from trading_pipelines.domain.alternative.texts import TextItem, TextLimits
from trading_pipelines.errors import UserError

_DAY = timedelta(days=1)
_MOST_REFUSED = 1000
_MILLION = 1e6
_LIMITS = TextLimits()


@dataclass(frozen=True)
class Column:
    """One series out of a file: a frame with ts, coin and value, and the bounds outside which a value is refused."""

    series: str
    rows: pd.DataFrame
    lowest: float = -np.inf
    highest: float = np.inf


@dataclass(frozen=True)
class Recorded:
    """What one file holds."""

    file: str
    source: str
    columns: tuple[str, ...]
    read: Callable[[pd.DataFrame], tuple[Column, ...]]


def read_history(
    folder: Path, limits: TextLimits = _LIMITS
) -> Iterator[tuple[Recorded | RecordedTexts, Delivery[Observation] | Delivery[TextItem]]]:
    """Read every known file below a folder, one after the other; what is not there is left out.

    Raises
    ------
    UserError
        There is no such folder, it holds none of the files, or a file is no parquet file with the expected columns.
    """
    known = (*FILES, *TEXTS)
    found = [file for file in known if (folder / file.file).is_file()]
    if not found:
        raise UserError(f"{folder} holds none of the recorded files: {', '.join(file.file for file in known)}")
    for file in found:
        frame = _open(folder / file.file, file.columns)
        yield file, deliver_texts(file, frame, limits) if isinstance(file, RecordedTexts) else _deliver(file, frame)


def _open(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=list(columns))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as a parquet file with {', '.join(columns)}: {reason}") from error


def _deliver(file: Recorded, frame: pd.DataFrame) -> Delivery[Observation]:
    items, refused = list[Observation](), list[Refused]()
    for column in file.read(frame):
        sound, faults = _checked(column)
        series = SERIES[column.series]
        moments = pd.DatetimeIndex(sound["ts"]).as_unit("us").asi8
        lag = (series.period + series.publication_lag) // timedelta(microseconds=1)
        times = (pd.to_datetime(values, unit="us", utc=True).to_pydatetime() for values in (moments, moments + lag))
        items += [
            Observation(column.series, coin, file.source, ts, known, value)
            for coin, value, ts, known in zip(sound["coin"], sound["value"].tolist(), *times, strict=True)
        ]
        refused += faults[: _MOST_REFUSED - len(refused)]
    return Delivery(tuple(items), tuple(refused))


def _checked(column: Column) -> tuple[pd.DataFrame, list[Refused]]:
    """The sound rows, and the others with their reasons; a value that is missing is no row."""
    rows = column.rows.reset_index(drop=True)
    ts, value = pd.to_datetime(rows["ts"], utc=True, errors="coerce"), pd.to_numeric(rows["value"], errors="coerce")
    rows = rows.assign(ts=ts, given=rows["value"], value=value)[~(rows["value"].isna() & ts.notna())]
    tests = {
        "no readable time": rows["ts"].isna(),
        "no finite number": ~np.isfinite(rows["value"].astype(float)),
        f"outside {column.lowest:g} ... {column.highest:g}": ~rows["value"].between(column.lowest, column.highest),
        "a second value of the same time": rows.duplicated(["coin", "ts"]),
    }
    reasons = pd.Series(index=rows.index, dtype=object)
    for reason, broken in tests.items():
        reasons = reasons.where(reasons.notna() | ~broken, reason)
    faults = [
        Refused(f"{column.series} {row.coin}", reason, f"ts={row.ts} value={row.given}")
        for row, reason in zip(rows[reasons.notna()].itertuples(), reasons.dropna(), strict=True)
    ]
    return rows[reasons.isna()].sort_values(["coin", "ts"]), faults


def _market(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    return pd.DataFrame({"ts": frame["ts"], "coin": MARKET, "value": frame[value]})


def _coin(
    frame: pd.DataFrame, value: str, coin: str, *, scale: float = 1.0, shift: timedelta = timedelta(0)
) -> pd.DataFrame:
    return pd.DataFrame({"ts": frame["ts"] + shift, "coin": coin, "value": frame[value] * scale})


def _fear_greed(frame: pd.DataFrame) -> tuple[Column, ...]:
    return (Column("fear_greed", _market(frame, "value"), 0, 100),)


def _bitcoin(frame: pd.DataFrame) -> tuple[Column, ...]:
    metric = {str(name): rows for name, rows in frame.groupby("metric")}
    empty = frame.iloc[:0]
    # Held at the end of the day, so of that instant.
    dominance, interest = (metric.get(name, empty) for name in ("BTC_dominance", "open_interest"))
    return (
        Column("exchange_reserve", _coin(metric.get("exchange_reserves", empty), "value", "BTC"), 1),
        Column("btc_dominance", _coin(dominance, "value", MARKET, shift=_DAY), 0, 100),
        Column("open_interest_usd", _coin(interest, "value", "BTC", shift=_DAY), 0),
    )


def _funds(frame: pd.DataFrame) -> tuple[Column, ...]:
    flows = [_coin(frame, f"{c.lower()}_etf_net_flow_usd_mn", c, scale=_MILLION) for c in ("BTC", "ETH")]
    return (
        Column("stablecoin_supply_usd", _market(frame, "stablecoin_mcap_usd"), 1),
        Column("etf_netflow_usd", pd.concat(flows)),
    )


def _open_interest(frame: pd.DataFrame) -> tuple[Column, ...]:
    rows = pd.DataFrame({"ts": frame["ts"] + _DAY, "coin": frame["asset_id"], "value": frame["open_interest_usd"]})
    return (Column("open_interest_usd", rows, 0),)


def _daily_funding(frame: pd.DataFrame) -> tuple[Column, ...]:
    # Stamped with the day before: it follows the settlements of the next day (correlation 0.92 for BTC, 0.79 with those
    # of its own stamp), so the day it speaks of, and its end, come one day later.
    rows = pd.DataFrame({"ts": frame["ts"] + _DAY, "coin": frame["asset_id"], "value": frame["funding_rate"]})
    return (Column("funding_rate_1d", rows, -0.1, 0.1),)


def _taker_flow(frame: pd.DataFrame) -> tuple[Column, ...]:
    bought, sold = frame["taker_buy_vol"], frame["taker_sell_vol"]
    coin = frame["symbol"].str.removesuffix("USDT").str.replace(r"^10+(?=[A-Z])", "", regex=True)
    rows = pd.DataFrame({"ts": frame["ts"], "coin": coin, "value": (bought - sold) / (bought + sold)})
    return (Column("taker_imbalance", rows, -1, 1),)


FILES = (
    Recorded("sentiment_index/fear_greed_alternative_me.parquet", "alternative_me", ("ts", "value"), _fear_greed),
    Recorded("onchain/btc_daily_metrics.parquet", "recorded_onchain", ("metric", "ts", "value"), _bitcoin),
    Recorded(
        "onchain/stablecoin_etf_oi_daily.parquet",
        "recorded_funds",
        ("ts", "stablecoin_mcap_usd", "btc_etf_net_flow_usd_mn", "eth_etf_net_flow_usd_mn"),
        _funds,
    ),
    Recorded(
        "open_interest/btc_daily_coinglass.parquet",
        "coinglass",
        ("ts", "asset_id", "open_interest_usd"),
        _open_interest,
    ),
    Recorded(
        "funding/coinglass_daily_funding.parquet", "coinglass", ("ts", "asset_id", "funding_rate"), _daily_funding
    ),
    Recorded(
        "flow/taker_flow_1h.parquet",
        "recorded_flow",
        ("symbol", "ts", "taker_buy_vol", "taker_sell_vol"),
        _taker_flow,
    ),
)
"""The files that are known, by their place below the folder."""
