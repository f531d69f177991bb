"""The screener: opinions, ranking and anomalies, and what a reader filters."""

from collections.abc import Callable

from page_driver import OpenPage, cards, table_with, text_of


def test_newest_opinion_of_every_symbol_is_shown_the_surest_first(open_page: OpenPage) -> None:
    app = open_page("screener")

    table = table_with(app, "trend_4h", "reasons")
    assert sorted(table["symbol"]) == ["BTCUSDT", "ETHUSDT", "PEPEUSDT", "SOLUSDT"]
    assert table["side"].iloc[-1] == "NEUTRAL"
    assert table["confidence"].isna().tolist() == [False, False, False, True]
    assert {name: cards(app)[name] for name in ("Long", "Short", "Neutral", "Charts in conflict")} == {
        "Long": "2",
        "Short": "1",
        "Neutral": "1",
        "Charts in conflict": "3",
    }
    assert "1d <falling>" in table["reasons"].iloc[0]


def test_opinions_narrow_down_by_side(open_page: OpenPage) -> None:
    app = open_page("screener")

    app.button_group(key="t_sides").set_value(["SHORT"]).run()

    assert table_with(app, "trend_4h", "reasons")["symbol"].tolist() == ["ETHUSDT"]
    assert "1 of 4 symbols" in text_of(app)


def test_ranking_of_a_day_has_its_reasons_and_an_older_day_can_be_chosen(open_page: OpenPage) -> None:
    app = open_page("screener", screener_view="Ranking")

    table = table_with(app, "rank", "rsi_setup")
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["reasons"].str.contains("times its month's median").all()
    days = app.selectbox(key="s_day").options
    assert len(days) == 3

    app.selectbox(key="s_day").select_index(2).run()

    assert not app.exception
    assert table_with(app, "rank", "rsi_setup")["rank"].tolist() == [1, 2, 3, 4]


def test_anomalies_are_listed_and_narrow_down_by_kind(open_page: OpenPage) -> None:
    app = open_page("screener", screener_view="Anomalies")
    assert len(table_with(app, "kind", "measure")) == 4

    app.button_group(key="a_kinds").set_value(["PUMP_AND_DUMP"]).run()

    assert table_with(app, "kind", "measure")["kind"].tolist() == ["PUMP_AND_DUMP"]
    assert "no signal of the symbol passes for 16 bars" in text_of(app)


def test_each_empty_view_says_what_will_fill_it(open_page: OpenPage, change: Callable[[str], None]) -> None:
    for table in ("technical_signals", "screener_rankings", "anomalies"):
        change(f"delete from {table}")

    for view, words in (
        ("Technical signals", "No technical signals yet"),
        ("Ranking", "No ranking yet"),
        ("Anomalies", "No anomaly yet"),
    ):
        written = text_of(open_page("screener", screener_view=view))
        assert words in written
        assert "trading up" in written


def test_universe_shows_members_then_all_pairs_with_what_speaks_against_them(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    assert "Nobody has looked yet" in text_of(open_page("screener", screener_view="Universe"))
    change(
        "insert into universe (instrument_id, valid_from, member, reasons) "
        "select instrument_id, now(), symbol <> 'SOLUSDT', "
        "case when symbol = 'SOLUSDT' then '{VOLUME,SPREAD}' else '{}' end::text[] from instruments"
    )
    change(
        "insert into listings (instrument_id, ts, kind, first_price) "
        "select instrument_id, now(), 'LISTED', 3.5 from instruments where symbol = 'PEPEUSDT'"
    )
    app = open_page("screener", screener_view="Universe")
    members = table_with(app, "funding_hours", "state")
    assert set(members["state"]) == {"Member"}
    assert table_with(app, "first_price", "kind")["symbol"].tolist() == ["PEPEUSDT"]

    app.toggle(key="u_all").set_value(True).run()

    pairs = table_with(app, "funding_hours", "state").set_index("symbol")
    assert len(pairs) == len(members) + 1
    assert pairs.loc["SOLUSDT", "state"] == "Volume · Spread"
