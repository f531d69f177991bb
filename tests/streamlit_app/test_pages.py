"""Every page: filled, empty, without a database, and what a reader does on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from page_driver import OpenPage, cards, table_with, text_of

PAGES = (
    "market",
    "screener",
    "scores",
    "whale_flows",
    "polymarket",
    "signals",
    "chart",
    "positions",
    "risk",
    "sessions",
    "replay",
    "performance",
    "models",
    "data_status",
    "backtests",
)
"""What the seeded platform fills; a page with a world of its own has tests of its own."""
ALL_PAGES = (*PAGES, "sentiment")


@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_running_platform_is_drawn_without_an_error(open_page: OpenPage, page: str) -> None:
    app = open_page(page)

    assert not app.exception
    assert not app.error
    assert len(app.title) == 1
    assert len(app.dataframe) + len(app.get("plotly_chart")) > 0


@pytest.mark.parametrize("page", ALL_PAGES)
def test_page_of_an_empty_platform_says_what_will_fill_it(open_empty_page: OpenPage, page: str) -> None:
    app = open_empty_page(page)

    assert not app.exception
    assert not app.error
    assert "yet" in text_of(app)
    assert "trading up" in text_of(app)


@pytest.mark.parametrize("page", ALL_PAGES)
def test_page_without_a_database_names_the_command_and_shows_no_trace(
    open_page_without_database: OpenPage, page: str
) -> None:
    app = open_page_without_database(page)

    assert not app.exception
    assert [block.value for block in app.code] == ["trading db start"]
    assert "not answering" in app.error[0].value
    assert "Traceback" not in text_of(app)


def test_database_that_goes_away_becomes_a_sentence_on_the_page(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    app = open_page("positions")

    change("drop table fills cascade")
    app.run()

    assert not app.exception
    assert "trading db migrate" in app.error[0].value.replace("\\", "")


def test_wrong_setting_is_named_instead_of_a_trace(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_LOG_LEVEL", "LOUD")

    app = open_page("market")

    assert not app.exception
    assert "TRADING" in app.error[0].value
    assert "LEVEL" in app.error[0].value


def test_market_lists_every_symbol_with_price_trend_and_sparkline(open_page: OpenPage) -> None:
    table = table_with(open_page("market"), "price", "spark")

    assert set(table["symbol"]) == {"BTCUSDT", "ETHUSDT", "SOLUSDT", "PEPEUSDT"}
    assert (table["price"] > 0).all()
    assert table["trend"].isin(["UP", "DOWN", "MIXED"]).all()
    assert table["spark"].map(len).min() > 24


def test_market_shows_fear_and_greed_and_dominance_with_their_change(open_page: OpenPage) -> None:
    app = open_page("market")

    assert cards(app)["Fear & Greed"] == "48"
    assert cards(app)["BTC dominance"] == "54.25%"
    changes = {metric.label: metric.delta for metric in app.metric}
    assert changes["Fear & Greed"] == "neutral, +2 in a day"
    assert changes["BTC dominance"] == "\N{MINUS SIGN}0.25 in a day"


def test_market_says_that_an_index_is_old_or_missing(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("delete from observations where series = 'fear_greed'")
    change("delete from observations where series = 'btc_dominance' and available_at > now() - interval '36 hours'")

    app = open_page("market")

    assert cards(app)["Fear & Greed"] == "–"
    changes = {metric.label: metric.delta for metric in app.metric}
    assert changes["Fear & Greed"] == "not collected yet"
    assert changes["BTC dominance"].startswith("old: ")


def test_market_shows_account_and_heartbeats(open_page: OpenPage) -> None:
    app = open_page("market")

    assert cards(app)["Open positions"].endswith("of 5")
    assert "trader" in text_of(app)
    assert "emission sensor silent for" in text_of(app)


@pytest.mark.parametrize("page", PAGES)
def test_engaged_kill_switch_is_announced_on_every_page(
    open_page: OpenPage, change: Callable[[str], None], page: str
) -> None:
    change("update kill_switch set engaged = true, reason = 'daily loss <b>5 %</b>'")

    app = open_page(page)

    assert [error.value for error in app.error] != []
    assert "No new orders are sent" in app.error[0].value
    assert "\\<b\\>" in app.error[0].value


def test_kill_file_alone_is_announced(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "KILL").touch()

    app = open_page("market")

    assert "KILL file" in app.error[0].value


def test_paper_session_is_chosen_first_and_the_address_can_choose_another(open_page: OpenPage) -> None:
    assert open_page("market").selectbox(key="session").value == "paper"

    app = open_page("performance", session="replay-spring")

    assert app.selectbox(key="session").value == "replay-spring"
    assert "Fingerprint of this replay" in text_of(app)


def test_session_of_the_settings_is_chosen_before_older_ones(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADING_SESSION__NAME", "replay-spring")

    app = open_page("performance")

    assert app.selectbox(key="session").value == "replay-spring"
    assert "Fingerprint of this replay" in text_of(app)


def test_signals_narrow_down_by_side_and_status(open_page: OpenPage) -> None:
    app = open_page("signals")
    everything = table_with(app, "side", "net_profit")

    app.button_group(key="f_sides").set_value(["LONG"]).run()
    longs = table_with(app, "side", "net_profit")
    app.multiselect(key="f_statuses").set_value(["ACTIVE"]).run()

    assert set(everything["side"]) == {"LONG", "SHORT"}
    assert set(longs["side"]) == {"LONG"}
    assert len(longs) < len(everything)
    shown = [t.value for t in app.dataframe if "net_profit" in t.value.columns]
    assert all((t["status"] == "ACTIVE").all() for t in shown)


def test_signal_has_levels_gates_and_factors(open_page: OpenPage) -> None:
    app = open_page("signals")

    levels = table_with(app, "level", "r")
    assert levels["level"].tolist() == ["Target 3", "Target 2", "Target 1", "Reference", "Stop"]
    assert levels["r"].round(2).tolist() == [6.0, 3.5, 2.0, 0.0, -1.0]
    assert (table_with(app, "gate", "verdict")["verdict"] == "✓").all()
    assert len(app.get("plotly_chart")) == 1
    assert {"Net profit", "Expected value", "Risk/reward"} <= set(cards(app))


def test_filter_that_nothing_passes_is_explained(open_page: OpenPage) -> None:
    app = open_page("signals")

    app.multiselect(key="f_statuses").set_value(["CANCELLED"]).run()

    assert "No signal passes these filters" in text_of(app)


def test_session_without_signals_names_the_next_bar(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("delete from signals where session_id in (select session_id from sessions where name = 'paper')")

    written = text_of(open_page("signals"))

    assert "No signals yet" in written
    assert "The next bar closes at" in written
    assert "UTC" in written


def test_rejections_are_counted_with_value_and_threshold(open_page: OpenPage) -> None:
    app = open_page("signals", signals_view="Rejections")

    numbers = table_with(app, "median", "threshold")
    assert numbers["reason"].iloc[0] == "Net profit too small"
    assert numbers["threshold"].iloc[0] == "2.00%"
    refused = table_with(app, "why", "measured")
    assert (refused["outcome"] == "REJECTED").all()

    app.selectbox(key="r_reason").set_value("confidence").run()
    assert (table_with(app, "why", "measured")["why"] == "Confidence too low").all()


def test_history_holds_signals_and_refusals(open_page: OpenPage) -> None:
    app = open_page("signals", signals_view="Decision history")

    app.button_group(key="h_outcome").set_value("SIGNAL").run()

    assert (table_with(app, "outcome", "why")["why"] == "All gates passed").all()


def test_chart_draws_candles_averages_and_marks(open_page: OpenPage) -> None:
    app = open_page("chart")

    figure = app.get("plotly_chart")[0].proto.spec
    for part in ("candlestick", "EMA 20", "Volume", "Entry fill"):
        assert part in figure


def test_chart_draws_the_levels_of_an_open_position(open_page: OpenPage) -> None:
    app = open_page("chart", session="paper")

    app.selectbox(key="chart_symbol").set_value("BTCUSDT").run()

    assert app.selectbox(key="chart_levels").value == "position"
    figure = app.get("plotly_chart")[0].proto.spec
    for level in ("Entry ", "Stop ", "TP3 "):
        assert level in figure


def test_chart_takes_a_longer_timeframe_where_too_many_bars_would_be_drawn(open_page: OpenPage) -> None:
    app = open_page("chart")

    app.button_group(key="chart_timeframe").set_value("5m").run()
    app.button_group(key="chart_span").set_value("90 D").run()

    assert "too many bars of the chosen timeframe" in text_of(app)
    assert "bars of 1h" in text_of(app)


def test_chart_draws_the_indicators_that_are_picked(open_page: OpenPage) -> None:
    app = open_page("chart")

    app.button_group(key="chart_shown").set_value(["Bollinger", "VWAP", "RSI", "MACD"]).run()

    assert not app.exception
    assert not app.error
    figure = app.get("plotly_chart")[0].proto.spec
    for part in ("Bollinger 20, 2", "VWAP", "RSI 14", "MACD histogram"):
        assert part in figure
    assert "EMA 20" not in figure


def test_open_positions_show_protection_and_distance(open_page: OpenPage) -> None:
    app = open_page("positions")

    table = table_with(app, "to_liquidation", "protected")
    assert (table["protected"] == 1).all()
    assert (table["to_liquidation"].abs() > table["to_stop"].abs()).all()
    assert cards(app)["Open"] == f"{len(table)} of 5"
    assert len(app.get("html")) >= len(table)


def test_unprotected_position_is_called_out(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("update positions set quantity_protected = 0 where status = 'OPEN'")

    app = open_page("positions")

    assert int(cards(app)["Unprotected"]) > 0


def test_session_without_open_positions_says_what_it_waits_for(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    change("delete from positions where status = 'OPEN'")

    written = text_of(open_page("positions"))

    assert "No open position" in written
    assert "wait for execution" in written


def test_refused_order_shows_its_reason_as_it_came(open_page: OpenPage) -> None:
    app = open_page("positions", positions_view="Orders")

    app.button_group(key="order_group").set_value("Refused").run()

    table = table_with(app, "status_reason", "client_order_id")
    assert table["status_reason"].tolist() == ["exchange: insufficient margin <balance 12.40 USDT>"]


def test_closed_positions_are_measured_in_r(open_page: OpenPage) -> None:
    table = table_with(open_page("positions", positions_view="Closed"), "r", "exit_price")

    stopped = table[table["close_reason"] == "STOP"]
    assert len(stopped) > 0
    assert (stopped["r"] < -0.9).all()


def test_performance_names_the_ratios_and_offers_the_export(open_page: OpenPage) -> None:
    app = open_page("performance")

    assert {"Sharpe", "Sortino", "Calmar", "Drawdown", "Win rate", "Profit factor", "Costs, USDT"} <= set(cards(app))
    assert [button.label for button in app.get("download_button")] == ["Trades as CSV", "Equity as CSV"]
    assert "before 30 days they say little" in text_of(app)
    assert "BTCUSDT buy and hold" in app.get("plotly_chart")[0].proto.spec


def test_performance_before_the_first_mark_says_when_it_starts(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    change("delete from equity")

    assert "Equity is marked at the close of each 15m bar" in text_of(open_page("performance"))


def test_performance_is_broken_down_by_strategy(open_page: OpenPage) -> None:
    assert table_with(open_page("performance"), "strategy", "net")["strategy"].tolist() == ["model_signals"]


def test_models_show_the_version_in_production_with_its_folds(open_page: OpenPage) -> None:
    app = open_page("models")

    assert (table_with(app, "model_id", "state")["state"] == "✓ In production").all()
    assert len(table_with(app, "fold", "test_from")) == 4
    assert cards(app)["Accuracy"] == "0.5310"


def test_models_show_a_training_under_way_with_what_is_left(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change(
        "insert into trainings (training_key, instrument_id, timeframe, as_of, spec) "
        "select 'half', min(instrument_id), '15m', now(), '{}' from instruments"
    )
    change(
        "insert into training_tasks (training_key, kind, number, worker, seconds, done_at) "
        "select 'half', 'fold', n, case when n < 3 then 'a' end, case when n < 3 then 20 end, "
        "case when n < 3 then now() end from generate_series(0, 5) n"
    )
    training = table_with(open_page("models"), "left", "searched").iloc[0]

    assert (training["done"], training["searched"], training["left"]) == ("3 of 6", "–", "1 min")


def test_data_status_shows_outside_text_letter_by_letter(open_page: OpenPage) -> None:
    errors = table_with(open_page("data_status"), "last_error", "open_gaps")["last_error"]
    events = table_with(open_page("data_status", data_view="Events"), "message", "severity")["message"]

    assert "timeout after 10 s: <html>502 Bad Gateway</html>" in errors.tolist()
    assert "timeout after 10 s: <b>502</b> *Bad* [Gateway](http://x)" in events.tolist()


def test_data_status_shows_sources_besides_prices_with_what_to_do_and_what_was_refused(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    change(
        "insert into source_states (source, status, detail, last_attempt_at, last_success_at, consecutive_failures)"
        " values ('lunarcrush', 'NOT_CONFIGURED', 'set TRADING_KEY', now(), null, 0),"
        " ('decrypt', 'FAILING', 'no answer in time', now(), now() - interval '2 hours', 3),"
        " ('coindesk', 'OK', '', now(), now(), 0)"
    )
    change(
        "insert into quarantined_items (source, item, reason, payload) "
        "values ('coindesk', '7', 'has no title', '<script>alert(1)</script>')"
    )
    app = open_page("data_status", data_view="Besides prices")

    states = table_with(app, "source", "state", "detail").set_index("source")
    assert states["state"].to_dict() == {
        "decrypt": "✗ failing",
        "lunarcrush": "– not configured",
        "coindesk": "✓ ok",
    }
    assert states.loc["lunarcrush", "detail"] == "set TRADING_KEY"
    assert table_with(app, "reason", "payload")["payload"].tolist() == ["<script>alert(1)</script>"]


def test_data_status_counts_gaps_and_marks_silent_services(open_page: OpenPage) -> None:
    app = open_page("data_status")

    assert cards(app)["Open gaps"] == "1"
    assert cards(app)["Quarantined"] == "1"
    services = table_with(app, "service", "state").set_index("service")["state"]
    assert services["emission_sensor"] == "✗ silent"


@pytest.mark.parametrize("view", ["Timeframes", "Gaps and quarantine", "Tables"])
def test_every_view_of_the_data_status_has_a_table(open_page: OpenPage, view: str) -> None:
    app = open_page("data_status", data_view=view)

    assert not app.error
    assert len(app.dataframe) >= 2


def test_hostile_symbol_is_shown_as_text(open_page: OpenPage, change: Callable[[str], None]) -> None:
    change("update instruments set symbol = '<img src=x onerror=alert(1)>' where symbol = 'BTCUSDT'")

    app = open_page("positions")

    drawn = "".join(element.proto.body for element in app.get("html"))
    assert "<img" not in drawn
    assert "&lt;img src=x" in drawn
