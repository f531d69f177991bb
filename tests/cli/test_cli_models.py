"""The commands around model versions and leaks, on a database with a trained market."""

from datetime import UTC, datetime, timedelta

import psycopg
from command_line import Run

from trading_pipelines.domain.market.timeframe import Timeframe

MIDNIGHT = Timeframe.D1.floor(datetime.now(UTC))


def day(ago: int) -> str:
    return f"{MIDNIGHT - timedelta(days=ago):%Y-%m-%d}"


def test_versions_are_listed_pinned_rolled_back_and_checked_for_leaks(
    run: Run, on_database: str, small_market: None
) -> None:
    assert run("ingest", "--from", day(58), "--to", day(0)).code == 0
    first, second = (
        run("train", "--symbols", "BTCUSDT", "--to", day(ago), "--force", "--json").json["versions"][0]["model_id"]
        for ago in (8, 5)
    )

    def states() -> dict[str, tuple[str, bool]]:
        rows = run("models", "list", "--json").json["versions"]
        return {row["model_id"]: (row["state"], row["pinned"]) for row in rows}

    assert states() == {first: ("archived", False), second: ("production", False)}
    shown = run("models", "show", second)
    assert shown.code == 0
    assert second in shown.out
    assert run("models", "pin", second, "--reason", "quarter end").code == 0
    refused = run("models", "promote", first, "--reason", "better")
    assert refused.code == 2
    assert "pinned" in refused.err
    assert run("models", "unpin", second, "--reason", "over").code == 0
    assert run("models", "rollback", second, "--reason", "worse").code == 0
    assert states() == {first: ("production", False), second: ("archived", False)}
    assert run("models", "show", "nothing").code == 2

    ablation = run("models", "ablation", "BTCUSDT", "--folds", "2", "--to", day(5), "--json")
    assert ablation.code == 0
    assert "own bars: returns" in {row["source"] for row in ablation.json["sources"]}
    assert states() == {first: ("production", False), second: ("archived", False)}

    command = ("replay", "--symbols", "BTCUSDT", "--from", day(5), "--to", day(4))
    assert run(*command).code == 0
    clean = run("leakcheck", "--symbols", "BTCUSDT", "--asset", "features", "--asset", "predictions", "--json")
    assert clean.code == 0
    assert all(check["checked"] > 0 for check in clean.json["checks"])
    with psycopg.connect(on_database) as connection:
        connection.execute("update features_15m set values[1] = values[1] + 0.01")
    leaking = run("leakcheck", "--symbols", "BTCUSDT", "--asset", "features")
    assert leaking.code == 1
    assert "features: " in leaking.out
