"""Training, promotion, prediction and leak check on stored candles of a simulated market."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.audit.leakcheck import check_features
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.prediction import explain, predict, record_outcomes
from trading_pipelines.application.models.registry import promote
from trading_pipelines.application.models.training import TrainingReport, train
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection, connect

SYMBOLS = ("BTCUSDT", "AVAXUSDT")
END = datetime(2025, 6, 1, tzinfo=UTC)
SPEC = TrainingSpec(train_days=30, test_days=4, folds=3, early_stopping_days=6, calibration_days=6, num_boost_round=40)


@pytest.fixture(scope="module")
def prepared(server_url: str, template: str) -> Iterator[str]:
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database training_market template {template}")
    url = make_conninfo(server_url, dbname="training_market")
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    with connect(url) as connection:
        ingest(connection, source, SYMBOLS, Timeframe.M5, END - timedelta(days=75), END)
        build_features(connection, "simulated", SYMBOLS, "15m", END - timedelta(days=45), END)
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database training_market with (force)")


@pytest.fixture
def market(server_url: str, prepared: str) -> Iterator[Connection]:
    """A connection to a copy of the prepared market."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("create database training_copy template training_market")
    with connect(make_conninfo(server_url, dbname="training_copy")) as connection:
        yield connection
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database training_copy with (force)")


def _train(
    connection: Connection, as_of: datetime = END - timedelta(days=4), spec: TrainingSpec = SPEC
) -> TrainingReport:
    return train(connection, "simulated", "AVAXUSDT", "15m", as_of, spec, force=True)


def test_version_is_named_judged_and_remembered(market: Connection) -> None:
    report = _train(market)
    assert report.model_id == "AVAX_USDT_15m_20250528_000000"
    assert report.folds == 3
    assert 0.4 < report.metrics["auc"] < 0.75
    again = _train(market)
    assert (again.model_id, again.reused) == (report.model_id, True)
    assert market.execute("select count(*) from model_versions").fetchone() == (1,)
    assert market.execute("select count(*) from model_promotions").fetchone() == (1,)


def test_interrupted_training_goes_on_with_the_missing_folds(market: Connection) -> None:
    class InterruptedHereError(Exception):
        pass

    def stop_after_one(progress: object) -> None:
        if progress.done == 1:  # type: ignore[attr-defined]  # a TrainingProgress
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        train(market, "simulated", "AVAXUSDT", "15m", END, SPEC, on_progress=stop_after_one)
    market.rollback()
    assert market.execute("select count(*) from model_folds").fetchone() == (1,)
    kept = market.execute("select created_at from model_folds").fetchone()
    report = train(market, "simulated", "AVAXUSDT", "15m", END, SPEC)
    assert report.folds == 3
    assert market.execute("select min(created_at) from model_folds").fetchone() == kept


def test_fold_keeps_its_parameters_its_profit_and_its_predictions(market: Connection) -> None:
    report = _train(market)
    rows = market.execute(
        "select parameters, rounds, calibration, metrics, octet_length(probabilities) from model_folds"
    ).fetchall()
    for parameters, rounds, calibration, metrics, size in rows:
        assert parameters["num_leaves"] == SPEC.num_leaves
        assert 1 <= rounds <= SPEC.num_boost_round
        assert calibration >= 0
        assert size == 8 * metrics["samples"]
        assert metrics["net_profit"] > -1
        assert metrics["trades"] >= 0
    assert report.metrics["net_profit"] == pytest.approx(sum(row[3]["net_profit"] for row in rows))
    assert report.metrics["trades"] == sum(row[3]["trades"] for row in rows)


def test_anchored_windows_grow(market: Connection) -> None:
    _train(market, spec=SPEC.model_copy(update={"anchored": True}))
    starts = market.execute("select distinct train_from from model_folds").fetchall()
    assert len(starts) == 1


def test_fold_never_learns_from_its_own_test_time(market: Connection) -> None:
    _train(market)
    embargo = timedelta(minutes=SPEC.embargo_minutes)
    for until, test_from in market.execute("select train_until, test_from from model_folds").fetchall():
        assert until + embargo < test_from


def test_unearned_version_stays_out_of_production(market: Connection) -> None:
    report = train(market, "simulated", "AVAXUSDT", "15m", END, SPEC.model_copy(update={"min_skill": 0.9}))
    assert not report.promoted
    assert "not promoted" in report.verdict
    assert predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=1), END).without_model == (
        "AVAXUSDT",
    )


def test_each_bar_is_predicted_by_the_version_of_its_time(market: Connection) -> None:
    older = _train(market, END - timedelta(days=8))
    newer = _train(market, END - timedelta(days=4))
    predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=9), END)
    rows = market.execute(
        "select model_id, min(available_at), max(available_at) from predictions group by 1 order by 2"
    ).fetchall()
    quarter = timedelta(minutes=15)
    assert rows == [
        (older.model_id, END - timedelta(days=8), END - timedelta(days=4) - quarter),
        (newer.model_id, END - timedelta(days=4), END),
    ]
    assert predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=9), END).rows == 0


def test_version_of_another_feature_set_predicts_nothing(market: Connection) -> None:
    _train(market)
    market.execute("insert into feature_sets (definition_hash, names) values ('older', '{}')")
    market.execute("update model_versions set feature_set_id = (select max(feature_set_id) from feature_sets)")
    report = predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=1), END)
    assert (report.rows, report.without_model) == (0, ("AVAXUSDT",))


def test_other_recipe_has_to_beat_the_one_in_production(market: Connection) -> None:
    _train(market)
    market.execute("""update model_versions set metrics = metrics || '{"skill": 0.5}'""")
    lenient = SPEC.model_copy(update={"min_skill": -1.0})
    newer = train(market, "simulated", "AVAXUSDT", "15m", END, lenient)
    assert newer.promoted, "the same recipe with newer data takes over"
    market.execute("""update model_versions set metrics = metrics || '{"skill": 0.5}'""")
    other = train(market, "simulated", "AVAXUSDT", "15m", END, lenient.model_copy(update={"num_leaves": 5}))
    assert not other.promoted
    assert f"{newer.model_id} has +50.00%" in other.verdict


@pytest.mark.parametrize(
    ("changes", "promoted"),
    [
        ({"min_refresh": -0.9}, True),
        ({"min_refresh": 0.9}, False),
        ({"num_leaves": 5, "min_improvement": 0.9}, False),
        ({"num_leaves": 5, "min_improvement": -0.9, "min_refresh": 0.9}, True),
    ],
)
def test_version_is_compared_with_the_one_in_production_on_bars_new_to_both(
    market: Connection, changes: dict[str, float], promoted: bool
) -> None:
    older = _train(market, END - timedelta(days=8))
    spec = SPEC.model_copy(update={"min_skill": -1.0, "min_comparison_rows": 300} | changes)
    report = train(market, "simulated", "AVAXUSDT", "15m", END, spec)
    assert report.promoted == promoted
    assert promoted or f"better than {older.model_id} on" in report.verdict


def test_older_version_is_promoted_again_to_roll_back(market: Connection) -> None:
    older, newer = _train(market, END - timedelta(days=8)), _train(market, END - timedelta(days=4))
    promote(market, older.model_id, END - timedelta(days=1), "the newer one lost money")
    predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=3), END)
    rows = market.execute("select model_id from predictions group by 1 order by min(ts)").fetchall()
    assert rows == [(newer.model_id,), (older.model_id,)]


def test_version_cannot_be_promoted_for_a_time_that_it_has_learnt_from(market: Connection) -> None:
    version = _train(market).model_id
    with pytest.raises(UserError, match=f"{version} has learnt from data up to 2025-05-28 00:00"):
        promote(market, version, END - timedelta(days=5), "too early")
    with pytest.raises(UserError, match="there is no model version nonsense"):
        promote(market, "nonsense", END, "")


def test_outcomes_do_not_wait_for_features_of_the_newest_candles(market: Connection) -> None:
    _train(market)
    predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=2), END)
    market.execute("delete from features_15m where ts >= %s", (END - timedelta(hours=1),))
    assert record_outcomes(market, "simulated", ["AVAXUSDT"], "15m", END) > 150


def test_outcomes_are_joined_once_they_are_known(market: Connection) -> None:
    _train(market)
    predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=2), END)
    as_of = END - timedelta(days=1)
    record_outcomes(market, "simulated", ["AVAXUSDT"], "15m", as_of)
    known, latest = market.execute("select count(outcome), max(outcome_at) from predictions").fetchone() or (0, None)
    assert 60 < known < 97
    assert latest is not None
    assert latest <= as_of
    before_their_bar = "select count(*) from predictions where outcome_at <= available_at"
    assert market.execute(before_their_bar).fetchone() == (0,)


def test_prediction_is_judged_by_the_barriers_that_its_version_has_learnt(market: Connection) -> None:
    _train(market)
    wide = SPEC.model_copy(update={"label_barrier_atr": 6.0, "label_horizon_minutes": 600})
    _train(market, END - timedelta(days=2), wide)
    predict(market, "simulated", ["AVAXUSDT"], "15m", END - timedelta(days=4), END)
    record_outcomes(market, "simulated", ["AVAXUSDT"], "15m", END)
    lives = market.execute(
        "select max(p.outcome_at - p.available_at) from predictions p join model_versions m using (model_id) "
        "group by m.as_of order by m.as_of"
    ).fetchall()
    assert lives == [(timedelta(minutes=SPEC.label_horizon_minutes),), (timedelta(minutes=600),)]


def test_explanation_names_the_strongest_features(market: Connection) -> None:
    report = _train(market)
    (instrument_id,) = market.execute("select instrument_id from model_versions").fetchone() or (0,)
    factors = explain(market, report.model_id, instrument_id, "15m", END - timedelta(hours=3))
    sizes = [abs(v) for v in factors.values()]
    assert len(factors) == 8
    assert sizes == sorted(sizes, reverse=True)
    assert "atr_14" not in factors


def test_stored_features_pass_the_leak_check_and_a_changed_one_fails_it(market: Connection) -> None:
    clean = check_features(market, "simulated", SYMBOLS, "15m", samples=12, seed=3)
    assert (clean.checked, clean.leaks) == (24, {})
    market.execute('update features_15m set "values"[3] = "values"[3] + 1e-4')
    found = check_features(market, "simulated", SYMBOLS, "15m", samples=5, seed=3)
    assert {leak.column for leak in found.leaks["AVAXUSDT"]} == {"ret_3"}
    assert found.leaks["AVAXUSDT"][0].instants == 5


def test_day_built_alone_equals_the_day_built_with_all_others(market: Connection) -> None:
    day = END - timedelta(days=3)
    report = build_features(market, "simulated", SYMBOLS, "15m", day, day + timedelta(days=1))
    assert report.rows == 2 * 96
    assert check_features(market, "simulated", SYMBOLS, "15m", 20, 1, day, day + timedelta(days=1)).leaks == {}


def test_bar_built_alone_as_it_closes_equals_the_batch_when_funding_is_settled(market: Connection) -> None:
    closes = END - timedelta(days=2) + timedelta(hours=8)
    build_features(market, "simulated", SYMBOLS, "15m", END - timedelta(days=3), END)
    found = check_features(market, "simulated", SYMBOLS, "15m", 1, 1, closes - timedelta(minutes=15), closes)
    assert (found.checked, found.leaks) == (2, {})


def test_too_little_history_says_how_much_there_is(market: Connection) -> None:
    with pytest.raises(UserError, match=r"AVAXUSDT: \d+ days of usable 15m candles before 2025-03-25"):
        _train(market, datetime(2025, 3, 25, tzinfo=UTC))
