"""Backtests and searches. Nothing here commits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import pandas as pd
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

Json = Mapping[str, Any]

TRADE_COLUMNS = (
    "symbol",
    "side",
    "decided_at",
    "opened_at",
    "closed_at",
    "quantity",
    "reference_price",
    "entry_price",
    "entry_margin",
    "stop_price",
    "confidence",
    "size_rule",
    "pnl",
    "fees",
    "funding",
    "slippage",
    "net",
    "additions",
    "initial_risk",
    "r",
    "closed_by",
    "exit_reason",
)
FILL_COLUMNS = ("trade", "symbol", "ts", "kind", "quantity", "reference_price", "price", "fee", "pnl")
_JSON = {
    "params",
    "config",
    "refusals",
    "metrics",
    "benchmark_metrics",
    "strategy_check",
    "space",
    "plan",
    "folds",
    "overfitting",
    "figures",
}


@dataclass(frozen=True)
class BacktestRow:
    """One row of `backtests`; the migration says what the columns mean."""

    backtest_id: UUID
    search_id: UUID | None
    exchange: str
    symbols: list[str]
    timeframe: str
    finer: str | None
    starts_at: datetime
    ends_at: datetime
    strategy: str
    params: Json
    direction: str
    start_capital: float
    config: Json
    code_version: str
    input_hash: str
    bars: int
    candidates: int
    refusals: Json
    metrics: Json
    benchmark: str | None
    benchmark_metrics: Json | None
    strategy_check: Json | None
    run_id: str | None


@dataclass(frozen=True)
class SearchRow:
    """One row of `backtest_searches`; the migration says what the columns mean."""

    search_id: UUID
    exchange: str
    symbols: list[str]
    timeframe: str
    starts_at: datetime
    ends_at: datetime
    strategy: str
    space: Json
    plan: Json
    config: Json
    code_version: str
    input_hash: str
    folds: Sequence[Json]
    overfitting: Json
    run_id: str | None


@dataclass(frozen=True)
class TrialRow:
    """One combination of a search; the migration says what the columns mean."""

    number: int
    params: Json
    in_sample: Sequence[float | None]
    figures: Json


def replace(
    connection: psycopg.Connection[Any],
    row: BacktestRow,
    trades: pd.DataFrame,
    fills: pd.DataFrame,
    equity: pd.DataFrame,
) -> None:
    """Store a backtest in place of the one with the same id.

    Parameters
    ----------
    trades, fills : DataFrame
        `TRADE_COLUMNS` and `FILL_COLUMNS`, numbered in their order.
    equity : DataFrame
        ts, equity, benchmark; NaN where nothing was held.
    """
    with connection.cursor() as cursor:
        cursor.execute("delete from backtests where backtest_id = %s", (row.backtest_id,))
        _insert(cursor, "backtests", vars(row))
        numbered = ((n, *values) for n, values in enumerate(_rows(trades, TRADE_COLUMNS)))
        _copy(cursor, "backtest_trades", row.backtest_id, ("number", *TRADE_COLUMNS), numbered)
        numbered = ((n, *values) for n, values in enumerate(_rows(fills, FILL_COLUMNS)))
        _copy(cursor, "backtest_fills", row.backtest_id, ("number", *FILL_COLUMNS), numbered)
        columns = ("ts", "equity", "benchmark")
        _copy(cursor, "backtest_equity", row.backtest_id, columns, _rows(equity, columns))


def replace_search(connection: psycopg.Connection[Any], row: SearchRow, trials: Sequence[TrialRow]) -> None:
    """Store a search in place of the one with the same id, whose out-of-sample backtest goes with it."""
    with connection.cursor() as cursor:
        cursor.execute("delete from backtest_searches where search_id = %s", (row.search_id,))
        _insert(cursor, "backtest_searches", vars(row))
        for trial in trials:
            values = {**vars(trial), "in_sample": list(trial.in_sample), "search_id": row.search_id}
            _insert(cursor, "backtest_trials", values)


def _insert(cursor: psycopg.Cursor[Any], table: str, values: Mapping[str, Any]) -> None:
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Placeholder, values)),
    )
    cursor.execute(statement, {n: Jsonb(v) if n in _JSON and v is not None else v for n, v in values.items()})


def _copy(
    cursor: psycopg.Cursor[Any],
    table: str,
    backtest_id: UUID,
    columns: Sequence[str],
    rows: Iterator[tuple[Any, ...]],
) -> None:
    statement = sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, ("backtest_id", *columns)))
    )
    with cursor.copy(statement) as copy:
        for values in rows:
            copy.write_row((backtest_id, *values))


def _rows(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows as Python values, None where something is missing."""
    return zip(*(_values(frame[name]) for name in columns), strict=True)


def _values(column: "pd.Series[Any]") -> list[Any]:
    values = column.astype(object)
    return values.where(column.notna(), None).tolist()
