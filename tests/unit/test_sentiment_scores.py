"""Words into scores, scores into a sentiment, a turn into an alert."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_pipelines.domain.sentiment.aggregate import (
    AggregationSpec,
    Scored,
    Sentiment,
    aggregate,
    as_time,
    thresholds,
)
from trading_pipelines.domain.sentiment.alerts import SentimentAlertSpec, find_turn
from trading_pipelines.domain.sentiment.lexicon import WORDS, score_text
from trading_pipelines.domain.sentiment.score import Score

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = AggregationSpec()


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Bitcoin soars to a record high as inflows grow", 1),
        ("Exchange hacked, 40 million stolen, token crashes", -1),
        ("The outlook is not bullish", -1),
        ("No sign of a crash", 1),
        ("It isn't a scam", 1),
        ("Bitcoin fell all week but rallies today", 1),
        ("Rug pull: developers drained the pool", -1),
        ("🚀🚀🚀", 1),
        ("The conference begins on Thursday", 0),
        ("", 0),
        ("see https://moon.example/scam", 0),
    ],
)
def test_text_leans_as_a_reader_would_say(text: str, sign: int) -> None:
    assert np.sign(score_text(text).score) == sign


def test_stronger_words_and_more_of_them_weigh_more() -> None:
    assert score_text("Bitcoin rises").score < score_text("Bitcoin sharply rises").score
    assert score_text("Bitcoin rises").score < score_text("Bitcoin surges").score < score_text("surges, soars").score
    assert score_text("slightly bearish").score > score_text("bearish").score


def test_score_names_its_terms_and_a_phrase_counts_once() -> None:
    detail = score_text("Bitcoin sets an all-time high").detail

    assert detail == {"terms": {"all-time high": 3.0}}


def test_nothing_to_go_by_has_no_confidence() -> None:
    assert score_text("The conference begins").confidence == 0.0
    assert score_text("crash and scam and panic").confidence == 1.0


def test_no_word_is_good_and_bad() -> None:
    assert len(WORDS) > 400
    assert all(weight != 0 for weight in WORDS.values())


@given(st.text(max_size=400))
def test_any_text_has_a_score_within_bounds(text: str) -> None:
    found = score_text(text)

    assert -1 <= found.score <= 1
    assert 0 <= found.confidence <= 1


@pytest.mark.parametrize(("score", "confidence"), [(1.1, 0.5), (float("nan"), 0.5), (0.0, -0.1), (0.0, float("nan"))])
def test_score_out_of_range_cannot_be_made(score: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Score(score, confidence)


def texts(*rows: tuple[float, float], known_after: timedelta = timedelta(0), share: float = 1.0) -> Scored:
    """Texts by age at noon in hours and score, with full confidence."""
    published = np.array([as_time(NOON - age * HOUR) for age, _ in rows], dtype="datetime64[us]")
    ones = np.ones(len(rows))
    known = published + np.timedelta64(known_after)
    return Scored(published, known, np.array([score for _, score in rows], dtype=float), ones, ones * share)


def at_noon(scored: Scored, spec: AggregationSpec = SPEC) -> Sentiment:
    (found,) = aggregate(scored, [NOON], spec)
    return found


def test_single_text_is_pulled_towards_neutral() -> None:
    found = at_noon(texts((0, 1.0)))

    assert found.score == pytest.approx(1 / 3)
    assert (found.mentions, found.weight) == (1, 1.0)


def test_text_counts_half_at_its_half_life() -> None:
    found = at_noon(texts((8, 1.0), (0, -1.0)))

    assert found.score == pytest.approx((0.5 - 1.0) / (1.5 + 2.0))


def test_share_and_horizon_limit_what_counts() -> None:
    assert at_noon(texts((0, 1.0), share=0.5)).score == pytest.approx(0.5 / 2.5)
    assert at_noon(texts((30, 1.0))).mentions == 0
    assert aggregate(texts((49, 1.0)), [NOON], SPEC) == []


def test_text_counts_from_the_time_on_at_which_its_score_is_known() -> None:
    late = texts((1, 1.0), known_after=2 * HOUR)

    assert aggregate(late, [NOON], SPEC) == []
    assert len(aggregate(late, [NOON + HOUR], SPEC)) == 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 60), st.floats(-1, 1)), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_sentiment_is_bounded_and_does_not_depend_on_the_order_or_on_the_future(
    rows: list[tuple[float, float]], seed: int
) -> None:
    shuffled = list(rows)
    np.random.default_rng(seed).shuffle(shuffled)

    once = aggregate(texts(*rows), [NOON], SPEC)
    again = aggregate(texts(*map(tuple, shuffled), (-3, 1.0)), [NOON], SPEC)

    assert once == again
    assert all(-1 <= s.score <= 1 for s in once)


def test_grid_is_the_same_wherever_it_is_entered() -> None:
    whole = SPEC.grid(NOON, NOON + 2 * HOUR)

    assert whole == [NOON + n * timedelta(minutes=30) for n in range(1, 5)]
    assert SPEC.grid(NOON, NOON + HOUR) + SPEC.grid(NOON + HOUR, NOON + 2 * HOUR) == whole
    assert SPEC.grid(NOON + HOUR / 2 + timedelta(seconds=1), NOON + 2 * HOUR) == whole[1:4]


def test_thresholds_are_the_coins_own_once_it_has_a_history() -> None:
    assert thresholds(np.full(95, 0.5), SPEC) == (-0.2, 0.2)
    low, high = thresholds(np.linspace(0.0, 1.0, 101), SPEC)
    assert low == pytest.approx(0.0)
    assert high == pytest.approx(0.9)


def history(*scores: float, mentions: int = 5) -> list[Sentiment]:
    return [Sentiment(NOON + n * HOUR, score, mentions, 1.0) for n, score in enumerate(scores)]


def test_turn_within_four_hours_is_found_with_where_it_began() -> None:
    turn = find_turn(history(0.2, 0.4, 0.1, 0.0), SentimentAlertSpec())

    assert turn is not None
    assert (turn.before, turn.since, turn.change) == (0.4, NOON + HOUR, pytest.approx(-0.4))


@pytest.mark.parametrize(
    "values",
    [
        history(0.5, 0.4, 0.4, 0.3, 0.2),  # 0.3 is not more than 0.3
        history(0.9, 0.2, 0.2, 0.2, 0.2, 0.2),  # five hours ago
        history(0.9, 0.0, mentions=2),
        history(0.9),
        [],
    ],
)
def test_slow_small_or_lonely_turn_is_none(values: list[Sentiment]) -> None:
    assert find_turn(values, SentimentAlertSpec()) is None
