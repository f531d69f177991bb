"""`trading sentiment`: reading one text, bringing a market up to date, showing what came of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from command_line import Outcome, Run

from trading_pipelines.domain.alternative.series import SIMULATED
from trading_pipelines.domain.alternative.texts import TextItem, TextKind
from trading_pipelines.store.connection import connect
from trading_pipelines.store.repositories import texts


def test_text_is_read_without_a_database(run: Run) -> None:
    told = run("sentiment", "score", "Bitcoin crashes after the hack of a NEAR/USDT pool", "--json").json

    assert told["language"] == "en"
    assert set(told["coins"]) == {"BTC", "NEAR"}
    assert told["answer"]["score"] < 0
    assert told["scorer"].startswith("lexicon")


def test_text_in_another_language_has_no_score_and_says_what_to_set(run: Run) -> None:
    told = run("sentiment", "score", "El precio de bitcoin cae un cinco por ciento tras las noticias")

    assert told.code == 0
    assert "TRADING_SENTIMENT__MULTILINGUAL__MODEL" in told.out


def test_text_without_anything_readable_is_an_error_of_one_line(run: Run) -> None:
    told = run("sentiment", "score", "\u200b")

    assert told.code == 2
    assert "nothing readable" in told.err


def test_language_model_that_is_not_named_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_SENTIMENT__SCORER", "llm")

    told = run("sentiment", "score", "Bitcoin falls")

    assert told.code == 2
    assert "TRADING_SENTIMENT__LLM__BASE_URL" in told.err


@pytest.fixture
def told(on_database: str, run: Run) -> Callable[..., Outcome]:
    """Run a command of the group on a database with a text."""
    published = datetime.now(UTC) - timedelta(hours=2)
    item = TextItem(
        SIMULATED, "1", TextKind.NEWS, "Bitcoin soars to a record high", "", None, None, published, published
    )
    with connect(on_database) as connection:
        texts.add(connection, [item])
    return lambda *arguments: run("sentiment", *arguments)


def test_update_reads_and_show_tells(told: Callable[..., Outcome]) -> None:
    assert told("update", "--json").json["scored"] == 1
    assert told("update", "--json").json["scored"] == 0

    rows = told("show", "--json").json["sentiment"]
    assert {row["coin"] for row in rows} == {"BTC", "MARKET"}
    one = told("show", "btc")
    assert "record high" in one.out
    assert told("show", "BTC", "--json").json["texts"][0]["score"] > 0


def test_coin_that_nobody_speaks_of_is_named_with_those_that_there_are(told: Callable[..., Outcome]) -> None:
    told("update")

    outcome = told("show", "DOGE")

    assert outcome.code == 2
    assert "BTC, MARKET" in outcome.err
