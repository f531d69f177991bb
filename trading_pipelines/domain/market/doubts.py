"""Candles that are sound in themselves and yet may not be true: outliers and prices that stand still.

Belongs here: naming them. Does not belong here: refusing rows (`candles.split_valid`), for real markets do all of this:
a cascade of liquidations leaves a wick of 60 %, an outage an hour without a trade. What is named here stays stored.
"""

import numpy as np
import pandas as pd

from trading_pipelines.domain.market.doubt_rules import DoubtRules

_STANDS_STILL = "the price stands still"
_NO_TRADES = "nothing is traded"


def doubtful(candles: pd.DataFrame, rules: DoubtRules) -> pd.DataFrame:
    """Name the candles of one symbol that may not be true.

    Parameters
    ----------
    candles : pandas.DataFrame
        Ascending candle frame.

    Returns
    -------
    pandas.DataFrame
        ts and doubt, ascending; of bars on which the price stands still the first one is named, with their number.
    """
    if candles.empty:
        return pd.DataFrame({"ts": candles["ts"], "doubt": pd.Series(dtype="str")})
    opened, high, low, close = (candles[name].to_numpy("float64") for name in ("open", "high", "low", "close"))
    before, after = np.append(opened[:1], close[:-1]), np.append(opened[1:], close[-1:])
    around = np.stack([before, opened, close, after])
    doubts = {
        "a high far above the prices around it": high > around.max(axis=0) * (1 + rules.spike),
        "a low far below the prices around it": low < around.min(axis=0) / (1 + rules.spike),
        "a close that the next bar takes back": _is_taken_back(close, rules.spike),
    }
    found = [pd.DataFrame({"ts": candles["ts"][where], "doubt": doubt}) for doubt, where in doubts.items()]
    found.append(_still(candles, before, rules.still_bars))
    return pd.concat(found, ignore_index=True).sort_values("ts", kind="stable", ignore_index=True)


def _is_taken_back(close: np.ndarray, spike: float) -> np.ndarray:
    """Far from the closes on both sides, which are close to each other."""
    away = np.zeros(len(close), dtype=bool)
    if len(close) > 2:
        left, middle, right = np.log(close[:-2]), np.log(close[1:-1]), np.log(close[2:])
        limit = np.log1p(spike)
        away[1:-1] = (np.minimum(np.abs(middle - left), np.abs(middle - right)) > limit) & (
            np.abs(right - left) < limit / 4
        )
    return away


def _still(candles: pd.DataFrame, before: np.ndarray, least: int) -> pd.DataFrame:
    """The first bar of each run of `least` and more bars without any move."""
    is_still = ((candles["high"] == candles["low"]) & (candles["close"] == before)).to_numpy()
    edges = np.flatnonzero(np.diff(is_still.astype(np.int8), prepend=0, append=0))
    first, end = edges[::2], edges[1::2]
    long = end - first >= least
    first, end = first[long], end[long]
    volume = np.append(0.0, candles["volume"].to_numpy("float64").cumsum())
    traded = volume[end] > volume[first]
    doubts = [
        f"{_STANDS_STILL if busy else _NO_TRADES} for {bars} bars"
        for busy, bars in zip(traded, end - first, strict=True)
    ]
    return pd.DataFrame({"ts": candles["ts"].iloc[first], "doubt": pd.Series(doubts, dtype="str").to_numpy()})
