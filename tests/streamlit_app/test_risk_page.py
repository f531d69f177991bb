"""The risk page: limits and what is used of them, locks, warnings, refusals, and stopping everything."""

from collections.abc import Callable
from pathlib import Path

from page_driver import OpenPage, cards, table_with, text_of


def test_limits_say_how_much_of_each_is_used_up_and_what_follows(open_page: OpenPage) -> None:
    table = table_with(open_page("risk"), "rule", "share", "then").set_index("rule")

    held = cards(open_page("positions"))["Open"]
    assert f"{table.loc['Open positions', 'used']} of {table.loc['Open positions', 'limit']}" == held
    assert 0 < float(table.loc["Open positions", "share"]) <= 1
    assert table.loc["Loss of the day", "limit"] == "5.0%"
    assert (table["then"].str.len() > 0).all()


def test_reached_limit_and_lock_of_the_account_are_called_out(
    open_page: OpenPage, change: Callable[[str], None]
) -> None:
    change(
        "update equity set equity = 0.9 * equity where ts = (select max(ts) from equity where session_id = "
        "(select session_id from sessions where name = 'paper'))"
    )
    change(
        "insert into risk_locks (session_id, reason, numbers, starts_at, ends_at) "
        "select session_id, 'DAILY_LOSS', '{}', now() - interval '1 hour', now() + interval '2 hours 30 seconds' "
        "from sessions where name = 'paper'"
    )

    app = open_page("risk")

    limits = table_with(app, "rule", "share", "then").set_index("rule")
    assert limits.loc["Loss of the day", "state"] == "✗ reached"
    assert float(cards(app)["Nearest limit"].rstrip("%").replace(",", "")) > 100
    assert cards(app)["Locks"] == "1"
    lock = table_with(app, "reason", "seconds_left").iloc[0]
    assert (lock["symbol"], lock["side"]) == ("all", "both")
    assert "trading risk lift" in text_of(app)


def test_warnings_narrow_down_by_kind_and_are_shown_letter_by_letter(open_page: OpenPage) -> None:
    app = open_page("risk", risk_view="Warnings")
    found = table_with(app, "severity", "message")
    assert set(found["severity"]) == {"warning", "critical"}
    assert "timeout after 10 s: <b>502</b> *Bad* [Gateway](http://x)" in found["message"].tolist()

    app.button_group(key="alert_kinds").set_value(["order_rejected"]).run()

    assert table_with(app, "severity", "message")["kind"].tolist() == ["order_rejected"]


def test_refusals_of_the_rules_have_their_reason(open_page: OpenPage, change: Callable[[str], None]) -> None:
    assert "Nothing was refused" in text_of(open_page("risk", risk_view="Refused by the rules"))
    change(
        "insert into risk_assessments (session_id, signal_id, instrument_id, stage, assessed_at, outcome, quantity, "
        "margin, reason, rules) select session_id, signal_id, instrument_id, 'ORDER', now(), 'REFUSE', 0, 0, "
        "'correlation 0.95', '[]' from signals where status = 'ACTIVE' limit 1"
    )

    table = table_with(open_page("risk", risk_view="Refused by the rules"), "outcome", "stage")

    assert table["reason"].tolist() == ["correlation 0.95"]


def test_stopping_everything_asks_first_and_then_writes_the_file(open_page: OpenPage, tmp_path: Path) -> None:
    app = open_page("risk")
    app.button(key="hand_kill").click().run()
    assert not (tmp_path / "KILL").exists()

    app.button(key="kill_confirm").click().run()

    assert not app.exception
    assert (tmp_path / "KILL").exists()
