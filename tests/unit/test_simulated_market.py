"""The simulated market: the same for everybody, sound, lively and partly predictable."""

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipelines.domain.market.candles import aggregate, candle_schema
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.market import GRID, SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

SPEC = SimulatedMarketSpec()
MARKET = SimulatedMarket(SPEC)
START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=60)
REFERENCE = {symbol: MARKET.candles(symbol, START, END) for symbol in ("BTCUSDT", "SOLUSDT", "DOGEUSDT")}
ALTS = ("SOLUSDT", "DOGEUSDT")

symbols = st.sampled_from(list(REFERENCE))
minutes = st.integers(0, 60 * 24 * 60)


@settings(deadline=None)
@given(symbols, minutes, minutes)
def test_any_window_shows_the_same_candles(symbol: str, one: int, other: int) -> None:
    start, end = (START + timedelta(minutes=m) for m in sorted((one, other)))
    expected = REFERENCE[symbol]
    expected = expected[(expected["ts"] >= start) & (expected["ts"] < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(SimulatedMarket(SPEC).candles(symbol, start, end), expected, check_exact=True)


def test_another_process_sees_the_same_candles() -> None:
    script = """
import hashlib
from datetime import UTC, datetime, timedelta
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
start = datetime(2026, 3, 1, tzinfo=UTC)
candles = SimulatedMarket(SimulatedMarketSpec()).candles("SOLUSDT", start, start + timedelta(days=60))
print(hashlib.sha256(candles.to_csv().encode()).hexdigest())
"""
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    here = hashlib.sha256(REFERENCE["SOLUSDT"].to_csv().encode()).hexdigest()
    assert other.stdout.strip() == here


def test_candle_does_not_depend_on_which_other_symbols_exist() -> None:
    alone = SimulatedMarket(SimulatedMarketSpec(symbols=("DOGEUSDT",)))
    pd.testing.assert_frame_equal(alone.candles("DOGEUSDT", START, END), REFERENCE["DOGEUSDT"])


def test_another_seed_is_another_market() -> None:
    other = SimulatedMarket(SimulatedMarketSpec(seed=SPEC.seed + 1)).candles("SOLUSDT", START, END)
    assert abs(np.corrcoef(np.diff(other["close"]), np.diff(REFERENCE["SOLUSDT"]["close"]))[0, 1]) < 0.05


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOTUSDT", "PEPEUSDT"])
def test_candles_are_complete_sound_and_without_jumps_between_bars(symbol: str) -> None:
    candles = MARKET.candles(symbol, START, END)
    candle_schema(GRID).validate(candles)
    assert len(candles) == 60 * 288
    assert (candles["open"].iloc[1:].to_numpy() == candles["close"].iloc[:-1].to_numpy()).all()


@settings(deadline=None)
@given(symbols, st.integers(0, 59 * 288), st.floats(0, 1, exclude_max=True))
def test_quote_lies_on_the_candle_that_will_close(symbol: str, bar: int, within: float) -> None:
    candle = REFERENCE[symbol].iloc[bar]
    opened = candle["ts"].to_pydatetime()
    quote = MARKET.ticker(symbol, opened + within * GRID.delta)
    assert candle["low"] <= quote.price <= candle["high"]
    assert quote.bid is not None
    assert quote.ask is not None
    assert quote.bid <= quote.price <= quote.ask
    assert MARKET.ticker(symbol, opened).price == candle["open"]
    assert MARKET.ticker(symbol, opened + GRID.delta - timedelta(microseconds=1)).price == pytest.approx(
        candle["close"], rel=1e-4
    )


def test_quotes_of_one_bar_reach_both_extremes() -> None:
    candle = REFERENCE["SOLUSDT"].iloc[100]
    prices = [MARKET.ticker("SOLUSDT", candle["ts"] + timedelta(seconds=s)).price for s in range(300)]
    reach = 0.05 * (candle["high"] - candle["low"])
    assert max(prices) >= candle["high"] - reach
    assert min(prices) <= candle["low"] + reach


def test_daily_change_and_turnover_of_a_quote_agree_with_the_candles() -> None:
    at = START + timedelta(days=10)
    day = MARKET.candles("SOLUSDT", at - timedelta(days=1), at)
    quote = MARKET.ticker("SOLUSDT", at)
    assert quote.change_24h == pytest.approx(quote.price / day["open"].iloc[0] - 1)
    assert quote.quote_volume_24h == pytest.approx((day["close"] * day["volume"]).sum())


@settings(deadline=None)
@given(minutes, minutes)
def test_funding_settles_every_eight_hours_alike_in_any_window(one: int, other: int) -> None:
    whole = MARKET.funding("SOLUSDT", START, END)
    start, end = (START + timedelta(minutes=m) for m in sorted((one, other)))
    expected = whole[(whole["ts"] >= start) & (whole["ts"] < end)].reset_index(drop=True)
    pd.testing.assert_frame_equal(MARKET.funding("SOLUSDT", start, end), expected)
    assert len(whole) == 180
    assert (whole["rate"].abs() <= 0.003).all()


def test_funding_leans_on_the_trend() -> None:
    funding = MARKET.funding("SOLUSDT", START, END).set_index("ts")["rate"]
    close = REFERENCE["SOLUSDT"].set_index("ts")["open"]
    day_return = close.pct_change(288).reindex(funding.index).dropna()
    assert np.corrcoef(day_return, funding.loc[day_return.index])[0, 1] > 0.9


def _true_range(symbol: str) -> pd.Series:
    bars = aggregate(REFERENCE[symbol], Timeframe.M15)
    high, low, close = (bars[c].to_numpy() for c in ("high", "low", "close"))
    return pd.Series(talib.ATR(high, low, close, 14) / close).dropna()


def test_altcoins_move_about_three_times_as_much_as_bitcoin() -> None:
    assert 0.0025 < _true_range("BTCUSDT").median() < 0.005
    assert all(0.006 < _true_range(symbol).median() < 0.013 for symbol in ALTS)


def test_volatility_clusters_and_returns_have_heavy_tails() -> None:
    returns = np.log(aggregate(REFERENCE["SOLUSDT"], Timeframe.M15)["close"]).diff().dropna()
    assert returns.kurt() > 1
    assert returns.abs().autocorr(1) > 0.1
    assert abs(returns.autocorr(1)) < 0.15


def test_symbols_follow_the_market_together() -> None:
    returns = pd.DataFrame({s: np.log(aggregate(c, Timeframe.H1)["close"]).diff() for s, c in REFERENCE.items()})
    assert (returns.corr().to_numpy()[np.triu_indices(3, 1)] > 0.2).all()


def test_volume_follows_volatility() -> None:
    candles = REFERENCE["DOGEUSDT"]
    spread = np.log(candles["high"] / candles["low"])
    assert spread.corr(np.log(candles["volume"]), method="spearman") > 0.3


def test_trends_persist_for_hours() -> None:
    """Past and coming four hours go the same way more often than not: what a model can learn."""
    agreements = []
    for symbol in ALTS:
        close = np.log(aggregate(REFERENCE[symbol], Timeframe.H4)["close"]).diff().dropna()
        agreements.append(close.autocorr(1))
    assert np.mean(agreements) > 0.05


def test_a_symbol_without_a_profile_gets_a_plausible_one() -> None:
    market = SimulatedMarket(SimulatedMarketSpec(symbols=("ABCUSDT", "XYZUSDC")))
    for instrument in market.instruments():
        candles = market.candles(instrument.symbol, START, START + timedelta(days=5))
        assert float(instrument.price_step) < candles["close"].median() / 1000
        assert (candles["volume"] > 0).all()
    assert [i.quote for i in market.instruments()] == ["USDT", "USDC"]
