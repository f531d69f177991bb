"""What a candle frame is, which rows of it can be trusted, and how bars add up to longer ones.

A candle frame has the columns of `CANDLE_COLUMNS`; `ts` is the open time in UTC, volume is in base
currency. Nothing here knows where candles come from or where they are stored, and nothing judges
whether a move is plausible: real candles have +392 % days, and halts without volume.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np
import pandas as pd
import pandera.pandas as pa

from trading_pipelines.domain.market.timeframe import Timeframe

CANDLE_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
TS_DTYPE = "datetime64[us, UTC]"


def empty_candles() -> pd.DataFrame:
    """A candle frame without rows, typed like any other."""
    return pd.DataFrame({"ts": pd.Series(dtype=TS_DTYPE)} | {c: pd.Series(dtype="float64") for c in CANDLE_COLUMNS[1:]})


def candle_schema(timeframe: Timeframe) -> pa.DataFrameSchema:
    """What every stored candle frame of `timeframe` fulfils: sound rows, unique and ascending."""
    return _schema(timeframe, [pa.Check(_is_strictly_ascending, error="not unique and ascending")])


@dataclass(frozen=True)
class SplitCandles:
    """The candles to store, ascending and unique, and the rows that were refused, each with its reason."""

    good: pd.DataFrame
    bad: pd.DataFrame


def split_valid(frame: pd.DataFrame, timeframe: Timeframe, now: datetime) -> SplitCandles:
    """Separate the candles that can be stored from the rows that cannot.

    Parameters
    ----------
    frame : pandas.DataFrame
        The columns of a candle frame as received: in any order of rows, numbers perhaps as text.
    now : datetime
        The source's clock; a bar that closes later is still forming, or lies in the future.

    Returns
    -------
    SplitCandles
        Identical duplicates become one good row. Of duplicates that differ the last one is good, for
        sources append corrections, and the others are bad. `bad` has a column `reason`.
    """
    received = frame[list(CANDLE_COLUMNS)].reset_index(drop=True)
    typed = _typed(received)
    reasons = _row_faults(typed, timeframe)
    forming = typed["ts"] + timeframe.delta > now
    reasons = reasons.mask(reasons.isna() & forming, "not closed yet")
    valid = typed[reasons.isna()].drop_duplicates(keep="last")
    replaced = valid.index[valid["ts"].duplicated(keep="last")]
    reasons.loc[replaced] = "replaced by a later row of the same time"
    good = valid.drop(index=replaced).sort_values("ts", ignore_index=True)
    bad = received.assign(reason=reasons)[reasons.notna()].reset_index(drop=True)
    return SplitCandles(good, bad)


def aggregate(candles: pd.DataFrame, target: Timeframe) -> pd.DataFrame:
    """Add bars up to `target` bars aligned to the epoch; a bucket without a bar does not exist.

    Parameters
    ----------
    candles : pandas.DataFrame
        Ascending candle frame of one symbol; a bucket that its ends cut off is built from what is there.
    """
    bucketed = candles.assign(ts=candles["ts"].dt.floor(f"{target.minutes}min"))
    combined = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return bucketed.groupby("ts", sort=False).agg(combined).reset_index()


def _schema(timeframe: Timeframe, order: list[pa.Check]) -> pa.DataFrameSchema:
    """Checks of each row alone, and `order` for the rows together."""

    def is_aligned(ts: "pd.Series[pd.Timestamp]") -> "pd.Series[bool]":
        return ts.dt.floor(f"{timeframe.minutes}min") == ts

    finite = pa.Check(np.isfinite, error="not a finite number")
    price = [finite, pa.Check(_is_positive, error="price is not positive")]
    volume = [finite, pa.Check(_is_not_negative, error="volume is negative")]
    return pa.DataFrameSchema(
        {
            "ts": pa.Column(TS_DTYPE, [pa.Check(is_aligned, error=f"not the open of a {timeframe} bar"), *order]),
            **{name: pa.Column(float, price) for name in ("open", "high", "low", "close")},
            "volume": pa.Column(float, volume),
        },
        checks=[pa.Check(_has_ohlc_order, error="open, high, low and close contradict each other")],
    )


def _is_strictly_ascending(ts: "pd.Series[pd.Timestamp]") -> bool:
    return ts.is_monotonic_increasing and ts.is_unique


def _is_positive(price: "pd.Series[float]") -> "pd.Series[bool]":
    return price > 0


def _is_not_negative(volume: "pd.Series[float]") -> "pd.Series[bool]":
    return volume >= 0


def _has_ohlc_order(frame: pd.DataFrame) -> "pd.Series[bool]":
    body = frame[["open", "close"]]
    return (frame["low"] <= body.min(axis=1)) & (frame["high"] >= body.max(axis=1))


def _typed(received: pd.DataFrame) -> pd.DataFrame:
    """Read times and numbers; what cannot be read becomes missing."""
    ts = pd.to_datetime(received["ts"], utc=True, errors="coerce").dt.as_unit("us")
    numbers = received[list(CANDLE_COLUMNS[1:])].apply(pd.to_numeric, errors="coerce").astype("float64")
    return pd.concat([ts, numbers], axis=1)


def _row_faults(typed: pd.DataFrame, timeframe: Timeframe) -> "pd.Series[str]":
    """First fault of each row, in the order of the columns; missing where the row is sound."""
    faults = pd.Series(None, index=typed.index, dtype="object")
    try:
        _schema(timeframe, order=[]).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        # pandera leaves the type of its report open: it is a frame with one row per failure.
        cases = cast("pd.DataFrame", error.failure_cases)  # pyright: ignore[reportUnknownMemberType]
        cases = cases[cases["index"].notna()].sort_values("schema_context", kind="stable").drop_duplicates("index")
        reasons = cases["check"].replace({"not_nullable": "missing or unreadable"})
        faults.loc[cases["index"].astype(int)] = reasons.to_numpy()
    return faults
