"""A small random market for tests of features: 15-minute candles, the longer ones made of them, a leader, funding."""

import numpy as np

from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.domain.features.context import Bars, Breadth, FeatureInputs, Settlements
from trading_pipelines.domain.features.observations import OBSERVED, Observed
from trading_pipelines.domain.features.windows import Floats
from trading_pipelines.domain.market.timeframe import Timeframe

M15, H1, H4, D1 = Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1
BARS = 6_000
START = np.datetime64("2025-01-01", "us")
MINUTE = np.timedelta64(1, "m")


def make_inputs(seed: int, bars: int = BARS) -> FeatureInputs:
    """Everything that the features of one symbol need; the same for the same seed."""
    leader_moves = np.random.default_rng(seed + 100).normal(0, 0.003, bars)
    own_moves = 0.6 * leader_moves + np.random.default_rng(seed).normal(0, 0.002, bars)
    own, leader = make_bars(own_moves, seed), make_bars(leader_moves, seed + 100)
    settled = np.arange(START, own.closes_at[-1], 480 * MINUTE)
    return FeatureInputs(
        bars=own,
        higher={timeframe: longer(own, timeframe) for timeframe in (H1, H4, D1)},
        leader=leader,
        funding=Settlements(settled, np.random.default_rng(seed).normal(0, 1e-4, len(settled))),
        breadth=Breadth(leader.closes_at, *np.random.default_rng(seed + 200).random((3, bars))),
        observed={f.series: make_observed(f.series, seed, own.closes_at[-1]) for f in OBSERVED if not f.market},
        market={f.series: make_observed(f.series, seed + 300, own.closes_at[-1]) for f in OBSERVED if f.market},
    )


def make_observed(series: str, seed: int, until: np.datetime64) -> Observed:
    """A series as its source tells it: late by some hours at times, and every fifth value revised days later."""
    draw = np.random.default_rng([seed, *series.encode()])
    step = SERIES[series].period or np.timedelta64(8, "h")
    ts = np.arange(START - np.timedelta64(45, "D"), until, np.timedelta64(step, "us"))
    lag = np.timedelta64(SERIES[series].period + SERIES[series].publication_lag, "us")
    told = ts + lag + (draw.exponential(30, len(ts)) * 60e6).astype("timedelta64[us]")
    revised = np.flatnonzero(draw.random(len(ts)) < 0.2)
    again = told[revised] + (draw.uniform(1, 72, len(revised)) * 3_600e6).astype("timedelta64[us]")
    available_at, of = np.concatenate((told, again)), np.concatenate((ts, ts[revised]))
    value = 50 + np.cumsum(draw.normal(0, 0.2, len(of)))
    order = np.argsort(available_at, kind="stable")
    known = available_at[order] <= until
    return Observed(available_at[order][known], of[order][known], value[order][known])


def tail(bars: Bars, count: int) -> Bars:
    """The newest `count` bars."""
    first = len(bars) - count
    columns = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    open_, high, low, close, volume = (values[first:] for values in columns)
    return Bars(bars.timeframe, bars.ts[first:], open_, high, low, close, volume)


def first_hours(inputs: FeatureInputs, bars: int) -> FeatureInputs:
    """What was known when the first `bars` bars had closed."""
    return inputs.known_at(inputs.bars.ts[0] + bars * 15 * MINUTE)


def make_bars(moves: Floats, seed: int) -> Bars:
    """A random walk as 15-minute candles."""
    draw = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(moves))
    open_ = np.concatenate(([100.0], close[:-1]))
    return Bars(
        timeframe=M15,
        ts=START + np.arange(len(moves)) * 15 * MINUTE,
        open=open_,
        high=np.maximum(open_, close) * (1 + draw.exponential(0.001, len(moves))),
        low=np.minimum(open_, close) * (1 - draw.exponential(0.001, len(moves))),
        close=close,
        volume=draw.exponential(100, len(moves)),
    )


def longer(bars: Bars, timeframe: Timeframe) -> Bars:
    """Whole bars of a longer timeframe; the first candle opens at midnight."""
    size = timeframe.minutes // bars.timeframe.minutes
    rows = len(bars) // size

    def cut(values: Floats) -> Floats:
        return values[: rows * size].reshape(rows, size)

    return Bars(
        timeframe=timeframe,
        ts=bars.ts[: rows * size : size],
        open=cut(bars.open)[:, 0].copy(),
        high=cut(bars.high).max(axis=1),
        low=cut(bars.low).min(axis=1),
        close=cut(bars.close)[:, -1].copy(),
        volume=cut(bars.volume).sum(axis=1),
    )
