"""The commands on a real database: what they do, print and leave behind."""

from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import psycopg
import pytest
from command_line import Run
from psycopg.conninfo import conninfo_to_dict

from trading_pipelines.domain.market.timeframe import Timeframe

MIDNIGHT = Timeframe.D1.floor(datetime.now(UTC))


def day(ago: int) -> str:
    return f"{MIDNIGHT - timedelta(days=ago):%Y-%m-%d}"


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"select count(*) from {table}").fetchone()
        assert row is not None
        return row[0]


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"{version('trading-pipelines')}\n"
    for command in ("up", "status", "ingest", "train", "replay", "kill", "db", "service", "env"):
        assert command in run("--help").out
        assert run(command, "--help").code == 0


def test_ingest_stores_what_is_missing_once(run: Run, on_database: str, small_market: None) -> None:
    first = run("ingest", "--from", day(2), "--to", day(1), "--json")
    assert first.code == 0
    assert first.json["inserted"] == 2 * 288 == count(on_database, "ohlcv_5m")
    assert first.json["derived"]["1h"] == 2 * 24
    assert [s["symbol"] for s in first.json["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    second = run("ingest", "--from", day(2), "--to", day(1), "--json")
    assert second.json["inserted"] == 0


def test_ingest_of_everything_tells_each_timeframe_apart(run: Run, on_database: str, small_market: None) -> None:
    outcome = run("ingest", "--timeframe", "all", "--from", day(2), "--to", day(1), "--json")
    assert outcome.code == 0
    assert outcome.json["timeframes"]["5m"]["inserted"] == 2 * 288
    assert outcome.json["timeframes"]["5m"]["errors"] == []


def test_universe_is_looked_at_and_shown(run: Run, on_database: str, small_market: None) -> None:
    found = run("universe", "--all", "--json").json
    assert {pair["symbol"] for pair in found["pairs"] if pair["member"]} >= {"BTCUSDT", "ETHUSDT"}
    assert all(pair["reasons"] for pair in found["pairs"] if not pair["member"])
    assert "BTCUSDT" in run("universe", "--no-look").out
    assert count(on_database, "universe") == len(found["pairs"])


def test_repair_without_gaps_asks_nothing(run: Run, on_database: str, small_market: None) -> None:
    assert run("repair", "--json").json["asked"] == 0
    assert "asked about 0 gaps" in run("repair").out


def test_ingest_of_one_symbol_shows_a_table_and_progress(run: Run, on_database: str, small_market: None) -> None:
    outcome = run("ingest", "--symbols", "ethusdt", "--from", day(2), "--to", day(1))
    assert outcome.code == 0
    assert "ETHUSDT" in outcome.out
    assert "BTCUSDT" not in outcome.out
    assert outcome.err.startswith("candles")


def test_train_then_replay_gives_the_same_fingerprint_twice(run: Run, on_database: str, small_market: None) -> None:
    assert run("ingest", "--from", day(58), "--to", day(0)).code == 0
    trained = run("train", "--symbols", "BTCUSDT", "--to", day(5), "--force", "--json")
    assert trained.code == 0
    (model,) = trained.json["versions"]
    assert (model["symbol"], model["promoted"]) == ("BTCUSDT", True)
    assert "training" in trained.err

    command = ("replay", "--symbols", "BTCUSDT", "--from", day(5), "--to", day(4), "--json")
    first, second = run(*command), run(*command)
    assert first.code == second.code == 0
    assert first.json["bars"] == 96
    assert first.json["signals"] + sum(first.json["rejections"].values()) == 96
    assert len(first.json["fingerprint"]) == 64
    assert first.json["fingerprint"] == second.json["fingerprint"]
    assert first.json["performance"]["start_equity"] == 10_000
    with psycopg.connect(on_database) as connection:
        sessions = connection.execute("select name, mode, status from sessions").fetchall()
    assert sessions == [(first.json["session"]["name"], "replay", "STOPPED")]

    table = run(*command[:-1], "--name", "mine")
    assert f"fingerprint {first.json['fingerprint']}" in table.out
    assert "max drawdown" in table.out


def test_replay_that_would_peek_is_refused(run: Run, on_database: str, small_market: None) -> None:
    run("ingest", "--from", day(3), "--to", day(0))
    outcome = run("replay", "--from", day(2), "--to", day(1), "--train-until", day(1))
    assert outcome.code == 2
    assert "would peek" in outcome.err
    assert outcome.err.count("\n") == 1


def test_kill_switch_is_engaged_and_released(run: Run, on_database: str, tmp_path: Path) -> None:
    assert run("kill", "status", "--json").json["kill_switch"]["engaged"] is False
    engaged = run("kill", "on", "--reason", "news", "--flatten", "--json").json["kill_switch"]
    assert engaged == {"engaged": True, "reason": "news", "cancel": True, "flatten": True}
    assert (tmp_path / "data" / "KILL").exists()
    assert run("kill", "status").out == "ENGAGED: news, closing all positions\n"
    assert run("status", "--json").json["kill_switch"] == {"engaged": True, "reason": "news"}
    assert run("kill", "off", "--reason", "quiet again").out == "released: quiet again\n"
    assert run("kill", "status", "--json").json["kill_switch"]["engaged"] is False
    assert not (tmp_path / "data" / "KILL").exists()


def test_kill_switch_is_engaged_without_a_database(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/trading")
    assert run("kill", "on", "--reason", "flood").out == "ENGAGED: flood\n"
    assert (tmp_path / "data" / "KILL").exists()
    outcome = run("kill", "off")
    assert outcome.code == 2
    assert (tmp_path / "data" / "KILL").exists()


def test_kill_switch_needs_no_server_to_be_started(run: Run, tmp_path: Path) -> None:
    assert run("kill", "on").out.startswith("ENGAGED")
    assert (tmp_path / "data" / "KILL").exists()
    assert not (tmp_path / "data" / "postgres").exists()


def test_status_of_a_fresh_clone_starts_nothing(run: Run, tmp_path: Path) -> None:
    found = run("status", "--json").json
    assert found["platform"]["process"] is None
    assert found["database"]["running"] is False
    assert not (tmp_path / "data" / "postgres").exists()
    assert "not running" in run("status").out
    assert run("status", "--alive", "trader").code == 1


def test_status_tells_services_candles_and_sessions(run: Run, on_database: str, small_market: None) -> None:
    run("ingest", "--from", day(1), "--to", day(0))
    with psycopg.connect(on_database) as connection:
        connection.execute("insert into heartbeats values ('trader', now(), now(), '{}')")
        connection.execute("insert into heartbeats values ('other', now() - interval '1 hour', now(), '{}')")
    found = run("status", "--json").json
    assert found["database"] == {"running": True, "pending_migrations": []}
    assert {s["service"] for s in found["services"]} == {"trader", "other"}
    newest = {c["timeframe"]: c for c in found["candles"]}
    assert newest["5m"]["newest_close"] == MIDNIGHT.isoformat()
    assert newest["5m"]["symbols"] == 2
    assert newest["5m"]["lag_seconds"] > 0
    sources = {(s["symbol"], s["dataset"]): s for s in found["sources"]}
    candles = sources["BTCUSDT", "candles 5m"]
    assert (candles["source"], candles["exchange"], candles["rows_written"]) == ("simulated", "simulated", 288)
    assert (candles["open_gaps"], candles["missing_bars"], candles["quarantined"]) == (0, 0, 0)
    assert candles["last_error"] is None
    assert candles["rows_per_second"] > 0
    assert candles["lag_seconds"] > 0
    assert run("status", "--alive", "trader").code == 0
    assert run("status", "--alive", "other").code == 1
    table = run("status").out
    assert "alive" in table
    assert "silent" in table


def test_migrate_brings_an_empty_database_up_to_date(
    run: Run, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cli_migrate"
    with psycopg.connect(server_url, autocommit=True) as administrator:
        administrator.execute(f"create database {name}")
        try:
            url = psycopg.conninfo.make_conninfo(server_url, dbname=name)
            monkeypatch.setenv("TRADING_DATABASE_URL", url)
            assert "0001_market_data" in run("status", "--json").json["database"]["pending_migrations"]
            assert "run `trading db migrate`" in run("status").out
            assert "0001_market_data" in run("db", "migrate", "--json").json["applied"]
            assert run("db", "migrate").out == "up to date\n"
        finally:
            administrator.execute(f"drop database {name} with (force)")


def test_psql_reaches_the_database_and_passes_its_exit_code_on(run: Run, on_database: str, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    assert run("db", "psql", "--", "-tA", "-o", str(answer), "-c", "select 6 * 7").code == 0
    assert answer.read_text() == "42\n"
    assert run("db", "psql", "--", "-c", "select nonsense").code == 1


def test_url_is_that_of_the_settings(run: Run, on_database: str) -> None:
    assert run("db", "url").out.strip() == on_database
    dagster = run("db", "url", "--dagster", "--json").json["url"]
    assert conninfo_to_dict(dagster)["dbname"] == "dagster"


def test_own_database_is_neither_started_nor_stopped(run: Run, on_database: str) -> None:
    outcome = run("db", "start")
    assert outcome.code == 2
    assert "TRADING_DATABASE_URL names a server of your own" in outcome.err


def test_env_is_what_dagsters_commands_need(run: Run, on_database: str, tmp_path: Path) -> None:
    lines = run("env").out.splitlines()
    names = {line.removeprefix("export ").split("=")[0] for line in lines}
    assert names == {"TRADING_DATA_DIR", "DAGSTER_HOME", "DAGSTER_POSTGRES_URL"}
    assert (tmp_path / "data" / "dagster_home" / "dagster.yaml").exists()


def test_settings_are_listed_with_meaning_and_without_secrets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADING_RISK__MAX_OPEN_POSITIONS", "3")
    monkeypatch.setenv("TRADING_ALTERNATIVE__WHALE_ALERT__API_KEY", "geheim-4711")
    monkeypatch.setenv("TRADING_ALTERNATIVE__FEAR_GREED__BASE_URL", "https://me:geheim@proxy.example")

    changed = {line["variable"]: line for line in run("settings", "--changed", "--json").json["settings"]}
    found = run("settings", "max_open")

    assert changed["TRADING_RISK__MAX_OPEN_POSITIONS"]["value"] == "3"
    assert changed["TRADING_ALTERNATIVE__WHALE_ALERT__API_KEY"]["value"] == "••••••••"
    assert changed["TRADING_ALTERNATIVE__FEAR_GREED__BASE_URL"]["value"] == "https://••••••••@proxy.example"
    assert "TRADING_PROFILE" not in changed
    assert "TRADING_RISK__MAX_OPEN_POSITIONS" in found.out
    assert "TRADING_PROFILE" not in found.out


def test_help_names_the_defaults_that_depend_on_settings(run: Run) -> None:
    assert "[default: now]" in run("train", "--help").out


def test_every_command_stands_in_a_group_of_the_help(run: Run) -> None:
    out = run("--help").out

    assert [word for word in ("Run", "Data", "Research", "Trade", "Look into") if f"╭─ {word} ─" not in out] == []
    assert "╭─ Commands ─" not in out
