"""Assets in a real run: the simulated source, the real use cases, a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.defs.market_data.assets import BASE_TABLE, candles
from trading_pipelines.defs.market_data.jobs import candles_job
from trading_pipelines.resources.platform import ClockResource, SourceResource

TODAY = datetime.now(UTC).date()
DAY = str(TODAY - timedelta(days=1))


@pytest.fixture
def all_resources(resources: dict[str, Any]) -> dict[str, Any]:
    return {**resources, "clock": ClockResource(), "source": SourceResource()}


def counts(books: Any, table: str) -> dict[str, int]:
    rows = books.connection.execute(
        f"select symbol, count(*) from {table} join instruments using (instrument_id) group by 1"
    ).fetchall()
    books.connection.commit()
    return dict(rows)


def test_day_of_candles_is_fetched_derived_and_counted(
    books: Any, all_resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    result = dg.materialize([candles], partition_key=DAY, resources=all_resources, instance=instance)
    assert result.success
    assert counts(books, "ohlcv_5m") == {"BTCUSDT": 288, "ETHUSDT": 288}
    assert counts(books, "ohlcv_1d") == {"BTCUSDT": 1, "ETHUSDT": 1}
    event = instance.get_latest_materialization_event(dg.AssetKey(BASE_TABLE))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.partition == DAY
    assert event.asset_materialization.metadata["dagster/partition_row_count"].value == 2 * 288


def test_lost_day_is_rebuilt_with_the_same_candles(books: Any, all_resources: dict[str, Any]) -> None:
    def fetch() -> list[Any]:
        dg.materialize([candles], partition_key=DAY, resources=all_resources)
        rows = books.connection.execute("select * from ohlcv_5m order by instrument_id, ts").fetchall()
        books.connection.commit()
        return rows

    before = fetch()
    books.connection.execute("delete from ohlcv_5m")
    books.connection.commit()
    assert fetch() == before


def test_regular_job_asks_only_for_what_was_never_asked_for(books: Any, all_resources: dict[str, Any]) -> None:
    dg.materialize([candles], partition_key=DAY, resources=all_resources)
    books.connection.execute("delete from ohlcv_5m")
    books.connection.commit()
    job = dg.Definitions(assets=[candles], jobs=[candles_job], resources=all_resources).resolve_job_def(
        candles_job.name
    )
    assert job.execute_in_process(partition_key=DAY).success
    assert counts(books, "ohlcv_5m") == {}


def test_several_days_are_rebuilt_in_one_run(books: Any, all_resources: dict[str, Any]) -> None:
    days = [str(TODAY - timedelta(days=ago)) for ago in (3, 2, 1)]
    result = dg.materialize(
        [candles],
        tags={
            "dagster/asset_partition_range_start": days[0],
            "dagster/asset_partition_range_end": days[-1],
        },
        resources=all_resources,
    )
    assert result.success
    assert counts(books, "ohlcv_5m") == {"BTCUSDT": 3 * 288, "ETHUSDT": 3 * 288}
    assert {m.partition for m in result.asset_materializations_for_node("ingest")} == set(days)


def test_unknown_symbol_fails_at_once_and_names_the_variable(
    books: Any, all_resources: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trading_pipelines.settings import settings

    monkeypatch.setenv("TRADING_SYMBOLS", "NOTHINGUSDT")
    settings.cache_clear()
    result = dg.materialize([candles], partition_key=DAY, resources=all_resources, raise_on_error=False)
    assert not result.success
    assert "TRADING_SYMBOLS" in str(result.failure_data_for_node("ingest"))
    assert not result.retry_attempts_for_node("ingest")
