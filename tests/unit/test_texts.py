"""Texts from outside: what is kept is plain, short and dated, in linear time."""

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.alternative.series import SERIES
from trading_pipelines.domain.alternative.texts import (
    TextKind,
    TextLimits,
    UnfitTextError,
    plain_text,
    text_item,
    web_address,
)

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PIECES = (
    *("<", ">", "</", "<!--", "-->", "<script", "<b>", "<svg>", "&lt;", "&amp;", "&#0;", "]]>"),
    *("a", " ", "é", "'", '"', "\u202e", "\x00", "\ud800"),
)
MARKUP = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@given(MARKUP)
def test_nothing_invisible_and_no_tag_of_the_source_is_left(received: str) -> None:
    kept = plain_text(received)
    assert kept == " ".join(kept.split())
    assert all(unicodedata.category(c)[0] != "C" or c in "\u200c\u200d" for c in kept)
    if "&" not in received:
        assert "<script" not in kept
        assert "<b>" not in kept


@given(st.text())
def test_plain_text_stays_what_it_is(text: str) -> None:
    kept = plain_text(text.replace("<", "").replace("&", ""))
    assert plain_text(kept) == kept


@pytest.mark.parametrize(
    "start", ["<a", "<!--", "</", "<?", "<a b='", "<svg></svg", "&#", "&lt;", "<![CDATA[", "<script>"]
)
def test_hostile_markup_takes_linear_time(start: str) -> None:
    """A parser that is quadratic here needs minutes, and the test's own time-out ends it."""
    kept = plain_text(start * (4_000_000 // len(start)))
    assert len(kept) <= 4_000_000


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://a.example/x?y=1#part", "https://a.example/x?y=1"),
        ("HTTP://a.example:8080", "HTTP://a.example:8080"),
        ("https://user:word@a.example/", None),
        ("javascript:alert(1)", None),
        ("//a.example/x", None),
        ("https://a.example/<script>", None),
        ('https://a.example/"onclick="x', None),
        ("https://a.example/\u202e", None),
        ("https://" + "a" * 3_000, None),
        ("", None),
        (None, None),
    ],
)
def test_only_addresses_of_the_web_are_kept(address: str | None, kept: str | None) -> None:
    assert web_address(address) == kept


@pytest.mark.parametrize(
    ("published_at", "reason"),
    [
        (NOON + timedelta(minutes=16), "in the future"),
        (datetime(2008, 12, 31, tzinfo=UTC), "before there were coins"),
        (None, "no date"),
    ],
)
def test_impossible_date_is_refused(published_at: datetime | None, reason: str) -> None:
    with pytest.raises(UnfitTextError, match=reason):
        text_item("paper", "1", TextKind.NEWS, "Title", "", None, None, published_at, NOON)


def test_limits_are_settings_and_hold_after_the_markup_is_gone() -> None:
    limits = TextLimits(title_characters=50, body_characters=100)
    kept = text_item("p", "1", TextKind.POST, "<b>" * 100 + "x" * 50, "y" * 200, None, None, NOON, NOON, limits)
    assert (len(kept.title), len(kept.body)) == (50, 100)
    with pytest.raises(UnfitTextError, match="longer than 50"):
        text_item("p", "1", TextKind.POST, "x" * 51, "", None, None, NOON, NOON, limits)


def test_value_that_still_counts_is_known_since_it_was_fetched_and_an_old_one_since_it_was_published() -> None:
    fear = SERIES["fear_greed"]
    assert fear.dated(NOON - timedelta(hours=30), NOON) == NOON
    old = NOON - timedelta(days=9)
    assert fear.dated(old, NOON) == fear.known_at(old) == old + timedelta(hours=1)


@given(st.timedeltas(timedelta(0), timedelta(days=400)))
def test_no_dating_makes_a_value_count_earlier_than_it_could_have(age: timedelta) -> None:
    for series in SERIES.values():
        ts = NOON - series.period - age
        assert series.dated(ts, NOON) >= min(series.known_at(ts), NOON)
        assert series.dated(ts, NOON) <= max(NOON, series.known_at(ts))
