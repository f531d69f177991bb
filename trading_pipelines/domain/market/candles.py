"""What a candle frame is, which rows of it can be trusted, and how bars add up to longer ones.

A candle frame has the columns of `CANDLE_COLUMNS`; `ts` is the open time in UTC, volume is in base
currency. Nothing here knows where candles come from or where they are stored.
"""

import pandas as pd

from trading_pipelines.domain.market.timeframe import Timeframe

CANDLE_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
TS_DTYPE = "datetime64[us, UTC]"


def empty_candles() -> pd.DataFrame:
    """A candle frame without rows, typed like any other."""
    return pd.DataFrame(
        {"ts": pd.Series(dtype=TS_DTYPE)} | {c: pd.Series(dtype="float64") for c in CANDLE_COLUMNS[1:]}
    )


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
