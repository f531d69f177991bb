"""Whale flows and Polymarket: sums, history, filters, and what a reader chooses."""

from collections.abc import Callable

from page_driver import OpenPage, cards, table_with, text_of


def test_flows_of_every_coin_are_shown_with_their_scores(open_page: OpenPage) -> None:
    app = open_page("whale_flows")

    assert not app.exception
    table = table_with(app, "coin", "whale_score", "netflow_usd")
    assert sorted(table["coin"]) == ["BTC", "ETH"]
    assert table["whale_score"].round(2).tolist() == [0.1, 0.1]
    assert cards(app)["Large transactions"] == "96"
    assert len(app.get("plotly_chart")) == 1


def test_history_of_a_coin_shows_net_flow_and_scores(open_page: OpenPage) -> None:
    app = open_page("whale_flows", flows_view="History")

    app.selectbox(key="flow_coin").set_value("ETH").run()

    assert not app.exception
    assert len(app.get("plotly_chart")) == 2


def test_transactions_narrow_down_and_a_name_from_outside_is_text(open_page: OpenPage) -> None:
    app = open_page("whale_flows", flows_view="Transactions")
    assert len(table_with(app, "sender", "recipient")) == 96

    app.button_group(key="transaction_directions").set_value(["INFLOW"]).run()
    app.selectbox(key="transaction_coin").set_value("BTC").run()

    table = table_with(app, "sender", "recipient")
    assert set(table["direction"]) == {"INFLOW"}
    assert set(table["coin"]) == {"BTC"}
    assert set(table["sender"]) == {"<b>someone</b>"}


def test_implied_prices_have_a_ladder_and_its_history(open_page: OpenPage) -> None:
    app = open_page("polymarket")

    assert not app.exception
    table = table_with(app, "coin", "median", "above_spot")
    assert table["coin"].tolist() == ["BTC", "ETH"]
    assert len(app.get("plotly_chart")) == 2

    app.selectbox(key="odds_coin").set_value("ETH").run()

    assert table_with(app, "coin", "median", "above_spot")["coin"].tolist() == ["ETH"]


def test_markets_that_are_over_are_shown_on_request(open_page: OpenPage) -> None:
    app = open_page("polymarket", odds_view="Markets")
    assert set(table_with(app, "question", "outcome")["status"]) == {"OPEN"}
    assert len(app.get("plotly_chart")) == 1

    app.toggle(key="closed_markets").set_value(True).run()

    assert set(table_with(app, "question", "outcome")["status"]) == {"OPEN", "RESOLVED"}


def test_each_empty_view_says_what_will_fill_it(open_page: OpenPage, change: Callable[[str], None]) -> None:
    for table in ("whale_transactions", "observations", "prediction_markets cascade", "implied_distributions"):
        change(f"truncate {table}")

    for page, key, view in (
        ("whale_flows", "flows_view", "Overview"),
        ("whale_flows", "flows_view", "History"),
        ("whale_flows", "flows_view", "Transactions"),
        ("polymarket", "odds_view", "Implied prices"),
        ("polymarket", "odds_view", "Markets"),
    ):
        written = text_of(open_page(page, **{key: view}))
        assert "yet" in written
        assert "trading up" in written
