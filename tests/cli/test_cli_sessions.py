"""Sessions, trades by hand and the drill from the command line, with no service alive."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from command_line import Run


@pytest.fixture
def market(run: Run, on_database: str, small_market: None) -> str:
    """A few days of candles of two symbols; the address of the database."""
    today = datetime.now(UTC)
    start = f"{today - timedelta(days=2):%Y-%m-%d}"
    assert run("ingest", "--from", start, "--to", f"{today + timedelta(days=1):%Y-%m-%d}", "--json").code == 0
    return on_database


def price_of(run: Run) -> float:
    """A price near the current one; stops are named relative to it."""
    from trading_pipelines.adapters.sources import open_source
    from trading_pipelines.settings import load_settings

    return open_source(load_settings()).tickers(["BTCUSDT"])[0].price


def test_sessions_are_created_paused_started_and_stopped(run: Run, market: str) -> None:
    created = run(
        "session", "create", "trend", "--strategy", "ema_cross", "--symbols", "BTCUSDT", "--direction", "LONG",
        "--capital", "5000", "--limit", "max_open_positions=2", "--policy", "cooldown_minutes=60", "--json",
    )  # fmt: skip
    assert created.code == 0
    found = created.json["session"]
    assert (found["status"], found["direction"], found["start_capital"]) == ("PAUSED", "LONG", 5000)
    assert (found["limits"]["max_open_positions"], found["policy"]["cooldown_minutes"]) == (2, 60)
    assert found["strategies"] == ["ema_cross"]

    assert run("session", "start", "trend").out == "trend: running\n"
    assert run("session", "show", "trend", "--json").json["session"]["status"] == "RUNNING"
    assert run("session", "pause", "trend").code == 0
    assert run("session", "stop", "trend").out == "trend: stopped\n"
    assert "create a new one" in run("session", "start", "trend").err
    assert [s["name"] for s in run("session", "list", "--json").json["sessions"]] == ["trend"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strategy", "emacross"), "did you mean ema_cross"),
        (("--symbols", "XYZUSDT"), "not stored"),
        (("--limit", "max_open=2"), "write NAME=VALUE"),
        (("--limit", "max_open_positions=0"), "max_open_positions"),
        (("--profile", "wild"), "standard, active"),
    ],
)
def test_session_that_makes_no_sense_is_refused_in_one_line(
    run: Run, market: str, arguments: tuple[str, ...], message: str
) -> None:
    outcome = run("session", "create", "odd", *arguments)

    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_second_session_of_a_name_is_refused(run: Run, market: str) -> None:
    assert run("session", "create", "twice").code == 0
    assert "choose another name" in run("session", "create", "twice").err


def test_trade_by_hand_without_a_service_is_placed_once(run: Run, market: str) -> None:
    run("session", "create", "hand", "--symbols", "BTCUSDT", "--start")
    stop = price_of(run) * 0.97
    order = ("trade", "open", "btcusdt", "--side", "long", "--stop", f"{stop:.2f}", "--session", "hand")
    first = run(*order, "--request-id", "r1", "--json")
    second = run(*order, "--request-id", "r1", "--json")

    assert (
        first.json
        == second.json
        == {
            "request_id": "r1",
            "status": "DONE",
            "outcome": "the entry is sent with its stop and targets",
        }
    )
    with psycopg.connect(market) as connection:
        assert connection.execute("select count(*) from orders where leg = 'ENTRY'").fetchone() == (1,)
    assert "no open position" in run("trade", "close", "BTCUSDT", "--session", "hand").err
    assert "open positions or entries" in run("session", "stop", "hand", "--json").err


def test_trade_is_refused_while_the_kill_switch_is_engaged(run: Run, market: str) -> None:
    run("session", "create", "hand", "--symbols", "BTCUSDT", "--start")
    run("kill", "on", "--reason", "news")

    outcome = run("trade", "open", "BTCUSDT", "--side", "long", "--stop", "1", "--session", "hand", "--json")

    assert outcome.code == 1
    assert (outcome.json["status"], outcome.json["outcome"]) == ("REFUSED", "the kill switch is engaged: news")


def test_drill_says_how_fast_it_was_and_status_remembers_it(run: Run, market: str) -> None:
    drill = run("kill", "drill", "--json")

    assert drill.code == 0
    assert drill.json["drill"]["outcome"] == "PASSED"
    assert run("status", "--json").json["kill_drill"]["flat_ms"] == drill.json["drill"]["flat_ms"]
    assert run("kill", "status", "--json").json["kill_switch"]["engaged"] is False


def test_status_says_which_session_trades_nothing_and_why(run: Run, market: str) -> None:
    run("session", "create", "idle", "--start")

    assert "has not been compared" in run("status", "--json").json["refused"]["idle"]
    assert "idle       trades nothing new" in run("status").out


def test_session_is_replayed_bar_by_bar(run: Run, market: str) -> None:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    since, until = f"{day:%Y-%m-%d}", f"{day + timedelta(days=1):%Y-%m-%d}"
    replayed = run(
        "replay", "--name", "lived", "--strategy", "ema_cross", "--param", "fast=3", "--param", "slow=7",
        "--symbols", "BTCUSDT", "--from", since, "--to", until, "--json",
    )  # fmt: skip
    assert replayed.code == 0

    bars = run("session", "bars", "lived", "btcusdt", "--json").json["bars"]

    assert len(bars) == 96
    assert {bar["decisions"][0]["strategy"] for bar in bars} == {"ema_cross"}
    assert all(bar["equity"]["equity"] > 0 for bar in bars)
    fills = [fill["kind"] for bar in bars for fill in bar["fills"]]
    assert fills.count("ENTRY") >= 1
    part = run("session", "bars", "lived", "BTCUSDT", "--from", since, "--to", f"{since}T06:00", "--events")
    assert part.out.startswith("lived: BTCUSDT 15m")
    assert run("session", "bars", "lived", "BTCUSDT", "--from", since, "--to", since).code == 2
    assert "does not trade ETHUSDT" in run("session", "bars", "lived", "ETHUSDT").err
