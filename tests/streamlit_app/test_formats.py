"""Numbers as traders read them."""

from datetime import UTC, datetime, timedelta

import formats
import pytest

NOW = datetime(2025, 3, 10, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64123.456, "64,123.46"),
        (3150.2, "3,150.20"),
        (146.5123, "146.51"),
        (13.87234, "13.872"),
        (5.12345, "5.1235"),
        (0.5231, "0.52310"),
        (0.00000912, "0.0000091200"),
        (0, "0.00"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_price_has_five_significant_digits(value: float | None, text: str) -> None:
    assert formats.price(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.3, "+12.30"), (-1234.5, "−1,234.50"), (0.001, "0.00"), (-0.001, "0.00"), (None, "–")]
)
def test_money_has_a_sign_unless_it_rounds_to_zero(value: float | None, text: str) -> None:
    assert formats.money(value) == text


@pytest.mark.parametrize(("value", "text"), [(3.2, "−3.20"), (-3.2, "+3.20"), (0, "0.00"), (None, "–")])
def test_cost_is_a_loss_and_a_receipt_is_a_gain(value: float | None, text: str) -> None:
    assert formats.cost(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0123, "+1.23%"), (-0.5, "−50.00%"), (float("inf"), "–")])
def test_percent_of_a_fraction(value: float, text: str) -> None:
    assert formats.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5"), (0.00123456, "0.001235"), (12345.6, "12,346"), (0, "0"), (100.0, "100")]
)
def test_quantity_has_no_trailing_zeros(value: float, text: str) -> None:
    assert formats.quantity(value) == text


@pytest.mark.parametrize(("value", "text"), [(950, "950"), (1_250, "1.25K"), (98_300_000, "98.3M"), (2e9, "2.00B")])
def test_large_numbers_are_compact(value: float, text: str) -> None:
    assert formats.compact(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (75, "1 min"), (3_700, "1 h 01 min"), (90_000, "1 d 1 h"), (None, "–")]
)
def test_duration_has_its_two_largest_units(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


def test_moment_names_its_zone() -> None:
    assert formats.moment_utc(NOW) == "2025-03-10 12:00 UTC"
    assert formats.ago(NOW - timedelta(minutes=7), NOW) == "7 min ago"


def test_unknown_key_is_written_in_words() -> None:
    assert formats.words("HIT_SL") == "Stopped"
    assert formats.words("max_open_positions") == "Max open positions"


def test_literal_text_keeps_its_letters_under_markdown() -> None:
    assert formats.literal("a_b *c* [d](e) <i> `f` $g$") == r"a\_b \*c\* \[d\]\(e\) \<i\> \`f\` \$g\$"
    assert "\n" not in formats.literal("one\ntwo")


def test_keys_read_as_names_with_the_capitals_of_the_field() -> None:
    assert formats.name("ema_50_distance") == "EMA 50 distance"
    assert formats.name("btc_correlation_96") == "BTC correlation 96"
    assert formats.name("exchange_netflow_usd") == "Exchange netflow USD"
    assert formats.name("net_profit") == "Net profit"
    assert formats.words("net_profit") == "Net profit too small"


@pytest.mark.parametrize(
    ("gate", "value", "text"),
    [
        ("model", 1.0, "yes"),
        ("setup", 0.0, "no"),
        ("proposal", -1.0, "▼ Short"),
        ("direction", 1.0, "▲ Long"),
        ("proposal", 0.0, "none"),
        ("net_profit", 0.021, "2.10%"),
        ("consensus", 3.0, "3"),
        ("atr_ratio", 3.4567, "3.457"),
        ("setup", None, "–"),
    ],
)
def test_gate_is_written_in_its_own_unit(gate: str, value: float | None, text: str) -> None:
    assert formats.gate_number(gate, value) == text


def test_figures_are_written_as_large_or_small_as_they_are() -> None:
    assert formats.published(0.0001234) == "0.0001234"
    assert formats.published(6_600_000.0) == "6.60M"
    assert formats.published(44.0) == "44"
    assert formats.published(None) == "–"


def test_details_of_a_service_are_pairs_without_what_is_empty() -> None:
    assert formats.details('{"p50_ms": 0.8, "lost": null, "sessions": ["paper", "swing"]}') == (
        "p50 ms 0.8, sessions paper and swing"
    )
    assert formats.details("no json") == "–"


def test_fear_and_greed_has_the_words_of_its_publisher() -> None:
    said = [formats.fear_greed(value) for value in (24, 25, 46, 47, 54, 55, 75, 76)]

    assert said == ["extreme fear", "fear", "fear", "neutral", "neutral", "greed", "greed", "extreme greed"]
