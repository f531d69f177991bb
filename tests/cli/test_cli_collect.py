"""`trading collect` and `trading sources` on the simulated market."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command_line import Run

pytestmark = pytest.mark.usefixtures("on_database", "small_market")


def day(ago: int) -> str:
    return f"{datetime.now(UTC) - timedelta(days=ago):%Y-%m-%d}"


def test_everything_is_collected_once_and_its_sources_are_shown(run: Run) -> None:
    first = run("collect", "--since", day(3), "--json")
    again = run("collect", "--since", day(3), "--json").json["sources"]
    collected = first.json["sources"]
    assert first.code == 0
    assert all(report["status"] == "OK" and report["new"] > 0 for report in collected)
    assert sum(report["new"] for report in again) < sum(report["new"] for report in collected) / 10
    shown = {row["source"]: row for row in run("sources", "--json").json["sources"]}
    assert set(shown) == {report["source"] for report in collected}
    assert all(row["state"] == "ok" and row["last_answer"] and row["newest"] for row in shown.values())
    assert shown["simulated_news"]["dataset"] == "news"


def test_one_source_or_dataset_can_be_chosen(run: Run) -> None:
    reports = run("collect", "news", "simulated_fear_greed", "--since", day(2), "--json").json["sources"]
    assert [report["source"] for report in reports] == ["simulated_fear_greed", "simulated_news"]
    states = {row["source"]: row["state"] for row in run("sources", "--json").json["sources"]}
    assert states["simulated_news"] == "ok"
    assert states["simulated_posts"] == "never asked"
    assert "simulated_posts" in run("sources").out


def test_wrong_name_and_wrong_time_say_what_would_be_right(run: Run) -> None:
    unknown = run("collect", "twitter")
    assert unknown.code == 2
    assert "no source or dataset twitter; there are" in unknown.err
    assert "has not come yet" in run("collect", "--since", day(-3)).err


@pytest.mark.parametrize("command", ["collect", "sources"])
def test_archive_has_no_sources_and_says_what_brings_history(
    run: Run, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADING_SOURCE", "archive")
    monkeypatch.setenv("TRADING_EXCHANGE", "binanceusdm")
    monkeypatch.setenv("TRADING_ARCHIVE_DIR", str(tmp_path))
    answer = run(command)
    assert answer.code == 2
    assert "trading history load" in answer.err
