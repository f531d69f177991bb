"""Comparison of two drivers: equal is equal, and the first difference is named with both versions."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.parity import DecisionRecord, FillRecord, Records, compare, on_grid

T0 = datetime(2025, 1, 1, tzinfo=UTC)
BAR = Timeframe.M15.delta
PASSED = "all gates passed"


def decision(bar: int, symbol: str = "AUSDT", outcome: str = "SIGNAL", reason: str = PASSED) -> DecisionRecord:
    taken = outcome == "SIGNAL"
    return DecisionRecord(T0 + bar * BAR, symbol, "model_signals", outcome, "LONG", reason, Decimal("0.6"), taken)


def fill(bar: int, symbol: str = "AUSDT", kind: str = "ENTRY", quantity: str = "1.5") -> FillRecord:
    return FillRecord(T0 + bar * BAR, symbol, kind, "BUY", Decimal(quantity), Decimal("100.5"))


def records(*parts: DecisionRecord | FillRecord) -> Records:
    return Records.of(
        Timeframe.M15,
        [p for p in parts if isinstance(p, DecisionRecord)],
        [p for p in parts if isinstance(p, FillRecord)],
    )


def test_same_records_in_any_order_are_equal_with_equal_fingerprints() -> None:
    parts = [decision(0), decision(0, "BUSDT"), decision(1, outcome="REJECTED", reason="cooldown_minutes"), fill(1)]
    first, second = records(*parts), records(*reversed(parts))
    assert compare(first, second) is None
    assert first.fingerprint == second.fingerprint


def test_earliest_difference_is_named_with_both_versions_and_the_field() -> None:
    first = records(decision(0), decision(3), fill(1), fill(4))
    other = replace(decision(3), side="SHORT")
    second = records(decision(0), other, fill(1), fill(4, kind="EXIT"))
    found = compare(first, second)
    assert found is not None
    assert (found.what, found.at, found.symbol, found.field) == ("decision", T0 + 4 * BAR, "AUSDT", "side")
    assert (found.first, found.second) == (decision(3), other)
    assert str(found) == (
        "decision of AUSDT at 2025-01-01 01:00: side differs: "
        "model_signals SIGNAL LONG 0.6 (all gates passed, taken) | "
        "model_signals SIGNAL SHORT 0.6 (all gates passed, taken)"
    )
    assert found.as_json()["field"] == "side"


def test_decision_comes_before_the_fill_that_follows_from_it_at_the_same_moment() -> None:
    found = compare(records(decision(0), fill(1)), records(decision(0, outcome="REJECTED", reason="risk_reward")))
    assert found is not None
    assert (found.what, found.field) == ("decision", "outcome")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "STOP"}, "kind"),
        ({"side": "SELL"}, "side"),
        ({"quantity": Decimal("1.4")}, "quantity"),
        ({"reference_price": Decimal("100.4")}, "reference_price"),
    ],
)
def test_every_field_of_a_fill_counts(change: dict[str, object], field: str) -> None:
    found = compare(records(fill(1)), records(replace(fill(1), **change)))
    assert found is not None
    assert (found.what, found.field) == ("fill", field)


def test_of_several_differences_in_one_bar_the_first_is_named() -> None:
    kinds = ("TP1", "TP2", "TP3", "EXIT")
    found = compare(records(*(fill(1, kind=kind) for kind in kinds)), records(fill(1, kind="STOP")))
    assert found is not None
    assert (found.field, found.first, found.second) == ("kind", fill(1, kind="TP1"), fill(1, kind="STOP"))


def test_second_fill_in_a_bar_is_compared_with_the_second() -> None:
    found = compare(records(fill(1), fill(1, kind="STOP")), records(fill(1)))
    assert found is not None
    assert found.field == "missing"
    assert str(found) == "fill of AUSDT at 2025-01-01 00:15: only the first has it: STOP BUY 1.5 at 100.5"


def test_what_a_driver_does_not_know_differs_from_nothing() -> None:
    unknown = replace(decision(0), taken=None)
    assert compare(records(decision(0)), records(unknown)) is None


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [
        (0.30000000000000004, Decimal("0.1"), Decimal("0.3")),
        (Decimal("1200"), Decimal("100"), Decimal("1200")),
        (0.12345678949, Decimal(0), Decimal("0.12345679")),
        (31234.567891234, Decimal(0), Decimal("31234.568")),
    ],
)
def test_numbers_are_compared_on_the_grid_of_the_venue(value: float, step: Decimal, expected: Decimal) -> None:
    assert on_grid(value, step) == expected


parts = st.lists(
    st.builds(decision, st.integers(0, 9), st.sampled_from(["AUSDT", "BUSDT"]), st.sampled_from(["SIGNAL", "REJECTED"]))
    | st.builds(fill, st.integers(0, 9), st.sampled_from(["AUSDT", "BUSDT"]), st.sampled_from(["ENTRY", "STOP"])),
    max_size=12,
    unique_by=lambda p: (type(p), p.ts, p.symbol),
)


@given(parts, parts)
def test_no_divergence_means_equal_fingerprints_and_the_reverse(
    first: list[DecisionRecord | FillRecord], second: list[DecisionRecord | FillRecord]
) -> None:
    a, b = records(*first), records(*second)
    found, reverse = compare(a, b), compare(b, a)
    assert (found is None) == (reverse is None) == (a.fingerprint == b.fingerprint)
    if found is not None and reverse is not None:
        assert (found.first, found.second) == (reverse.second, reverse.first)
