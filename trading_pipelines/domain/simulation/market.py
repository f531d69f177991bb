"""A market made of numbers: candles, funding and quotes as a pure function of seed, symbol and time.

Belongs here: the process that makes prices. Does not belong here: a clock (every function is told
which time is meant) and what of it a venue would already have published (`adapters.sources.simulated`).

Every random number is a hash of (seed, stream, index), so any stretch of history is computed
directly, in any order, by any process, with the same result. Prices are built in blocks of 16 days.
The log price at the edges of a block is a slowly mean-reverting level; between them runs

    return = β · (market noise + market trend) + own noise + own trend + jumps,

shifted by a constant so that it ends at the next edge. The level's innovations have the variance of the
noise alone: the shift takes back over weeks what trends have added, so that prices stay near their nominal
value. Trends (up, down or none) last hours to days; log volatility is a sum of noises with scales from an
hour to a week, so it clusters over all of these; symbols follow the market factor by up to two bars.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

import numpy as np
import pandas as pd

from trading_pipelines.domain.market.candles import CANDLE_COLUMNS, aggregate
from trading_pipelines.domain.market.instrument import Instrument, MarketKind, split_symbol
from trading_pipelines.domain.market.ticker import Ticker
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.domain.simulation.listings import NAMES
from trading_pipelines.domain.simulation.noise import Floats, Integers, normal, stream, uniform
from trading_pipelines.domain.simulation.spec import PriceProcess, SimulatedMarketSpec

EXCHANGE = "simulated"
GRID = Timeframe.M5
"""The timeframe that is simulated; longer candles are its aggregates."""

_BLOCK_DAYS = 16
_BLOCK = _BLOCK_DAYS * 1440 // GRID.minutes
"""Bars in a block."""
_DAY = 1440 // GRID.minutes
_HOUR = timedelta(hours=1)
_LAG = np.array([0.75, 0.17, 0.08])
"""How a symbol takes up the market's move: at once, one and two bars later."""
_VOLATILITY_SCALES = (12, 72, 288, 2016)
"""Bars between the knots of the volatility noise: 1 h, 6 h, 1 day, 1 week."""


@dataclass(frozen=True)
class _Profile:
    """What a symbol is like: nominal price, noise per 5-minute bar, tie to the market, size."""

    symbol: str
    price: float
    noise: float
    beta: float
    turnover: float
    """Quote volume of an average day."""
    price_decimals: int
    quantity_decimals: int
    leads: bool = False
    """Moves with the market factor at once instead of following it."""


_MARKET_NOISE = 0.0014
_PROFILES = {
    p.symbol: p
    for p in (
        _Profile("BTCUSDT", 64000.0, 0.0005, 1.0, 9e9, 1, 3, leads=True),
        _Profile("ETHUSDT", 3100.0, 0.0016, 1.25, 5e9, 2, 2),
        _Profile("SOLUSDT", 150.0, 0.0025, 1.6, 2e9, 3, 1),
        _Profile("BNBUSDT", 580.0, 0.0020, 1.0, 8e8, 2, 2),
        _Profile("XRPUSDT", 0.6, 0.0024, 1.3, 9e8, 4, 1),
        _Profile("DOGEUSDT", 0.14, 0.0027, 1.7, 9e8, 5, 0),
        _Profile("ADAUSDT", 0.45, 0.0024, 1.5, 4e8, 4, 0),
        _Profile("AVAXUSDT", 30.0, 0.0026, 1.6, 3e8, 3, 1),
        _Profile("LINKUSDT", 15.0, 0.0025, 1.5, 3e8, 3, 1),
        _Profile("DOTUSDT", 6.5, 0.0024, 1.5, 2e8, 4, 1),
    )
}


def profile_of(symbol: str) -> _Profile:
    """The symbol's character; one that is not in the table gets one that follows from its name."""
    if symbol in _PROFILES:
        return _PROFILES[symbol]
    if symbol in NAMES:
        return _small(_follows_from_name(symbol))
    return _follows_from_name(symbol)


def _small(profile: _Profile) -> _Profile:
    """New pairs turn over from a tenth of a million to forty million a day."""
    size = float(uniform(stream(0, f"{profile.symbol}/size"), np.arange(1))[0])
    return replace(profile, turnover=10 ** (5.0 + 2.6 * size))


def _follows_from_name(symbol: str) -> _Profile:
    price_u, noise_u, beta_u = uniform(stream(0, f"{symbol}/profile"), np.arange(3))
    price = float(10 ** (3 * price_u - 1.5))
    digits = math.floor(math.log10(price))
    return _Profile(
        symbol,
        price,
        0.0022 + 0.0008 * float(noise_u),
        1.2 + 0.6 * float(beta_u),
        2e8,
        4 - digits,
        max(0, digits + 1),
    )


class SimulatedMarket:
    """The whole market of one seed; holds no state beyond what can be computed again."""

    def __init__(self, spec: SimulatedMarketSpec) -> None:
        self.spec = spec

    def instruments(self) -> list[Instrument]:
        """Linear perpetuals with steps and minimums like those of large venues."""
        return [self.instrument(symbol) for symbol in self.spec.symbols]

    def instrument(self, symbol: str) -> Instrument:
        """One of them, or of the pairs that are listed later."""
        return _instrument(profile_of(symbol))

    def candles(self, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Candles of the grid timeframe that open in [start, end)."""
        first, last = _bar_at_or_after(start), _bar_at_or_after(end)
        bars = _bars(self.spec, symbol, first, last)
        ts = pd.to_datetime(np.arange(first, last) * (GRID.minutes * 60), unit="s", utc=True).as_unit("us")
        return pd.DataFrame({"ts": ts} | dict(zip(CANDLE_COLUMNS[1:], bars, strict=True)))

    def funding(self, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Funding settled in [start, end), every eight hours: it leans on the last day's trend.

        Returns
        -------
        pandas.DataFrame
            ts, rate (fraction of notional, longs pay when positive; bounded by 0.3 %).
        """
        interval = 8 * 60 // GRID.minutes
        first = -(-_bar_at_or_after(start) // interval)
        settlements = np.arange(first, max(first, -(-_bar_at_or_after(end) // interval)))
        close = _bars(self.spec, symbol, first * interval - _DAY - 1, int(first + len(settlements)) * interval)[3]
        offset = np.arange(len(settlements)) * interval
        day_return = close[offset + _DAY] / close[offset] - 1
        noise = normal(stream(self.spec.seed, f"{symbol}/funding"), settlements)
        rate = np.clip(1e-4 + 4e-3 * day_return + 3e-5 * noise, -3e-3, 3e-3).round(8)
        ts = pd.to_datetime(settlements * 8 * 3600, unit="s", utc=True).as_unit("us")
        return pd.DataFrame({"ts": ts, "rate": rate})

    def open_interest(self, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Open contracts at the full hours of [start, end): more in a rise than in a fall of the last week.

        Returns
        -------
        pandas.DataFrame
            ts, quantity (base currency), value_usd.
        """
        hours = np.arange(*(-((EPOCH - moment) // _HOUR) for moment in (start, end)))
        if len(hours) == 0:
            return pd.DataFrame({"ts": pd.DatetimeIndex([], tz="UTC").as_unit("us"), "quantity": [], "value_usd": []})
        profile, bars = profile_of(symbol), 60 // GRID.minutes
        first = int(hours[0]) * bars - 7 * _DAY - 1
        close = _bars(self.spec, symbol, first, int(hours[-1]) * bars)[3][::bars]
        price, week = close[7 * 24 :], np.log(close[7 * 24 :] / close[: -7 * 24])
        noise = normal(stream(self.spec.seed, f"{symbol}/interest"), hours)
        value = 0.4 * profile.turnover * np.exp(0.3 * np.tanh(week / 0.1) + 0.05 * noise)
        ts = pd.to_datetime(hours * 3600, unit="s", utc=True).as_unit("us")
        quantity = (value / price).round(profile.quantity_decimals)
        return pd.DataFrame({"ts": ts, "quantity": quantity, "value_usd": (quantity * price).round(2)})

    def mark_prices(self, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
        """Hourly candles of the mark price that open in [start, end): a premium apart from the last price, calmer."""
        hours = [EPOCH - (EPOCH - moment) // _HOUR * _HOUR for moment in (start, end)]
        candles = aggregate(self.candles(symbol, hours[0], hours[1]), Timeframe.H1)
        numbers = (hours[0] - EPOCH) // _HOUR + np.arange(len(candles) + 1)
        premium = 1 + 5e-5 * normal(stream(self.spec.seed, f"{symbol}/premium"), numbers)
        opened, close = candles["open"] * premium[:-1], candles["close"] * premium[1:]
        high = np.maximum(np.maximum(opened, close), candles["high"] * (1 - 2e-4))
        low = np.minimum(np.minimum(opened, close), candles["low"] * (1 + 2e-4))
        digits = profile_of(symbol).price_decimals
        prices = {"open": opened, "high": high, "low": low, "close": close}
        return pd.DataFrame({"ts": candles["ts"]} | {name: values.round(digits) for name, values in prices.items()})

    def ticker(self, symbol: str, at: datetime) -> Ticker:
        """Quote at an instant; it lies on the path of the candle in progress and ends at its close."""
        bar = _bar_of(at)
        bars = _bars(self.spec, symbol, bar - _DAY, bar + 1)
        within = (at - EPOCH) / GRID.delta - bar
        price = self._price_within(symbol, bar, within, bars[:, -1])
        before = self._price_within(symbol, bar - _DAY, within, bars[:, 0])
        step = 10.0 ** -profile_of(symbol).price_decimals
        spread = max(step, round(1e-4 * price / step) * step)
        return Ticker(
            symbol=symbol,
            ts=at.astimezone(UTC),
            price=price,
            bid=_round(price - spread / 2, symbol),
            ask=_round(price + spread / 2, symbol),
            change_24h=price / before - 1,
            quote_volume_24h=float(bars[3, :-1] @ bars[4, :-1]),
        )

    def _price_within(self, symbol: str, bar: int, within: float, candle: Floats) -> float:
        """Walk from the open over both extremes to the close; a falling bar meets its high first."""
        opened, high, low, close = (float(v) for v in candle[:4])
        times = np.sort(uniform(stream(self.spec.seed, f"{symbol}/path"), np.array([2 * bar, 2 * bar + 1])))
        extremes = (low, high) if close >= opened else (high, low)
        path = np.interp(within, (0.0, 0.1 + 0.8 * times[0], 0.1 + 0.8 * times[1], 1.0), (opened, *extremes, close))
        return _round(float(path), symbol)


def _instrument(profile: _Profile) -> Instrument:
    base, quote = split_symbol(profile.symbol)
    step = Decimal(1).scaleb(-profile.quantity_decimals)
    return Instrument(
        exchange=EXCHANGE,
        symbol=profile.symbol,
        base=base,
        quote=quote,
        kind=MarketKind.PERPETUAL,
        price_step=Decimal(1).scaleb(-profile.price_decimals),
        quantity_step=step,
        min_quantity=step,
        min_notional=Decimal(5),
        funding_interval_minutes=480,
    )


def _bar_of(moment: datetime) -> int:
    return (moment - EPOCH) // GRID.delta


def _bar_at_or_after(moment: datetime) -> int:
    return -((EPOCH - moment) // GRID.delta)


def _round(price: float, symbol: str) -> float:
    return round(price, profile_of(symbol).price_decimals)


def _bars(spec: SimulatedMarketSpec, symbol: str, first: int, last: int) -> Floats:
    """Rows open, high, low, close, volume of the grid bars [first, last)."""
    if last <= first:
        return np.empty((5, 0))
    profile = profile_of(symbol)
    blocks = [_block(spec.seed, spec.process, profile, b) for b in range(first // _BLOCK, (last - 1) // _BLOCK + 1)]
    offset = first // _BLOCK * _BLOCK
    return np.concatenate(blocks, axis=1)[:, first - offset : last - offset]


@lru_cache(maxsize=64)
def _block(seed: int, process: PriceProcess, profile: _Profile, block: int) -> Floats:
    """Bars of one block; always computed whole, so that every window sees the same digits."""
    bars = np.arange(block * _BLOCK, (block + 1) * _BLOCK)
    noise = profile.noise * _volatility(seed, process, profile.symbol, bars)
    market, market_noise = _market_returns(seed, process, block, lagged=not profile.leads)
    returns = profile.beta * market + _own_returns(seed, process, profile.symbol, bars, noise)
    start, end = (_level(seed, process, profile, b) for b in (block, block + 1))
    path = start + np.cumsum(returns + (end - start - returns.sum()) / _BLOCK)
    path[-1] = end
    opened = np.concatenate(([start], path[:-1]))
    sigma = np.sqrt(noise**2 + (profile.beta * market_noise) ** 2)
    high, low = _extremes(seed, profile.symbol, bars, opened, path, sigma)
    prices = np.exp(np.stack((opened, high, low, path))).round(profile.price_decimals)
    return np.vstack((prices, _volume(seed, profile, bars, prices, sigma)))


@lru_cache(maxsize=64)
def _market_returns(seed: int, process: PriceProcess, block: int, lagged: bool) -> tuple[Floats, Floats]:
    """Returns of the market factor in a block as a leader or a follower sees them, and their noise."""
    bars = np.arange(block * _BLOCK - len(_LAG) + 1, (block + 1) * _BLOCK)
    noise = _MARKET_NOISE * _volatility(seed, process, "market", bars)
    trend = process.market_trend_strength * _trend(seed, process, "market", bars)
    returns = noise * (normal(stream(seed, "market/noise"), bars) + trend)
    shape = _LAG if lagged else np.eye(1, len(_LAG))[0]
    return np.convolve(returns, shape, mode="valid"), noise[len(_LAG) - 1 :]


def _own_returns(seed: int, process: PriceProcess, symbol: str, bars: Integers, noise: Floats) -> Floats:
    jumps = uniform(stream(seed, f"{symbol}/jump"), bars) < process.jumps_per_day / _DAY
    sizes = process.jump_size * normal(stream(seed, f"{symbol}/jump size"), bars)
    trend = process.trend_strength * _trend(seed, process, symbol, bars)
    return noise * (normal(stream(seed, f"{symbol}/noise"), bars) + trend + np.where(jumps, sizes, 0.0))


def _level(seed: int, process: PriceProcess, profile: _Profile, block: int) -> float:
    """Log price at the start of a block: nominal price plus a first-order autoregression.

    The moving-average form over the last 64 blocks replaces the recursion from the beginning of time.
    """
    ages = np.arange(64)
    weights = (1 - process.level_reversion) ** ages
    market, own = math.sqrt(_BLOCK) * _MARKET_NOISE, math.sqrt(_BLOCK) * profile.noise
    market_shocks = normal(stream(seed, "market/level"), block - ages)
    own_shocks = normal(stream(seed, f"{profile.symbol}/level"), block - ages)
    return math.log(profile.price) + float(weights @ (profile.beta * market * market_shocks + own * own_shocks))


def _trend(seed: int, process: PriceProcess, name: str, bars: Integers) -> Floats:
    """Direction −1, 0 or 1: each hour it is drawn anew with probability 1 / `trend_hours`."""
    hours = bars * GRID.minutes // 60
    memory = math.ceil(30 * process.trend_hours)
    grid = np.arange(int(hours[0]) - memory, int(hours[-1]) + 1)
    renewed = uniform(stream(seed, f"{name}/renewal"), grid) < 1 / process.trend_hours
    drawn_at = np.maximum.accumulate(np.where(renewed, grid, grid[0]))
    draw = uniform(stream(seed, f"{name}/trend"), drawn_at)
    edge = process.range_share
    direction = np.where(draw < edge, 0.0, np.where(draw < (1 + edge) / 2, 1.0, -1.0))
    return direction[hours - grid[0]]


def _volatility(seed: int, process: PriceProcess, name: str, bars: Integers) -> Floats:
    """Multiplier of the noise with mean square one, before the daily rhythm (quiet at 04 UTC)."""
    log_volatility = np.zeros(len(bars))
    for scale in _VOLATILITY_SCALES:
        log_volatility += _smooth_noise(stream(seed, f"{name}/volatility/{scale}"), bars, scale)
    log_volatility *= process.volatility_spread / math.sqrt(len(_VOLATILITY_SCALES))
    rhythm = -0.15 * np.cos(2 * math.pi * (bars % _DAY / _DAY - 4 / 24))
    return np.exp(log_volatility - process.volatility_spread**2 + rhythm)


def _smooth_noise(stream: np.uint64, bars: Integers, scale: int) -> Floats:
    """Unit-variance noise that changes over `scale` bars: neighbouring knots blended by cos and sin."""
    knots = np.arange(int(bars[0]) // scale, int(bars[-1]) // scale + 2)
    values = normal(stream, knots)
    left = bars // scale - knots[0]
    angle = (bars % scale) * (math.pi / 2 / scale)
    return values[left] * np.cos(angle) + values[left + 1] * np.sin(angle)


def _extremes(
    seed: int, symbol: str, bars: Integers, opened: Floats, close: Floats, sigma: Floats
) -> tuple[Floats, Floats]:
    """Draw the highest and lowest point of a Brownian bridge from open to close (log prices).

    The maximum of a bridge over a with end b has P(max > m) = exp(-2 (m - a)(m - b) / σ²).
    """
    square = (close - opened) ** 2
    spread_high = -2 * sigma**2 * np.log(uniform(stream(seed, f"{symbol}/high"), bars))
    spread_low = -2 * sigma**2 * np.log(uniform(stream(seed, f"{symbol}/low"), bars))
    middle = opened + close
    return (middle + np.sqrt(square + spread_high)) / 2, (middle - np.sqrt(square + spread_low)) / 2


def _volume(seed: int, profile: _Profile, bars: Integers, prices: Floats, sigma: Floats) -> Floats:
    """Base volume: grows with volatility and with the bar's range, and has noise of its own."""
    opened, high, low, close = prices
    usual = math.hypot(profile.noise, profile.beta * _MARKET_NOISE)
    activity = 0.9 * np.log(sigma / usual) + 0.3 * (high - low) / (opened * usual) - 0.55
    noise = 0.4 * normal(stream(seed, f"{profile.symbol}/volume"), bars)
    return (profile.turnover / _DAY / close * np.exp(activity + noise)).round(profile.quantity_decimals)
