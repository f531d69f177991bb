"""Flows and odds of the simulated market in the database: derived once, as they were known, told of once."""

from datetime import UTC, datetime, timedelta

import pytest

from trading_pipelines.adapters.alternative.simulated.flows import SimulatedExchangeFlows, SimulatedTransactions
from trading_pipelines.adapters.alternative.simulated.odds import SimulatedPredictionMarkets
from trading_pipelines.adapters.sources.simulated import SimulatedSource
from trading_pipelines.application.alternative.alternative_data import collect
from trading_pipelines.application.alternative.flows import derive_flows, flow_sources, raise_whale_alerts, traded_coins
from trading_pipelines.application.alternative.odds import imply_distributions, raise_odds_alerts
from trading_pipelines.application.market_data.ingestion import ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.domain.onchain.flows import WhaleScoreSpec
from trading_pipelines.domain.onchain.transactions import FlowThresholds
from trading_pipelines.domain.prediction_markets.markets import OddsPolicy
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec
from trading_pipelines.store.connection import Connection
from trading_pipelines.store.repositories import source_states

NOW = datetime(2026, 3, 10, 12, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SPEC = SimulatedMarketSpec(symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT"))
SOURCES = flow_sources(simulated=True, cryptoquant=False, dune_coins=())
THRESHOLDS, POLICY, SCORE = FlowThresholds(), OddsPolicy(), WhaleScoreSpec(norm_days=3)


@pytest.fixture
def market(connection: Connection) -> Connection:
    """A week of candles, and what moved on the chains in it."""
    ingest(connection, SimulatedSource(SPEC, lambda: NOW), (), Timeframe.M15, NOW - 7 * DAY, NOW)
    collect(connection, SimulatedTransactions(SPEC, THRESHOLDS), NOW - 6 * DAY, NOW, now=NOW)
    collect(connection, SimulatedExchangeFlows(SPEC), NOW - 6 * DAY, NOW, now=NOW)
    return connection


def _count(connection: Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _derive(connection: Connection, end: datetime = NOW) -> int:
    coins = traded_coins(connection, "simulated")
    return derive_flows(connection, "simulated", SOURCES, coins, NOW - 6 * DAY, end, SCORE).new


def test_flows_are_derived_for_every_coin_and_a_repetition_adds_nothing(market: Connection) -> None:
    assert _derive(market) > 400
    assert _derive(market) == 0

    series = dict(market.execute("select series, count(distinct coin) from observations group by 1").fetchall())
    assert series == {"exchange_netflow_usd": 3, "stablecoin_inflow_usd": 1, "whale_score": 3}
    assert _count(market, "select count(*) from observations where available_at < ts + interval '1 hour'") == 0
    assert _count(market, "select count(*) from observations where series = 'whale_score' and abs(value) >= 1") == 0


def test_what_was_known_then_is_what_a_later_derivation_says_of_then(market: Connection) -> None:
    then = NOW - 30 * HOUR
    _derive(market, then)
    known_then = market.execute("select series, coin, ts, available_at, value from observations").fetchall()
    market.execute("delete from observations")

    _derive(market)

    later = market.execute(
        "select series, coin, ts, available_at, value from observations where available_at <= %s", (then,)
    ).fetchall()
    assert sorted(known_then) == sorted(later)


def test_hours_that_nobody_has_looked_at_are_not_taken_for_quiet_ones(connection: Connection) -> None:
    connection.execute(
        "insert into whale_transactions values ('whale_alert', '1', 'b', 'BTC', %(ts)s, %(ts)s, 200, 2e7, 'UNKNOWN', "
        "'someone', 'EXCHANGE', 'Northpool', 'INFLOW')",
        {"ts": NOW - 10 * HOUR},
    )
    sources = flow_sources(simulated=False, cryptoquant=False, dune_coins=())

    def hours() -> list[datetime]:
        derive_flows(connection, "bybit", sources, ["BTC"], NOW - DAY, NOW, SCORE)
        found = connection.execute("select ts from observations where series = 'exchange_netflow_usd' order by ts")
        return [ts for (ts,) in found.fetchall()]

    source_states.record_success(connection, "whale_alert", NOW - 4 * HOUR, None, 1, 0)
    source_states.record_failure(connection, "whale_alert", NOW, "does not answer")
    assert hours()[-1] == NOW.replace(minute=0) - 5 * HOUR
    source_states.record_success(connection, "whale_alert", NOW, None, 0, 0)
    assert hours()[-1] == NOW.replace(minute=0) - HOUR


def test_very_large_transaction_is_told_of_once(market: Connection) -> None:
    market.execute("update whale_transactions set amount_usd = 1000")
    market.execute(
        "insert into whale_transactions values ('simulated', 'big', 'b', 'BTC', %(ts)s, %(seen)s, 200, 2e7, 'UNKNOWN', "
        "'someone', 'EXCHANGE', 'Northpool', 'INFLOW'), ('simulated', 'old', 'b', 'BTC', %(old)s, %(seen)s, 200, 2e7, "
        "'UNKNOWN', 'someone', 'EXCHANGE', 'Northpool', 'INFLOW')",
        {"ts": NOW - timedelta(minutes=6), "seen": NOW - timedelta(minutes=2), "old": NOW - 5 * HOUR},
    )

    raised = [raise_whale_alerts(market, NOW, THRESHOLDS, simulated=True) for _ in range(2)]

    assert raised == [1, 0]
    told = market.execute("select subject, severity, message from events where kind = 'whale_transaction'").fetchall()
    assert told == [("BTC", "warning", "20.0 million USD in BTC went to an exchange: someone -> Northpool")]
    assert raise_whale_alerts(market, NOW, THRESHOLDS, simulated=False) == 0


def test_repeated_transaction_is_stored_once(market: Connection) -> None:
    before = _count(market, "select count(*) from whale_transactions")

    report = collect(market, SimulatedTransactions(SPEC, THRESHOLDS), NOW - 2 * DAY, NOW, now=NOW)

    assert report.received > 0
    assert report.new == 0
    assert _count(market, "select count(*) from whale_transactions") == before


def test_ladders_are_implied_at_each_hour_as_they_would_have_been_then(market: Connection) -> None:
    source = SimulatedPredictionMarkets(SPEC)
    collect(market, source, NOW - 2 * DAY, NOW, now=NOW)

    report = imply_distributions(market, "simulated", Timeframe.M15, NOW - DAY, NOW, POLICY, simulated=True)

    assert report.ladders > 50
    assert report.biases > 20
    query = (
        "select coin, expires_at, method, ts, spot, above_spot, survival from implied_distributions "
        "where ts <= %s order by 1, 2, 3, 4"
    )
    then = NOW - 6 * HOUR
    stored = market.execute(query, (then,)).fetchall()
    market.execute("delete from implied_distributions")
    imply_distributions(market, "simulated", Timeframe.M15, NOW - DAY, then, POLICY, simulated=True)
    assert market.execute(query, (then,)).fetchall() == stored
    again = imply_distributions(market, "simulated", Timeframe.M15, NOW - DAY, NOW, POLICY, simulated=True)
    assert again.biases == 0
    leans = "select count(*) from observations where series = 'prediction_bias' and abs(value) > 1"
    assert _count(market, leans) == 0


def test_move_of_a_probability_is_told_of_once(market: Connection) -> None:
    collect(market, SimulatedPredictionMarkets(SPEC), NOW - 4 * HOUR, NOW, now=NOW)
    chosen = market.execute(
        "select o.market_id from prediction_odds o join prediction_markets m using (source, market_id) "
        "where m.status = 'OPEN' and spread < 0.1 and probability between 0.2 and 0.8 "
        "and ts = (select max(ts) from prediction_odds) limit 1"
    ).fetchone()
    assert chosen is not None
    raise_odds_alerts(market, NOW, POLICY, simulated=True)
    market.execute("delete from events")
    market.execute(
        "insert into prediction_odds select source, market_id, %s, %s, probability + 0.15, spread, liquidity_usd, "
        "volume_usd from prediction_odds where market_id = %s order by ts desc limit 1",
        (NOW, NOW, chosen[0]),
    )

    raised = [raise_odds_alerts(market, NOW, POLICY, simulated=True) for _ in range(2)]

    assert raised == [1, 0]
    assert _count(market, "select count(*) from events where kind = 'prediction_odds'") == 1
