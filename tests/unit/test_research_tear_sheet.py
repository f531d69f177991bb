"""The tear sheet: its figures are those given, and nothing from outside becomes markup."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.portfolio.performance import measure
from trading_pipelines.domain.research.benchmark import held
from trading_pipelines.domain.research.tear_sheet import Line, TearSheet, render
from trading_pipelines.domain.strategies.base import Bars

TIMES = pd.date_range("2025-01-01 01:00", "2025-03-01", freq="1h", tz="UTC", unit="us")
EQUITY = 10_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.002, len(TIMES))))


def line(name: str = "mine", equity: np.ndarray = EQUITY) -> Line:
    return Line(name, equity, measure(TIMES, np.nan_to_num(equity, nan=10_000), [], 10_000.0))


def trades(symbol: str = "BTCUSDT", count: int = 3) -> pd.DataFrame:
    opened = pd.Series(pd.date_range("2025-01-02", periods=count, freq="1h", tz="UTC", unit="us"))
    return pd.DataFrame(
        {
            "symbol": symbol,
            "side": "LONG",
            "opened_at": opened,
            "closed_at": opened.where(opened.index < count - 1),
            "entry_price": 100.0,
            "net": np.linspace(-5, 5, count),
            "r": np.where(np.arange(count) == 1, np.nan, 0.5),
            "closed_by": pd.Series(["STOP"] * (count - 1) + [None], dtype=object),
        }
    )


def sheet(title: str = "Backtest", lines: tuple[Line, ...] = (line(),), rows: pd.DataFrame | None = None) -> str:
    return render(TearSheet(title, {"Symbols": title}, TIMES, lines, trades() if rows is None else rows, [title]))


def test_page_is_well_formed_and_loads_nothing() -> None:
    page = sheet(lines=(line(), line("held", EQUITY[::-1])))
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", page))
    assert not re.search(r"(?:src|href)=|url\(|https?:", page)


def test_text_from_outside_is_escaped_everywhere() -> None:
    evil = "<script>alert('x')</script>&"
    page = sheet(evil, (line(evil),), trades(evil))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;") >= 6


def test_every_figure_and_month_is_written() -> None:
    page = sheet()
    assert f"{line().performance.end_equity:,.2f}" in page
    assert f"{-line().performance.max_drawdown:.2%}" in page
    january = EQUITY[pd.Timestamp("2025-02-01", tz="UTC") >= TIMES][-1] / 10_000 - 1
    february = EQUITY[-1] / (10_000 * (1 + january)) - 1
    assert f"{january:.1%}" in page
    assert f"{february:.1%}" in page


def test_columns_are_headed_by_short_names_and_parameters_stand_below() -> None:
    first = replace(line("ema_cross 15m"), parameters="fast=10, slow=60")
    page = sheet(lines=(first, replace(first, parameters="fast=20, slow=<80>"), line("held")))
    assert "<th>ema_cross 15m</th><th>ema_cross 15m (2)</th><th>held</th>" in page
    assert '<p class="remark">ema_cross 15m: fast=10, slow=60</p>' in page
    assert '<p class="remark">ema_cross 15m (2): fast=20, slow=&lt;80&gt;</p>' in page
    assert page.count("fast=") == 2


def test_open_position_and_unknown_values_are_dashes() -> None:
    page = sheet(rows=trades())
    assert "open at the end" in page
    assert "<td>–</td>" in page
    assert "nan" not in page.lower()


def test_backtest_without_trades_and_curve_with_unknown_ends_are_drawn() -> None:
    assert "No position was opened" in sheet(rows=trades(count=1).iloc[:0])
    assert "nan" not in sheet(lines=(line(equity=np.where(np.arange(len(TIMES)) < 9, np.nan, EQUITY)),)).lower()


def test_long_list_of_trades_says_what_it_leaves_out() -> None:
    page = sheet(rows=trades(count=700))
    assert "The newest 500 of 700" in page
    assert page.count("<tr>") < 560


def test_held_asset_is_bought_at_the_first_open_with_costs_and_marked_at_closes() -> None:
    opened = np.array([100.0, 102.0, 101.0])
    close = np.array([102.0, 101.0, 110.0])
    bars = Bars("BTCUSDT", np.array([100, 200, 300]), opened, close, opened, close, close)
    equity = held(bars, 100, np.array([150, 200, 299, 400]), 1_000.0, ExecutionParams(slippage_rate=0.01))
    units = 1_000 / (101.0 * (1 + ExecutionParams().taker_fee_rate))
    assert equity == pytest.approx([1_000, units * 102, units * 102, units * 110])
