"""What is stored after rows that would have read it is noted, followed to these rows, and they are computed again."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.analysis.scoring import score_range
from trading_pipelines.application.audit import leakcheck
from trading_pipelines.application.audit.corrections import rebuild_stale, trace_changes
from trading_pipelines.application.audit.leakcheck import check_features, explain_leaks
from trading_pipelines.application.features import building as features_module
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.features import registry
from trading_pipelines.domain.features.compute import compute_features
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.validation.leakage import Leak
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.read_models.stale import changes_to_follow, stale_data
from trading_pipelines.store.repositories import candles, funding, gaps, instruments, observations, revisions

END = datetime(2025, 6, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
M15 = Timeframe.M15
SETTINGS = load_settings()


@pytest.fixture
def market(connection: Connection) -> Connection:
    """Forty days of candles with the features of the last two days."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    ingest(connection, source, SYMBOLS, M15, END - 40 * DAY, END)
    build_features(connection, "simulated", SYMBOLS, "15m", END - 2 * DAY, END)
    assert changes_to_follow(connection) == 0
    connection.commit()
    return connection


def told(series: str, coin: str, known_at: datetime, value: float, source: str = SIMULATED) -> Observation:
    """A value that could be known as soon as what it speaks of."""
    return Observation(series, coin, source, known_at, known_at, value)


def stale_after(connection: Connection) -> dict[tuple[str, str], revisions.StaleSpan]:
    """What is named after following the changes, by table and symbol."""
    connection.commit()
    trace_changes(connection, "simulated", M15)
    return {(span.dataset, span.symbol): span for span in revisions.to_rebuild(connection, "simulated")}


def findings(connection: Connection, days: int = 2) -> int:
    report = check_features(connection, "simulated", SYMBOLS, "15m", 12, 1, END - days * DAY, END)
    return sum(len(leaks) for leaks in report.leaks.values())


def test_history_loaded_after_the_features_names_them_and_rebuilding_satisfies_the_leak_check(
    market: Connection,
) -> None:
    observations.add(market, [told("fear_greed", MARKET, END - n * DAY, 40.0 + n) for n in range(1, 30)])
    assert findings(market) > 0
    named = stale_after(market)
    assert set(named) == {("features_15m", symbol) for symbol in SYMBOLS}
    assert named["features_15m", "ETHUSDT"].rows == 2 * 96
    assert named["features_15m", "ETHUSDT"].cause.startswith("late: fear_greed known from 2025-05-03")
    leaks = check_features(market, "simulated", SYMBOLS, "15m", 4, 1).leaks["ETHUSDT"]
    said = explain_leaks(market, "simulated", "ETHUSDT", "15m", leaks)[0]
    assert "late: fear_greed" in said
    assert "`trading features rebuild`" in said
    (waiting,) = stale_data(market)
    assert (waiting.dataset, waiting.symbols, waiting.days) == ("features_15m", 2, 2)

    changed = rebuild_stale(market, "simulated", SETTINGS)

    assert changed == dict.fromkeys(SYMBOLS, 2 * 96)
    assert findings(market) == 0
    assert stale_data(market) == []
    assert not revisions.anything_to_follow(market, "simulated")


def test_observation_of_a_coin_reaches_its_own_symbol_from_when_it_counts_until_it_is_forgotten(
    market: Connection,
) -> None:
    known = END - 30 * HOUR
    observations.add(market, [told("sentiment", "ETH", known, 0.5)])
    named = stale_after(market)
    assert set(named) == {("features_15m", "ETHUSDT")}
    # Five minutes after it became known: the bar that closes a quarter of an hour later is the first that reads it.
    assert named["features_15m", "ETHUSDT"].from_ts == known


@pytest.mark.parametrize(
    "late",
    [
        told("sentiment", "SOL", END - 30 * HOUR, 0.5),
        told("social_volume", "ETH", END - 30 * HOUR, 5.0),
        told("sentiment", "ETH", END - 30 * HOUR, 0.5, source="texts"),
    ],
    ids=["of a coin that is not followed", "of a series that nothing reads", "of the other world"],
)
def test_observation_that_no_row_reads_makes_nothing_stale(market: Connection, late: Observation) -> None:
    observations.add(market, [late])
    assert stale_after(market) == {}


def test_observation_that_comes_in_time_makes_nothing_stale(market: Connection) -> None:
    observations.add(market, [told("fear_greed", MARKET, END + timedelta(minutes=1), 40.0)])
    assert changes_to_follow(market) == 0
    # Known before the last bar closed, but not long enough for anyone to have written it down.
    observations.add(market, [told("fear_greed", MARKET, END - timedelta(minutes=4), 40.0)])
    assert stale_after(market) == {}


def test_late_observation_makes_scores_stale_as_well(market: Connection) -> None:
    score_range(market, "simulated", SYMBOLS, "15m", END - DAY, END, SETTINGS.scoring)
    observations.add(market, [told("fear_greed", MARKET, END - 2 * DAY + n * HOUR, 80.0) for n in range(48)])
    named = stale_after(market)
    assert named["composite_scores", "BTCUSDT"].rows == 96
    rebuild_stale(market, "simulated", SETTINGS)
    rows = market.execute("select changed from stale_spans where dataset = 'composite_scores'").fetchall()
    assert rows == [(96,), (96,)]


def test_late_funding_reaches_the_bars_that_close_after_its_settlement(market: Connection) -> None:
    instrument_id = instruments.by_symbol(market, "simulated")["ETHUSDT"].instrument_id
    settled = END - 20 * HOUR
    market.execute("delete from funding_rates where instrument_id = %s and ts >= %s", (instrument_id, settled - DAY))
    build_features(market, "simulated", ["ETHUSDT"], "15m", END - 2 * DAY, END)
    with market.cursor() as cursor:
        funding.upsert_rates(cursor, instrument_id, pd.DataFrame({"ts": [settled], "rate": [0.0007]}))
    assert findings(market) > 0
    named = stale_after(market)
    assert set(named) == {("features_15m", "ETHUSDT")}
    assert named["features_15m", "ETHUSDT"].from_ts == settled
    rebuild_stale(market, "simulated", SETTINGS)
    assert findings(market) == 0


def fill_a_hole(connection: Connection) -> None:
    """Take candles away, let the hole be known and features be built over it, and bring them back."""
    span = END - 30 * HOUR, END - 29 * HOUR
    ids = [stored.instrument_id for stored in instruments.by_symbol(connection, "simulated").values()]
    rows = connection.execute("delete from ohlcv_15m where ts >= %s and ts < %s returning *", span).fetchall()
    candles.derive(connection, ids, M15, *span)
    gaps.record_gaps(connection, ids, M15, *span)
    connection.commit()
    build_features(connection, "simulated", SYMBOLS, "15m", END - 2 * DAY, END)
    with connection.cursor() as cursor:
        cursor.executemany("insert into ohlcv_15m values (%s, %s, %s, %s, %s, %s, %s, %s)", rows)
    candles.derive(connection, ids, M15, *span)
    gaps.record_gaps(connection, ids, M15, *span)


def lengthen_the_history(connection: Connection) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: END)
    connection.commit()
    ingest(connection, source, SYMBOLS, M15, END - 90 * DAY, END)


@pytest.mark.parametrize("arrive", [fill_a_hole, lengthen_the_history])
def test_candles_that_arrive_late_make_the_features_after_them_stale(
    market: Connection, arrive: Callable[[Connection], None]
) -> None:
    build_features(market, "simulated", SYMBOLS, "15m", END - 12 * DAY, END)
    arrive(market)
    assert findings(market, 12) > 0
    named = stale_after(market)
    assert {("features_15m", symbol) for symbol in SYMBOLS} <= set(named)
    assert named["features_15m", "BTCUSDT"].cause.startswith("late: candles 15m of")
    rebuild_stale(market, "simulated", SETTINGS)
    assert findings(market, 12) == 0


def test_candles_that_follow_the_newest_are_not_late(market: Connection) -> None:
    later = END + 2 * HOUR
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: later)
    ingest(market, source, SYMBOLS, M15, END - DAY, later)
    assert changes_to_follow(market) == 0


def test_changed_row_is_told_from_changed_inputs(market: Connection) -> None:
    leak = check_after(market, "update features_15m set values[1] = values[1] + 0.01")
    assert "the row or the code was changed" in explain_leaks(market, "simulated", "ETHUSDT", "15m", [leak])[0]
    market.rollback()
    market.execute("alter table ohlcv_15m disable trigger keep_former")
    leak = check_after(market, "update ohlcv_15m set volume = volume + extract(minute from ts)")
    assert "nothing has noted" in explain_leaks(market, "simulated", "ETHUSDT", "15m", [leak])[0]


def test_feature_that_looks_ahead_is_told_from_changed_inputs(
    market: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = replace(registry.REGISTRY[0], compute=lambda x: np.append(x.bars.log_return(1)[1:], np.nan))
    features = (hasty, *registry.REGISTRY[1:])
    for module in (features_module, leakcheck):
        monkeypatch.setattr(module, "compute_features", lambda inputs: compute_features(inputs, features))
    build_features(market, "simulated", SYMBOLS, "15m", END - 3 * DAY, END - DAY / 2)
    (leak,) = check_features(market, "simulated", ["ETHUSDT"], "15m", 4, 1).leaks["ETHUSDT"]
    (said,) = explain_leaks(market, "simulated", "ETHUSDT", "15m", [leak])
    assert said.startswith("computed with what came after the bar's close: a bar after its own")


def check_after(connection: Connection, change: str) -> Leak:
    connection.execute(change.encode())
    return check_features(connection, "simulated", ["ETHUSDT"], "15m", 4, 1).leaks["ETHUSDT"][0]
