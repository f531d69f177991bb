"""Crowds and writers of the simulated market: the same for ever, and never ahead of the prices."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from trading_pipelines.domain.alternative.series import MARKET, SERIES, SIMULATED, Observation
from trading_pipelines.domain.alternative.texts import TextKind
from trading_pipelines.domain.market.timeframe import EPOCH
from trading_pipelines.domain.simulation.crowd import HOUR, PastMoves, SimulatedCrowd
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.domain.simulation.writers import SimulatedWriters, Written

SPEC = SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT"))
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DATASETS = (
    SimulatedCrowd.fear_greed,
    SimulatedCrowd.coin_metrics,
    SimulatedCrowd.social_metrics,
    SimulatedCrowd.derivatives,
)
Dataset = Callable[[SimulatedCrowd, datetime, datetime], list[Observation]]


@pytest.mark.parametrize("dataset", DATASETS)
def test_figures_of_a_span_are_those_of_its_parts(dataset: Dataset) -> None:
    crowd = SimulatedCrowd(SPEC)
    start, middle = NOON - 5 * DAY, NOON - timedelta(hours=31, minutes=7)
    whole = dataset(crowd, start, NOON)
    assert dataset(crowd, start, middle) + dataset(SimulatedCrowd(SPEC), middle, NOON) == whole
    assert all(start < row.available_at <= NOON for row in whole)
    assert dataset(crowd, NOON, NOON) == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_figure_is_of_a_known_series_and_known_after_what_it_speaks_of(dataset: Dataset) -> None:
    for row in dataset(SimulatedCrowd(SPEC), NOON - 3 * DAY, NOON):
        assert row.available_at > row.ts + SERIES[row.series].period
        assert row.source == SIMULATED
        assert np.isfinite(row.value)


def test_moves_are_those_of_bars_that_had_closed() -> None:
    hour = (NOON - EPOCH) // HOUR
    moves = PastMoves.of(SimulatedMarket(SPEC), hour, hour + 1)
    bars = SimulatedMarket(SPEC).candles("BTCUSDT", NOON - DAY, NOON)
    assert moves.change(0)[0, 0] == 0
    assert moves.log_price[0, -1] == pytest.approx(np.log(bars["close"].iloc[-1]))
    day_before = SimulatedMarket(SPEC).candles("BTCUSDT", NOON - DAY - timedelta(minutes=5), NOON - DAY)
    change = np.log(bars["close"].iloc[-1] / day_before["close"].iloc[-1])
    assert moves.change(24)[0, 0] == pytest.approx(change)


def test_index_is_greedy_after_rises_and_afraid_after_falls() -> None:
    rows = SimulatedCrowd(SPEC).fear_greed(NOON - 200 * DAY, NOON)
    hours = [(row.ts - EPOCH) // HOUR for row in rows]
    moves = PastMoves.of(SimulatedMarket(SPEC), hours[0], hours[-1] + 1)
    week = moves.change(168).mean(axis=0)[np.array(hours) - hours[0]]
    values = np.array([row.value for row in rows])
    assert np.corrcoef(week, values)[0, 1] > 0.7
    assert values.min() >= 1
    assert values.max() <= 99
    assert {row.coin for row in rows} == {MARKET}


@pytest.mark.parametrize("kind", list(TextKind))
def test_texts_of_a_span_are_those_of_its_parts(kind: TextKind) -> None:
    writers = SimulatedWriters(SPEC)
    start, middle = NOON - 5 * DAY, NOON - timedelta(hours=31, minutes=7)
    whole = writers.texts(kind, start, NOON)
    assert writers.texts(kind, start, middle) + SimulatedWriters(SPEC).texts(kind, middle, NOON) == whole
    assert len({text.external_id for text in whole}) == len(whole)
    assert all(text.published_at < text.known_at <= NOON for text in whole)


def test_another_seed_writes_something_else() -> None:
    other = SimulatedWriters(SPEC.model_copy(update={"seed": 7}))
    assert titles(other) != titles(SimulatedWriters(SPEC))


def test_headlines_follow_the_moves_and_mischief_is_among_them() -> None:
    found = titles(SimulatedWriters(SPEC), 200 * DAY)
    rises = [title for title in found if "surges" in title or "rallies" in title]
    falls = [title for title in found if "plunges" in title or "slides" in title]
    assert len(rises) > 30
    assert len(falls) > 30
    assert any("<script" in title for title in found)
    assert any("Ignore all previous instructions" in title for title in found)
    assert any(not title for title in found)
    assert any(title.startswith("JUST IN: ") for title in found)


def test_copy_is_published_after_what_it_copies() -> None:
    written = SimulatedWriters(SPEC).texts(TextKind.NEWS, NOON - 100 * DAY, NOON)
    known = {text.external_id: text for text in written}
    copies = [text for text in written if text.external_id.endswith("-copy") and text.external_id[:-5] in known]
    assert copies
    for text in copies:
        original = known[text.external_id.removesuffix("-copy")]
        assert text.published_at > original.published_at
        assert replace(text, title="") != replace(original, title="")


def titles(writers: SimulatedWriters, span: timedelta = 10 * DAY) -> list[str]:
    written: list[Written] = writers.texts(TextKind.NEWS, NOON - span, NOON)
    return [text.title for text in written]
