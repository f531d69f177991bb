"""`trading backtest` on a real database: run, compare, export, list and show."""

from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from command_line import Run

from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import connect
from trading_pipelines.store.repositories import candles, instruments

OWN_STRATEGY = '''
"""Buys what fell for three bars."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import talib

from trading_pipelines.domain.strategies.base import Needs, Signals, Strategy, StrategyInput


@dataclass(frozen=True)
class Dip(Strategy):
    name: ClassVar[str] = "dip"

    bars: int = 3

    @property
    def needs(self) -> Needs:
        return Needs(warm_up=500)

    def signals(self, data: StrategyInput) -> Signals:
        close = data.bars.close
        fell = np.zeros(len(close), bool)
        for n in range(1, self.bars + 1):
            fell[n:] = (fell[n:] | (n == 1)) & (close[n:] < close[:-n])
        atr = talib.ATR(data.bars.high, data.bars.low, close, 14)
        return Signals(
            entry=fell.astype(np.int8),
            confidence=np.full(len(close), 0.7),
            exit=np.zeros(len(close), np.uint8),
            atr=atr,
        )

    def policy(self, policy):
        return policy.without_gates()
'''


def walk(bars: int, seed: int) -> pd.DataFrame:
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.004 * dice.standard_normal(bars)))
    opened = np.concatenate(([100.0], close[:-1]))
    wicks = 0.002 * np.abs(dice.standard_normal((2, bars)))
    return pd.DataFrame(
        {
            "ts": pd.date_range("2025-03-01", periods=bars, freq="15min", tz="UTC", unit="us"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + wicks[0]),
            "low": np.minimum(opened, close) * (1 - wicks[1]),
            "close": close,
            "volume": 1.0,
        }
    )


@pytest.fixture
def market(on_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two symbols with fifty days of quarter hours."""
    monkeypatch.setenv("TRADING_EXCHANGE", "bybit")
    with connect(on_database) as connection:
        made = [Instrument("bybit", f"{b}USDT", b, "USDT", MarketKind.PERPETUAL) for b in ("BTC", "ETH")]
        instruments.save(connection, made)
        ids = instruments.by_symbol(connection, "bybit")
        with connection.cursor() as cursor:
            for seed, row in enumerate(ids.values()):
                candles.upsert_candles(cursor, row.instrument_id, Timeframe.M15, walk(4_800, seed))
    return on_database


RUN = ("backtest", "--strategy", "ema_cross", "--from", "2025-03-21", "--to", "2025-04-20")


def test_backtest_prints_one_object_and_keeps_the_result(run: Run, market: str) -> None:
    outcome = run(*RUN, "--params", "fast=10", "--params", '{"slow": 40}', "--capital", "5000", "--json")
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert told["symbols"] == ["BTCUSDT", "ETHUSDT"]
    assert (told["params"]["fast"], told["params"]["slow"]) == (10, 40)
    assert told["performance"]["start_equity"] == told["capital"] == 5000
    assert told["performance"]["trades"] > 10
    assert told["benchmark"]["symbol"] == "BTCUSDT"
    assert told["check"]["passed"] is True
    with psycopg.connect(market) as connection:
        stored = connection.execute("select count(*) from backtest_trades").fetchone()
    assert stored is not None
    assert stored[0] >= told["performance"]["trades"]


def test_exported_files_read_back_as_what_is_stored(run: Run, market: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    told = run(*RUN, "--export", str(folder), "--json").json
    assert {Path(file).name for file in told["files"]} == {
        "trades.csv",
        "fills.csv",
        "equity.csv",
        "metrics.csv",
        "report.html",
    }
    from trading_pipelines.store.read_models import backtests

    with connect(market) as connection:
        stored = {
            "trades": backtests.trades(connection, told["id"]),
            "fills": backtests.fills(connection, told["id"]),
            "equity": backtests.equity(connection, told["id"]),
        }
    for name, frame in stored.items():
        read = pd.read_csv(folder / f"{name}.csv")
        assert read.columns.tolist() == frame.columns.tolist()
        for column in frame:
            if isinstance(frame[column].dtype, pd.DatetimeTZDtype):
                again = pd.to_datetime(read[column], utc=True, format="ISO8601").astype(frame[column].dtype)
                pd.testing.assert_series_equal(again, frame[column])
            elif frame[column].dtype.kind in "fi":
                np.testing.assert_array_equal(read[column], frame[column])
            else:
                assert read[column].dropna().tolist() == frame[column].dropna().tolist()
    metrics = pd.read_csv(folder / "metrics.csv").set_index("figure")
    assert metrics.loc["sharpe", "value"] == told["performance"]["sharpe"]
    assert metrics.loc["total_return", "benchmark"] == told["benchmark"]["performance"]["total_return"]
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "BTCUSDT bought and held" in page


def test_two_strategies_stand_side_by_side(run: Run, market: str, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN_STRATEGY)
    outcome = run(*RUN, "--versus", f"{own}:Dip", "--export", str(tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    header = next(line for line in outcome.out.splitlines() if line.startswith("figure"))
    assert header.split() == ["figure", "ema_cross", "dip", "BTCUSDT", "held"]
    assert "ema_cross: Asked again" in outcome.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>dip 15m</th>" in page
    assert "dip 15m: bars=3" in page


def test_strategy_that_looks_ahead_is_told_so(run: Run, market: str, tmp_path: Path) -> None:
    own = tmp_path / "cheat.py"
    own.write_text(
        OWN_STRATEGY.replace("close[n:] < close[:-n]", "close[:-n] < close[n:]").replace("fell[n:]", "fell[:-n]")
    )
    outcome = run("backtest", "--strategy", f"{own}:Dip", *RUN[3:])
    assert outcome.code == 0, outcome.err
    assert "fails its check" in outcome.out
    assert "lookahead" in outcome.out


def test_stored_backtests_are_listed_and_shown(run: Run, market: str, tmp_path: Path) -> None:
    assert run("backtest", "list").out.startswith("Backtests: none")
    first = run(*RUN, "--symbols", "BTCUSDT", "--no-check", "--json").json
    second = run(*RUN, "--symbols", "ETHUSDT", "--no-check", "--json").json
    listed = run("backtest", "list", "--json").json["backtests"]
    assert {row["backtest_id"] for row in listed} == {first["id"], second["id"]}
    assert first["id"][:8] in run("backtest", "list").out
    shown = run("backtest", "show", first["id"][:8], "--json").json
    assert shown["performance"] == first["performance"]
    both = run("backtest", "show", first["id"], second["id"], "--export", str(tmp_path / "both"))
    assert f"ema_cross {second['id'][:8]}" in both.out
    assert (tmp_path / "both" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("backtest",), "--from 2025-01-01"),
        ((*RUN, "--params", "fast"), "write it as name=value"),
        ((*RUN, "--params", "{fast: 1}"), "not a JSON object"),
        ((*RUN, "--params", "fast=90"), "fast < slow"),
        ((*RUN, "--finer", "7m"), "no timeframe '7m'"),
        ((*RUN, "--symbols", "XRPUSDT"), "XRPUSDT is not stored"),
        (("backtest", "show", "0123"), "no backtest 0123"),
    ],
)
def test_wrong_question_is_one_clear_line(run: Run, market: str, arguments: tuple[str, ...], message: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.strip().count("\n") == 0


SEARCH = ("backtest", "search", *RUN[1:], "--symbols", "ETHUSDT", "--folds", "2")


def test_search_reports_windows_and_overfitting(run: Run, market: str, tmp_path: Path) -> None:
    space = ("--space", "fast=5,8", "--space", "slow=20:40:10")
    outcome = run(*SEARCH, *space, "--export", str(tmp_path / "out"), "--json")
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert told["space"] == {"fast": [5, 8], "slow": [20, 30, 40]}
    assert told["plan"]["trials"] == 6
    assert len(told["folds"]) == 2
    assert 0 <= told["overfitting"]["probability"] <= 1
    assert told["out_of_sample"]["params"] == {"fast": "chosen", "slow": "chosen"}
    assert (tmp_path / "out" / "report.html").exists()

    table = run(*SEARCH, *space)
    assert "Overfitting" in table.out
    assert f"search stored as {told['search_id']}" in table.out
    assert told["search_id"][:8] in run("backtest", "list").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "fast"), "name=5,10,20"),
        (("--space", "fast=5:9"), "name=from:to:step"),
        (("--space", "fast=9:5:1"), "has to rise"),
        (("--space", "fast=5,6", "--objective", "luck"), "no figure 'luck'"),
    ],
)
def test_search_that_is_asked_wrongly_is_one_clear_line(
    run: Run, market: str, arguments: tuple[str, ...], message: str
) -> None:
    outcome = run(*SEARCH, *arguments)
    assert outcome.code == 2
    assert message in outcome.err


def test_strategy_of_the_documentation_runs_as_it_is_printed(run: Run, market: str, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    file = tmp_path / "dip.py"
    file.write_text(guide.split("```python\n")[1].split("```")[0])
    told = run("backtest", "--strategy", f"{file}:Dip", "--params", "trend=50", *RUN[3:], "--json")
    assert told.code == 0, told.err
    assert told.json["params"] == {"bars": 3, "trend": 50}
    assert told.json["check"]["passed"] is True
    assert told.json["check"]["decisions"] > 0
