"""Candles that are worth a second look are named, and nothing else is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.market.candles import CANDLE_COLUMNS
from trading_pipelines.domain.market.doubt_rules import DoubtRules
from trading_pipelines.domain.market.doubts import doubtful

RULES = DoubtRules(spike=0.25, still_bars=6)


def walk(bars: int = 200) -> pd.DataFrame:
    close = 100 * np.exp(np.random.default_rng(3).normal(0, 0.003, bars).cumsum())
    opened = np.concatenate(([100.0], close[:-1]))
    return pd.DataFrame(
        {
            "ts": pd.date_range("2024-03-01", periods=bars, freq="5min", tz="UTC").as_unit("us"),
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": 5.0,
        }
    )


def named(candles: pd.DataFrame) -> list[tuple[int, str]]:
    """Position and doubt."""
    found = doubtful(candles, RULES)
    return [(int(candles["ts"].searchsorted(ts)), doubt) for ts, doubt in zip(found["ts"], found["doubt"], strict=True)]


def test_ordinary_candles_are_not_doubted() -> None:
    assert named(walk()) == []
    assert named(walk(1)) == []
    assert named(walk().iloc[:0]) == []


def test_wicks_far_from_everything_around_are_named() -> None:
    candles = walk()
    candles.loc[50, "high"] *= 1.3
    candles.loc[70, "low"] /= 1.3
    candles.loc[90, "high"] *= 1.2
    assert named(candles) == [
        (50, "a high far above the prices around it"),
        (70, "a low far below the prices around it"),
    ]


def test_close_that_is_taken_back_is_named_and_a_move_that_stays_is_not() -> None:
    candles = walk()
    candles.loc[50, ["close", "high"]] *= 1.4
    candles.loc[51, ["open", "high"]] *= 1.4
    candles.loc[120:, ["open", "high", "low", "close"]] *= 3.92
    assert (50, "a close that the next bar takes back") in named(candles)
    assert all(position < 60 for position, _ in named(candles))


@pytest.mark.parametrize(("volume", "doubt"), [(0.0, "nothing is traded"), (5.0, "the price stands still")])
def test_price_that_stands_still_is_named_once_with_its_length(volume: float, doubt: str) -> None:
    candles = walk()
    price = candles.loc[59, "close"]
    candles.loc[60:71, ["open", "high", "low", "close"]] = price
    candles.loc[60:71, "volume"] = volume
    candles.loc[72, "open"] = price
    candles.loc[100:104, ["open", "high", "low", "close"]] = candles.loc[99, "close"]
    assert named(candles) == [(60, f"{doubt} for 12 bars")]


@pytest.mark.real_data
def test_real_candles_of_a_year_are_hardly_ever_doubted(real_data_dir: Path) -> None:
    for symbol in ("BTCUSDT", "DOGEUSDT"):
        path = real_data_dir / "ohlcv" / "binance" / symbol / "5m.parquet"
        candles = pd.read_parquet(path)[list(CANDLE_COLUMNS)]
        assert len(doubtful(candles, DoubtRules())) <= len(candles) / 10_000
