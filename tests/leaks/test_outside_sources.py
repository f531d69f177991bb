"""Sentiment, flows and odds follow from what was known; a change of any of them is found, with its coin and instant."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from trading_pipelines.adapters.alternative.factory import open_sources
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.alternative.alternative_data import collect
from trading_pipelines.application.alternative.flows import update_flows
from trading_pipelines.application.alternative.odds import update_odds
from trading_pipelines.application.alternative.sentiment import open_readers, update_sentiment
from trading_pipelines.application.audit.decision_path import check_assets
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.settings import load_settings
from trading_pipelines.store.connection import Connection, connect

DAY = timedelta(days=1)
END = datetime(2025, 6, 1, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
ASSETS = ("sentiment", "flows", "odds")
SETTINGS = load_settings(symbols=SYMBOLS, simulation={"symbols": SYMBOLS})


@pytest.fixture(scope="module")
def prepared(server_url: str, template: str) -> Iterator[str]:
    """Four days of everything that the simulated world tells besides prices, and what follows from it."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"create database leak_outside template {template}")
    url = make_conninfo(server_url, dbname="leak_outside")
    with connect(url) as connection:
        source = SimulatedSource(SETTINGS.simulation, clock=lambda: END)
        ingest(connection, source, SYMBOLS, Timeframe.M15, END - 8 * DAY, END)
        for several in open_sources(SETTINGS).values():
            for each in several:
                collect(connection, each, END - 4 * DAY, END, now=END)
        update_flows(connection, SETTINGS, END - 4 * DAY, END)
        update_odds(connection, SETTINGS, END - 4 * DAY, END)
        chosen = SETTINGS.sentiment
        update_sentiment(
            connection,
            open_readers(chosen),
            END,
            simulated=True,
            coins=("BTC", "ETH"),
            spec=chosen.aggregation,
            alerts=chosen.alerts,
        )
        connection.commit()
    yield url
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute("drop database leak_outside with (force)")


@pytest.fixture
def world(prepared: str) -> Iterator[Connection]:
    """A connection whose changes are forgotten."""
    connection = psycopg.connect(prepared)
    yield connection
    connection.rollback()
    connection.close()


def test_everything_stored_follows_from_what_was_known(world: Connection) -> None:
    checks = check_assets(world, SETTINGS, SYMBOLS, "15m", 16, 5, ASSETS)
    assert {check.asset: check.findings for check in checks} == dict.fromkeys(ASSETS, ())
    assert all(check.checked > 10 for check in checks)


@pytest.mark.parametrize(
    ("asset", "change"),
    [
        ("sentiment", "update sentiment set score = score * 0.9 where coin = 'BTC'"),
        ("sentiment", "update text_scores set available_at = available_at + interval '1 day'"),
        ("flows", "update observations set value = value + 1 where series = 'exchange_netflow_usd' and coin = 'BTC'"),
        ("flows", "update observations set value = value * 0.99 where series = 'whale_score' and coin = 'BTC'"),
        ("flows", "update exchange_flows set available_at = available_at + interval '3 hours' where coin = 'BTC'"),
        ("odds", "update implied_distributions set survival[1] = survival[1] - 0.01 where coin = 'BTC'"),
        ("odds", "delete from prediction_odds where available_at < timestamptz '2025-06-01' - interval '1 hour'"),
    ],
)
def test_what_knew_the_future_is_named_with_its_coin(world: Connection, asset: str, change: LiteralString) -> None:
    world.execute(change)
    (check,) = check_assets(world, SETTINGS, SYMBOLS, "15m", 16, 5, [asset])
    assert {finding.symbol for finding in check.findings} >= {"BTC"}
    assert all(END - 5 * DAY <= finding.first <= END for finding in check.findings)
