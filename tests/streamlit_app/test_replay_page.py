"""Stepping through a session: the chosen bar, its events, its gates, and what is kept back."""

from collections.abc import Callable
from datetime import datetime

from page_driver import OpenPage, cards, table_with, text_of
from streamlit.testing.v1 import AppTest


def chosen(app: AppTest) -> str:
    return next(heading.value for heading in app.subheader if " to " in heading.value)


def button(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def test_last_bar_with_an_event_is_shown_with_what_happened_and_was_decided(open_page: OpenPage) -> None:
    app = open_page("replay", session="replay-spring")

    assert not app.exception
    assert chosen(app).endswith("UTC")
    assert len(table_with(app, "at", "what", "more")) >= 1
    assert len(table_with(app, "gate", "verdict")) >= 1
    assert {"Close", "EMA 20", "Held at the close", "Equity, USDT"} <= set(cards(app))
    assert len(app.get("plotly_chart")) == 1


def test_buttons_step_by_bar_and_to_the_next_event(open_page: OpenPage) -> None:
    app = open_page("replay", session="replay-spring")
    start = chosen(app)

    app = button(app, "replay_bar_back")
    before = chosen(app)
    assert before < start
    app = button(app, "replay_bar_on")
    assert chosen(app) == start
    assert app.button(key="replay_event_on").disabled
    app = button(app, "replay_event_back")
    assert chosen(app) < start
    assert len(table_with(app, "at", "what", "more")) >= 1


def test_slider_chooses_a_bar(open_page: OpenPage) -> None:
    app = open_page("replay", session="replay-spring")
    slider = app.select_slider(key="replay_bar")
    first = datetime.fromisoformat(f"{slider.options[0]}+00:00")

    app = slider.set_value(first).run()

    assert not app.exception
    assert chosen(app).startswith(f"{first:%Y-%m-%d %H:%M}")
    assert app.button(key="replay_bar_back").disabled


def test_what_came_later_is_kept_back_until_it_is_asked_for(open_page: OpenPage) -> None:
    app = open_page("replay", session="replay-spring")
    app = button(app, "replay_event_back")
    hidden = len(app.get("plotly_chart")[0].proto.spec)

    app = app.toggle(key="replay_later").set_value(True).run()

    assert len(app.get("plotly_chart")[0].proto.spec) > hidden


def test_bar_at_which_nothing_was_done_says_so(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("truncate decisions cascade")

    app = open_page("replay", session="replay-spring")

    assert "Nothing was decided at this bar" in text_of(app)
    assert "No order, fill or signal at this bar" in text_of(app)
    assert app.button(key="replay_event_back").disabled
