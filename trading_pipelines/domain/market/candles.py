"""What a candle frame is, which rows of it can be trusted, and how bars add up to longer ones.

A candle frame has the columns of `CANDLE_COLUMNS`; `ts` is the open time in UTC, volume is in base
currency. Nothing here knows where candles come from or where they are stored, and nothing judges
whether a move is plausible: real candles have +392 % days, and halts without volume.
"""

from dataclasses import dataclass
from datetime import datetime

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
    """What every stored candle frame of `timeframe` fulfils; the rows are unique and ascending."""
    return _row_schema(timeframe).update_column(
        "ts",
        unique=True,
        checks=[_aligned(timeframe), pa.Check(lambda ts: ts.is_monotonic_increasing, error="not ascending")],
    )


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
    bucket = candles["ts"].dt.floor(f"{target.minutes}min")
    return (
        candles.groupby(bucket, sort=False)
        .agg(
            open=("open", "first"),
            high=("high", "max"),
            low=("low", "min"),
            close=("close", "last"),
            volume=("volume", "sum"),
        )
        .reset_index()
    )


def _row_schema(timeframe: Timeframe) -> pa.DataFrameSchema:
    """The part of the schema that judges each row alone."""
    price = [_finite(), pa.Check.gt(0, error="price is not positive")]
    volume = [_finite(), pa.Check.ge(0, error="volume is negative")]
    return pa.DataFrameSchema(
        {
            "ts": pa.Column(TS_DTYPE, [_aligned(timeframe)]),
            **{name: pa.Column(float, price) for name in ("open", "high", "low", "close")},
            "volume": pa.Column(float, volume),
        },
        checks=[pa.Check(_is_ordered, error="open, high, low and close contradict each other")],
    )


def _aligned(timeframe: Timeframe) -> pa.Check:
    return pa.Check(lambda ts: ts.dt.floor(f"{timeframe.minutes}min") == ts, error=f"not the open of a {timeframe} bar")


def _finite() -> pa.Check:
    return pa.Check(np.isfinite, error="not a finite number")


def _is_ordered(frame: pd.DataFrame) -> "pd.Series[bool]":
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
        _row_schema(timeframe).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases[error.failure_cases["index"].notna()]
        by_column = cases.sort_values("schema_context", kind="stable").drop_duplicates("index")
        found = by_column["check"].replace({"not_nullable": "missing or unreadable"})
        faults.loc[by_column["index"].astype(int)] = found.to_numpy()
    return faults
