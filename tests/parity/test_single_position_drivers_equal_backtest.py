"""The functions of the live path, driven position by position, give the numbers of the compiled portfolio loop."""

import pandas as pd
import pytest
from random_markets import RandomStrategy, random_market
from single_position_driver import CAPITAL, drive

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.simulation.backtest import run_backtest
from trading_pipelines.domain.strategies.ema_cross import BENCHMARK_LIMITS

TIGHT = RiskLimits(max_drawdown_new_trades=0.05, max_drawdown_close_all=0.06, max_open_positions=3)
BUSY = RiskLimits(
    cooldown_minutes=0,
    stop_lock_hours=2,
    reentry=True,
    stop_guard_stops=None,
    pyramiding=True,
    pyramid_min_profit=0.002,
    max_additions=2,
    max_daily_loss=1,
    max_margin_per_direction=1,
    max_correlation=0.5,
    correlation_min_hours=24,
)
LOCKED = RiskLimits(stop_guard_stops=3, stop_guard_window_hours=3, max_drawdown_new_trades=0.03, drawdown_lock_hours=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limits", [BENCHMARK_LIMITS, TIGHT, BUSY, LOCKED, RiskLimits()])
def test_driving_positions_one_by_one_gives_the_backtest(seed: int, limits: RiskLimits) -> None:
    market = random_market(
        seed, symbols=6, bars=400, wild=seed % 2 == 0, steps=seed % 4 < 2, funding=True, alike=seed > 5
    )
    execution, strategy = ExecutionParams(leverage=(5.0, 20.0, 1.0)[seed % 3]), RandomStrategy(seed)
    data = market.prepared()
    result = run_backtest(data, strategy, execution, limits, CAPITAL)
    driver = drive(market, data, strategy, execution, limits)
    fills = result.fills
    columns = ["kind", "quantity", "reference_price", "price", "fee", "pnl"]
    theirs = [
        (data.symbols[s], data.market.open_time[i], e.kind.name, e.quantity, e.reference_price, e.price, e.fee, e.pnl)
        for i, s, _, e in driver.log
    ]
    ours = zip(fills["symbol"], pd.DatetimeIndex(fills["ts"]).asi8, *(fills[c] for c in columns), strict=True)
    assert list(ours) == theirs
    assert result.equity.tolist() == driver.equity[1:]
    assert len(theirs) > 20
