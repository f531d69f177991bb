"""`trading features`: build, what became stale, rebuild; and who tells of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
from command_line import Run

from trading_pipelines.domain.market.timeframe import Timeframe

MIDNIGHT = Timeframe.D1.floor(datetime.now(UTC))


def day(ago: int) -> str:
    return f"{MIDNIGHT - timedelta(days=ago):%Y-%m-%d}"


def test_history_loaded_late_is_told_by_every_command_until_it_is_rebuilt(
    run: Run, on_database: str, small_market: None, tmp_path: Path
) -> None:
    assert run("ingest", "--from", day(40), "--to", day(0)).code == 0
    built = run("features", "build", "--from", day(3), "--to", day(0), "--json").json
    assert (built["symbols"], built["rows"]) == (2, 2 * 3 * 96)
    assert run("features", "stale", "--json").json == {"stale": []}
    with psycopg.connect(on_database) as connection:  # the market is simulated, recorded history is not
        connection.execute("update instruments set exchange = 'bybit'")
        connection.execute("update market_breadth set exchange = 'bybit'")
    index = tmp_path / "sentiment_index" / "fear_greed_alternative_me.parquet"
    index.parent.mkdir()
    stamps = pd.date_range(day(20), day(0), tz="UTC").as_unit("us")
    pd.DataFrame({"ts": stamps, "value": range(40, 40 + len(stamps))}).to_parquet(index)

    loaded = run("history", "load", str(tmp_path))

    assert loaded.code == 0
    assert "features_15m" in loaded.out
    assert "late: fear_greed known from" in loaded.out
    assert "`trading features rebuild` computes it again" in loaded.out
    (waiting,) = run("status", "--json").json["stale"]
    assert (waiting["dataset"], waiting["symbols"], waiting["days"]) == ("features_15m", 2, 3)
    assert "`trading features rebuild`" in run("status").out
    leaking = run("leakcheck", "--exchange", "bybit", "--asset", "features")
    assert leaking.code == 1
    assert "its inputs changed after it was built (late: fear_greed" in leaking.out

    rebuilt = run("features", "rebuild", "--json").json

    assert set(rebuilt["changed"]["bybit"]) == {"BTCUSDT", "ETHUSDT"}
    assert run("features", "stale").out.strip() == "Stale: none"
    assert "stale " not in run("status").out
    assert run("leakcheck", "--exchange", "bybit", "--asset", "features").code == 0


def test_timeframe_without_features_is_refused(run: Run, on_database: str) -> None:
    refused = run("features", "build", "--timeframe", "1m")
    assert refused.code == 2
    assert "5m, 15m, 1h, 4h, 1d, not of 1m" in refused.err
