"""The scores page: the ranking, one score taken apart, and what is missing."""

from collections.abc import Callable

from page_driver import OpenPage, cards, table_with, text_of


def test_scores_are_ranked_with_their_factors_and_what_is_missing(open_page: OpenPage) -> None:
    app = open_page("scores")

    table = table_with(app, "score", "agree", "missing")
    assert table["symbol"].tolist()[0] == "BTCUSDT"
    assert table["symbol"].tolist()[-1] == "SOLUSDT"
    assert table["agree"].iloc[0] == "4 of 4"
    assert set(table["missing"]) == {"sentiment", "technical, sentiment, momentum"}
    assert {name: cards(app)[name] for name in ("Strong", "To avoid", "Without a score")} == {
        "Strong": "1",
        "To avoid": "1",
        "Without a score": "1",
    }


def test_a_score_is_taken_apart_into_points_inputs_and_words(open_page: OpenPage) -> None:
    app = open_page("scores")

    written = text_of(app).replace("\\", "")
    assert "90.0 of 100, strong" in written
    assert "left out, missing or too old: sentiment" in written
    inputs = table_with(app, "raw", "mapped", "age_minutes")
    assert len(inputs) == 12
    assert inputs.set_index("name").loc["fear_greed", "mapped"] == 0.8


def test_another_symbol_can_be_chosen(open_page: OpenPage) -> None:
    app = open_page("scores")

    app.selectbox(key="score_symbol").select("SOLUSDT").run()

    assert not app.exception
    assert "no score: only 30% of the weights are known" in text_of(app).replace("\\", "")


def test_without_scores_the_page_says_where_they_come_from(open_empty_page: OpenPage) -> None:
    assert "No scores yet" in text_of(open_empty_page("scores"))


def test_a_signal_shows_the_factors_of_its_score(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change('update signals set factors = \'{"score": 75.0, "score_technical": 0.6, "score_momentum": -0.2}\'')

    app = open_page("signals")

    assert not app.exception
    assert "Composite score 75.0" in text_of(app)
