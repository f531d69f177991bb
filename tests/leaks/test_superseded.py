"""What was said before its inputs were corrected stays as it was said, and is told from what knew the future."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.audit.corrections import rebuild_stale, trace_changes
from trading_pipelines.application.audit.decision_path import AssetCheck, check_assets
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.application.models.prediction import record_outcomes
from trading_pipelines.application.models.training import train
from trading_pipelines.application.research.replay import replay
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection

SYMBOL = "ETHUSDT"
END = datetime(2025, 6, 1, tzinfo=UTC)
TRAINED = END - timedelta(days=3)
ASSETS = ("features", "labels", "splits", "models", "predictions", "decisions")
SETTINGS = load_settings(
    training={"train_days": 30, "test_days": 4, "folds": 1, "early_stopping_days": 6, "calibration_days": 6}
    | {"num_boost_round": 60}
)


@pytest.fixture
def market(connection: Connection) -> Connection:
    """A version, its fold, and what it predicted and decided on the days after."""
    source = SimulatedSource(SimulatedMarketSpec(symbols=("BTCUSDT", SYMBOL)), clock=lambda: END)
    ingest(connection, source, ("BTCUSDT", SYMBOL), Timeframe.M15, END - timedelta(days=50), END)
    train(connection, "simulated", SYMBOL, "15m", TRAINED, SETTINGS.training, force=True)
    replay(connection, SETTINGS, "simulated", (SYMBOL,), "15m", TRAINED, END, name="said")
    record_outcomes(connection, "simulated", (SYMBOL,), "15m", END)
    return connection


def checked(connection: Connection) -> dict[str, AssetCheck]:
    found = check_assets(connection, SETTINGS, (SYMBOL,), "15m", 40, 3, ASSETS)
    return {check.asset: check for check in found}


def test_corrected_candles_are_no_fault_of_what_was_said_before(market: Connection) -> None:
    assert not any(check.findings or check.superseded for check in checked(market).values())
    market.execute(
        "update ohlcv_15m set close = close * 1.01, high = high * 1.02 from instruments i "
        "where i.instrument_id = ohlcv_15m.instrument_id and symbol = %s and ts in (%s, %s)",
        (SYMBOL, TRAINED - timedelta(days=6), END - timedelta(days=2)),
    )
    before = checked(market)
    assert {asset for asset, check in before.items() if check.findings} >= {"features", "models"}

    trace_changes(market, "simulated", Timeframe.M15)
    followed = checked(market)
    # Only what can be computed again has to be.
    assert {asset for asset, check in followed.items() if check.findings} == {"features"}
    rebuild_stale(market, "simulated", SETTINGS)

    after = checked(market)
    assert not any(check.findings for check in after.values())
    assert {asset for asset, check in after.items() if check.superseded} >= {"models", "predictions", "decisions"}
    causes = {finding.superseded_by for check in after.values() for finding in check.superseded}
    assert all(cause and cause.startswith("corrected: 2 candles 15m of ETHUSDT") for cause in causes)

    # What is said from now on has to follow from what is stored.
    market.execute("delete from predictions")
    market.commit()
    replay(market, SETTINGS, "simulated", (SYMBOL,), "15m", TRAINED, END, name="said again")
    market.execute("update predictions set probability = probability * 0.999")
    assert checked(market)["predictions"].findings
