"""A stored backtest as files: CSV for programs, one HTML page for people.

Belongs here: reading what is stored and naming the files. Does not belong here: the layout of the page
(`domain.research.tear_sheet`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from trading_pipelines.domain.research.tear_sheet import Line, TearSheet, render
from trading_pipelines.errors import UserError
from trading_pipelines.store.read_models import backtests
from trading_pipelines.store.read_models.backtests import BacktestSummary

_ISO = "%Y-%m-%dT%H:%M:%S.%fZ"


def export(
    connection: psycopg.Connection[Any], found: BacktestSummary, folder: Path, others: Sequence[BacktestSummary] = ()
) -> list[Path]:
    """Write trades, fills, equity and figures as CSV and the tear sheet as HTML; files of these names are replaced.

    Parameters
    ----------
    others : sequence of BacktestSummary
        Drawn and written beside it on the tear sheet.

    Raises
    ------
    UserError
        The folder cannot be written to.
    """
    marks = backtests.equity(connection, found.backtest_id)
    trades = backtests.trades(connection, found.backtest_id)
    frames = {
        "trades.csv": trades,
        "fills.csv": backtests.fills(connection, found.backtest_id),
        "equity.csv": marks,
        "metrics.csv": _metrics(found),
    }
    compared = [_line(connection, other, marks["ts"]) for other in others]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            frame.to_csv(folder / name, index=False, date_format=_ISO)
        (folder / "report.html").write_text(render(_sheet(found, marks, trades, compared)), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--export {folder}: cannot be written to: {error.strerror}") from error
    return [folder / name for name in (*frames, "report.html")]


def _metrics(found: BacktestSummary) -> pd.DataFrame:
    held = found.benchmark_metrics or {}
    return pd.DataFrame(
        {
            "figure": list(found.metrics),
            "value": list(found.metrics.values()),
            "benchmark": [held.get(name) for name in found.metrics],
        }
    )


def _sheet(found: BacktestSummary, marks: pd.DataFrame, trades: pd.DataFrame, compared: Sequence[Line]) -> TearSheet:
    lines = [Line(found.short_label, marks["equity"].to_numpy(), found.performance, found.parameters)]
    if found.benchmark is not None and found.benchmark_performance is not None:
        name = f"{found.benchmark} bought and held"
        lines.append(Line(name, marks["benchmark"].to_numpy(), found.benchmark_performance))
    return TearSheet(
        title=f"Backtest of {found.short_label}",
        facts={
            "Symbols": ", ".join(found.symbols),
            "Exchange": found.exchange,
            "Bars": f"{found.timeframe} from {found.starts_at:%Y-%m-%d %H:%M} to {found.ends_at:%Y-%m-%d %H:%M} UTC"
            + (f", filled on {found.finer}" if found.finer else ""),
            "Parameters": _pairs(found.params) or "none",
            "Sides": found.direction,
            "Start capital": f"{found.start_capital:,.2f}",
            "Costs": f"taker fee {found.config['execution']['taker_fee_rate']:.3%}, "
            f"slippage {found.config['execution']['slippage_rate']:.3%} per fill, funding as it was",
            "Leverage": f"{found.config['execution']['leverage']:g}",
            "Candidates": f"{found.candidates:,}, refused: {_pairs(found.rule_refusals) or 'none'}",
            "Refused by the gates": _pairs(found.gate_refusals) or "none",
            "Backtest": str(found.backtest_id),
            "Code and data": f"{found.code_version}, input {found.input_hash[:16]}",
        },
        times=pd.DatetimeIndex(marks["ts"]),
        lines=[*lines, *compared],
        trades=trades,
        remarks=[found.verdict],
    )


def _line(connection: psycopg.Connection[Any], other: BacktestSummary, times: "pd.Series[Any]") -> Line:
    """The other's curve at our times: its newest mark at each."""
    marks = backtests.equity(connection, other.backtest_id)
    ts = pd.DatetimeIndex(marks["ts"]).as_unit("us").asi8
    newest = np.searchsorted(ts, pd.DatetimeIndex(times).as_unit("us").asi8, side="right") - 1
    values = np.where(newest < 0, other.start_capital, marks["equity"].to_numpy()[newest])
    return Line(other.short_label, values, other.performance, other.parameters)


def _pairs(values: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
