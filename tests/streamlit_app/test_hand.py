"""What a person asks for on a page becomes an instruction, once, and its outcome comes back."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_driver import OpenPage, table_with, text_of
from streamlit.testing.v1 import AppTest

from trading_pipelines.store.connection import connect


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody carries anything out here, so nobody waits long."""
    monkeypatch.setattr("hand._WAIT_S", 0.5)


def asked(database: str) -> list[tuple[Any, ...]]:
    with connect(database) as connection:
        return connection.execute(
            "select kind, arguments, requested_by, status from manual_instructions order by requested_at"
        ).fetchall()


def click(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def held(app: AppTest) -> dict[str, Any]:
    return dict(table_with(app, "mark_price", "protected").iloc[0])


def test_closing_asks_first_and_then_writes_one_instruction(open_page: OpenPage, filled_database: str) -> None:
    app = click(open_page("positions", session="paper"), "hand_change")
    assert asked(filled_database) == []

    click(app, "hand_confirm")
    click(app, "hand_confirm")

    assert not app.exception
    [(kind, arguments, by, status)] = asked(filled_database)
    assert (kind, arguments["share"], by, status) == ("CLOSE", 1.0, "dashboard", "PENDING")
    assert "is the fast service running" in app.warning[-1].value


def test_stop_is_asked_for_at_the_price_that_was_entered(open_page: OpenPage, filled_database: str) -> None:
    app = click(open_page("positions", session="paper"), "hand_change")
    app.segmented_control(key="hand_action").set_value("Move stop").run()
    app.number_input(key="hand_price").set_value(123.5).run()

    click(app, "hand_confirm")

    [(kind, arguments, _, _)] = asked(filled_database)
    assert (kind, arguments["price"]) == ("STOP", 123.5)


def test_target_is_asked_for_by_its_number(open_page: OpenPage, filled_database: str) -> None:
    app = click(open_page("positions", session="paper"), "hand_change")
    app.segmented_control(key="hand_action").set_value("Move target").run()
    app.segmented_control(key="hand_number").set_value(2).run()

    click(app, "hand_confirm")

    [(kind, arguments, _, _)] = asked(filled_database)
    assert (kind, arguments["number"]) == ("TARGET", 2)


def test_opening_names_symbol_side_and_size(open_page: OpenPage, filled_database: str) -> None:
    app = click(open_page("positions", session="paper"), "hand_open")
    app.segmented_control(key="hand_side").set_value("SHORT").run()
    app.slider(key="hand_size").set_value(50).run()

    click(app, "hand_confirm")

    [(kind, arguments, _, _)] = asked(filled_database)
    assert kind == "OPEN"
    assert arguments == {"symbol": "BTCUSDT", "side": "SHORT", "size": 0.5}


@pytest.mark.parametrize(("status", "shown"), [("DONE", "success"), ("REFUSED", "error")])
def test_outcome_is_shown_once_the_service_has_carried_it_out(
    open_page: OpenPage, filled_database: str, monkeypatch: pytest.MonkeyPatch, status: str, shown: str
) -> None:
    monkeypatch.setattr("hand._WAIT_S", 20.0)
    done = threading.Event()

    def serve() -> None:
        with connect(filled_database, autocommit=True) as connection:
            while not done.wait(0.05):
                connection.execute(
                    "update manual_instructions set status = %s, outcome = 'as the service says' "
                    "where status = 'PENDING'",
                    (status,),
                )

    service = threading.Thread(target=serve)
    service.start()
    try:
        app = click(click(open_page("positions", session="paper"), "hand_change"), "hand_confirm")
    finally:
        done.set()
        service.join()

    assert "as the service says" in getattr(app, shown)[-1].value.lower()


def test_stopping_all_trading_writes_the_file_after_confirmation(open_page: OpenPage, tmp_path: Path) -> None:
    app = click(open_page("positions", session="paper"), "hand_kill")
    assert not (tmp_path / "KILL").exists()

    click(app, "kill_confirm")

    assert "stopped from the dashboard" in (tmp_path / "KILL").read_text()


def test_replay_and_stopped_session_offer_nothing_to_change(open_page: OpenPage, change: Callable[[str], None]) -> None:
    app = open_page("positions", session="replay-spring")
    assert "hand_change" not in {button.key for button in app.button}

    change("delete from positions where status = 'OPEN'")
    change("delete from orders where leg = 'ENTRY' and status not in ('FILLED', 'CANCELLED', 'REJECTED')")
    change("update sessions set status = 'STOPPED' where name = 'paper'")
    app = open_page("positions", session="paper")
    assert "hand_change" not in {button.key for button in app.button}


def test_page_says_why_trading_is_held_back(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change(
        "insert into account_truth select session_id, false, 'a position differs', now(), now(), now(), 1 from sessions"
    )

    app = open_page("positions", session="paper")

    assert "a position differs" in app.warning[0].value


# Sessions


def test_sessions_stand_side_by_side_with_their_results(open_page: OpenPage) -> None:
    app = open_page("sessions", session="paper")

    assert not app.exception
    table = table_with(app, "equity", "drawdown", "state")
    assert list(table["name"]) == ["paper", "replay-spring"]
    assert table["state"].iloc[0] == "Held back"
    assert "Differences with the exchange" in text_of(app)


@pytest.mark.parametrize(("button", "action"), [("session_pause", "pause"), ("session_stop", "stop")])
def test_change_of_a_session_is_confirmed_and_asked_for(
    open_page: OpenPage, filled_database: str, button: str, action: str
) -> None:
    app = click(open_page("sessions", session="paper"), button)
    assert asked(filled_database) == []

    click(app, "hand_confirm")

    [(kind, arguments, _, _)] = asked(filled_database)
    assert (kind, arguments["action"]) == ("SESSION", action)
