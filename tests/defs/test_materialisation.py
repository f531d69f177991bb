"""Assets in a real run: the simulated source, the real use cases, a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from trading_pipelines.adapters.exchanges.paper import MarketEvent, PaperExchange
from trading_pipelines.adapters.sources import open_source
from trading_pipelines.application.signals.sessions import paper_session
from trading_pipelines.application.trading.reconciliation import reconcile
from trading_pipelines.defs.execution.assets import execution, synchronisation
from trading_pipelines.defs.execution.checks import orders_once
from trading_pipelines.defs.execution.jobs import signal_execution_job
from trading_pipelines.defs.execution.sensors import signal_execution_sensor
from trading_pipelines.defs.features.assets import features
from trading_pipelines.defs.features.checks import features_finite, features_no_lookahead
from trading_pipelines.defs.leaks.checks import leaks
from trading_pipelines.defs.market_data.assets import BASE_TABLE, candles
from trading_pipelines.defs.market_data.jobs import candles_job
from trading_pipelines.defs.models.assets import prediction, training
from trading_pipelines.defs.models.checks import predictions_within_bounds
from trading_pipelines.defs.portfolio.checks import equity_identity, positions_protected
from trading_pipelines.defs.signals.assets import emission
from trading_pipelines.defs.signals.checks import founded, prices_in_order
from trading_pipelines.defs.signals.jobs import signal_emission_job
from trading_pipelines.defs.signals.sensors import signal_emission_sensor
from trading_pipelines.resources.platform import ClockResource, ExchangeResource, SourceResource
from trading_pipelines.settings import settings

TODAY = datetime.now(UTC).date()
DAY = str(TODAY - timedelta(days=1))


@pytest.fixture
def all_resources(resources: dict[str, Any]) -> dict[str, Any]:
    live = {"clock": ClockResource(), "source": SourceResource(), "exchange": ExchangeResource()}
    return {**resources, **live}


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
    job = dg.Definitions(
        assets=[candles], asset_checks=[leaks], jobs=[candles_job], resources=all_resources
    ).resolve_job_def(candles_job.name)
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
    monkeypatch.setenv("TRADING_SYMBOLS", "NOTHINGUSDT")
    settings.cache_clear()
    result = dg.materialize([candles], partition_key=DAY, resources=all_resources, raise_on_error=False)
    assert not result.success
    assert "TRADING_SYMBOLS" in str(result.failure_data_for_node("ingest"))
    assert not result.retry_attempts_for_node("ingest")


def test_feature_that_knew_the_future_is_found(books: Any, all_resources: dict[str, Any]) -> None:
    built = dg.materialize([candles, features, features_no_lookahead], tags=_days(3), resources=all_resources)
    assert built.success
    assert [e.metadata["rows"].value for e in built.get_asset_check_evaluations()] == [2]
    books.connection.execute("update features_15m set values[1] = values[1] + 0.01")
    books.connection.commit()
    job = dg.Definitions(
        asset_checks=[features_no_lookahead],
        jobs=[dg.define_asset_job("checking", dg.AssetSelection.checks(features_no_lookahead))],
        resources=all_resources,
    ).resolve_job_def("checking")
    checked = job.execute_in_process(tags=_days(3), raise_on_error=False)
    (evaluation,) = checked.get_asset_check_evaluations()
    assert not evaluation.passed
    assert "ret_1 at" in str(evaluation.metadata["leaks"].value)


def test_lineage_from_candles_to_orders_ends_with_each_signal_executed_once(
    books: Any,
    all_resources: dict[str, Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that the daemon would run, in the order in which sensors ask for it."""
    for name, value in EAGER.items():
        monkeypatch.setenv(f"TRADING_{name}", value)
    settings.cache_clear()
    assert dg.materialize([candles, features, features_finite], tags=_days(40), resources=all_resources).success
    assert dg.materialize(
        [training],
        run_config=dg.RunConfig(ops={"train": {"config": {"as_of": f"{DAY}T00:00:00+00:00"}}}),
        resources=all_resources,
    ).success
    _promote_all(books)
    assert dg.materialize([prediction, predictions_within_bounds], tags=_days(1), resources=all_resources).success

    platform = dg.Definitions(
        assets=[emission, execution, synchronisation],
        asset_checks=[prices_in_order, founded, orders_once, positions_protected, equity_identity, leaks],
        jobs=[signal_emission_job, signal_execution_job],
        sensors=[signal_emission_sensor, signal_execution_sensor],
        resources=all_resources,
    )

    def run_what_is_asked_for(sensor: dg.SensorDefinition, cursor: str | None = None) -> str | None:
        with dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={name: all_resources[name] for name in ("clock", "database")},
            repository_def=platform.get_repository_def(),
        ) as context:
            tick = sensor.evaluate_tick(context)
        for request in tick.run_requests or []:
            job = platform.resolve_job_def(sensor.job_name)
            assert job.execute_in_process(instance=instance, tags=request.tags).success
        return tick.cursor if not tick.run_requests else "asked"

    assert run_what_is_asked_for(signal_emission_sensor) == "asked"
    assert run_what_is_asked_for(signal_emission_sensor) != "asked"
    signals = _count(books, "signals")
    assert signals > 0
    _move_market(books)
    assert run_what_is_asked_for(signal_execution_sensor) == "asked"
    assert run_what_is_asked_for(signal_execution_sensor) != "asked"
    entries = _count(books, "orders where leg = 'ENTRY'")
    assert entries > 0
    assert entries == _count(books, "signals where status = 'EXECUTED'")
    _move_market(books)
    again = platform.resolve_job_def(signal_execution_job.name).execute_in_process(instance=instance)
    assert again.success
    assert _count(books, "orders where leg = 'ENTRY'") == entries
    assert _count(books, "positions where quantity_protected = quantity_open") == entries


EAGER = {
    "TRAINING__TRAIN_DAYS": "21",
    "TRAINING__FOLDS": "1",
    "TRAINING__EARLY_STOPPING_DAYS": "4",
    "TRAINING__PROCESSES": "1",
    "SIGNALS__MIN_CONFIDENCE": "0.5",
    "SIGNALS__MIN_NET_PROFIT": "0",
    "SIGNALS__MIN_EXPECTED_VALUE": "-1",
    "SIGNALS__MAX_ATR_RATIO": "100",
    "SIGNALS__MAX_ENTRY_DRIFT_R": "100",
}
"""A short training, and thresholds that let any set-up through: what is tested is the way, not the strategy."""


def _days(number: int) -> dict[str, str]:
    """Tags of a run over today and the days before it."""
    return {
        "dagster/asset_partition_range_start": str(TODAY - timedelta(days=number)),
        "dagster/asset_partition_range_end": str(TODAY),
    }


def _promote_all(books: Any) -> None:
    """Put every version into production, whether it has earned it or not."""
    books.connection.execute(
        "insert into model_promotions (model_id, instrument_id, timeframe, effective_from, reason) "
        "select model_id, instrument_id, timeframe, as_of, 'test' from model_versions"
    )
    books.connection.commit()


def _move_market(books: Any) -> None:
    """One tick of the fast service: the paper exchange sees the newest prices, and the account is compared with it."""
    now = datetime.now(UTC)
    quotes = open_source(settings()).tickers(list(books.ids))
    exchange = PaperExchange(books.connection, books.session_id, settings().execution)
    exchange.advance([MarketEvent.tick(books.ids[quote.symbol], now, quote.price) for quote in quotes])
    session = paper_session(books.connection, settings())
    assert reconcile(books.connection, session, exchange, now, settings().trader).known


def _count(books: Any, what: str) -> int:
    (count,) = books.connection.execute(f"select count(*) from {what}").fetchone()
    books.connection.commit()
    return int(count)
