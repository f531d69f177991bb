"""Candles in the database: upsert, derivation, coverage, gaps."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.instrument import Instrument, MarketKind
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.copy import UpsertCount
from trading_pipelines.store.repositories import candles as store
from trading_pipelines.store.repositories import gaps, instruments

START = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
M5 = Timeframe.M5


def make(bars: int, seed: int = 1) -> pd.DataFrame:
    close = 100 * np.exp(np.random.default_rng(seed).normal(0, 0.002, bars).cumsum())
    opened = np.concatenate(([100.0], close[:-1]))
    return pd.DataFrame(
        {
            "ts": pd.date_range(START, periods=bars, freq="5min").as_unit("us"),
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": np.arange(bars, dtype=float),
        }
    )


@pytest.fixture
def instrument_id(connection: Connection) -> int:
    instruments.save(connection, [Instrument("venue", "BTCUSDT", "BTC", "USDT", MarketKind.SPOT)])
    return instruments.by_symbol(connection, "venue")["BTCUSDT"].instrument_id


def write(connection: Connection, instrument_id: int, candles: pd.DataFrame) -> UpsertCount:
    with connection.cursor() as cursor:
        return store.upsert_candles(cursor, instrument_id, M5, candles)


def cover(connection: Connection, instrument_id: int, start: datetime, end: datetime) -> None:
    store.lock_coverage(connection, instrument_id, M5, "test")
    store.extend_coverage(connection, instrument_id, M5, "test", (start, end))


def read(connection: Connection, instrument_id: int, timeframe: Timeframe = M5) -> pd.DataFrame:
    return store.read_candles(connection, instrument_id, timeframe, START - DAY, START + 100 * DAY)


def test_candles_come_back_as_they_were_written(connection: Connection, instrument_id: int) -> None:
    assert write(connection, instrument_id, make(500)) == UpsertCount(inserted=500)
    pd.testing.assert_frame_equal(read(connection, instrument_id), make(500), check_exact=True)
    row = connection.execute("select min(available_at - ts), max(available_at - ts) from ohlcv_5m").fetchone()
    assert row == (timedelta(minutes=5), timedelta(minutes=5))


def test_correction_overwrites_and_is_counted_and_the_same_again_is_not_written(
    connection: Connection, instrument_id: int
) -> None:
    write(connection, instrument_id, make(500))
    corrected = make(500)
    corrected.loc[7, "volume"] = 1e6
    assert write(connection, instrument_id, corrected) == UpsertCount(updated=1, unchanged=499)
    pd.testing.assert_frame_equal(read(connection, instrument_id), corrected)


def test_derived_candles_equal_the_aggregate_of_their_bars(connection: Connection, instrument_id: int) -> None:
    bars = make(3 * 288).drop(index=[*range(40, 60), 300])
    write(connection, instrument_id, bars)
    cover(connection, instrument_id, START, START + 3 * DAY)
    store.derive(connection, [instrument_id], M5, START, START + 3 * DAY)
    for target in M5.longer():
        pd.testing.assert_frame_equal(
            read(connection, instrument_id, target), aggregate(bars, target), check_exact=True
        )


def test_bucket_that_is_not_wholly_covered_is_not_derived(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(288))
    cover(connection, instrument_id, START + timedelta(minutes=5), START + timedelta(hours=5, minutes=25))
    store.derive(connection, [instrument_id], M5, START, START + DAY)
    hours = read(connection, instrument_id, Timeframe.H1)["ts"]
    assert hours.tolist() == [pd.Timestamp(START + timedelta(hours=h)) for h in (1, 2, 3, 4)]
    assert read(connection, instrument_id, Timeframe.H4).empty


def test_every_bucket_that_a_small_span_touches_is_built_from_all_of_its_bars(
    connection: Connection, instrument_id: int
) -> None:
    write(connection, instrument_id, make(288))
    cover(connection, instrument_id, START, START + DAY)
    moment = START + timedelta(hours=5, minutes=20)
    store.derive(connection, [instrument_id], M5, moment, moment + timedelta(minutes=5))
    for target in M5.longer():
        derived = read(connection, instrument_id, target)
        pd.testing.assert_frame_equal(derived, aggregate(make(288), target), rtol=1e-12)


def test_derivation_writes_only_what_has_changed(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(288))
    cover(connection, instrument_id, START, START + DAY)
    first = store.derive(connection, [instrument_id], M5, START, START + DAY)
    assert first == {Timeframe.M15: 96, Timeframe.H1: 24, Timeframe.H4: 6, Timeframe.D1: 1}
    corrected = make(288)
    corrected.loc[100, "volume"] = 1e6
    write(connection, instrument_id, corrected)
    again = store.derive(connection, [instrument_id], M5, START, START + DAY)
    assert set(again.values()) == {1}
    assert read(connection, instrument_id, Timeframe.D1)["volume"].item() == corrected["volume"].sum()


def test_noise_of_somebody_elses_addition_is_no_correction(connection: Connection, instrument_id: int) -> None:
    bars = make(288)
    hours = aggregate(bars, Timeframe.H1)
    hours["volume"] = np.nextafter(hours["volume"], np.inf)
    with connection.cursor() as cursor:
        store.upsert_candles(cursor, instrument_id, Timeframe.H1, hours)
    write(connection, instrument_id, bars)
    cover(connection, instrument_id, START, START + DAY)
    assert store.derive(connection, [instrument_id], M5, START, START + DAY)[Timeframe.H1] == 0
    assert connection.execute("select count(*) from ohlcv_corrections").fetchone() == (0,)


def test_coverage_joins_spans_and_leaves_the_missing_ones(connection: Connection, instrument_id: int) -> None:
    hours = [START + timedelta(hours=h) for h in range(8)]
    cover(connection, instrument_id, hours[1], hours[2])
    cover(connection, instrument_id, hours[4], hours[5])
    cover(connection, instrument_id, hours[2], hours[3])
    missing = store.missing_spans(connection, instrument_id, M5, "test", hours[0], hours[7])
    assert missing == [(hours[0], hours[1]), (hours[3], hours[4]), (hours[5], hours[7])]
    assert store.missing_spans(connection, instrument_id, M5, "other", hours[0], hours[7]) == [(hours[0], hours[7])]


def known_gaps(connection: Connection) -> list[tuple[float, float, int, str]]:
    """Gaps as (first bar, bar after the last, bars, verdict), counted in bars from the start."""
    rows = connection.execute("select gap_start, gap_end, bars, verdict from ohlcv_gaps order by 1").fetchall()
    return [((a - START) / M5.delta, (b - START) / M5.delta, bars, verdict) for a, b, bars, verdict in rows]


def test_gaps_are_found_inside_the_coverage_and_after_the_last_bar_but_not_before_listing(
    connection: Connection, instrument_id: int
) -> None:
    write(connection, instrument_id, make(280).drop(index=[*range(10), *range(40, 60), 100]))
    cover(connection, instrument_id, START, START + DAY)
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    assert known_gaps(connection) == [(40, 60, 20, "open"), (100, 101, 1, "open"), (280, 288, 8, "open")]
    assert gaps.missing_bars(connection, [instrument_id], M5, START, START + DAY) == {instrument_id: 29}


def test_time_that_was_not_asked_for_is_no_gap(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(288).drop(index=range(100, 200)))
    cover(connection, instrument_id, START, START + 120 * M5.delta)
    cover(connection, instrument_id, START + 190 * M5.delta, START + DAY)
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    assert known_gaps(connection) == [(100, 120, 20, "open"), (190, 200, 10, "open")]


def test_gap_found_in_a_small_span_reaches_beyond_it(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(288).drop(index=range(100, 200)))
    cover(connection, instrument_id, START, START + DAY)
    gaps.record_gaps(connection, [instrument_id], M5, START + 150 * M5.delta, START + 151 * M5.delta)
    assert known_gaps(connection) == [(100, 200, 100, "open")]


def test_filled_gap_is_repaired_and_a_partly_filled_one_shrinks(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(288).drop(index=[*range(40, 60), 100]))
    cover(connection, instrument_id, START, START + DAY)
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    write(connection, instrument_id, make(288).iloc[[*range(50, 60), 100]])
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    gaps.confirm_absent(connection, [instrument_id], M5, START, START + DAY, gaps.Proof())
    assert known_gaps(connection) == [(40, 50, 10, "absent"), (100, 101, 1, "repaired")]


def test_proof_of_absence_does_not_cover_what_is_missing_since(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(40))
    for bars in (50, 50, 60):
        cover(connection, instrument_id, START, START + bars * M5.delta)
        gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
        found = known_gaps(connection)
        gaps.confirm_absent(connection, [instrument_id], M5, START, START + DAY, gaps.Proof())
    assert found == [(40, 60, 20, "open")]
    assert connection.execute("select verdict, asked from ohlcv_gaps").fetchall() == [("absent", 1)]


def test_gap_that_opens_again_is_proven_anew(connection: Connection, instrument_id: int) -> None:
    hole = make(288).iloc[40:50]
    write(connection, instrument_id, make(288).drop(index=hole.index))
    cover(connection, instrument_id, START, START + DAY)
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    gaps.confirm_absent(connection, [instrument_id], M5, START, START + DAY, gaps.Proof())
    write(connection, instrument_id, hole)
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    connection.execute("delete from ohlcv_5m where ts = any(%s)", (list(hole["ts"]),))
    gaps.record_gaps(connection, [instrument_id], M5, START, START + DAY)
    assert connection.execute("select verdict, asked, repaired_from from ohlcv_gaps").fetchall() == [("open", 0, None)]


def test_latest_bars_are_the_newest_closed_ones(connection: Connection, instrument_id: int) -> None:
    write(connection, instrument_id, make(10))
    as_of = START + timedelta(minutes=29)
    latest = store.latest_bars(connection, [instrument_id, instrument_id + 1], M5, as_of)
    assert latest["ts"].tolist() == [pd.Timestamp(START + timedelta(minutes=20))]
    assert store.latest_candle_ts(connection, instrument_id, M5) == START + timedelta(minutes=45)
    assert store.latest_candle_ts(connection, instrument_id, Timeframe.H1) is None
    assert store.count(connection, instrument_id, M5, START, START + timedelta(minutes=20)) == 4
