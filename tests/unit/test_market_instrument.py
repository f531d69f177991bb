"""Symbols, steps and timeframes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from trading_pipelines.domain.market.instrument import Instrument, MarketKind, split_symbol
from trading_pipelines.domain.market.timeframe import Timeframe

BTC = Instrument("bybit", "BTCUSDT", "BTC", "USDT", MarketKind.PERPETUAL, Decimal("0.1"), Decimal("0.001"))


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("BTCUSDT", "BTC", "USDT"),
        ("1000PEPEUSDT", "1000PEPE", "USDT"),
        ("ETHBTC", "ETH", "BTC"),
        ("BTCUSD", "BTC", "USD"),
    ],
)
def test_symbol_is_split_at_its_quote(symbol: str, base: str, quote: str) -> None:
    assert split_symbol(symbol) == (base, quote)


@pytest.mark.parametrize("symbol", ["USDT", "ABC", ""])
def test_symbol_without_base_or_known_quote_is_refused(symbol: str) -> None:
    with pytest.raises(ValueError, match="base and quote"):
        split_symbol(symbol)


def test_quantity_is_rounded_down_and_price_to_the_nearest_step() -> None:
    assert BTC.round_quantity(Decimal("0.0019")) == Decimal("0.001")
    assert BTC.round_price(Decimal("100.06")) == Decimal("100.1")


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_newest_closed_bar_closes_at_or_before_the_moment(timeframe: Timeframe) -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    close = timeframe.last_closed(moment) + timeframe.delta
    assert close <= moment < close + timeframe.delta
    assert timeframe.last_closed(close) + timeframe.delta == close
    assert timeframe.last_closed(close - timedelta(microseconds=1)) + timeframe.delta < close
