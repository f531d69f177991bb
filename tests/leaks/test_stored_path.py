"""Everything stored on the way to a decision follows from what was known; a change of any of it is found."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.audit.decision_path import CHECKS, check_assets
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.drift import DriftReport, measure_drift
from trading_pipelines.application.models.prediction import record_outcomes
from trading_pipelines.application.models.training import train
from trading_pipelines.application.research.replay import replay
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.features.registry import NAMES
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.validation.drift import DriftSpec
from trading_pipelines.errors import UserError
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.repositories import observations
from trading_pipelines.store.repositories.drift import drifting

SYMBOLS = ("BTCUSDT", "AVAXUSDT")
END = datetime(2025, 6, 1, tzinfo=UTC)
START = END - timedelta(days=8)
TRAINED = (START, START + timedelta(days=2), START + timedelta(days=5))
SETTINGS = load_settings(
    training={"train_days": 30, "test_days": 5, "folds": 2, "early_stopping_days": 6, "calibration_days": 6}
    | {"num_boost_round": 60}
)


def _moods() -> list[Observation]:
    """What makes the replay score its span: an index and a mood of each coin, known as they are stamped."""
    moments = [END - n * timedelta(hours=1) for n in range(12 * 24)]
    moods = [("sentiment", symbol.removesuffix("USDT"), 0.5) for symbol in SYMBOLS]
    return [
        Observation(series, coin, SIMULATED, at, at, value + (at.hour % 7) / 20)
        for series, coin, value in (("fear_greed", MARKET, 60.0), *moods)
        for at in moments
    ]


@pytest.fixture(scope="module")
def prepared(server_url: str, template: str) -> Iterator[str]:
    """A market that was replayed while three versions came into production, one after the other."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database leak_market template {template}")
    url = make_conninfo(server_url, dbname="leak_market")
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, Timeframe.M5, END - timedelta(days=62), END)
        observations.add(connection, _moods())
        for as_of in TRAINED:
            for symbol in SYMBOLS:
                train(connection, "simulated", symbol, "15m", as_of, SETTINGS.training, force=True)
        replay(connection, SETTINGS, "simulated", SYMBOLS, "15m", START, END, name="leaks")
        record_outcomes(connection, "simulated", SYMBOLS, "15m", END)
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database leak_market with (force)")


@pytest.fixture
def market(prepared: str) -> Iterator[Connection]:
    """A connection whose changes are forgotten."""
    connection = psycopg.connect(prepared)
    yield connection
    connection.rollback()
    connection.close()


def test_every_bar_of_a_replay_used_the_version_of_its_time_only(market: Connection) -> None:
    rows = market.execute(
        "select i.symbol, d.ts, m.as_of from decisions d join instruments i using (instrument_id) "
        "join model_versions m using (model_id)"
    ).fetchall()
    assert len(rows) == 8 * 96 * len(SYMBOLS)
    for symbol, ts, as_of in rows:
        closes = ts + timedelta(minutes=15)
        assert as_of == max(moment for moment in TRAINED if moment <= closes), (symbol, ts)


def test_everything_stored_follows_from_what_was_known(market: Connection) -> None:
    checks = check_assets(market, SETTINGS, SYMBOLS, "15m", 16, seed=5)
    assert [check.asset for check in checks] == list(CHECKS)
    assert {check.asset: check.findings for check in checks if check.findings} == {}
    elsewhere = {"sentiment", "flows", "odds"}  # in a world with sources: test_outside_sources.py
    assert {check.asset for check in checks if not check.checked} <= elsewhere


@pytest.mark.parametrize(
    ("asset", "column", "change"),
    [
        ("candles", "1h.high", "update ohlcv_1h set high = high * 1.01"),
        ("features", NAMES[0], "update features_15m set values[1] = values[1] * 1.0001"),
        ("labels", "outcome", "update predictions set outcome = 1 - outcome"),
        ("labels", "outcome", "update predictions set outcome_at = outcome_at - interval '15 minutes'"),
        ("labels", "log_loss", "update model_folds set metrics = jsonb_set(metrics, '{log_loss}', '0.6')"),
        ("labels", "samples", "update model_folds set test_until = test_until + interval '1 hour'"),
        (
            "labels",
            "auc",
            "update ohlcv_15m set high = high * 1.2 where ts >= (select min(test_from) from model_folds)",
        ),
        ("splits", "train_until", "update model_folds set train_until = test_from - interval '15 minutes'"),
        ("models", "artefact", "update model_versions set as_of = as_of - interval '1 day'"),
        ("predictions", "probability", "update predictions set probability = probability * 0.999"),
        ("predictions", "model_id", "update model_versions set as_of = as_of + interval '30 days'"),
        ("scores", "score", "update composite_scores set score = score + 0.01"),
        ("scores", "technical", "update factor_values set mapped[1] = mapped[1] * 0.99"),
        ("decisions", "model_signals.decided_at", "update decisions set decided_at = ts"),
        (
            "decisions",
            "model_signals.reference_price",
            "update decisions set setup = jsonb_set(setup, '{reference_price}', "
            "to_jsonb((setup ->> 'reference_price')::float8 * 1.001)) where setup is not null",
        ),
    ],
)
def test_what_knew_the_future_is_named_with_its_first_instant(
    market: Connection, asset: str, column: str, change: LiteralString
) -> None:
    market.execute(change)
    (check,) = check_assets(market, SETTINGS, SYMBOLS, "15m", 16, seed=5, assets=[asset])
    found = [finding for finding in check.findings if finding.column == column]
    assert found
    assert {finding.symbol for finding in found} <= set(SYMBOLS)
    assert START - timedelta(days=60) <= found[0].first <= END
    assert found[0].cause


def test_drift_of_the_version_in_production_is_stored_once_a_day_and_told_when_it_begins(market: Connection) -> None:
    def look(spec: DriftSpec) -> DriftReport:
        return measure_drift(market, "simulated", SYMBOLS, "15m", END, spec)

    calm = DriftSpec(max_psi=9.0, max_standard_errors=50.0)
    days = look(calm).days
    assert set(days) == set(SYMBOLS)
    assert all(day.outcomes > 100 and day.hit_rate and day.expected_hit_rate for day in days.values())
    assert all(0 <= (day.novelty or 0) < 0.2 for day in days.values())
    assert drifting(market, "simulated") == []
    nervous = DriftSpec(max_psi=1e-4, usual_multiple=1.0, max_drifted_share=1e-3)
    assert set(look(nervous).drifting) == set(SYMBOLS)
    assert {d.symbol for d in drifting(market, "simulated")} == set(SYMBOLS)
    assert market.execute("select count(*) from model_drift").fetchone() == (len(SYMBOLS),)
    told = market.execute("select count(*) from events where kind = 'model_drift'").fetchone()
    assert told == (len(SYMBOLS),)
    market.execute("delete from model_drift")
    market.commit()


def test_unknown_asset_is_refused_with_the_names_of_those_there_are(market: Connection) -> None:
    with pytest.raises(UserError, match="there are candles, sentiment, flows"):
        check_assets(market, SETTINGS, SYMBOLS, "15m", 1, 0, ["nonsense"])
