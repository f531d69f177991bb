"""One collection of one source: what is new is stored once, what is unfit is kept apart, a failure stops nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError, Refused
from trading_pipelines.adapters.alternative.factory import open_dataset
from trading_pipelines.adapters.alternative.simulated.indices import DATASETS as INDICES
from trading_pipelines.adapters.alternative.simulated.texts import DATASETS as TEXTS
from trading_pipelines.adapters.http import UnusableAnswerError
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.application.alternative.alternative_data import collect, collect_newest
from trading_pipelines.domain.alternative.series import MARKET, Observation
from trading_pipelines.domain.alternative.texts import TextItem, TextKind
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection

TABLES = {
    "news": {"texts": "available_at"},
    "posts": {"texts": "available_at"},
    "whale_transactions": {"whale_transactions": "available_at"},
    "exchange_flows": {"exchange_flows": "available_at"},
    "prediction_odds": {"prediction_odds": "available_at", "prediction_markets": "last_seen_at"},
}
"""Where a dataset is stored and when its rows became known, where those are not observations."""
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
FEAR = Observation("fear_greed", MARKET, "test", NOON - HOUR, NOON, 41.0)
NEWS = TextItem("test", "1", TextKind.NEWS, "Title", "", None, None, NOON - HOUR, NOON)


class Answering:
    """A source with prepared answers, the last one again and again; it remembers what it was asked for."""

    def __init__(self, *answers: Delivery[Any] | Exception, name: str = "test") -> None:
        self.name = name
        self._answers = list(answers)
        self.asked: list[tuple[datetime, datetime]] = []

    def fetch(self, since: datetime, until: datetime) -> Delivery[Any]:
        self.asked.append((since, until))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def state(connection: Connection, source: str = "test") -> tuple[Any, ...]:
    row = connection.execute(
        "select status, detail, consecutive_failures, items, quarantined, last_success_at, newest_item_at "
        "from source_states where source = %s",
        (source,),
    ).fetchone()
    assert row is not None
    return row


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}").fetchone()  # type: ignore[arg-type]  # one of ours
    assert row is not None
    return row[0]


def test_items_of_each_type_are_stored_once_however_often_they_are_fetched(connection: Connection) -> None:
    source = Answering(Delivery((FEAR, NEWS), (Refused("2", "has no title", "<item/>"),)))
    first = collect(connection, source, NOON - HOUR, NOON)
    again = collect(connection, source, NOON - HOUR, NOON)
    assert (first.status, first.received, first.new, first.refused) == ("OK", 2, 2, 1)
    assert (again.received, again.new, again.refused) == (2, 0, 0)
    assert [count(connection, table) for table in ("observations", "texts", "quarantined_items")] == [1, 1, 1]
    assert state(connection) == ("OK", "", 0, 2, 1, NOON, NOON - HOUR)


def test_text_that_its_source_rewrites_keeps_the_words_with_which_it_became_known(connection: Connection) -> None:
    later = replace(NEWS, title="Corrected", available_at=NOON + HOUR)
    source = Answering(Delivery((NEWS,)), Delivery((later,)))
    collect(connection, source, NOON - HOUR, NOON)
    collect(connection, source, NOON, NOON + HOUR)
    assert connection.execute("select title, available_at from texts").fetchall() == [("Title", NOON)]


def test_failures_are_counted_until_the_source_answers_again(connection: Connection) -> None:
    source = Answering(SourceError("no answer"), SourceError("still none"), Delivery((FEAR,)))
    collect(connection, source, NOON - HOUR, NOON)
    failed = collect(connection, source, NOON - HOUR, NOON)
    assert (failed.status, failed.detail) == ("FAILING", "still none")
    assert state(connection) == ("FAILING", "still none", 2, 0, 0, None, None)
    collect(connection, source, NOON - HOUR, NOON)
    assert state(connection)[:3] == ("OK", "", 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(NEWS, external_id="a\0b"), "NUL"),
        (replace(NEWS, external_id="3", title="half \ud83d"), "surrogates not allowed"),
        (replace(FEAR, value=float("nan")), "violates check constraint"),
        (replace(FEAR, value=float("inf"), ts=NOON), "violates check constraint"),
        (replace(FEAR, coin=None), "violates not-null constraint"),  # type: ignore[arg-type]  # what a mistake makes
    ],
)
def test_item_that_the_database_does_not_take_is_quarantined_and_the_rest_goes_on(
    connection: Connection, bad: Observation | TextItem, reason: str
) -> None:
    others = [replace(FEAR, ts=NOON - n * HOUR, available_at=NOON) for n in range(1, 6)]
    source = Answering(Delivery((*others[:3], NEWS, bad, *others[3:])))
    report = collect(connection, source, NOON - HOUR, NOON)
    assert (report.status, report.new, report.refused) == ("OK", 6, 1)
    assert [count(connection, table) for table in ("observations", "texts")] == [5, 1]
    ((kept,),) = connection.execute("select reason from quarantined_items").fetchall()
    assert kept.startswith("cannot be stored: ")
    assert reason in kept


def test_answer_that_says_nothing_is_kept_as_it_came(connection: Connection) -> None:
    source = Answering(UnusableAnswerError("test answers with an error: busy", {"error": "busy\0"}))
    reports = [collect(connection, source, NOON - HOUR, NOON) for _ in range(2)]
    assert [(r.status, r.refused) for r in reports] == [("FAILING", 1), ("FAILING", 0)]
    kept = connection.execute("select source, item, reason, payload from quarantined_items").fetchall()
    assert kept == [("test", "the whole answer", "test answers with an error: busy", '{"error": "busy\\u0000"}')]
    assert state(connection)[:5] == ("FAILING", "test answers with an error: busy", 2, 0, 1)


def test_source_without_its_key_is_not_configured_and_not_failing(connection: Connection) -> None:
    report = collect(connection, Answering(NotConfiguredError("set TRADING_X")), NOON - HOUR, NOON)
    assert (report.status, report.detail) == ("NOT_CONFIGURED", "set TRADING_X")
    assert state(connection)[:3] == ("NOT_CONFIGURED", "set TRADING_X", 0)


@pytest.mark.parametrize("bug", [KeyError("data"), TypeError("NoneType"), RecursionError()])
def test_answer_of_another_shape_is_a_failure_of_the_source(connection: Connection, bug: Exception) -> None:
    report = collect(connection, Answering(bug), NOON - HOUR, NOON)
    assert report.status == "FAILING"
    assert "another shape" in report.detail


def test_one_failing_source_does_not_keep_the_others_from_being_asked(connection: Connection) -> None:
    sources = [Answering(SourceError("down"), name="a"), Answering(Delivery((FEAR,)), name="b")]
    reports = collect_newest(connection, sources, NOON)
    assert [(r.source, r.status, r.new) for r in reports] == [("a", "FAILING", 0), ("b", "OK", 1)]


def test_source_is_asked_from_a_little_before_its_last_answer(connection: Connection) -> None:
    source = Answering(Delivery((FEAR,)))
    collect_newest(connection, [source], NOON)
    collect_newest(connection, [source], NOON + HOUR)
    assert source.asked == [(NOON - timedelta(days=2), NOON), (NOON - timedelta(hours=6), NOON + HOUR)]


def test_hostile_payload_of_a_refused_item_is_stored_cut_and_without_what_the_database_cannot_hold(
    connection: Connection,
) -> None:
    payload = "<script>\x00\ud800" + "A" * 1_000_000
    source = Answering(Delivery((), (Refused("x" * 5_000, "no title", payload),)))
    assert collect(connection, source, NOON - HOUR, NOON).refused == 1
    assert collect(connection, source, NOON - HOUR, NOON).refused == 0
    kept = connection.execute("select length(item), length(payload), left(payload, 9) from quarantined_items")
    assert kept.fetchone() == (2_000, 2_000, "<script>\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("dataset", [*INDICES, *TEXTS])
def test_simulated_source_fills_the_database_in_any_number_of_steps_alike(connection: Connection, dataset: str) -> None:
    (source,) = open_dataset(load_settings(symbols=("BTCUSDT", "ETHUSDT")), dataset)
    start, middle = NOON - timedelta(days=3), NOON - timedelta(hours=20)
    steps = collect(connection, source, start, middle).new + collect(connection, source, middle, NOON).new
    whole = collect(connection, source, start, NOON)
    assert steps > 0
    assert (whole.received, whole.new) == (steps, 0)
    stored = [
        connection.execute(
            f"select count(*), count(*) filter (where source = 'simulated' and {known} <= %s) from {table}",  # type: ignore[arg-type]  # one of ours
            (NOON,),
        ).fetchone()
        for table, known in TABLES.get(dataset, {"observations": "available_at"}).items()
    ]
    assert sum(row[0] for row in stored if row) == steps
    assert sum(row[1] for row in stored if row) == steps
