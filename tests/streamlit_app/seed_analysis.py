"""Technical signals, rankings and anomalies for the filled database of the page tests."""

from datetime import datetime, timedelta
from typing import Any

import psycopg

SIDES = ("LONG", "SHORT", "NEUTRAL")
KINDS = ("PRICE_SPIKE", "VOLUME_SPIKE", "PUMP_AND_DUMP")


def seed_analysis(connection: psycopg.Connection[Any], now: datetime) -> None:
    """An opinion per symbol and quarter of the last hour, three ranked days, an anomaly per symbol."""
    ids = [row[0] for row in connection.execute("select instrument_id from instruments order by symbol").fetchall()]
    quarter, midnight = timedelta(minutes=15), now.replace(hour=0, minute=0, second=0, microsecond=0)
    newest = now - (now - midnight) % quarter - quarter
    for place, instrument_id in enumerate(ids):
        side = SIDES[place % 3]
        sign = {"LONG": 1, "SHORT": -1, "NEUTRAL": 0}[side]
        levels = [100 + sign * move for move in (-2.0, 4.0, 7.0, 12.0)] if sign else [None] * 4
        size = [3.8, 2_000.0, 20.0] if sign else [None] * 3
        for back in range(4):
            ts = newest - back * quarter
            connection.execute(
                "insert into technical_signals values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 100, 2, "
                "%s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    *(instrument_id, ts, ts + quarter, side, 0.8 if sign else 0.0),
                    *(sign, -0.5 * sign, 0.6 * sign, 0.7 * sign, sign != 0),
                    *(*levels, *size, ["4h rising (+1.00)", "1d <falling> (-0.50)"]),
                ),
            )
        for day in range(1, 4):
            ts = midnight - timedelta(days=day)
            connection.execute(
                "insert into screener_rankings values (%s, %s, %s, %s, %s, %s, 0.9, 0.5, 0.7, 0.6, 'LONG', %s)",
                (
                    *(instrument_id, ts, ts + timedelta(days=1), place + 1, len(ids), 0.9 - place / 10),
                    ["trend up on 4h and 1d", "volume 2.3 times its month's median"],
                ),
            )
        connection.execute(
            "insert into anomalies values (%s, '15m', %s, %s, %s, 2.5, 0.081, 31)",
            (instrument_id, newest - 8 * quarter, KINDS[place % 3], newest - 7 * quarter),
        )
