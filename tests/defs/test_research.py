"""Backtests and searches as assets: a real run on stored candles."""

from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from trading_pipelines.defs.research.assets import backtesting, searching
from trading_pipelines.defs.research.checks import backtests_no_lookahead
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.repositories import candles

CONFIG = {"strategy": "ema_cross", "symbols": ["BTCUSDT"], "start": "2025-03-21T00:00+00:00", "days": 30}


@pytest.fixture
def market(books: Any) -> Any:
    """Fifty days of quarter hours of one symbol."""
    close = 100 * np.exp(np.cumsum(0.004 * np.random.default_rng(1).standard_normal(4_800)))
    frame = pd.DataFrame(
        {
            "ts": pd.date_range("2025-03-01", periods=4_800, freq="15min", tz="UTC", unit="us"),
            "open": close,
            "high": close * 1.003,
            "low": close * 0.997,
            "close": close,
            "volume": 1.0,
        }
    )
    with books.connection.cursor() as cursor:
        candles.upsert_candles(cursor, books.ids["BTCUSDT"], Timeframe.M15, frame)
    books.connection.commit()
    return books


def test_backtest_of_a_run_is_stored_with_its_run_and_passes_its_check(
    market: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    config = {**CONFIG, "end": "2025-04-20T00:00+00:00", "params": {"fast": 10}}
    result = dg.materialize(
        [backtesting, backtests_no_lookahead],
        resources=resources,
        instance=instance,
        run_config={"ops": {"run_backtest": {"config": config}}},
    )
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    rows = market.connection.execute("select strategy, params->>'fast', run_id from backtests").fetchall()
    assert rows == [("ema_cross", "10", result.run_id)]


def test_search_of_a_run_is_stored_with_its_result_out_of_sample(
    market: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    config = {**CONFIG, "end": "2025-04-20T00:00+00:00", "space": {"fast": [5, 10], "slow": [40]}, "folds": 2}
    result = dg.materialize(
        [searching],
        resources=resources,
        instance=instance,
        run_config={"ops": {"search_parameters": {"config": config}}},
    )
    assert result.success
    metadata = result.asset_materializations_for_node("search_parameters")[0].metadata
    assert metadata["combinations"].value == 2
    stored = market.connection.execute("select search_id is not null from backtests").fetchall()
    assert stored == [(True,)]


def test_range_without_candles_fails_with_one_clear_line(
    market: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    result = dg.materialize(
        [backtesting],
        resources=resources,
        instance=instance,
        run_config={"ops": {"run_backtest": {"config": {**CONFIG, "start": None, "end": "2024-01-01T00:00+00:00"}}}},
        raise_on_error=False,
    )
    failure = result.failure_data_for_node("run_backtest")
    assert failure is not None
    assert failure.error is not None
    assert "run `trading ingest`" in failure.error.message
