"""Large transactions, net flows, prediction markets and implied prices for the filled database of the page tests."""

from datetime import datetime, timedelta
from typing import Any

import psycopg

HOUR = timedelta(hours=1)
DIRECTIONS = ("INFLOW", "OUTFLOW", "TRANSFER")


def seed_flows(connection: psycopg.Connection[Any], now: datetime) -> None:
    """Two days of hourly flows and a transaction an hour of two coins, two ladders and a market that is over."""
    newest = now.replace(minute=0, second=0, microsecond=0)
    for coin in ("BTC", "ETH"):
        for back in range(48):
            ts = newest - back * HOUR
            connection.execute(
                "insert into whale_transactions values "
                "('simulated', %s, 'simulated', %s, %s, %s, 30, %s, %s, %s, %s, %s, %s)",
                (
                    *(f"{coin}-{back}", coin, ts - HOUR, ts - HOUR, 2e6 + back * 1e5),
                    *("UNKNOWN", "<b>someone</b>", "EXCHANGE", "Northpool", DIRECTIONS[back % 3]),
                ),
            )
            _observe(connection, "exchange_netflow_usd", coin, ts - HOUR, ts, 1e6 * ((back % 5) - 2))
        day = newest.replace(hour=0)
        for back in range(1, 4):
            ts = day - timedelta(days=back)
            _observe(connection, "whale_score", coin, ts, ts + timedelta(days=1), 0.3 - back / 5)
        _ladder(connection, coin, newest)
    for back in range(48):
        _observe(connection, "stablecoin_inflow_usd", "MARKET", newest - (back + 1) * HOUR, newest - back * HOUR, 2e7)
    connection.execute(
        "insert into prediction_markets values ('simulated', 'over', 'e', 'Will BTC reach $1 by yesterday?', 'BTC', "
        "'HIT_ABOVE', 1, null, %s, 'RESOLVED', 1, %s, %s, %s)",
        (newest, newest - 5 * HOUR, newest, newest),
    )


def _observe(
    connection: psycopg.Connection[Any], series: str, coin: str, ts: datetime, known: datetime, value: float
) -> None:
    connection.execute(
        "insert into observations values (%s, %s, 'simulated', %s, %s, %s)", (series, coin, ts, known, value)
    )


def _ladder(connection: psycopg.Connection[Any], coin: str, newest: datetime) -> None:
    expiry = newest + timedelta(days=4)
    for strike, chance in ((90.0, 0.9), (100.0, 0.5), (110.0, 0.1)):
        market = f"{coin}-{strike:g}"
        connection.execute(
            "insert into prediction_markets values ('simulated', %s, 'e', %s, %s, 'ABOVE', %s, null, %s, 'OPEN', null, "
            "%s, %s, null)",
            (market, f"Will {coin} be above ${strike:g}?", coin, strike, expiry, newest - 30 * HOUR, newest),
        )
        for back in range(30):
            ts = newest - back * HOUR
            connection.execute(
                "insert into prediction_odds values ('simulated', %s, %s, %s, %s, 0.02, 20000, 50000, null)",
                (market, ts, ts, max(0.01, chance - back / 300)),
            )
    for back in range(30):
        ts = newest - back * HOUR
        connection.execute(
            "insert into implied_distributions values ('simulated', %s, %s, 'TERMINAL', %s, %s, 101, 3, 0.01, 60000, "
            "0.46, 90, 95, %s, 105, 110, '{90,100,110}', '{0.9,0.5,0.1}')",
            (coin, expiry, ts, ts, 100 - back / 10),
        )
