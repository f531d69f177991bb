"""Backtests and parameter searches.

Belongs here: the tables that research fills. Does not belong here: what a backtest is (`domain.simulation`,
`domain.research`).
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from trading_pipelines.defs.failures import user_errors
from trading_pipelines.defs.scope import traded_symbols
from trading_pipelines.defs.tables import table_rows, table_spec
from trading_pipelines.resources.platform import ClockResource, DatabaseResource
from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg

    from trading_pipelines.application.research.backtest import BacktestRequest

OWNER = "team:research"
_READ = [f"ohlcv_{settings().signal_timeframe}", "funding_rates", "predictions"]
BACKTESTS = table_spec(
    "backtests",
    group="research",
    owner=OWNER,
    description="What a strategy would have earned over stored candles, with trades, fills, equity and figures.",
    kinds={"numba"},
    deps=_READ,
)
SEARCHES = table_spec(
    "backtest_searches",
    group="research",
    owner=OWNER,
    description="Walk-forward parameter searches: choices in sample, results out of sample, measures of overfitting.",
    kinds={"numba"},
    deps=_READ,
)


class BacktestConfig(dg.Config):
    """What to test; the defaults test the first configured strategy on all traded symbols."""

    strategy: str | None = None
    """A name, `path/to/file.py:Class` or `package.module:Class`; none means the session's first."""
    params: dict[str, Any] = Field(default_factory=dict)
    symbols: list[str] = Field(default_factory=list)
    """Empty takes all symbols of the platform."""
    timeframe: str | None = None
    start: str | None = None
    """ISO time with zone of the first bar; none means `days` before the end."""
    end: str | None = None
    """ISO time with zone, not included; none means the last 00:00 UTC."""
    days: int = 90
    finer: str | None = None
    """Timeframe on whose bars fills are made."""


class SearchConfig(BacktestConfig):
    """What to search; there is no default for the values to try."""

    space: dict[str, Any]
    """Lists of values by parameter."""
    objective: str = "sharpe"
    folds: int | None = None
    trials: int | None = None


@dg.multi_asset(name="run_backtest", specs=[BACKTESTS])
def backtesting(
    context: dg.AssetExecutionContext, config: BacktestConfig, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Run one backtest and store it."""
    from trading_pipelines.application.research.backtest import backtest

    with user_errors(), database.connect() as connection:
        made = backtest(
            connection,
            settings(),
            _request(connection, config, clock.now()),
            run_id=context.run.run_id,
            on_progress=context.log.info,
        )
        return dg.MaterializeResult(
            asset_key="backtests",
            metadata={
                "backtest_id": str(made.backtest_id),
                "strategy": made.strategy.name,
                "return": made.result.performance.total_return,
                "max_drawdown": made.result.performance.max_drawdown,
                "trades": made.result.performance.trades,
                **table_rows(connection, "backtests"),
            },
        )


@dg.multi_asset(name="search_parameters", specs=[SEARCHES])
def searching(
    context: dg.AssetExecutionContext, config: SearchConfig, clock: ClockResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Search parameters walk-forward and store what was tried and what came of it."""
    from trading_pipelines.application.research.search import SearchRequest, objective_named, search

    with user_errors(), database.connect() as connection:
        request = SearchRequest(
            _request(connection, config, clock.now()),
            config.space,
            objective_named(config.objective),
            folds=config.folds,
            trials=config.trials,
        )
        made = search(connection, settings(), request, run_id=context.run.run_id)
        return dg.MaterializeResult(
            asset_key="backtest_searches",
            metadata={
                "search_id": str(made.search_id),
                "backtest_id": str(made.backtest_id),
                "combinations": len(made.trials),
                "out_of_sample_return": made.stitched.performance.total_return,
                "overfitting": dict(made.overfitting),
                **table_rows(connection, "backtest_searches"),
            },
        )


def _request(connection: "psycopg.Connection[Any]", config: BacktestConfig, now: datetime) -> "BacktestRequest":
    from trading_pipelines.application.research.backtest import BacktestRequest
    from trading_pipelines.domain.market.timeframe import Timeframe

    end = datetime.fromisoformat(config.end) if config.end else Timeframe.D1.floor(now)
    return BacktestRequest(
        strategy=config.strategy or settings().session.strategies[0],
        exchange=settings().exchange,
        symbols=tuple(config.symbols) or traded_symbols(connection),
        timeframe=Timeframe(config.timeframe or settings().signal_timeframe),
        start=datetime.fromisoformat(config.start) if config.start else end - timedelta(days=config.days),
        end=end,
        params=config.params,
        capital=settings().session.capital,
        finer=Timeframe(config.finer) if config.finer else None,
        direction=settings().session.direction,
    )
