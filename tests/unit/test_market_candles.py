"""Which candle rows are stored and which are refused, and how bars add up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipelines.domain.market.candles import aggregate, candle_schema, empty_candles, split_valid
from trading_pipelines.domain.market.timeframe import Timeframe

START = datetime(2024, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)


def candles(rows: int, start: datetime = START) -> pd.DataFrame:
    ts = pd.date_range(start, periods=rows, freq="5min").as_unit("us")
    close = 100 + np.arange(rows, dtype=float)
    return pd.DataFrame(
        {"ts": ts, "open": close - 1, "high": close + 2, "low": close - 2, "close": close, "volume": 3.0}
    )


def with_fault(column: str, value: Any) -> pd.DataFrame:
    frame = candles(5).astype({column: "object"})
    frame.loc[2, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("ts", None, "missing or unreadable"),
        ("ts", START + timedelta(minutes=11), "not the open of a 5m bar"),
        ("ts", NOW + timedelta(days=400), "not closed yet"),
        ("open", None, "missing or unreadable"),
        ("open", "garbage", "missing or unreadable"),
        ("high", float("inf"), "not a finite number"),
        ("low", 0.0, "price is not positive"),
        ("close", -3.0, "price is not positive"),
        ("volume", -1.0, "volume is negative"),
        ("high", 101.0, "open, high, low and close contradict each other"),
        ("low", 101.5, "open, high, low and close contradict each other"),
    ],
)
def test_faulty_row_is_refused_with_its_reason_and_the_others_stay(column: str, value: Any, reason: str) -> None:
    split = split_valid(with_fault(column, value), Timeframe.M5, NOW)
    assert split.bad["reason"].tolist() == [reason]
    assert len(split.good) == 4


def test_refused_row_keeps_the_values_as_received() -> None:
    bad = split_valid(with_fault("open", "garbage"), Timeframe.M5, NOW).bad
    assert bad["open"].tolist() == ["garbage"]


def test_numbers_and_times_as_text_are_read() -> None:
    split = split_valid(candles(5).astype(str), Timeframe.M5, NOW)
    pd.testing.assert_frame_equal(split.good, candles(5))


def test_identical_duplicates_become_one_row() -> None:
    split = split_valid(pd.concat([candles(5), candles(3)]), Timeframe.M5, NOW)
    pd.testing.assert_frame_equal(split.good, candles(5))
    assert split.bad.empty


def test_of_conflicting_duplicates_the_last_is_kept_and_the_other_refused() -> None:
    corrected = candles(5).iloc[[2]].assign(close=102.5)
    split = split_valid(pd.concat([candles(5), corrected]), Timeframe.M5, NOW)
    assert split.good["close"].tolist() == [100.0, 101.0, 102.5, 103.0, 104.0]
    assert split.bad[["close", "reason"]].values.tolist() == [[102.0, "replaced by a later row of the same time"]]


def test_a_faulty_duplicate_does_not_replace_a_sound_row() -> None:
    faulty = candles(5).iloc[[2]].assign(close=-1.0)
    split = split_valid(pd.concat([candles(5), faulty]), Timeframe.M5, NOW)
    pd.testing.assert_frame_equal(split.good, candles(5))
    assert split.bad["reason"].tolist() == ["price is not positive"]


def test_forming_bar_is_refused_until_the_instant_of_its_close() -> None:
    frame = candles(3)
    close = START + timedelta(minutes=15)
    assert len(split_valid(frame, Timeframe.M5, close - timedelta(seconds=1)).good) == 2
    assert len(split_valid(frame, Timeframe.M5, close).good) == 3


def test_real_extremes_are_no_faults() -> None:
    frame = candles(2)
    frame.loc[1, ["high", "close", "volume"]] = [500.0, 492.0, 0.0]
    assert len(split_valid(frame, Timeframe.M5, NOW).good) == 2


def test_empty_frame_splits_into_two_empty_frames() -> None:
    split = split_valid(empty_candles(), Timeframe.M5, NOW)
    assert split.good.empty
    assert split.bad.empty


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(-2, 12),
            st.sampled_from([0, 0, 0, 1]),
            *[st.sampled_from([1.0, 2.0, 3.0, -1.0, float("nan"), float("inf")])] * 5,
        ),
        max_size=20,
    )
)
def test_every_row_is_stored_refused_or_a_twin_and_the_stored_ones_fit_the_schema(
    rows: list[tuple[Any, ...]],
) -> None:
    frame = pd.DataFrame(rows, columns=["bar", "shift", "open", "high", "low", "close", "volume"])
    minutes = frame["bar"] * 5 + frame["shift"]
    frame["ts"] = pd.Series([START + timedelta(minutes=float(m)) for m in minutes], dtype=empty_candles()["ts"].dtype)
    split = split_valid(frame, Timeframe.M5, START + timedelta(minutes=50))
    candle_schema(Timeframe.M5).validate(split.good)
    kept = pd.concat([split.good, split.bad.drop(columns="reason")])
    twins = frame[list(split.good.columns)].drop_duplicates()
    assert len(split.good) + len(split.bad) <= len(frame)
    assert len(kept.astype(object).drop_duplicates()) == len(twins)


def test_bars_add_up_to_longer_ones_and_an_empty_bucket_does_not_exist() -> None:
    frame = candles(9).drop(index=[3, 4, 5])
    added = aggregate(frame, Timeframe.M15)
    assert added["ts"].tolist() == [pd.Timestamp(START), pd.Timestamp(START + timedelta(minutes=30))]
    assert added.iloc[1, 1:].tolist() == [105.0, 110.0, 104.0, 108.0, 9.0]
