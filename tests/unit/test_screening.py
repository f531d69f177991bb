"""The daily ranking: what lifts a symbol, what does not, and the words for it."""

from dataclasses import replace

import numpy as np
import pytest

from trading_pipelines.domain.features.context import Bars
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.screening.ranking import BARS_NEEDED, DAYS_NEEDED, Measures, measure, rank

BASE = Measures(
    symbol="AUSDT",
    direction=1,
    trend_4h=1.0,
    trend_1d=1.0,
    quote_volume=1e6,
    volume_ratio=1.0,
    daily_range=0.03,
    range_ratio=1.0,
    rsi=45.0,
)


def _others(count: int = 9) -> list[Measures]:
    return [replace(BASE, symbol=f"{i}USDT", trend_4h=0.3, trend_1d=0.0) for i in range(count)]


def _bars(timeframe: Timeframe, count: int, drift: float) -> Bars:
    close = 100 * np.exp(drift * np.arange(count) + 0.002 * np.sin(np.arange(count)))
    ts = np.datetime64("2025-01-01", "us") + np.arange(count) * np.timedelta64(timeframe.minutes, "m")
    return Bars(timeframe, ts, close, close * 1.02, close * 0.98, close, np.full(count, 50.0))


def test_agreed_trend_leads_and_its_reasons_say_so() -> None:
    first = rank([*_others(), BASE])[0]
    assert (first.rank, first.symbols, first.measures.symbol) == (1, 10, "AUSDT")
    assert first.reasons[0] == "trend up on 4h and 1d"
    assert first.reasons[3] == "RSI 45 on 4h: a pull-back in the trend"


@pytest.mark.parametrize(
    "worse",
    [
        {"trend_1d": -1.0},
        {"volume_ratio": 0.2},
        {"quote_volume": 1.0},
        {"range_ratio": 3.5},
        {"daily_range": 0.0001},
        {"rsi": 82.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_weakness_costs_a_place(worse: dict[str, float]) -> None:
    weaker = replace(BASE, symbol="BUSDT", **worse)
    places = rank([weaker, BASE, *_others()])
    assert [place.measures.symbol for place in places].index("AUSDT") < [p.measures.symbol for p in places].index(
        "BUSDT"
    )


def test_parts_and_score_lie_between_zero_and_one() -> None:
    for place in rank([replace(BASE, volume_ratio=900.0, rsi=0.0), *_others()]):
        for value in (place.score, place.trend, place.volume, place.volatility, place.rsi_setup):
            assert 0 <= value <= 1


def test_order_does_not_depend_on_the_order_of_the_symbols() -> None:
    universe = [BASE, *_others()]
    assert rank(universe) == rank(universe[::-1])


@pytest.mark.parametrize(("drift", "direction"), [(0.004, 1), (-0.004, -1)])
def test_symbol_is_measured_from_its_days_and_its_four_hour_bars(drift: float, direction: int) -> None:
    told = measure("AUSDT", _bars(Timeframe.D1, 200, drift), _bars(Timeframe.H4, 400, drift))
    assert told is not None
    assert (told.direction, told.trend_4h, told.trend_1d) == (direction, direction, direction)
    assert told.volume_ratio == 1.0
    assert 0.03 < told.daily_range < 0.06
    assert (told.rsi - 50) * direction > 0


def test_measure_does_not_depend_on_the_history_that_is_stored() -> None:
    days, hours = _bars(Timeframe.D1, 400, 0.001), _bars(Timeframe.H4, 800, 0.001)

    def tail(bars: Bars, count: int) -> Bars:
        columns = (getattr(bars, name)[-count:] for name in ("ts", "open", "high", "low", "close", "volume"))
        return Bars(bars.timeframe, *columns)

    assert measure("A", tail(days, DAYS_NEEDED), tail(hours, BARS_NEEDED)) == measure("A", days, hours)
    assert measure("A", tail(days, DAYS_NEEDED - 1), hours) is None


def test_halted_symbol_is_ranked_last_without_an_error() -> None:
    flat = np.full(400, 100.0)
    days, hours = (
        replace(bars, open=flat, high=flat, low=flat, close=flat, volume=flat * 0)
        for bars in (_bars(Timeframe.D1, 400, 0.0), _bars(Timeframe.H4, 400, 0.0))
    )
    halted = measure("HALTUSDT", days, hours)
    assert halted is not None
    assert rank([halted, BASE, *_others()])[-1].measures.symbol == "HALTUSDT"
