"""The features: names, meaning, look-back and how each is computed, in one list.

The list is the definition: its hash names the feature set that stored arrays, models and predictions refer to, and the
documentation page is written from it. A new feature is one more entry; a changed one needs a new `VERSION`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trading_pipelines.domain.features.context import FeatureInputs, Floats, divide, lag, rolling_median, talib_version
from trading_pipelines.domain.market.timeframe import Timeframe

VERSION = 1
H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1

WARMUP_BARS = {"signal": 2_400, H1: 620, H4: 260, D1: 60}
"""Bars loaded before the first wanted one, per timeframe.

A recursive indicator forgets its start by the factor (1 - alpha) per bar; with these lengths less than 1e-10 of it is
left for the longest period used on that timeframe (EMA 200: 2,303 bars; EMA 50 on 1h: 576; EMA 21 on 4h: 242). Windows
need their own length.
"""


@dataclass(frozen=True)
class FeatureSpec:
    """One feature.

    Attributes
    ----------
    unit : str
        What one unit of the value means; `ratio` and `log` are dimensionless.
    look_back : str
        The oldest data that the value depends on.
    compute : callable
        From the inputs to one value per bar, NaN while warming up.
    """

    name: str
    group: str
    unit: str
    look_back: str
    description: str
    compute: Callable[[FeatureInputs], Floats]


def _returns() -> list[FeatureSpec]:
    return [
        FeatureSpec(
            f"ret_{n}", "returns", "log", f"{n} bars", f"Log return over {n} bars", lambda x, n=n: x.bars.log_return(n)
        )
        for n in (1, 2, 3, 4, 8, 16, 32, 96)
    ] + [
        FeatureSpec(
            f"ret_{n}_vol",
            "returns",
            "deviations",
            "96 bars",
            f"Return over {n} bars in units of its expected deviation",
            lambda x, n=n: divide(x.bars.log_return(n), x.bars.volatility(96) * np.sqrt(n), empty=0.0),
        )
        for n in (4, 16)
    ]


def _volatility() -> list[FeatureSpec]:
    return [
        FeatureSpec("atr_14", "volatility", "quote", "recursive, 14", "Average true range", lambda x: x.bars.atr()),
        FeatureSpec(
            "atr_pct", "volatility", "ratio", "recursive, 14", "ATR over close", lambda x: x.bars.atr() / x.bars.close
        ),
        FeatureSpec(
            "atr_ratio",
            "volatility",
            "ratio",
            "one week",
            "ATR over close against its own median of 672 bars",
            lambda x: x.bars.atr() / x.bars.close / rolling_median(x.bars.atr() / x.bars.close, 672),
        ),
        *(
            FeatureSpec(
                f"vol_{n}",
                "volatility",
                "log",
                f"{n} bars",
                f"Deviation of one-bar log returns over {n} bars",
                lambda x, n=n: x.bars.volatility(n),
            )
            for n in (8, 32, 96)
        ),
        FeatureSpec(
            "vol_ratio",
            "volatility",
            "ratio",
            "96 bars",
            "Deviation over 8 bars against that over 96",
            lambda x: divide(x.bars.volatility(8), x.bars.volatility(96), empty=1.0),
        ),
        FeatureSpec(
            "bollinger_width",
            "volatility",
            "ratio",
            "20 bars",
            "Width of the Bollinger bands over their middle",
            lambda x: x.bars.bollinger[1],
        ),
    ]


def _trend() -> list[FeatureSpec]:
    return [
        *(
            FeatureSpec(
                f"ema_{n}_distance",
                "trend",
                "ratio",
                f"recursive, {n}",
                f"Close over EMA({n}), minus one",
                lambda x, n=n: x.bars.ema_distance(n),
            )
            for n in (9, 21, 50, 200)
        ),
        FeatureSpec(
            "ema_9_21",
            "trend",
            "ATR",
            "recursive, 21",
            "EMA(9) minus EMA(21), in ATR",
            lambda x: (x.bars.ema(9) - x.bars.ema(21)) / x.bars.atr(),
        ),
        FeatureSpec(
            "ema_50_200",
            "trend",
            "ATR",
            "recursive, 200",
            "EMA(50) minus EMA(200), in ATR",
            lambda x: (x.bars.ema(50) - x.bars.ema(200)) / x.bars.atr(),
        ),
        FeatureSpec(
            "ema_21_slope",
            "trend",
            "ATR",
            "recursive, 21",
            "Change of EMA(21) over 4 bars, in ATR",
            lambda x: (x.bars.ema(21) - lag(x.bars.ema(21), 4)) / x.bars.atr(),
        ),
        FeatureSpec(
            "macd", "trend", "ATR", "recursive, 26", "MACD line in ATR", lambda x: x.bars.macd[0] / x.bars.atr()
        ),
        FeatureSpec(
            "macd_histogram",
            "trend",
            "ATR",
            "recursive, 26",
            "MACD histogram in ATR",
            lambda x: x.bars.macd[1] / x.bars.atr(),
        ),
        FeatureSpec("adx_14", "trend", "0-100", "recursive, 14", "Strength of the trend", lambda x: x.bars.adx()),
    ]


def _oscillators() -> list[FeatureSpec]:
    return [
        FeatureSpec("rsi_14", "oscillators", "0-100", "recursive, 14", "RSI(14)", lambda x: x.bars.rsi(14)),
        FeatureSpec("rsi_7", "oscillators", "0-100", "recursive, 7", "RSI(7)", lambda x: x.bars.rsi(7)),
        FeatureSpec(
            "stochastic_rsi",
            "oscillators",
            "0-1",
            "recursive, 14",
            "RSI within its range of 14 bars",
            lambda x: x.bars.stochastic_rsi,
        ),
        FeatureSpec(
            "bollinger_position",
            "oscillators",
            "0-1",
            "20 bars",
            "Close within the Bollinger bands",
            lambda x: x.bars.bollinger[0],
        ),
        *(
            FeatureSpec(
                f"range_position_{n}",
                "oscillators",
                "0-1",
                f"{n} bars",
                f"Close within the range of {n} bars",
                lambda x, n=n: x.bars.range_position(n),
            )
            for n in (16, 96)
        ),
        FeatureSpec(
            "swing_high_distance",
            "oscillators",
            "ATR",
            "511 bars",
            "Close above the newest confirmed swing high",
            lambda x: x.bars.swing_distance(high=True),
        ),
        FeatureSpec(
            "swing_low_distance",
            "oscillators",
            "ATR",
            "511 bars",
            "Close above the newest confirmed swing low",
            lambda x: x.bars.swing_distance(high=False),
        ),
    ]


def _volume() -> list[FeatureSpec]:
    return [
        *(
            FeatureSpec(
                f"volume_ratio_{n}",
                "volume",
                "ratio",
                f"{n} bars",
                f"Volume over its mean of {n} bars",
                lambda x, n=n: x.bars.volume_ratio(n),
            )
            for n in (20, 96)
        ),
        *(
            FeatureSpec(
                f"obv_slope_{n}",
                "volume",
                "-1 to 1",
                f"{n} bars",
                f"Change of on-balance volume over {n} bars as a share of the volume traded",
                lambda x, n=n: x.bars.obv_slope(n),
            )
            for n in (16, 96)
        ),
        *(
            FeatureSpec(
                f"vwap_{n}_distance",
                "volume",
                "ratio",
                f"{n} bars",
                f"Close over the VWAP of {n} bars, minus one",
                lambda x, n=n: x.bars.vwap_distance(n),
            )
            for n in (32, 96)
        ),
        FeatureSpec(
            "vwap_session_distance",
            "volume",
            "ratio",
            "since 00:00 UTC",
            "Close over the day's VWAP, minus one",
            lambda x: x.bars.session_vwap_distance,
        ),
    ]


def _candle() -> list[FeatureSpec]:
    def shape(part: Callable[[FeatureInputs], Floats]) -> Callable[[FeatureInputs], Floats]:
        return lambda x: divide(part(x), x.bars.high - x.bars.low, empty=0.0)

    return [
        FeatureSpec(
            "body", "candle", "-1 to 1", "1 bar", "Body over range", shape(lambda x: x.bars.close - x.bars.open)
        ),
        FeatureSpec(
            "upper_wick",
            "candle",
            "0-1",
            "1 bar",
            "Upper wick over range",
            shape(lambda x: x.bars.high - np.maximum(x.bars.open, x.bars.close)),
        ),
        FeatureSpec(
            "lower_wick",
            "candle",
            "0-1",
            "1 bar",
            "Lower wick over range",
            shape(lambda x: np.minimum(x.bars.open, x.bars.close) - x.bars.low),
        ),
        FeatureSpec(
            "range_atr",
            "candle",
            "ATR",
            "recursive, 14",
            "Range of the bar in ATR",
            lambda x: (x.bars.high - x.bars.low) / x.bars.atr(),
        ),
    ]


def _calendar() -> list[FeatureSpec]:
    def angle(x: FeatureInputs, period_hours: float) -> Floats:
        hours = x.bars.closes_at.astype("datetime64[m]").astype(np.int64) / 60.0
        return 2 * np.pi * (hours % period_hours) / period_hours

    return [
        FeatureSpec("hour_sin", "calendar", "-1 to 1", "1 bar", "Time of day", lambda x: np.sin(angle(x, 24.0))),
        FeatureSpec("hour_cos", "calendar", "-1 to 1", "1 bar", "Time of day", lambda x: np.cos(angle(x, 24.0))),
        FeatureSpec("week_sin", "calendar", "-1 to 1", "1 bar", "Time of week", lambda x: np.sin(angle(x, 168.0))),
        FeatureSpec("week_cos", "calendar", "-1 to 1", "1 bar", "Time of week", lambda x: np.cos(angle(x, 168.0))),
    ]


def _higher() -> list[FeatureSpec]:
    hour = [
        FeatureSpec(
            f"h1_ema_{n}_distance",
            "higher timeframe",
            "ratio",
            f"recursive, {n} hours",
            f"1h close over EMA({n}), minus one",
            lambda x, n=n: x.at(H1, lambda b: b.ema_distance(n)),
        )
        for n in (21, 50)
    ]
    return [
        *hour,
        FeatureSpec(
            "h1_rsi_14",
            "higher timeframe",
            "0-100",
            "recursive, 14 hours",
            "RSI(14) on 1h",
            lambda x: x.at(H1, lambda b: b.rsi(14)),
        ),
        FeatureSpec(
            "h1_atr_pct",
            "higher timeframe",
            "ratio",
            "recursive, 14 hours",
            "ATR over close on 1h",
            lambda x: x.at(H1, lambda b: b.atr() / b.close),
        ),
        FeatureSpec(
            "h4_ema_21_distance",
            "higher timeframe",
            "ratio",
            "recursive, 21 x 4 hours",
            "4h close over EMA(21), minus one",
            lambda x: x.at(H4, lambda b: b.ema_distance(21)),
        ),
        FeatureSpec(
            "h4_ret_6",
            "higher timeframe",
            "log",
            "1 day",
            "Log return over six 4h bars",
            lambda x: x.at(H4, lambda b: b.log_return(6)),
        ),
        FeatureSpec(
            "h4_range_position_42",
            "higher timeframe",
            "0-1",
            "1 week",
            "Close within the range of 42 4h bars",
            lambda x: x.at(H4, lambda b: b.range_position(42)),
        ),
        FeatureSpec(
            "d1_ret_5",
            "higher timeframe",
            "log",
            "5 days",
            "Log return over five days",
            lambda x: x.at(D1, lambda b: b.log_return(5)),
        ),
        FeatureSpec(
            "d1_sma_20_distance",
            "higher timeframe",
            "ratio",
            "20 days",
            "Daily close over SMA(20), minus one",
            lambda x: x.at(D1, lambda b: b.sma_distance(20)),
        ),
        FeatureSpec(
            "d1_range_position_30",
            "higher timeframe",
            "0-1",
            "30 days",
            "Daily close within the range of 30 days",
            lambda x: x.at(D1, lambda b: b.range_position(30)),
        ),
    ]


def _market() -> list[FeatureSpec]:
    return [
        *(
            FeatureSpec(
                f"btc_ret_{n}",
                "market",
                "log",
                f"{n} bars",
                f"BTC's log return over {n} bars",
                lambda x, n=n: x.lead(lambda b: b.log_return(n)),
            )
            for n in (1, 4, 16)
        ),
        FeatureSpec(
            "btc_relative_16",
            "market",
            "log",
            "16 bars",
            "Own return over 16 bars minus BTC's",
            lambda x: x.bars.log_return(16) - x.lead(lambda b: b.log_return(16)),
        ),
        FeatureSpec(
            "btc_rsi_14", "market", "0-100", "recursive, 14", "BTC's RSI(14)", lambda x: x.lead(lambda b: b.rsi(14))
        ),
        FeatureSpec(
            "funding_rate", "market", "fraction", "last settlement", "Newest settled rate", lambda x: x.funding_rate
        ),
    ]


REGISTRY: tuple[FeatureSpec, ...] = (
    *_returns(),
    *_volatility(),
    *_trend(),
    *_oscillators(),
    *_volume(),
    *_candle(),
    *_calendar(),
    *_higher(),
    *_market(),
)
NAMES: tuple[str, ...] = tuple(spec.name for spec in REGISTRY)
PRICE_SCALED = frozenset({"atr_14"})
"""Stored for the trade set-up, but no input of a model: in quote currency it names the price level."""


def definition_hash(registry: Sequence[FeatureSpec] = REGISTRY) -> str:
    """Identity of the feature set: version, names in order, and the indicator library."""
    text = json.dumps([VERSION, talib_version(), [spec.name for spec in registry]])
    return hashlib.sha256(text.encode()).hexdigest()


def documentation() -> str:
    """The reference page of all features, in Markdown."""
    lines = [
        "# Features",
        "",
        "Written from the registry in `trading_pipelines/domain/features/registry.py`. All values are known at the",
        "close of their bar; values of longer timeframes and of other series are the newest ones known by then.",
        "",
        "| name | group | unit | look-back | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| `{s.name}` | {s.group} | {s.unit} | {s.look_back} | {s.description} |" for s in REGISTRY]
    return "\n".join(lines) + "\n"
