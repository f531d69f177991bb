"""Each kind of anomaly is found where it is planted, and an ordinary market has hardly any."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feature_inputs import make_bars

from trading_pipelines.domain.anomaly.measures import MEASURES, RECENT_BARS, Kind, recent
from trading_pipelines.domain.features.context import Bars
from trading_pipelines.domain.market.timeframe import Timeframe

BARS, AT = 3_000, 2_500
QUIET = replace(
    make_bars(np.random.default_rng(8).normal(0, 0.003, BARS), 8),
    volume=100 * np.exp(np.random.default_rng(9).normal(0, 0.3, BARS)),
)


def _with(**columns: np.ndarray) -> Bars:
    return replace(QUIET, **columns, _known={})


def _times(values: np.ndarray, rows: slice, factor: float) -> np.ndarray:
    changed = values.copy()
    changed[rows] *= factor
    return changed


def _price_spike() -> Bars:
    later = slice(AT, None)
    return _with(close=_times(QUIET.close, later, 1.08), high=_times(QUIET.high, later, 1.08))


def _volume_spike() -> Bars:
    return _with(volume=_times(QUIET.volume, slice(AT, AT + 1), 500.0))


def _volatility() -> Bars:
    wild = slice(AT - 20, AT + 1)
    return _with(high=_times(QUIET.high, wild, 1.03), low=_times(QUIET.low, wild, 0.97))


def _risen(fallen: float) -> Bars:
    """A rise by a fifth within an hour on much volume, of which `fallen` is lost again in the next one."""
    path = np.ones(BARS)
    path[AT - 7 : AT - 3] = np.linspace(1.05, 1.2, 4)
    path[AT - 3 :] = 1.2 - 0.2 * fallen
    columns = {name: getattr(QUIET, name) * path for name in ("open", "high", "low", "close")}
    return _with(**columns, volume=_times(QUIET.volume, slice(AT - 7, AT + 1), 30.0))


def _washed() -> Bars:
    """Much volume in a price that hardly moves."""
    rows = slice(AT - 3, AT + 1)
    calm = QUIET.close[AT - 4]
    columns = {name: getattr(QUIET, name).copy() for name in ("open", "high", "low", "close")}
    for name, factor in (("open", 1.0), ("high", 1.00005), ("low", 0.99995), ("close", 1.0)):
        columns[name][rows] = calm * factor
    return _with(**columns, volume=_times(QUIET.volume, rows, 100.0))


PLANTED: dict[Kind, Callable[[], Bars]] = {
    Kind.VOLATILITY: _volatility,
    Kind.PRICE_SPIKE: _price_spike,
    Kind.VOLUME_SPIKE: _volume_spike,
    Kind.PUMP: lambda: _risen(0.0),
    Kind.PUMP_AND_DUMP: lambda: _risen(0.8),
    Kind.WASH_TRADING: _washed,
}


@pytest.mark.parametrize("kind", list(Kind))
def test_planted_anomaly_is_found_at_its_bar(kind: Kind) -> None:
    assert MEASURES[kind](PLANTED[kind]())[AT] >= 1


@pytest.mark.parametrize("kind", list(Kind))
def test_ordinary_market_has_none(kind: Kind) -> None:
    values = MEASURES[kind](QUIET)
    assert (~np.isnan(values)).sum() > 1_900
    assert (values[~np.isnan(values)] >= 1).sum() == 0


def test_rise_that_holds_is_no_dump() -> None:
    assert MEASURES[Kind.PUMP_AND_DUMP](_risen(0.1))[AT] < 1


@pytest.mark.parametrize("kind", list(Kind))
def test_anomaly_is_seen_at_its_close_and_not_before(kind: Kind) -> None:
    bars = PLANTED[kind]()
    whole = MEASURES[kind](bars)
    known = MEASURES[kind](bars.known_at(bars.closes_at[AT]))
    np.testing.assert_array_equal(known, whole[: AT + 1])


def test_block_lasts_sixteen_bars_and_leaves_volatility_to_its_own_gate() -> None:
    blocked = recent(_volume_spike()) >= 1
    assert np.flatnonzero(blocked).tolist() == list(range(AT, AT + 16))
    assert not (recent(_volatility()) >= 1).any()


def test_block_needs_no_more_history_than_it_states() -> None:
    last = replace(QUIET, ts=QUIET.ts[-RECENT_BARS:], _known={})
    columns = {name: getattr(QUIET, name)[-RECENT_BARS:] for name in ("open", "high", "low", "close", "volume")}
    assert recent(replace(last, **columns))[-1] == recent(QUIET)[-1]


def test_halted_market_is_no_anomaly_and_no_error() -> None:
    flat, nothing = np.full(BARS, 100.0), np.zeros(BARS)
    halted = _with(open=flat, high=flat, low=flat, close=flat, volume=nothing)
    assert recent(halted)[-1] == 0.0


@pytest.mark.real_data
def test_recorded_majors_are_blocked_for_a_few_bars_in_a_hundred(real_data_dir: Path) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT"):
        frame = pd.read_parquet(real_data_dir / "ohlcv" / "bybit" / symbol / "15m.parquet").reset_index()
        ts = pd.DatetimeIndex(frame["ts"]).tz_convert("UTC").tz_localize(None).as_unit("us").to_numpy()
        columns = (frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume"))
        bars = Bars(Timeframe.M15, ts, *columns)
        assert 0.001 < np.nanmean(recent(bars) >= 1) < 0.06
        for measure in MEASURES.values():
            assert np.nanmean(measure(bars) >= 1) < 0.01
