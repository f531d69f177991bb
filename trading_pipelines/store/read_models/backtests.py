"""Stored backtests and searches, as they are listed, shown, compared and exported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg.rows import class_row

from trading_pipelines.domain.portfolio.performance import Performance
from trading_pipelines.domain.research.refusals import of_gates, of_rules
from trading_pipelines.store.connection import read_frame

_POINTS = 1_500
"""Points of a curve: more than a screen has columns."""
_MOST_FINDINGS = 5


@dataclass(frozen=True)
class BacktestSummary:
    """One stored backtest: what was asked, of what, and its figures.

    Attributes
    ----------
    search_id : UUID or None
        The search whose out-of-sample results, one after the other, this is.
    metrics, benchmark_metrics : mapping
        The fields of `Performance`; see `performance_of`.
    refusals : mapping
        Of rules and gates, as `domain.research.refusals` puts them together.
    strategy_check : mapping or None
        None where the checks were skipped.
    """

    backtest_id: UUID
    created_at: datetime
    search_id: UUID | None
    exchange: str
    symbols: list[str]
    timeframe: str
    finer: str | None
    starts_at: datetime
    ends_at: datetime
    strategy: str
    params: Mapping[str, Any]
    direction: str
    start_capital: float
    config: Mapping[str, Any]
    code_version: str
    input_hash: str
    bars: int
    candidates: int
    refusals: Mapping[str, int]
    metrics: Mapping[str, Any]
    benchmark: str | None
    benchmark_metrics: Mapping[str, Any] | None
    strategy_check: Mapping[str, Any] | None
    run_id: str | None

    @property
    def rule_refusals(self) -> dict[str, int]:
        """How many candidates each risk rule refused."""
        return of_rules(self.refusals)

    @property
    def gate_refusals(self) -> dict[str, int]:
        """How many proposals each gate refused before they became candidates."""
        return of_gates(self.refusals)

    @property
    def performance(self) -> Performance:
        """The figures of the backtest."""
        return Performance(**self.metrics)

    @property
    def benchmark_performance(self) -> Performance | None:
        """The figures of holding the benchmark."""
        return None if self.benchmark_metrics is None else Performance(**self.benchmark_metrics)

    @property
    def label(self) -> str:
        """A name that tells this backtest from others: strategy, parameters, timeframe."""
        return self.short_label + (f" ({self.parameters})" if self.params else "")

    @property
    def short_label(self) -> str:
        """Strategy and timeframe, for the head of a column."""
        return f"{self.strategy}{' out of sample' if self.search_id else ''} {self.timeframe}"

    @property
    def parameters(self) -> str:
        """The parameters that were given, in one line; empty without any."""
        return ", ".join(f"{name}={value}" for name, value in self.params.items())

    @property
    def verdict(self) -> str:
        """What the lookahead and warm-up checks said, in a sentence."""
        check = self.strategy_check
        if self.search_id is not None:
            return "Out of sample: each window was traded with the parameters that were best before it."
        if check is None:
            return "The strategy was not checked for lookahead."
        if check["passed"]:
            return (
                f"Asked again at {check['lookahead_samples']} bars without what came later, and at "
                f"{check['warm_up_samples']} with no more history than it needs, the strategy decided the same."
            )
        found = "; ".join(check["findings"][:_MOST_FINDINGS])
        return f"The strategy fails its check, so this result cannot be trusted. {found}"


@dataclass(frozen=True)
class SearchSummary:
    """One stored parameter search; the migration says what the columns mean.

    Attributes
    ----------
    backtest_id : UUID or None
        The stitched out-of-sample backtest.
    """

    search_id: UUID
    created_at: datetime
    exchange: str
    symbols: list[str]
    timeframe: str
    starts_at: datetime
    ends_at: datetime
    strategy: str
    space: Mapping[str, Sequence[Any]]
    plan: Mapping[str, Any]
    code_version: str
    input_hash: str
    folds: Sequence[Mapping[str, Any]]
    overfitting: Mapping[str, Any]
    backtest_id: UUID | None


_LIST = """
select backtest_id, created_at, search_id, strategy, params, exchange, symbols, timeframe, starts_at, ends_at,
       direction, start_capital,
       (metrics->>'total_return')::float8 as total_return, (metrics->>'max_drawdown')::float8 as max_drawdown,
       (metrics->>'sharpe')::float8 as sharpe, (metrics->>'trades')::int8 as trades,
       (metrics->>'win_rate')::float8 as win_rate, (metrics->>'profit_factor')::float8 as profit_factor,
       (benchmark_metrics->>'total_return')::float8 as held_return, (strategy_check->>'passed')::bool as honest
from backtests
order by created_at desc, backtest_id
limit %(limit)s
"""

_ONE = """
select backtest_id, created_at, search_id, exchange, symbols, timeframe, finer, starts_at, ends_at, strategy, params,
       direction, start_capital, config, code_version, input_hash, bars, candidates, refusals, metrics, benchmark,
       benchmark_metrics, strategy_check, run_id
from backtests
"""

_SEARCH = """
select s.search_id, s.created_at, s.exchange, s.symbols, s.timeframe, s.starts_at, s.ends_at, s.strategy, s.space,
       s.plan, s.code_version, s.input_hash, s.folds, s.overfitting, b.backtest_id
from backtest_searches s
left join backtests b using (search_id)
"""


def list_backtests(connection: psycopg.Connection[Any], limit: int = 200) -> pd.DataFrame:
    """The newest backtests with their main figures, the newest first."""
    return read_frame(connection, _LIST, {"limit": limit})


def backtest(connection: psycopg.Connection[Any], backtest_id: UUID) -> BacktestSummary | None:
    """One backtest, None where there is none of that id."""
    with connection.cursor(row_factory=class_row(BacktestSummary)) as cursor:
        return cursor.execute(f"{_ONE} where backtest_id = %s", (backtest_id,)).fetchone()


def find_backtests(connection: psycopg.Connection[Any], beginning: str) -> list[BacktestSummary]:
    """The backtests whose id starts so, the newest first."""
    with connection.cursor(row_factory=class_row(BacktestSummary)) as cursor:
        return cursor.execute(
            f"{_ONE} where starts_with(backtest_id::text, %s) order by created_at desc limit 10", (beginning.lower(),)
        ).fetchall()


def trades(connection: psycopg.Connection[Any], backtest_id: UUID) -> pd.DataFrame:
    """Every position in the order of entry; `closed_at` is missing for those still open at the end."""
    return read_frame(
        connection,
        """
        select number, symbol, side, decided_at, opened_at, closed_at, quantity, reference_price, entry_price,
               entry_margin, stop_price, confidence, size_rule, pnl, fees, funding, slippage, net, additions,
               initial_risk, r, closed_by, exit_reason
        from backtest_trades where backtest_id = %s order by number
        """,
        (backtest_id,),
    )


def fills(connection: psycopg.Connection[Any], backtest_id: UUID) -> pd.DataFrame:
    """Every fill and funding payment in the order in which they happened; `trade` is the number of the position."""
    return read_frame(
        connection,
        """
        select number, trade, symbol, ts, kind, quantity, reference_price, price, fee, pnl
        from backtest_fills where backtest_id = %s order by number
        """,
        (backtest_id,),
    )


def equity(connection: psycopg.Connection[Any], backtest_id: UUID) -> pd.DataFrame:
    """Every mark: ts, equity and the start capital held in the benchmark."""
    return read_frame(
        connection,
        "select ts, equity, benchmark from backtest_equity where backtest_id = %s order by ts",
        (backtest_id,),
    )


def thinned(marks: pd.DataFrame, start_capital: float) -> pd.DataFrame:
    """The curve for a figure: ts, equity, benchmark and drawdown (at most 0), in each row the deepest of its marks."""
    drawdown = marks["equity"] / marks["equity"].cummax().clip(lower=start_capital) - 1
    bucket = pd.Series(range(len(marks)), dtype="int64") * _POINTS // max(len(marks), _POINTS)
    return (
        marks.assign(drawdown=drawdown)
        .groupby(bucket)
        .agg({"ts": "last", "equity": "last", "benchmark": "last", "drawdown": "min"})
        .reset_index(drop=True)
    )


def curve(connection: psycopg.Connection[Any], backtest_id: UUID, start_capital: float) -> pd.DataFrame:
    """The curve of a backtest for a figure, as `thinned` gives it."""
    return thinned(equity(connection, backtest_id), start_capital)


def list_searches(connection: psycopg.Connection[Any], limit: int = 100) -> list[SearchSummary]:
    """The newest searches, the newest first."""
    with connection.cursor(row_factory=class_row(SearchSummary)) as cursor:
        return cursor.execute(f"{_SEARCH} order by s.created_at desc limit %s", (limit,)).fetchall()


def search(connection: psycopg.Connection[Any], search_id: UUID) -> SearchSummary | None:
    """One search, None where there is none of that id."""
    with connection.cursor(row_factory=class_row(SearchSummary)) as cursor:
        return cursor.execute(f"{_SEARCH} where s.search_id = %s", (search_id,)).fetchone()


def trials(connection: psycopg.Connection[Any], search_id: UUID) -> pd.DataFrame:
    """Every combination of a search, the best over the whole span first: number, params, in_sample and figures."""
    return read_frame(
        connection,
        """
        select number, params, in_sample, (figures->>'sharpe')::float8 as sharpe,
               (figures->>'total_return')::float8 as total_return,
               (figures->>'max_drawdown')::float8 as max_drawdown, (figures->>'trades')::int8 as trades
        from backtest_trials where search_id = %s
        order by (figures->>'sharpe')::float8 desc nulls last, number
        """,
        (search_id,),
    )
