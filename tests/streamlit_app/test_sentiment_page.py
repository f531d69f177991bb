"""The sentiment page: all coins, one coin with its texts, turns, and text from outside as text."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from page_driver import OpenPage, cards, table_with, text_of
from seed_sentiment import HOSTILE, seed_sentiment

from trading_pipelines.store.connection import connect


@pytest.fixture
def spoken(filled_database: str) -> None:
    """Texts about two coins."""
    with connect(filled_database) as connection:
        seed_sentiment(connection, datetime.now(UTC))


@pytest.mark.usefixtures("spoken")
def test_coins_are_listed_by_how_much_is_said_and_the_market_stands_above(open_page: OpenPage) -> None:
    app = open_page("sentiment")

    assert not app.exception
    assert not app.error
    table = table_with(app, "coin", "score", "mentions")
    assert table["coin"].tolist() == ["BTC", "ETH"]
    assert cards(app)["Coins spoken of"] == "2"
    assert cards(app)["Market"] != "–"
    assert "lexicon" in text_of(app)


@pytest.mark.usefixtures("spoken")
def test_one_coin_has_its_history_and_the_texts_behind_it(open_page: OpenPage) -> None:
    app = open_page("sentiment", sentiment_view="One coin")

    app.selectbox(key="sentiment_coin").set_value("BTC").run()

    assert not app.exception
    figure = app.get("plotly_chart")[0].proto.spec
    assert "Unusually bad" in figure
    texts = table_with(app, "title", "score", "repeated")
    assert HOSTILE in texts["title"].tolist()
    assert texts["score"].min() < 0 < texts["score"].max()


@pytest.mark.usefixtures("spoken")
def test_turns_are_listed(open_page: OpenPage) -> None:
    table = table_with(open_page("sentiment", sentiment_view="Turns"), "coin", "change")

    assert "BTC" in table["coin"].tolist()
    assert table["change"].iloc[0] < -0.3


@pytest.mark.usefixtures("spoken")
def test_texts_of_a_coin_without_scores_are_shown_as_such(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("delete from text_scores")

    app = open_page("sentiment", sentiment_view="One coin")

    assert not app.exception
    assert set(table_with(app, "title", "scorer")["scorer"]) == {"not scored"}


@pytest.mark.parametrize("view", ["All coins", "One coin", "Turns"])
def test_every_empty_view_says_what_will_fill_it(open_empty_page: OpenPage, view: str) -> None:
    written = text_of(open_empty_page("sentiment", sentiment_view=view))

    assert "yet" in written
    assert "trading up" in written


def test_page_without_a_database_names_the_command(open_page_without_database: OpenPage) -> None:
    app = open_page_without_database("sentiment")

    assert not app.exception
    assert [block.value for block in app.code] == ["trading db start"]
