"""From an order back to its candles and source rows and forward again, on what a replay has stored."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.alternative.factory import open_sources
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.alternative.alternative_data import TEXTS, collect
from trading_pipelines.application.alternative.flows import update_flows
from trading_pipelines.application.alternative.odds import update_odds
from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
from trading_pipelines.application.audit.lineage import explain_candle, explain_model, explain_signal, explain_trade
from trading_pipelines.application.audit.lineage_sources import explain_observation, explain_text
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.research.replay import replay
from trading_pipelines.cli import main
from trading_pipelines.cli.explain_tree import show
from trading_pipelines.domain.alternative.series import SIMULATED, Observation
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.observations import MARGIN
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.sentiment.aggregate import AggregationSpec
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.settings import Settings, load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import observations

ENDS = ("oldest", "newest")
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
        training={"train_days": 40, "test_days": 5, "folds": 1, "early_stopping_days": 8, "num_boost_round": 40},
        sentiment={"scorer": "lexicon"},
    )
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, Timeframe.M5, END - timedelta(days=60), END)
        _collect(connection, settings)
        replay(connection, settings, "simulated", SYMBOLS, "15m", START, END, train_until=START, name="traded")
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database lineage_market with (force)")


def _collect(connection: Connection, settings: Settings) -> None:
    """What is known besides prices: indices, flows and odds of a month, texts of some days."""
    month, days = END - timedelta(days=35), END - timedelta(days=6)
    for dataset, found in open_sources(settings).items():
        for each in found:
            collect(connection, each, days if dataset in TEXTS else month, END)
    update_flows(connection, settings, month, END)
    update_odds(connection, settings, days, END)
    chosen = settings.sentiment
    update_sentiment(
        connection,
        open_readers(chosen),
        END,
        simulated=True,
        coins=["BTC", "SOL", "AVAX"],
        spec=chosen.aggregation,
        alerts=chosen.alerts,
    )


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
    told = {name: value for name, value in found["signal"]["factors"].items() if not name.startswith("score")}
    assert 0 < len(told) < len(found["signal"]["factors"])
    assert told.keys() <= found["features"]["values"].keys()
    assert found["score"]["score"] == pytest.approx(found["signal"]["factors"]["score"])
    assert sum(factor["contribution"] for factor in found["score"]["factors"].values()) == pytest.approx(
        found["score"]["score"] - 50
    )
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
    for role in ("features and predictions", "scores"):
        reader = next(reader for reader in found["read_by"] if reader["role"] == role)
        assert datetime.fromisoformat(reader["first"]) == order["ts"]
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


def known(found: dict[str, Any], read_by: str, name: str) -> dict[str, Any]:
    """What one feature or input was made of."""
    (entry,) = (e for e in found["observations"] if (e["read_by"], e["name"]) == (read_by, name))
    return entry


def test_observations_behind_features_and_score_are_shown_as_they_were_known(
    connection: Connection, order: dict[str, Any]
) -> None:
    found = explain_trade(connection, order["order"]).content
    closed = order["ts"] + BAR
    with_rows = [entry for entry in found["observations"] if entry["rows"]]
    series = {entry["series"] for entry in with_rows}
    assert series >= {
        "fear_greed",
        "sentiment",
        "exchange_netflow_usd",
        "whale_score",
        "stablecoin_inflow_usd",
        "funding_rate",
    }
    assert {(entry["read_by"]) for entry in with_rows} == {"feature", "score"}
    for entry in with_rows:
        newest = entry["newest"]
        assert datetime.fromisoformat(newest["ts"]) <= datetime.fromisoformat(newest["available_at"]) < closed
        assert entry["coin"] in ("MARKET", order["symbol"], order["symbol"].removesuffix("USDT"))
        if entry["read_by"] == "feature" and entry["name"] in (
            "fear_greed",
            "whale_score",
            "sentiment",
            "funding_rate",
        ):
            assert float(entry["made"]) == newest["value"] == found["features"]["values"][entry["name"]]
        if entry["read_by"] == "score":
            assert found["score"]["inputs"][entry["name"]]["raw"] == newest["value"], entry["name"]
    for entry in (entry for entry in found["observations"] if not entry["rows"]):
        assert entry["made"] in (None, "NaN"), entry["name"]


def test_value_that_was_revised_after_the_decision_is_shown_as_it_was(
    connection: Connection, order: dict[str, Any]
) -> None:
    before = known(explain_trade(connection, order["order"]).content, "feature", "fear_greed")
    spoken = datetime.fromisoformat(before["newest"]["ts"])
    revisions = [
        Observation("fear_greed", "MARKET", SIMULATED, spoken, order["ts"] + BAR + timedelta(hours=1), 1.0),
        Observation("fear_greed", "MARKET", "alternative.me", spoken, order["ts"] - MARGIN, 2.0),
    ]
    assert observations.add(connection, revisions) == 2
    assert known(explain_trade(connection, order["order"]).content, "feature", "fear_greed") == before
    versions = explain_observation(connection, "simulated", "fear_greed", "MARKET", spoken, AggregationSpec()).content
    assert [row["value"] for row in versions["versions"]] == [before["newest"]["value"], 1.0]


def test_sentiment_is_explained_by_the_texts_that_it_was_made_of(connection: Connection, order: dict[str, Any]) -> None:
    entry = known(explain_trade(connection, order["order"]).content, "feature", "sentiment")
    made_of = entry["made_of"]
    assert made_of["kind"] == "texts"
    assert made_of["count"] >= len(made_of["rows"]) > 0
    assert made_of["value"] == pytest.approx(entry["newest"]["value"])
    weights = [row["weight"] for row in made_of["rows"]]
    assert weights == sorted(weights, reverse=True)
    assert all(row["title"] and row["known_at"] <= entry["newest"]["ts"] for row in made_of["rows"])


def test_flows_and_odds_are_explained_by_their_source_rows(connection: Connection, order: dict[str, Any]) -> None:
    found = explain_trade(connection, order["order"]).content
    whales = known(found, "feature", "whale_score")["made_of"]
    assert whales["kind"] == "transactions"
    assert {row["coin"] for row in whales["rows"]} == {order["symbol"].removesuffix("USDT")}
    inflow = known(found, "score", "stablecoin_inflow_usd")
    assert inflow["made_of"]["kind"] == "flows"
    assert inflow["made_of"]["rows"][0]["inflow"] == inflow["newest"]["value"]
    newest = connection.execute(
        "select coin, max(ts) from observations where series = 'prediction_bias' group by coin order by coin limit 1"
    ).fetchone()
    assert newest is not None
    bias = explain_observation(connection, "simulated", "prediction_bias", *newest, AggregationSpec()).content
    assert bias["made_of"]["kind"] == "distributions"
    assert all(datetime.fromisoformat(row["ts"]) == newest[1] for row in bias["made_of"]["rows"])
    assert all(row["rungs"] >= 2 for row in bias["made_of"]["rows"])


def test_every_observation_of_a_decision_leads_forward_to_its_signal(
    connection: Connection, order: dict[str, Any]
) -> None:
    """Forward is the reverse of backward: oldest and newest row lead to the signal, what came later does not."""
    trade = explain_trade(connection, order["order"]).content
    spec = AggregationSpec()
    rows = [(entry, entry[end]) for entry in trade["observations"] if entry["rows"] for end in ENDS]
    assert {"fear_greed", "sentiment", "funding_rate"} <= {entry["series"] for entry, _ in rows}
    for entry, row in rows:
        at = datetime.fromisoformat(row["ts"])
        found = explain_observation(connection, "simulated", entry["series"], entry["coin"], at, spec).content
        signals = [t["signal_id"] for t in found["outcome"]["trades"]]
        assert found["outcome"]["signals"] > len(signals) or order["signal"] in signals, (entry["name"], row)
        wanted = {"feature": "features and predictions", "score": "scores"}[entry["read_by"]]
        assert any(
            reader["role"] == wanted
            and datetime.fromisoformat(reader["first"]) <= order["ts"] <= datetime.fromisoformat(reader["last"])
            for reader in found["read_by"]
        ), (entry["name"], row)
    newest = known(trade, "feature", "sentiment")["newest"]
    later = datetime.fromisoformat(newest["ts"]) + timedelta(hours=1)
    coin = order["symbol"].removesuffix("USDT")
    found = explain_observation(connection, "simulated", "sentiment", coin, later, spec).content
    assert found["outcome"]["signals"] == 0 or order["signal"] not in [
        t["signal_id"] for t in found["outcome"]["trades"]
    ]


def test_text_leads_forward_to_the_signal_whose_sentiment_it_was_part_of(
    connection: Connection, order: dict[str, Any]
) -> None:
    entry = known(explain_trade(connection, order["order"]).content, "feature", "sentiment")
    number = str(entry["made_of"]["rows"][0]["text_id"])
    found = explain_text(connection, "simulated", number, AggregationSpec()).content
    assert found["text"]["title"] == entry["made_of"]["rows"][0]["title"]
    counted = {made["coin"]: made for made in found["sentiment"]}[entry["coin"]]
    assert counted["first"] <= entry["newest"]["ts"] <= counted["last"]
    assert order["signal"] in [trade["signal_id"] for trade in found["outcome"]["trades"]]


def test_unknown_observations_and_texts_name_what_is_near(connection: Connection) -> None:
    spec = AggregationSpec()
    with pytest.raises(UserError, match=r"no series 'fear_gred' \(near: fear_greed"):
        explain_observation(connection, "simulated", "fear_gred", "MARKET", END, spec)
    with pytest.raises(UserError, match=r"fear_greed of BTC is not stored \(stored of: MARKET\)"):
        explain_observation(connection, "simulated", "fear_greed", "BTC", END, spec)
    with pytest.raises(UserError, match=r"says nothing of .* \(near: 2025-05-31T00:00"):
        explain_observation(connection, "simulated", "fear_greed", "MARKET", END - timedelta(hours=20), spec)
    for number in ("999999999", "-1", "x"):
        with pytest.raises(UserError, match=f"no text has the number '{number}'"):
            explain_text(connection, "simulated", number, spec)


def test_score_that_was_made_anew_since_the_decision_says_so(
    connection: Connection, order: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    found = explain_trade(connection, order["order"])
    show(found)
    assert "made anew since" not in capsys.readouterr().out
    connection.execute("update composite_scores set score = score / 2 where ts = %s", (order["ts"],))
    show(explain_trade(connection, order["order"]))
    assert f"at the decision it was {found.content['signal']['factors']['score']:.8g}" in capsys.readouterr().out


@pytest.mark.parametrize("question", ["order", "candle", "model", "signal", "observation", "text"])
def test_whole_lineage_is_drawn_as_a_tree(
    market: str,
    connection: Connection,
    order: dict[str, Any],
    question: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", market)
    monkeypatch.setenv("TRADING_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "400")
    told = known(explain_trade(connection, order["order"]).content, "feature", "sentiment")
    arguments = {
        "order": (order["order"], "--verify"),
        "candle": ("--candle", order["symbol"], "15m", order["ts"].isoformat()),
        "model": ("--model", order["model"]),
        "signal": ("--signal", order["signal"]),
        "observation": ("--observation", "sentiment", told["coin"], told["newest"]["ts"]),
        "text": ("--text", str(told["made_of"]["rows"][0]["text_id"])),
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
            "composite score",
            "observations (",
            "feature fear_greed",
            "score sentiment",
            f"text {told['made_of']['rows'][0]['text_id']}",
        ),
        "candle": ("read by", "model_signals", "model versions were trained on it", "net "),
        "model": ("promoted from", "predictions, bars", "decisions"),
        "signal": ("1 signals", "1 positions"),
        "observation": ("the newest came of", "read by", "feature rows", "scores", "decisions of model_signals"),
        "text": ("counts in", "lexicon", "feature rows", "decisions of model_signals"),
    }[question]
    for part in expected:
        assert part in drawn
