"""The Models page: what moves a version, and changes of what predicts, which ask first."""

from collections.abc import Callable
from typing import Any

import pytest
from page_driver import OpenPage, table_with, text_of
from streamlit.testing.v1 import AppTest

from trading_pipelines.store.connection import connect

Change = Callable[[str], None]
NEWER = "BTCUSDT-15m-2"
SECOND = f"""
insert into model_versions (model_id, instrument_id, timeframe, feature_set_id, spec, training_key, train_from, as_of,
                            metrics, artefact, artefact_sha256, code_version)
select '{NEWER}', instrument_id, timeframe, feature_set_id, spec, '{NEWER}', train_from, as_of + interval '1 hour',
       metrics, '', '', 'seed'
from model_versions where model_id = 'BTCUSDT-15m-1'
"""


def click(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def chosen(app: AppTest, model_id: str) -> AppTest:
    """The page with that version selected in the table of versions."""
    versions = table_with(app, "model_id", "state")
    row = versions["model_id"].tolist().index(model_id)
    app.session_state["versions"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return app.run()


def asked_and_done(app: AppTest, wanted: str, reason: str = "looks better") -> AppTest:
    """Press a button of the page, give the reason, confirm.

    A browser runs the open dialog alone again; here the whole page runs, so the button that opens it is pressed again.
    """
    click(app, f"model_{wanted}")
    assert app.button(key="model_confirm").disabled
    app.text_input(key="model_reason").set_value(reason)
    click(app, f"model_{wanted}")
    app.button(key="model_confirm").click()
    return click(app, f"model_{wanted}")


def changes(database: str) -> list[tuple[Any, ...]]:
    """What was changed by hand, oldest first."""
    with connect(database) as connection:
        return connection.execute(
            "select model_id, action, requested_by, reason from model_promotions where action <> 'automatic' "
            "order by promotion_id"
        ).fetchall()


def pins(database: str) -> list[tuple[Any, ...]]:
    with connect(database) as connection:
        return connection.execute(
            "select model_id, requested_by, released_at is not null from model_pins order by pin_id"
        ).fetchall()


@pytest.fixture
def second(change: Change) -> None:
    """A second version of the first market, a candidate."""
    change(SECOND)


def test_promotion_is_confirmed_with_a_reason_and_can_be_rolled_back(
    second: None, open_page: OpenPage, filled_database: str
) -> None:
    app = chosen(open_page("models"), NEWER)
    assert not app.button(key="model_promote").disabled
    assert app.button(key="model_rollback").disabled

    click(app, "model_promote")
    assert changes(filled_database) == []
    assert f"{NEWER} predicts from now on" in text_of(app).replace("\\", "")

    app = asked_and_done(chosen(open_page("models"), NEWER), "promote")
    assert not app.exception
    assert changes(filled_database) == [(NEWER, "promote", "dashboard", "looks better")]

    app = asked_and_done(chosen(open_page("models"), NEWER), "rollback", "worse after all")
    assert not app.exception
    assert changes(filled_database)[1:] == [("BTCUSDT-15m-1", "rollback", "dashboard", "worse after all")]


def test_pinned_version_keeps_its_place_until_it_is_unpinned(
    second: None, open_page: OpenPage, filled_database: str
) -> None:
    asked_and_done(chosen(open_page("models"), "BTCUSDT-15m-1"), "pin", "under observation")
    assert pins(filled_database) == [("BTCUSDT-15m-1", "dashboard", False)]

    refused = asked_and_done(chosen(open_page("models"), NEWER), "promote")
    assert "pinned" in refused.error[0].value
    assert changes(filled_database) == []

    asked_and_done(chosen(open_page("models"), "BTCUSDT-15m-1"), "unpin", "seen enough")
    assert pins(filled_database) == [("BTCUSDT-15m-1", "dashboard", True)]


def test_roll_back_without_a_version_before_is_refused_in_words(open_page: OpenPage, filled_database: str) -> None:
    app = asked_and_done(chosen(open_page("models"), "BTCUSDT-15m-1"), "rollback")

    assert "there was no version before" in app.error[0].value.replace("\\", "")
    assert changes(filled_database) == []


def test_importance_is_shown_by_gain_and_by_contribution(open_page: OpenPage, change: Change) -> None:
    before = {chart.proto.id for chart in open_page("models").get("plotly_chart")}
    change(
        "update model_versions set metrics = metrics || "
        """'{"importance": {"ret_1": 0.2, "atr_pct": 0.5}, "shap": {"atr_pct": 0.3, "rsi_14": 0.4}}'"""
    )

    app = open_page("models")

    assert len(app.get("plotly_chart")) == len(before) + 2
    assert {"Share of the gain while it learnt", "Share of what moves its predictions (SHAP)"} <= {
        caption.value for caption in app.caption
    }


def test_contributions_to_the_newest_signals_are_named_strongest_first(open_page: OpenPage, change: Change) -> None:
    change(
        "update signals set model_id = 'BTCUSDT-15m-1', "
        """factors = '{"atr_pct": -0.021, "ret_1": 0.4, "rsi_14": 0.003, "macd": 0.05, "body": 0.001, """
        """"score": 61.0, "score_technical": 0.9}'"""
    )

    moved = table_with(chosen(open_page("models"), "BTCUSDT-15m-1"), "moved", "side")["moved"]

    assert moved.iloc[0] == "Ret 1 +0.400, MACD +0.050, ATR pct \N{MINUS SIGN}0.021, RSI 14 +0.003"
