"""The page of backtests: list, one result, two side by side, searches."""

from collections.abc import Callable

from page_driver import OpenPage, cards, table_with, text_of


def test_newest_backtest_is_shown_with_figures_trades_and_check(open_page: OpenPage) -> None:
    app = open_page("backtests")

    assert len(table_with(app, "strategy", "kind", "total_return")) == 3
    assert cards(app)["Win rate"] == "50.0%"
    assert len(table_with(app, "symbol", "net", "r")) == 2
    assert "decided the same" in text_of(app)
    assert len(app.get("plotly_chart")) == 1


def test_two_backtests_stand_side_by_side(open_page: OpenPage) -> None:
    app = open_page("backtests")
    assert table_with(app, "figure").shape[1] == 3

    options = app.selectbox(key="b_other").options
    app.selectbox(key="b_other").set_value(app.selectbox(key="b_other").options[0]).run()

    assert not app.exception
    assert len(options) == 2
    assert table_with(app, "figure").shape[1] == 4


def test_failed_check_is_an_error_and_its_text_is_no_markup(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("delete from backtests where strategy = 'ema_cross'")

    app = open_page("backtests")

    assert "cannot be trusted" in app.error[0].value
    assert "\\<b\\>" in app.error[0].value


def test_search_shows_its_windows_and_combinations(open_page: OpenPage) -> None:
    app = open_page("backtests")

    assert table_with(app, "trials", "probability")["probability"].tolist() == [0.61]
    assert table_with(app, "window", "inside")["params"].tolist() == ["fast 10"]
    assert len(table_with(app, "params", "max_drawdown")) == 2


def test_platform_without_a_search_shows_the_command(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("delete from backtest_searches")

    app = open_page("backtests")

    assert "trading backtest search" in app.code[0].value
