"""The job that follows changed inputs: asked for when there is something to follow, and done with it afterwards."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.features.building import build_features
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.defs.market_data.corrections import corrections_job, corrections_schedule
from trading_pipelines.domain.alternative.series import MARKET, SIMULATED, Observation
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.resources.platform import DatabaseResource
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import observations

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def ask(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=NOW, resources={"database": DatabaseResource()}
    ) as context:
        answer = corrections_schedule(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


@pytest.mark.usefixtures("platform")
def test_late_observation_is_followed_once(connection: Connection, stored_instance: dg.DagsterInstance) -> None:
    source = SimulatedSource(SimulatedMarketSpec(symbols=SYMBOLS), clock=lambda: NOW)
    ingest(connection, source, SYMBOLS, Timeframe.M15, NOW - timedelta(days=5), NOW)
    build_features(connection, "simulated", SYMBOLS, "15m", NOW - timedelta(hours=6), NOW)
    connection.commit()
    assert isinstance(ask(stored_instance), dg.SkipReason)

    known = NOW - timedelta(hours=3)
    observations.add(connection, [Observation("fear_greed", MARKET, SIMULATED, known, known, 40.0)])
    connection.commit()
    assert isinstance(ask(stored_instance), dg.RunRequest)

    done = corrections_job.execute_in_process(instance=stored_instance, resources={"database": DatabaseResource()})

    (told,) = [
        event.materialization
        for event in done.all_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
    ]
    assert told.asset_key == dg.AssetKey("features_15m")
    assert told.metadata["changed_rows"].value == dict.fromkeys(SYMBOLS, 12)
    assert isinstance(ask(stored_instance), dg.SkipReason)
