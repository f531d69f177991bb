"""From an order back to its candles and forward again, on what a replay has stored."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.ingestion import ingest
from trading_pipelines.application.lineage import explain_candle, explain_model, explain_signal, explain_trade
from trading_pipelines.application.replay import replay
from trading_pipelines.cli import main
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection, connect

SYMBOLS = ("BTCUSDT", "SOLUSDT", "AVAXUSDT")
END = datetime(2025, 6, 1, tzinfo=UTC)
START = END - timedelta(days=2)
BAR = Timeframe.M15.delta


@pytest.fixture(scope="module")
def market(server_url: str, template: str) -> Iterator[str]:
    """A database in which a replay has traded."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database lineage_market template {template}")
    url = make_conninfo(server_url, dbname="lineage_market")
    settings = load_settings(
        training={"train_days": 40, "test_days": 5, "folds": 1, "early_stopping_days": 8, "num_boost_round": 40}
    )
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, Timeframe.M5, END - timedelta(days=60), END)
        replay(connection, settings, "simulated", SYMBOLS, "15m", START, END, train_until=START, name="traded")
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database lineage_market with (force)")


@pytest.fixture
def connection(market: str) -> Iterator[Connection]:
    with connect(market) as opened:
        yield opened
        opened.rollback()


@pytest.fixture
def order(connection: Connection) -> dict[str, Any]:
    """The first entry order that was filled, on a symbol that has a leader."""
    row = connection.execute(
        "select o.client_order_id, o.signal_id::text, o.position_id::text, f.fill_id, i.symbol, s.ts, s.model_id "
        "from orders o join fills f using (client_order_id) join signals s on s.signal_id = o.signal_id "
        "join instruments i on i.instrument_id = o.instrument_id "
        "where o.leg = 'ENTRY' and i.symbol <> 'BTCUSDT' order by f.ts, i.symbol limit 1"
    ).fetchone()
    assert row is not None
    return dict(zip(("order", "signal", "position", "fill", "symbol", "ts", "model"), row, strict=True))


def test_order_is_explained_back_to_the_candles_that_its_features_read(
    connection: Connection, order: dict[str, Any]
) -> None:
    found = explain_trade(connection, order["order"]).content
    assert found["signal"]["signal_id"] == order["signal"]
    assert [o["client_order_id"] for o in found["orders"] if o["leg"] == "ENTRY"] == [order["order"]]
    assert order["fill"] in [fill["fill_id"] for fill in found["fills"]]
    assert [p["position_id"] for p in found["positions"]] == [order["position"]]
    assert all(gate["passed"] for gate in found["decision"]["gates"])
    assert len(found["decision"]["gates"]) > 10
    assert found["signal"]["factors"].keys() <= found["features"]["values"].keys()
    assert found["model"]["model_id"] == found["prediction"]["model_id"] == order["model"]
    assert len(found["model"]["artefact_sha256"]) == 64
    assert found["promotion"]["model_id"] == order["model"]
    assert found["prediction"]["confidence"] == found["signal"]["confidence"]
    assert set(found["features"]["values"]) == set(registry.NAMES) == set(found["definitions"])
    assert found["candle"]["close"] == found["signal"]["entry_price"]
    assert {"source": "simulated", "timeframe": "5m"} in found["sources"]
    windows = {window["role"]: window for window in found["candles"]}
    assert windows.keys() == {
        "features, own bars",
        "features, 1h",
        "features, 4h",
        "features, 1d",
        "features, BTCUSDT",
    }
    own = windows["features, own bars"]
    assert own["bars"] == own["candles"] == registry.WARMUP_BARS["signal"] + 1
    assert datetime.fromisoformat(own["newest"]) == order["ts"]
    assert own["missing_bars"] == own["quarantined"] == own["corrected"] == 0
    assert {verdict["stage"] for verdict in found["risk"]} == {"EMISSION", "ORDER"}
    assert all(verdict["outcome"] != "REFUSE" and verdict["rules"] for verdict in found["risk"])
    closed_by = order["ts"] + BAR
    for role, length in (("features, 1h", 1), ("features, 4h", 4), ("features, 1d", 24)):
        newest = datetime.fromisoformat(windows[role]["newest"])
        assert newest + timedelta(hours=length) <= closed_by


def test_net_result_of_the_lineage_is_that_of_the_fills(connection: Connection, order: dict[str, Any]) -> None:
    found = explain_trade(connection, order["order"]).content
    (position,) = found["positions"]
    assert sum(f["fee"] for f in found["fills"]) == pytest.approx(position["fees"])
    assert sum(f["realised_pnl"] for f in found["fills"]) == pytest.approx(position["realised_pnl"])
    assert sum(p["amount"] for p in found["funding"]) == pytest.approx(position["funding"])
    assert explain_signal(connection, order["signal"]).content["net"] == pytest.approx(position["net"])


@pytest.mark.parametrize("kind", ["order", "signal", "position", "fill"])
def test_every_id_of_a_trade_leads_to_the_same_lineage(
    connection: Connection, order: dict[str, Any], kind: str
) -> None:
    found = explain_trade(connection, order[kind])
    assert (found.kind, found.id) == (kind, order[kind])
    assert found.content == explain_trade(connection, order["order"]).content


def test_beginning_of_an_id_is_enough_while_it_names_one_trade(connection: Connection, order: dict[str, Any]) -> None:
    by_prefix = explain_trade(connection, order["order"][:14])
    assert by_prefix.content["signal"]["signal_id"] == order["signal"]
    assert explain_trade(connection, order["signal"].replace("-", "")).id == order["signal"]


def test_ambiguous_or_unknown_ids_name_what_is_near(connection: Connection, order: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"begins the ids of .* trades: give more of it"):
        explain_trade(connection, order["fill"].split("-")[0])
    changed = order["order"][:-1] + "9"
    with pytest.raises(UserError, match=f"no order, signal, position or fill .*near: order {order['order'][:20]}"):
        explain_trade(connection, changed)
    with pytest.raises(UserError, match="too short"):
        explain_trade(connection, "abc")


def test_candle_is_explained_forward_to_the_trades_that_read_it(connection: Connection, order: dict[str, Any]) -> None:
    found = explain_candle(connection, "simulated", order["symbol"], Timeframe.M15, order["ts"]).content
    assert order["signal"] in [trade["signal_id"] for trade in found["outcome"]["trades"]]
    features = next(reader for reader in found["read_by"] if reader["strategy"] is None)
    assert datetime.fromisoformat(features["first"]) == order["ts"]
    decisions = next(reader for reader in found["read_by"] if reader["strategy"] == "model_signals")
    assert decisions["decisions"] > 0
    assert found["outcome"]["net"] == pytest.approx(sum(t["net"] or 0.0 for t in found["outcome"]["trades"]))
    later = explain_candle(connection, "simulated", order["symbol"], Timeframe.M15, order["ts"] + BAR).content
    assert order["signal"] not in [trade["signal_id"] for trade in later["outcome"]["trades"]]


def test_base_candle_counts_as_the_longer_ones_derived_from_it(connection: Connection, order: dict[str, Any]) -> None:
    base = order["ts"] + timedelta(minutes=10)
    found = explain_candle(connection, "simulated", order["symbol"], Timeframe.M5, base).content
    assert order["signal"] in [trade["signal_id"] for trade in found["outcome"]["trades"]]


def test_every_window_of_a_decision_is_found_again_from_its_candles(
    connection: Connection, order: dict[str, Any]
) -> None:
    """Forward is the reverse of backward: each end of each window leads to the signal, the candles outside do not."""
    trade = explain_trade(connection, order["order"]).content
    for window in trade["candles"]:
        frame = Timeframe(window["timeframe"])
        for end in ("oldest", "newest"):
            at = datetime.fromisoformat(window[end])
            found = explain_candle(connection, "simulated", window["symbol"], frame, at).content
            reads = [r for r in found["read_by"] if r["strategy"] == "model_signals"]
            assert any(
                datetime.fromisoformat(r["first"]) <= order["ts"] <= datetime.fromisoformat(r["last"]) for r in reads
            ), (window["role"], end)
    own = trade["candles"][0]
    beyond = datetime.fromisoformat(own["oldest"]) - Timeframe.D1.delta * 400
    with pytest.raises(UserError, match="no 15m candle"):
        explain_candle(connection, "simulated", order["symbol"], Timeframe.M15, beyond)


def test_model_is_explained_forward_to_its_results(connection: Connection, order: dict[str, Any]) -> None:
    found = explain_model(connection, order["model"]).content
    assert found["predictions"]["rows"] == 2 * 96
    assert sum(found["decisions"].values()) == 2 * 96
    assert order["signal"] in [trade["signal_id"] for trade in found["outcome"]["trades"]]
    with pytest.raises(UserError, match=f"near: .*{order['model'][:4]}"):
        explain_model(connection, order["model"][:-1] + "?")


def test_features_recomputed_are_those_of_the_decision_until_a_candle_is_corrected(
    connection: Connection, order: dict[str, Any]
) -> None:
    assert explain_trade(connection, order["order"], verify=True).content["verified"]["equal"] is True
    connection.execute(
        "update ohlcv_15m set high = high * 1.01 from instruments i "
        "where i.instrument_id = ohlcv_15m.instrument_id and i.symbol = %s and ts = %s",
        (order["symbol"], order["ts"]),
    )
    found = explain_trade(connection, order["order"], verify=True).content
    assert found["verified"]["equal"] is False
    assert "atr_14" in found["verified"]["different"]
    assert found["candles"][0]["corrected"] == 1


@pytest.mark.parametrize("question", ["order", "candle", "model", "signal"])
def test_whole_lineage_is_drawn_as_a_tree(
    market: str,
    order: dict[str, Any],
    question: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", market)
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")
    arguments = {
        "order": (order["order"], "--verify"),
        "candle": ("--candle", order["symbol"], "15m", order["ts"].isoformat()),
        "model": ("--model", order["model"]),
        "signal": ("--signal", order["signal"]),
    }[question]
    with pytest.raises(SystemExit) as exited:
        main(("explain", "--exchange", "simulated", *arguments))
    drawn = capsys.readouterr().out
    assert not exited.value.code
    assert order["signal"] in drawn
    expected = {
        "order": (
            "  ENTRY ",
            "fill ",
            "gates, decided",
            "risk rules (asked 2 times",
            "artefact",
            "recomputed today: equal",
        ),
        "candle": ("read by", "model_signals", "model versions were trained on it", "net "),
        "model": ("promoted from", "predictions, bars", "decisions"),
        "signal": ("1 signals", "1 positions"),
    }[question]
    for part in expected:
        assert part in drawn
