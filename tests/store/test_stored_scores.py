"""Scores from the database to the database: what was known counts, and nothing else."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.analysis.calibration import CalibrationRequest, calibrate
from trading_pipelines.application.analysis.market import read_technical_signals
from trading_pipelines.application.analysis.scoring import bring_up_to_date, check_scores, score, score_range
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.engine.params import ExecutionParams
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.modelling.spec import TrainingSpec
from trading_pipelines.domain.risk.limits import RiskLimits
from trading_pipelines.domain.scoring.inputs import INPUT_NAMES
from trading_pipelines.domain.scoring.spec import FACTORS, ScoringSpec
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.errors import UserError
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models.scores import explain_score, newest_scores, score_history
from trading_pipelines.store.repositories import observations

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
START = NOW - timedelta(days=2)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
QUARTER = timedelta(minutes=15)
SPEC = ScoringSpec()


def _observation(series: str, coin: str, at: datetime, value: float, source: str = SIMULATED) -> Observation:
    return Observation(series, coin, source, at, at, value)


@pytest.fixture
def market(connection: Connection) -> Connection:
    """A hundred and fifty days of three symbols, and some of everything else."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=150), NOW)
    draw = np.random.default_rng(7)
    rows = [
        _observation("exchange_netflow_usd", coin, NOW - n * timedelta(hours=1), float(draw.normal(0, 1e6)))
        for coin in ("BTC", "ETH")
        for n in range(480)
    ]
    rows += [_observation("sentiment", "BTC", NOW - n * timedelta(hours=1), 0.4) for n in range(24)]
    rows += [_observation("fear_greed", MARKET, NOW - timedelta(hours=1 + 24 * n), 75.0 - n) for n in range(5)]
    rows += [_observation("fear_greed", MARKET, NOW - timedelta(hours=1), 1.0, source="alternative_me")]
    observations.add(connection, rows)
    connection.commit()
    return connection


def _score(connection: Connection, start: datetime = START, end: datetime = NOW) -> int:
    return score_range(connection, "simulated", SYMBOLS, "15m", start, end, SPEC).rows


def _value(connection: Connection, symbol: str, factor: str, ts: datetime) -> float:
    row = connection.execute(
        'select "values" from composite_scores join instruments using (instrument_id) where symbol = %s and ts = %s',
        (symbol, ts),
    ).fetchone()
    assert row is not None
    return float(row[0][FACTORS.index(factor)])


def test_every_bar_gets_a_score_and_a_repetition_changes_nothing(market: Connection) -> None:
    assert _score(market) == 3 * 192
    again = score_range(market, "simulated", SYMBOLS, "15m", START, NOW, SPEC).counts
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 3 * 192)


def test_one_live_bar_equals_the_same_bar_of_a_history(market: Connection) -> None:
    _score(market)
    before = market.execute("select * from composite_scores where ts = %s order by 1", (NOW - QUARTER,)).fetchall()
    market.execute("delete from composite_scores where ts = %s", (NOW - QUARTER,))
    report = score(market, "simulated", SYMBOLS, "15m", NOW + timedelta(minutes=3), SPEC)
    after = market.execute("select * from composite_scores where ts = %s order by 1", (NOW - QUARTER,)).fetchall()
    assert report.rows == 3
    assert np.allclose(
        [[row[i] for i in (5, 6, 7)] for row in before], [[row[i] for i in (5, 6, 7)] for row in after], rtol=1e-9
    )


def test_stored_readings_of_the_charts_give_what_the_candles_give(market: Connection) -> None:
    _score(market)
    before = _value(market, "ETHUSDT", "technical", NOW - QUARTER)
    read_technical_signals(
        market, "simulated", SYMBOLS, START, NOW, capital=10_000, execution=ExecutionParams(), limits=RiskLimits()
    )
    report = score_range(market, "simulated", SYMBOLS, "15m", START, NOW, SPEC)
    assert report.counts.updated == 0
    assert _value(market, "ETHUSDT", "technical", NOW - QUARTER) == before


def test_an_observation_counts_from_the_moment_it_had_time_to_be_stored(market: Connection) -> None:
    close = NOW - timedelta(hours=3)
    for n, known in enumerate((close - timedelta(seconds=61), close - timedelta(seconds=59))):
        observations.add(market, [_observation("sentiment", "SOL", known - timedelta(days=n), 0.25 + n)])
    observations.add(market, [_observation("sentiment", "SOL", close - timedelta(seconds=59), -0.5)])
    _score(market)
    assert _value(market, "SOLUSDT", "sentiment", close - QUARTER) == 0.25
    assert _value(market, "SOLUSDT", "sentiment", close) == -0.5


def test_observations_of_the_real_market_never_reach_the_simulated_one(market: Connection) -> None:
    _score(market)
    column = INPUT_NAMES.index("fear_greed") + 1
    row = market.execute("select distinct raw[%s] from factor_values where ts = %s", (column, NOW - QUARTER)).fetchall()
    assert row == [(75.0,)]


def test_a_stale_input_is_left_out(market: Connection) -> None:
    _score(market)
    stale = NOW - timedelta(hours=31)
    assert np.isnan(_value(market, "BTCUSDT", "sentiment", stale))
    assert _value(market, "BTCUSDT", "sentiment", NOW - QUARTER) == 0.4
    assert np.isnan(_value(market, "SOLUSDT", "sentiment", NOW - QUARTER))


def test_scores_follow_from_what_was_known(market: Connection) -> None:
    _score(market)
    assert check_scores(market, "simulated", SYMBOLS, "15m", 8, 1, SPEC) == (24, {})


def test_a_score_that_knew_the_future_is_found(market: Connection) -> None:
    _score(market)
    column = INPUT_NAMES.index("fear_greed") + 1
    market.execute("update factor_values set mapped[%s] = mapped[%s] + 0.01", (column, column))
    _, leaks = check_scores(market, "simulated", ("BTCUSDT",), "15m", 4, 1, SPEC)
    assert [leak.column for leak in leaks["BTCUSDT"]] == ["fear_greed"]


def test_without_observations_nobody_is_scored_who_was_not_asked_for(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT",)), lambda: NOW)
    ingest(connection, source, (), Timeframe.M15, NOW - timedelta(days=60), NOW)
    where = connection, "simulated", ("BTCUSDT",), "15m", START, NOW, SPEC
    bring_up_to_date(*where, asked=False)
    assert connection.execute("select count(*) from composite_scores").fetchone() == (0,)
    bring_up_to_date(*where, asked=True)
    assert connection.execute("select count(*), max(known) from composite_scores").fetchone() == (192, 2)


def test_an_unknown_symbol_is_named(market: Connection) -> None:
    with pytest.raises(UserError, match="NOPEUSDT not stored for simulated"):
        score(market, "simulated", ("NOPEUSDT",), "15m", NOW, SPEC)


def test_a_span_without_candles_gives_no_scores(market: Connection) -> None:
    assert _score(market, NOW + timedelta(days=1), NOW + timedelta(days=2)) == 0


def test_a_calibration_is_kept_with_its_report_and_chooses_from_what_is_known(market: Connection) -> None:
    request = CalibrationRequest(
        "simulated", SYMBOLS, Timeframe.H1, NOW - timedelta(days=90), NOW, train_days=40, test_days=20, samples=50
    )
    report = calibrate(market, request, SPEC, TrainingSpec(), NOW)
    assert len(report.folds) == 3
    assert report.out_of_sample_from == NOW - timedelta(days=50) + timedelta(minutes=300)
    assert [variant.name for variant in report.at_marks] == ["charts", "default", "calibrated"]
    charts = report.at_marks[0]
    assert charts.signals > 100
    assert charts.false_signals == round(charts.false_share * charts.signals)
    assert set(charts.versus_charts) == set()
    assert sum(report.weights.values()) == pytest.approx(1)
    assert "momentum" in {source.source for source in report.sources}
    stored = market.execute("select weights, report ->> 'moments' from score_calibrations").fetchall()
    assert stored == [([report.weights[name] for name in FACTORS], str(report.moments))]


def test_too_little_time_for_one_fold_says_what_to_do(market: Connection) -> None:
    request = CalibrationRequest("simulated", SYMBOLS, Timeframe.H1, NOW - timedelta(days=30), NOW)
    with pytest.raises(UserError, match="too few for 365 days of training"):
        calibrate(market, request, SPEC, TrainingSpec(), NOW)


def test_one_score_is_taken_apart_for_people(market: Connection) -> None:
    _score(market)
    parts = explain_score(market, "simulated", "BTCUSDT", "15m")
    assert parts is not None
    assert parts.score == pytest.approx(50 + sum(factor.contribution for factor in parts.factors))
    assert {each.name: each.raw for each in parts.inputs}["fear_greed"] == 75
    assert newest_scores(market, "simulated", "15m")["symbol"].tolist()[0] in SYMBOLS
    assert explain_score(market, "simulated", "BTCUSDT", "1h") is None
    assert len(score_history(market, "simulated", "BTCUSDT", "15m", NOW - timedelta(hours=1))) == 4
