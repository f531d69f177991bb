"""The features: names, meaning, sources, look-back and how each is computed, in one list.

The list is the definition: its hash names the feature set that stored arrays, models and predictions refer to, and the
documentation page is written from it. A new feature is one more entry; a changed one needs a new `VERSION`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.domain.anomaly.measures import RECENT_BARS, recent
from trading_pipelines.domain.features.context import (
    MACD_BARS,
    SWING_BARS,
    SWING_MAX_AGE,
    FeatureInputs,
    adx_bars,
    ema_bars,
    talib_version,
    wilder_bars,
)
from trading_pipelines.domain.features.observations import MARGIN, OBSERVED, ObservedFeature
from trading_pipelines.domain.features.windows import Floats, divide, lag
from trading_pipelines.domain.market.timeframe import Timeframe

VERSION = 4
Compute = Callable[[FeatureInputs], Floats]
H1, H4, D1 = Timeframe.H1, Timeframe.H4, Timeframe.D1
ATR, RSI = wilder_bars(14), wilder_bars(14)
WEEK = 672
"""Bars in a week of 15-minute bars; the same number of bars on other timeframes."""
DAY = 1440
"""Bars in a day at most, those of one minute."""


class Source(StrEnum):
    """The series that a feature is made from, besides the time of the bar."""

    OWN = "own bars"
    H1 = "1h bars"
    H4 = "4h bars"
    D1 = "1d bars"
    LEADER = "BTC's bars"
    FUNDING = "funding"
    BREADTH = "market breadth"
    COIN = "outside, of the coin"
    MARKET = "outside, of the market"


AVAILABILITY = {
    Source.OWN: "the bar itself; known at its close",
    Source.H1: "the newest bar that has closed, for two hours at most",
    Source.H4: "the newest bar that has closed, for eight hours at most",
    Source.D1: "the newest day that has ended (00:00 UTC), for two days at most",
    Source.LEADER: "the newest bar that has closed, for two bars at most; nothing for BTC itself",
    Source.FUNDING: "the newest rate settled before the close of the bar, for two days at most; nothing for spot",
    Source.BREADTH: "the breadth at the newest close at which the basket's bars were known, for two bars at most",
    Source.COIN: f"the newest value known {MARGIN.seconds // 60} minutes before the close, in the version of then, "
    "for as long as the series counts; nothing where no source is set up",
    Source.MARKET: "the same of the whole market",
}


@dataclass(frozen=True)
class FeatureSpec:
    """One feature.

    Attributes
    ----------
    unit : str
        What one unit of the value means; `ratio` and `log` are dimensionless.
    look_back : int
        Bars of the source, the newest included, that the value depends on; it is NaN while there are fewer. A recursive
        indicator depends on all bars, but on older ones with a weight below 1e-12. Of a series from outside, days.
    compute : callable
        From the inputs to one value per bar.
    window : int
        How many of the newest own bars it looks at where the recursive indicators and other series are given.
    """

    group: str
    source: Source
    name: str
    unit: str
    look_back: int
    description: str
    compute: Compute
    window: int = 1
    series: str | None = None
    """Name of the series from outside that it is made of, see `domain.alternative.series`."""


@dataclass(frozen=True)
class Recursive:
    """Look-back of a feature that rests on recursive indicators, and for how many of the newest bars it needs them."""

    look_back: int
    window: int = 1


Row = tuple[str, str, int | Recursive, str, Compute]


def _specs(group: str, source: Source, *rows: Row) -> list[FeatureSpec]:
    return [_spec(group, source, row) for row in rows]


def _spec(group: str, source: Source, row: Row) -> FeatureSpec:
    name, unit, reach, text, compute = row
    if isinstance(reach, Recursive):
        return FeatureSpec(group, source, name, unit, reach.look_back, text, compute, reach.window)
    window = reach if source in (Source.OWN, Source.LEADER) else 1
    return FeatureSpec(group, source, name, unit, reach, text, compute, window)


def _return(n: int) -> Row:
    return f"ret_{n}", "log", n + 1, f"Log return over {n} bars", lambda x: x.bars.log_return(n)


def _scaled_return(n: int) -> Row:
    def compute(x: FeatureInputs) -> Floats:
        return divide(x.bars.log_return(n), x.bars.volatility(96) * np.sqrt(n), empty=0.0)

    return f"ret_{n}_vol", "deviations", 97, f"Log return over {n} bars in units of its expected deviation", compute


def _deviation(n: int) -> Row:
    return f"vol_{n}", "log", n + 1, f"Deviation of one-bar log returns over {n} bars", lambda x: x.bars.volatility(n)


def _ema_distance(n: int) -> Row:
    text = f"Close over EMA({n}), minus one"
    return f"ema_{n}_distance", "ratio", Recursive(ema_bars(n)), text, lambda x: x.bars.ema_distance(n)


def _range_position(n: int) -> Row:
    text = f"Close within the range of {n} bars"
    return f"range_position_{n}", "0-1", n, text, lambda x: x.bars.range_position(n)


def _swing_distance(side: str) -> Row:
    text = f"Close minus the newest confirmed swing {side}, in ATR"
    bars = SWING_MAX_AGE + 2 * SWING_BARS + 1
    return f"swing_{side}_distance", "ATR", bars, text, lambda x: x.bars.swing_distance(high=side == "high")


def _volume_ratio(n: int) -> Row:
    return f"volume_ratio_{n}", "ratio", n, f"Volume over its mean of {n} bars", lambda x: x.bars.volume_ratio(n)


def _obv_slope(n: int) -> Row:
    text = f"Change of on-balance volume over {n} bars as a share of the volume traded"
    return f"obv_slope_{n}", "-1 to 1", n + 1, text, lambda x: x.bars.obv_slope(n)


def _vwap_distance(n: int) -> Row:
    text = f"Close over the VWAP of {n} bars, minus one"
    return f"vwap_{n}_distance", "ratio", n, text, lambda x: x.bars.vwap_distance(n)


def _shape(name: str, unit: str, text: str, part: Compute) -> Row:
    return name, unit, 1, text, lambda x: divide(part(x), x.bars.high - x.bars.low, empty=0.0)


def _angle(name: str, text: str, hours: float, function: Callable[[Floats], Floats]) -> Row:
    def compute(x: FeatureInputs) -> Floats:
        clock = x.bars.closes_at.astype("datetime64[m]").astype(np.int64) / 60.0
        return function(2 * np.pi * (clock % hours) / hours)

    return name, "-1 to 1", 1, text, compute


def _higher_ema(n: int) -> Row:
    text = f"Close over EMA({n}), minus one"
    return f"h1_ema_{n}_distance", "ratio", ema_bars(n), text, lambda x: x.at(H1, lambda b: b.ema_distance(n))


def _leader_return(n: int) -> Row:
    return f"btc_ret_{n}", "log", n + 1, f"BTC's log return over {n} bars", lambda x: x.lead(lambda b: b.log_return(n))


def _observed(feature: ObservedFeature) -> FeatureSpec:
    hours = SERIES[feature.series].max_age.total_seconds() / 3600
    return FeatureSpec(
        "outside",
        Source.MARKET if feature.market else Source.COIN,
        feature.name,
        feature.unit,
        feature.days,
        f"{feature.text}; a value counts for {hours:.0f} hours",
        lambda x: feature.compute(x.bars.closes_at, x.market if feature.market else x.observed),
        series=feature.series,
    )


REGISTRY: tuple[FeatureSpec, ...] = (
    *_specs("returns", Source.OWN, *map(_return, (1, 2, 3, 4, 8, 16, 32, 96)), *map(_scaled_return, (4, 16))),
    *_specs(
        "volatility",
        Source.OWN,
        ("atr_14", "quote", Recursive(ATR), "Average true range", lambda x: x.bars.atr()),
        ("atr_pct", "ratio", Recursive(ATR), "ATR over close", lambda x: x.bars.atr_share()),
        (
            "atr_ratio",
            "ratio",
            Recursive(ATR + WEEK - 1, WEEK),
            f"ATR over close, against its own median of {WEEK} bars",
            lambda x: x.bars.atr_ratio(WEEK),
        ),
        *map(_deviation, (8, 32, 96)),
        (
            "vol_ratio",
            "ratio",
            97,
            "Deviation over 8 bars against that over 96",
            lambda x: divide(x.bars.volatility(8), x.bars.volatility(96), empty=1.0),
        ),
        ("bollinger_width", "ratio", 20, "Width of Bollinger(20, 2) over its middle", lambda x: x.bars.bollinger[1]),
    ),
    *_specs(
        "trend",
        Source.OWN,
        *map(_ema_distance, (9, 21, 50, 200)),
        (
            "ema_9_21",
            "ATR",
            Recursive(ATR),
            "EMA(9) minus EMA(21), in ATR",
            lambda x: (x.bars.ema(9) - x.bars.ema(21)) / x.bars.atr(),
        ),
        (
            "ema_50_200",
            "ATR",
            Recursive(ema_bars(200)),
            "EMA(50) minus EMA(200), in ATR",
            lambda x: (x.bars.ema(50) - x.bars.ema(200)) / x.bars.atr(),
        ),
        (
            "ema_21_slope",
            "ATR",
            Recursive(ATR, 5),
            "Change of EMA(21) over 4 bars, in ATR",
            lambda x: (x.bars.ema(21) - lag(x.bars.ema(21), 4)) / x.bars.atr(),
        ),
        ("macd", "ATR", Recursive(MACD_BARS), "MACD(12, 26, 9) line, in ATR", lambda x: x.bars.macd[0] / x.bars.atr()),
        (
            "macd_histogram",
            "ATR",
            Recursive(MACD_BARS),
            "MACD(12, 26, 9) histogram, in ATR",
            lambda x: x.bars.macd[1] / x.bars.atr(),
        ),
        ("adx_14", "0-100", Recursive(adx_bars(14)), "ADX(14), the strength of the trend", lambda x: x.bars.adx()),
    ),
    *_specs(
        "oscillators",
        Source.OWN,
        ("rsi_14", "0-100", Recursive(RSI), "RSI(14)", lambda x: x.bars.rsi(14)),
        ("rsi_7", "0-100", Recursive(wilder_bars(7)), "RSI(7)", lambda x: x.bars.rsi(7)),
        (
            "stochastic_rsi",
            "0-1",
            Recursive(RSI + 13, 14),
            "RSI(14) within its range of 14 bars",
            lambda x: x.bars.stochastic_rsi,
        ),
        ("bollinger_position", "0-1", 20, "Close within Bollinger(20, 2)", lambda x: x.bars.bollinger[0]),
        *map(_range_position, (16, 96)),
        *map(_swing_distance, ("high", "low")),
    ),
    *_specs(
        "volume",
        Source.OWN,
        *map(_volume_ratio, (20, 96)),
        *map(_obv_slope, (16, 96)),
        *map(_vwap_distance, (32, 96)),
        (
            "vwap_session_distance",
            "ratio",
            DAY,
            "Close over the VWAP since 00:00 UTC, minus one",
            lambda x: x.bars.session_vwap_distance,
        ),
    ),
    *_specs(
        "anomaly",
        Source.OWN,
        (
            "anomaly_16",
            "ratio",
            RECENT_BARS,
            "Largest spike, pump, dump or wash-trading measure of 16 bars; an anomaly from 1 on",
            lambda x: recent(x.bars),
        ),
    ),
    *_specs(
        "candle",
        Source.OWN,
        _shape("body", "-1 to 1", "Body over range", lambda x: x.bars.close - x.bars.open),
        _shape(
            "upper_wick", "0-1", "Upper wick over range", lambda x: x.bars.high - np.fmax(x.bars.open, x.bars.close)
        ),
        _shape("lower_wick", "0-1", "Lower wick over range", lambda x: np.fmin(x.bars.open, x.bars.close) - x.bars.low),
        (
            "range_atr",
            "ATR",
            Recursive(ATR),
            "Range of the bar, in ATR",
            lambda x: (x.bars.high - x.bars.low) / x.bars.atr(),
        ),
    ),
    *_specs(
        "calendar",
        Source.OWN,
        _angle("hour_sin", "Time of day", 24.0, np.sin),
        _angle("hour_cos", "Time of day", 24.0, np.cos),
        _angle("week_sin", "Time of week", 168.0, np.sin),
        _angle("week_cos", "Time of week", 168.0, np.cos),
    ),
    *_specs(
        "higher timeframe",
        Source.H1,
        *map(_higher_ema, (21, 50)),
        ("h1_rsi_14", "0-100", RSI, "RSI(14)", lambda x: x.at(H1, lambda b: b.rsi(14))),
        ("h1_atr_pct", "ratio", ATR, "ATR over close", lambda x: x.at(H1, lambda b: b.atr_share())),
    ),
    *_specs(
        "higher timeframe",
        Source.H4,
        (
            "h4_sma_20_distance",
            "ratio",
            20,
            "Close over SMA(20), minus one",
            lambda x: x.at(H4, lambda b: b.sma_distance(20)),
        ),
        ("h4_ret_6", "log", 7, "Log return over a day", lambda x: x.at(H4, lambda b: b.log_return(6))),
        (
            "h4_range_position_42",
            "0-1",
            42,
            "Close within the range of a week",
            lambda x: x.at(H4, lambda b: b.range_position(42)),
        ),
    ),
    *_specs(
        "higher timeframe",
        Source.D1,
        ("d1_ret_5", "log", 6, "Log return over five days", lambda x: x.at(D1, lambda b: b.log_return(5))),
        (
            "d1_sma_20_distance",
            "ratio",
            20,
            "Close over SMA(20), minus one",
            lambda x: x.at(D1, lambda b: b.sma_distance(20)),
        ),
        (
            "d1_range_position_30",
            "0-1",
            30,
            "Close within the range of 30 days",
            lambda x: x.at(D1, lambda b: b.range_position(30)),
        ),
    ),
    *_specs(
        "market",
        Source.LEADER,
        *map(_leader_return, (1, 4, 16)),
        (
            "btc_relative_16",
            "log",
            17,
            "Own return over 16 bars minus BTC's",
            lambda x: x.bars.log_return(16) - x.lead(lambda b: b.log_return(16)),
        ),
        ("btc_rsi_14", "0-100", Recursive(RSI), "BTC's RSI(14)", lambda x: x.lead(lambda b: b.rsi(14))),
        (
            "btc_correlation_96",
            "-1 to 1",
            97,
            "Correlation of one-bar returns with BTC's over 96 bars",
            lambda x: x.leader_correlation(96),
        ),
        ("btc_beta_96", "ratio", 97, "Slope of one-bar returns on BTC's over 96 bars", lambda x: x.leader_beta(96)),
    ),
    *_specs(
        "market",
        Source.BREADTH,
        (
            "breadth_above_ema_50",
            "0-1",
            ema_bars(50),
            "Share of the basket above its EMA(50)",
            lambda x: x.majors(lambda b: b.above_ema),
        ),
        (
            "breadth_rising_16",
            "0-1",
            ema_bars(50),
            "Share of the basket with a positive return over 16 bars",
            lambda x: x.majors(lambda b: b.rising),
        ),
        (
            "breadth_relative_16",
            "log",
            Recursive(ema_bars(50), 17),
            "Own return over 16 bars minus the basket's mean",
            lambda x: x.bars.log_return(16) - x.majors(lambda b: b.mean_return),
        ),
    ),
    *_specs(
        "market",
        Source.FUNDING,
        ("funding_rate", "fraction", 1, "Newest settled funding rate", lambda x: x.funding_rate),
    ),
    *map(_observed, OBSERVED),
)
NAMES: tuple[str, ...] = tuple(spec.name for spec in REGISTRY)
PRICE_SCALED = frozenset({"atr_14"})
"""Stored for the trade set-up, but no input of a model: in quote currency it names the price level."""


def _longest(*sources: Source) -> int:
    return max(spec.look_back for spec in REGISTRY if spec.source in sources)


WARMUP_BARS: dict[str, int] = {
    "signal": _longest(Source.OWN, Source.LEADER),
    H1: _longest(Source.H1),
    H4: _longest(Source.H4),
    D1: _longest(Source.D1),
}
"""Bars to load before the first wanted one, per timeframe: whatever more is loaded changes no value."""


def definition_hash(registry: Sequence[FeatureSpec] = REGISTRY) -> str:
    """Identity of the feature set: version, features in order, ages of outside series, and the indicator library."""
    outside = [feature.definition for feature in OBSERVED]
    text = json.dumps([VERSION, talib_version(), [(spec.name, spec.look_back) for spec in registry], outside])
    return hashlib.sha256(text.encode()).hexdigest()


def documentation() -> str:
    """The reference page of all features, in Markdown."""
    lines = [
        "# Features",
        "",
        "Written from the registry in `trading_pipelines/domain/features/registry.py`. A row belongs to one closed bar",
        "of the signal timeframe and holds what was known at its close. *Bars* is how many bars of the source a value",
        "depends on; it is NaN while there are fewer. Recursive indicators (EMA, RSI, ATR, ADX, MACD) count until the",
        "weight of anything older is below 1e-12. For series from outside it is the days of the window.",
        "",
        "Rows are stored per bar and rebuilt per day: `trading features build --from DAY --to DAY`, or the asset's",
        "partitions. A row refers to its feature set, whose hash covers this list and the indicator library; the hash",
        "of all that a build has read is kept with it (`feature_builds`). `trading features stale` tells what is stale",
        "since, `trading features rebuild` computes it again (`leak-checks.md`).",
        "",
        "| source | what is used |",
        "|---|---|",
        *(f"| {source} | {rule} |" for source, rule in AVAILABILITY.items()),
        "",
        "| name | group | source | unit | bars | meaning |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| `{s.name}` | {s.group} | {s.source} | {s.unit} | {s.look_back} | {s.description} |" for s in REGISTRY]
    return "\n".join(lines) + "\n"
