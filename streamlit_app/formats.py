"""How numbers, times and states are written, and the colours they carry.

Every function returns plain text; a missing value is an en dash. Nothing here draws or reads.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

MISSING = "–"
_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Palette:
    """Colours that mean something; told apart with every kind of colour blindness."""

    gain: str
    loss: str
    muted: str
    accent: str
    grid: str
    on_colour: str


_LIGHT = Palette(gain="#1a66c2", loss="#c25400", muted="#6d7785", accent="#7a4fb5", grid="#dbe1e8", on_colour="#ffffff")
_DARK = Palette(gain="#63a9f7", loss="#f4924a", muted="#98a4b3", accent="#b594ec", grid="#2c3642", on_colour="#10151b")


def palette() -> Palette:
    """Colours for the theme that the browser shows."""
    return _DARK if st.context.theme.type == "dark" else _LIGHT


def missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, NaT or infinite."""
    if value is None or value is pd.NaT:
        return True
    return isinstance(value, float) and not math.isfinite(value)


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """A number with thousands separators, `sign` writes a plus as well."""
    if missing(value):
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    is_zero = not any(character in "123456789" for character in text)
    if value < 0 and not is_zero:
        return _MINUS + text
    return "+" + text if sign and not is_zero else text


def price(value: Any) -> str:
    """A price with five significant digits, at least two of them after the point."""
    if missing(value) or value == 0:
        return MISSING if missing(value) else "0.00"
    return number(value, max(2, 4 - math.floor(math.log10(abs(value)))))


def published(value: Any) -> str:
    """A figure of any size as it was published: four significant digits, large ones with K, M or B."""
    if missing(value):
        return MISSING
    return compact(value) if abs(value) >= 10_000 else quantity(value)


def score(value: Any) -> str:
    """A composite score with one digit."""
    return number(value, 1)


def day(value: Any) -> str:
    """A date."""
    return MISSING if missing(value) else f"{value:%Y-%m-%d}"


def quantity(value: Any) -> str:
    """A quantity without trailing zeros, four significant digits."""
    if missing(value):
        return MISSING
    digits = 0 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
    text = number(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Any) -> str:
    """An amount of quote currency with its sign, as a profit or loss is written."""
    return number(value, 2, sign=True)


def cost(value: Any) -> str:
    """An amount that was paid; what was received has a plus."""
    return MISSING if missing(value) else number(-value, 2, sign=True)


def percent(value: Any, digits: int = 2, *, sign: bool = True) -> str:
    """A fraction as percent."""
    return MISSING if missing(value) else f"{number(100 * value, digits, sign=sign)}%"


def share(value: Any) -> str:
    """A fraction as percent with one digit and no plus."""
    return percent(value, 1, sign=False)


def ratio(value: Any) -> str:
    """A plain ratio with two digits."""
    return number(value, 2)


def bps(value: Any) -> str:
    """Basis points with one digit."""
    return MISSING if missing(value) else f"{number(value, 1, sign=True)} bps"


def compact(value: Any) -> str:
    """A large number with K, M or B."""
    if missing(value):
        return MISSING
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit:
            return f"{number(value / limit, 2 if abs(value) < 10 * limit else 1)}{unit}"
    return number(value, 0)


def size(value: Any) -> str:
    """Bytes in binary units."""
    if missing(value):
        return MISSING
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value = value / 1024
    return f"{value:,.2f} TB"


def duration(seconds: Any) -> str:
    """A span in its two largest units."""
    if missing(seconds):
        return MISSING
    seconds = int(max(seconds, 0))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def ago(moment: Any, now: datetime) -> str:
    """How long before `now`."""
    if missing(moment):
        return MISSING
    seconds = (now - moment).total_seconds()
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def moment(value: Any) -> str:
    """Date and minute, without the zone: for columns whose header names it."""
    return MISSING if missing(value) else f"{value:%Y-%m-%d %H:%M}"


def moment_utc(value: Any) -> str:
    """Date and minute with the zone."""
    return MISSING if missing(value) else f"{value:%Y-%m-%d %H:%M} UTC"


def side(value: Any) -> str:
    """Direction as an arrow and a word."""
    return {"LONG": "▲ Long", "SHORT": "▼ Short", "BUY": "▲ Buy", "SELL": "▼ Sell"}.get(value, MISSING)


def trend(value: Any) -> str:
    """Trend as an arrow and a word."""
    return {"UP": "▲ Up", "DOWN": "▼ Down", "MIXED": "◆ Mixed"}.get(value, MISSING)


def fear_greed(value: float) -> str:
    """The Fear & Greed index in the words of its publisher, alternative.me."""
    names = ((24, "extreme fear"), (46, "fear"), (54, "neutral"), (75, "greed"))
    return next((name for most, name in names if value <= most), "extreme greed")


def details(text: Any) -> str:
    """A JSON object as `name value` pairs; what is empty is left out."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return MISSING
    told = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in found.items() if value not in (None, [], {})]
    return ", ".join(told) or MISSING


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(str(item) for item in value)
    return quantity(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


_WORDS = {
    "HIT_TP": "Target hit",
    "HIT_SL": "Stopped",
    "PARTIALLY_FILLED": "Partly filled",
    "TP1": "Target 1",
    "TP2": "Target 2",
    "TP3": "Target 3",
    "STOP_MARKET": "Stop market",
    "TAKE_PROFIT_MARKET": "Take profit",
    "net_profit": "Net profit too small",
    "risk_reward": "Risk/reward too small",
    "expected_value": "Expected value too low",
    "confidence": "Confidence too low",
    "cooldown_minutes": "Cooldown since last signal",
    "atr_ratio": "Volatility out of range",
    "anomaly": "Anomaly in the last bars",
    "novelty": "Features beyond the training",
    "consensus": "Too few factors agree",
    "conflict": "Factors contradict each other",
    "data_lag_minutes": "Candles too old",
    "bar_age_minutes": "Bar too old",
    "model_age_days": "Model too old",
    "model": "No model in production",
    "proposal": "Strategy proposes nothing",
    "direction": "Side not allowed in this session",
    "setup": "No set-up possible",
}


def words(value: Any) -> str:
    """A stored key such as `HIT_SL` or a reason such as `net_profit` in words; an unknown one as it reads."""
    return MISSING if missing(value) else _WORDS.get(value) or name(value)


_SHORT = {
    word.lower(): word
    for word in (
        *("ADX", "ATR", "AUC", "Brier", "BTC", "EMA", "ETF", "ETH", "KS", "MACD", "OBV", "PSI", "RSI", "SHAP", "SMA"),
        *("TWAP", "USD", "USDT", "VWAP"),
    )
}


def name(value: Any) -> str:
    """A key such as `ema_50_distance` as it reads: what the field writes in capitals stays in capitals."""
    if missing(value):
        return MISSING
    text = " ".join(_SHORT.get(part.lower(), part.lower()) for part in str(value).replace("_", " ").split())
    return text[:1].upper() + text[1:]


_GATES = {
    "model": "Model in production",
    "proposal": "Strategy proposes a side",
    "direction": "Side allowed",
    "setup": "Set-up possible",
    "model_age_days": "Model age, days",
    "bar_age_minutes": "Bar age, minutes",
    "data_lag_minutes": "Candle lag, minutes",
    "atr_ratio": "ATR over its weekly median",
    "anomaly": "Anomaly in 16 bars",
    "novelty": "Novelty of the features",
    "consensus": "Agreeing factors",
    "conflict": "Conflict of the factors",
    "confidence": "Confidence",
    "risk_reward": "Risk/reward",
    "net_profit": "Net profit",
    "expected_value": "Expected value",
    "cooldown_minutes": "Since last signal, minutes",
}
_GATES_IN_PERCENT = {"net_profit", "expected_value", "confidence"}
_GATES_OF_A_SIDE = {"proposal", "direction"}
_GATES_OF_YES_AND_NO = {"model", "setup"}


def gate(gate_name: str) -> str:
    """What a gate looks at."""
    return _GATES.get(gate_name) or name(gate_name)


def gate_number(gate_name: str, value: Any) -> str:
    """A gate's value or threshold in its own unit."""
    if missing(value):
        return MISSING
    if gate_name in _GATES_OF_A_SIDE:
        return side("LONG" if value > 0 else "SHORT") if value else "none"
    if gate_name in _GATES_OF_YES_AND_NO:
        return "yes" if value else "no"
    return percent(value, 2, sign=False) if gate_name in _GATES_IN_PERCENT else quantity(value)


_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$:&])")


def literal(text: Any) -> str:
    """Text from outside, escaped so that Markdown shows it letter by letter."""
    return _MARKDOWN.sub(r"\\\1", str(text)).replace("\n", " ")
