"""Checks pass on sound rows and fail on planted ones."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.defs.execution.checks import orders_once
from trading_pipelines.defs.features.checks import features_finite
from trading_pipelines.defs.market_data.checks import (
    candles_complete,
    candles_fresh,
    candles_valid,
    funding_valid,
)
from trading_pipelines.defs.models.checks import predictions_within_bounds
from trading_pipelines.defs.portfolio.checks import equity_identity, positions_protected
from trading_pipelines.defs.signals.checks import founded, prices_in_order
from trading_pipelines.domain.features import registry
from trading_pipelines.resources.platform import ClockResource, SourceResource

FIVE_MINUTES = timedelta(minutes=5)


class StandingSource(SourceResource):
    """A source of which only the clock is asked."""

    shows: str

    def open(self) -> Any:
        """A source whose newest possible candle closes at the time shown."""
        return SimpleNamespace(exchange="simulated", now=lambda: datetime.fromisoformat(self.shows))


Evaluate = Callable[..., dict[str, dg.AssetCheckEvaluation]]


@pytest.fixture
def evaluate(books: Any, resources: dict[str, Any], clock: ClockResource) -> Evaluate:
    """Run checks as a Dagster run would, on the day of the clock or of the given partition; results by asset."""

    def run(check: dg.AssetChecksDefinition, day: str | None = None) -> dict[str, dg.AssetCheckEvaluation]:
        job = dg.define_asset_job("checking", selection=dg.AssetSelection.checks(check))
        definitions = dg.Definitions(
            asset_checks=[check],
            jobs=[job],
            resources={**resources, "source": StandingSource(shows=clock.now().isoformat())},
        )
        result = definitions.resolve_job_def("checking").execute_in_process(
            tags={"dagster/partition": day} if day else None, raise_on_error=False
        )
        return {e.asset_key.to_user_string(): e for e in result.get_asset_check_evaluations()}

    return run


@pytest.fixture
def bar(clock: ClockResource) -> datetime:
    """Open time of the newest closed 5m bar."""
    return clock.now().replace(minute=0) - FIVE_MINUTES


def test_sound_candles_are_valid(books: Any, evaluate: Evaluate, bar: datetime) -> None:
    books.candle(bar - FIVE_MINUTES)
    books.candle(bar)
    results = evaluate(candles_valid)
    assert len(results) == 5
    assert all(result.passed for result in results.values())
    assert results["ohlcv_5m"].metadata["rows"].value == 2


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"ts": timedelta(seconds=1)}, "aligned"),
        ({"available_at": timedelta(minutes=-5)}, "known_at_close"),
        ({"high": 100.2}, "high_is_highest"),
        ({"low": 100.7}, "low_is_lowest"),
        ({"volume": float("inf")}, "finite"),
        ({"close": float("nan")}, "close"),
    ],
)
def test_unsound_candle_is_found(
    books: Any, evaluate: Evaluate, bar: datetime, changes: dict[str, Any], rule: str
) -> None:
    books.connection.execute("alter table ohlcv_5m drop constraint ohlc_order")
    shifts = {name: bar + by for name, by in changes.items() if isinstance(by, timedelta)}
    books.candle(bar - FIVE_MINUTES)
    books.candle(**{"ts": bar, **changes, **shifts})
    result = evaluate(candles_valid)["ohlcv_5m"]
    assert not result.passed
    assert result.blocking
    assert rule in str(result.metadata["broken"].value)


def test_unsound_derived_candle_is_found(books: Any, evaluate: Evaluate, bar: datetime) -> None:
    books.candle(bar, table="ohlcv_15m")
    results = evaluate(candles_valid)
    assert not results["ohlcv_15m"].passed
    assert results["ohlcv_5m"].passed


def test_only_the_day_of_the_run_is_looked_at(books: Any, evaluate: Evaluate, bar: datetime) -> None:
    books.candle(bar + timedelta(seconds=1))
    assert evaluate(candles_valid, day="2026-03-09")["ohlcv_5m"].passed
    assert not evaluate(candles_valid, day="2026-03-10")["ohlcv_5m"].passed


@pytest.mark.parametrize(
    ("ages", "passed", "severity"),
    [
        ({"BTCUSDT": 0, "ETHUSDT": 0}, True, None),
        ({"BTCUSDT": 0, "ETHUSDT": 6}, False, dg.AssetCheckSeverity.WARN),
        ({"BTCUSDT": 0}, False, dg.AssetCheckSeverity.WARN),
        ({"BTCUSDT": 6, "ETHUSDT": 6}, False, dg.AssetCheckSeverity.ERROR),
        ({}, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_stale_candles_block_only_when_no_symbol_is_fresh(
    books: Any,
    evaluate: Evaluate,
    bar: datetime,
    ages: dict[str, int],
    passed: bool,
    severity: dg.AssetCheckSeverity | None,
) -> None:
    for symbol, bars in ages.items():
        books.candle(bar - bars * FIVE_MINUTES, symbol=symbol)
    result = evaluate(candles_fresh)["ohlcv_5m"]
    assert result.passed is passed
    assert passed or result.severity is severity


def test_day_in_the_past_has_no_freshness(evaluate: Evaluate) -> None:
    assert evaluate(candles_fresh, day="2026-03-09")["ohlcv_5m"].passed


def test_open_hole_is_a_warning_and_a_confirmed_one_is_not(books: Any, evaluate: Evaluate, bar: datetime) -> None:
    hole = {"instrument_id": books.ids["BTCUSDT"], "timeframe": "5m", "bars": 2}
    books.insert("ohlcv_gaps", **hole, gap_start=bar - 2 * FIVE_MINUTES, gap_end=bar, verdict="absent")
    assert evaluate(candles_complete)["ohlcv_5m"].passed
    books.connection.execute("update ohlcv_gaps set verdict = 'open'")
    books.connection.commit()
    result = evaluate(candles_complete)["ohlcv_5m"]
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.WARN
    assert "BTCUSDT: 2 bars" in str(result.metadata["holes"].value)


@pytest.mark.parametrize(("rate", "passed"), [(0.0001, True), (-0.03, True), (0.5, False)])
def test_funding_rate_that_is_a_percentage_is_found(
    books: Any, evaluate: Evaluate, bar: datetime, rate: float, passed: bool
) -> None:
    books.insert("funding_rates", instrument_id=books.ids["BTCUSDT"], ts=bar, rate=rate, available_at=bar)
    assert evaluate(funding_valid)["funding_rates"].passed is passed


def test_feature_without_a_number_is_found_once_the_symbol_is_warm(
    books: Any, evaluate: Evaluate, bar: datetime
) -> None:
    opened = bar - timedelta(minutes=10)
    books.feature_row(opened, value=float("nan"))
    books.candle(opened - timedelta(days=3), table="ohlcv_15m")
    assert evaluate(features_finite)["features_15m"].passed
    books.candle(opened - timedelta(days=40), table="ohlcv_15m")
    result = evaluate(features_finite)["features_15m"]
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.ERROR
    assert "BTCUSDT atr_14" in str(result.metadata["rows_without_a_number"].value)


def test_hole_in_another_series_is_a_warning_and_its_absence_is_not(
    books: Any, evaluate: Evaluate, bar: datetime
) -> None:
    books.candle(bar - timedelta(days=40), table="ohlcv_15m")
    funding = registry.NAMES.index("funding_rate") + 1
    for opened in (bar - timedelta(minutes=10), bar - timedelta(minutes=25)):
        books.feature_row(opened)
    books.connection.execute(f"update features_15m set values[{funding}] = 'NaN'")
    books.connection.commit()
    assert evaluate(features_finite)["features_15m"].passed
    books.feature_row(bar - timedelta(minutes=40))
    result = evaluate(features_finite)["features_15m"]
    assert not result.passed
    assert result.severity is dg.AssetCheckSeverity.WARN


@pytest.mark.parametrize(
    ("probability", "confidence", "side", "rule"),
    [
        (0.7, 0.7, "LONG", None),
        (0.2, 0.8, "SHORT", None),
        (0.7, 0.6, "LONG", "confidence_follows_probability"),
        (0.7, 0.7, "SHORT", "side_follows_probability"),
        (float("nan"), 0.7, "LONG", "probability"),
    ],
)
def test_prediction_out_of_bounds_is_found(
    books: Any,
    evaluate: Evaluate,
    bar: datetime,
    probability: float,
    confidence: float,
    side: str,
    rule: str | None,
) -> None:
    books.connection.execute("alter table predictions drop constraint predictions_probability_check")
    books.connection.execute("alter table predictions drop constraint predictions_model_id_fkey")
    books.insert(
        "predictions",
        **{"instrument_id": books.ids["BTCUSDT"], "timeframe": "15m", "ts": bar, "model_id": "m"},
        **{"available_at": bar, "probability": probability, "confidence": confidence, "side": side},
    )
    result = evaluate(predictions_within_bounds)["predictions"]
    assert result.passed is (rule is None)
    assert rule is None or rule in str(result.metadata["broken"].value)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"stop_price": 101.0}, False),
        ({"tp2_price": 103.0}, False),
        ({"side": "SHORT"}, False),
        ({"side": "SHORT", "stop_price": 102.0, "tp1_price": 96.0, "tp2_price": 93.0, "tp3_price": 88.0}, True),
    ],
)
def test_signal_whose_prices_contradict_its_side_is_found(
    books: Any, evaluate: Evaluate, clock: ClockResource, changes: dict[str, Any], passed: bool
) -> None:
    books.signal(clock.now(), **changes)
    assert evaluate(prices_in_order)["signals"].passed is passed


@pytest.mark.parametrize("outcome", ["SIGNAL", "REJECTED"])
def test_signal_without_a_decision_for_it_is_found(
    books: Any, evaluate: Evaluate, clock: ClockResource, outcome: str
) -> None:
    books.signal(clock.now())
    books.connection.execute("update decisions set outcome = %s", (outcome,))
    books.connection.commit()
    assert evaluate(founded)["signals"].passed is (outcome == "SIGNAL")


@pytest.mark.parametrize(("entries", "passed"), [(1, True), (2, False)])
def test_signal_entered_twice_is_found(
    books: Any, evaluate: Evaluate, clock: ClockResource, entries: int, passed: bool
) -> None:
    signal_id = books.signal(clock.now())
    for number in range(entries):
        books.insert(
            "orders",
            **{"client_order_id": f"e{number}", "session_id": books.session_id, "signal_id": signal_id},
            **{"instrument_id": books.ids["BTCUSDT"], "leg": "ENTRY", "side": "BUY", "type": "MARKET"},
            **{"reduce_only": False, "quantity": 1, "created_at": clock.now(), "updated_at": clock.now()},
        )
    assert evaluate(orders_once)["orders"].passed is passed


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"stop_price": None}, False),
        ({"quantity_protected": Decimal("0.99")}, False),
        ({"status": "CLOSED", "stop_price": None, "quantity_open": 0, "quantity_protected": 0}, True),
    ],
)
def test_open_position_without_full_protection_is_found(
    books: Any, evaluate: Evaluate, clock: ClockResource, changes: dict[str, Any], passed: bool
) -> None:
    books.position(clock.now(), **changes)
    assert evaluate(positions_protected)["positions"].passed is passed


@pytest.mark.parametrize(
    ("equity", "passed"), [(10_000.0, True), (10_000.000001, True), (10_001.0, False), (float("nan"), False)]
)
def test_mark_that_does_not_add_up_is_found(
    books: Any, evaluate: Evaluate, clock: ClockResource, equity: float, passed: bool
) -> None:
    books.insert(
        "equity",
        **{"session_id": books.session_id, "ts": clock.now(), "equity": equity},
        **{"cash": 9_000.0, "margin": 900.0, "unrealised": 100.0},
    )
    assert evaluate(equity_identity)["equity"].passed is passed


def test_blocking_check_keeps_what_follows_from_being_built(
    books: Any, resources: dict[str, Any], bar: datetime
) -> None:
    """In one run: the candles are there but unsound, so the asset that is built on them is not."""
    books.candle(bar + timedelta(seconds=1))
    built: list[str] = []

    @dg.multi_asset(specs=[dg.AssetSpec(f"ohlcv_{t}") for t in ("5m", "15m", "1h", "4h", "1d")])
    def stored() -> Any:
        for timeframe in ("5m", "15m", "1h", "4h", "1d"):
            yield dg.MaterializeResult(asset_key=f"ohlcv_{timeframe}")

    @dg.asset(deps=["ohlcv_5m"])
    def follows() -> None:
        built.append("follows")

    result = dg.materialize([stored, candles_valid, follows], resources=resources, raise_on_error=False)
    assert not result.success
    assert built == []
