"""The settings page: every setting with its meaning, what was changed, and no secret."""

import pytest
from page_driver import OpenPage, table_with, text_of


def test_every_setting_has_its_variable_and_secrets_are_dots(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADING_ALTERNATIVE__COINGECKO__API_KEY", "geheim-4711")
    app = open_page("settings")

    table = table_with(app, "variable", "value", "meaning").set_index("variable")

    assert table.loc["TRADING_ALTERNATIVE__COINGECKO__API_KEY", "value"] == "••••••••"
    assert table.loc["TRADING_DATABASE_URL", "value"] == "••••••••"
    assert table.loc["TRADING_RISK__MAX_OPEN_POSITIONS", "value"] == "5"
    assert table.loc["TRADING_RISK__RISK_PER_TRADE", "meaning"].startswith("Equity lost if")
    assert not table["value"].str.contains("geheim").any()


def test_changed_settings_can_be_told_from_defaults(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_RISK__MAX_OPEN_POSITIONS", "3")
    app = open_page("settings")

    app.toggle(key="settings_changed").set_value(True).run()

    table = table_with(app, "variable", "value", "meaning").set_index("variable")
    assert set(table.index) == {"TRADING_RISK__MAX_OPEN_POSITIONS", "TRADING_DATABASE_URL", "TRADING_DATA_DIR"}
    assert (table["state"] == "changed").all()


def test_settings_are_found_by_group_and_by_a_word_of_their_meaning(open_page: OpenPage) -> None:
    app = open_page("settings")

    app.selectbox(key="settings_of").set_value("risk").run()
    app.text_input(key="settings_word").set_value("correlation").run()

    found = table_with(app, "variable", "value")["variable"]
    assert found.str.startswith("TRADING_RISK__").all()
    assert "TRADING_RISK__MAX_CORRELATION" in found.tolist()

    app.text_input(key="settings_word").set_value("no such thing").run()

    assert "No setting passes these filters" in text_of(app)
