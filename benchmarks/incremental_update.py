"""Measure the update at a bar close: 50 symbols, five timeframes, from a local exchange; prints one JSON object.

Run with `python benchmarks/incremental_update.py`. The exchange speaks Bybit's protocol on 127.0.0.1 and takes 50 ms
for an answer. Only the base timeframe is asked for; 15m, 1h, 4h and 1d are derived. Each round stores one more bar of
every symbol. What the network takes is the number of requests times 50 ms; `own_work_s` is the platform's own time on
the processor. The rest is waited for the limiter of requests: ccxt grants Bybit's candles ten requests a second.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from trading_pipelines.adapters.sources.ccxt_source import CcxtSource
from trading_pipelines.application.market_data.ingestion import IngestReport, ingest
from trading_pipelines.domain.market.timeframe import Timeframe
from trading_pipelines.store.connection import Connection, connect
from trading_pipelines.store.embedded import EmbeddedPostgres
from trading_pipelines.store.migrate import migrate

SYMBOLS = tuple(f"C{number:02d}USDT" for number in range(50))
LATENCY_SECONDS = 0.05
ROUNDS = 3
MIDDAY = datetime(2026, 5, 4, 12, 0, 5, tzinfo=UTC)
HISTORY = timedelta(days=3)
M5 = Timeframe.M5


class Exchange:
    """A local venue with one price for everything; it counts requests and the candles that it hands out."""

    def __init__(self) -> None:
        self.now = MIDDAY
        self.requests = 0
        self.candles = 0
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                exchange.requests += 1
                result = exchange.answer(url.path, dict(parse_qsl(url.query)))
                time.sleep(LATENCY_SECONDS)
                body = json.dumps({"retCode": 0, "retMsg": "OK", "result": result, "time": exchange.now_ms}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed but the result."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def now_ms(self) -> int:
        """Its clock."""
        return int(self.now.timestamp() * 1000)

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """The result part of an answer."""
        if path.endswith("/time"):
            return {"timeSecond": str(self.now_ms // 1000), "timeNano": str(self.now_ms * 1_000_000)}
        if path.endswith("/instruments-info"):
            listed = [] if query.get("status") == "PreLaunch" else [_instrument(symbol) for symbol in SYMBOLS]
            return {"category": "linear", "nextPageCursor": "", "list": listed}
        if path.endswith("/kline"):
            step = M5.minutes * 60_000
            first, last = -(-int(query["start"]) // step), min(int(query["end"]), self.now_ms) // step
            opened = [n * step for n in range(last, max(first, last - int(query["limit"]) + 1) - 1, -1)]
            self.candles += len(opened)
            rows = [[str(ts), "100", "101", "99", str(100 + ts // step % 10 / 10), "5", "500"] for ts in opened]
            return {"symbol": query["symbol"], "category": "linear", "list": rows}
        interval = 8 * 3_600_000
        due = range(int(query["endTime"]) // interval * interval, int(query["startTime"]) - 1, -interval)
        rates = [
            {"symbol": query["symbol"], "fundingRate": "0.0001", "fundingRateTimestamp": str(ts)}
            for ts in due
            if ts <= self.now_ms
        ]
        return {"category": "linear", "list": rates}


def _instrument(symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": symbol.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "settleCoin": "USDT",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "priceScale": "2",
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999", "tickSize": "0.10"},
        "lotSizeFilter": {"maxOrderQty": "1190", "minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
        "fundingInterval": 480,
    }


def main() -> None:
    """Fill three days, then measure bar closes."""
    exchange = Exchange()
    with tempfile.TemporaryDirectory(prefix="trading-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedPostgres(folder / "postgres")
        url = server.start()
        try:
            migrate(url)
            with connect(url) as connection:
                update(connection, exchange, folder)
                rounds = [measure(connection, exchange, folder) for _ in range(ROUNDS)]
        finally:
            server.stop()
            exchange.server.shutdown()
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    network = medians["requests"] * LATENCY_SECONDS
    found = {
        "symbols": len(SYMBOLS),
        "timeframes": 1 + len(M5.longer()),
        **{name: round(value, 3) for name, value in medians.items()},
        "least_requests": len(SYMBOLS) + 3,
        "network_s": round(network, 3),
        "network_share": round(network / medians["seconds"], 2),
    }
    sys.stdout.write(json.dumps({"benchmark": "incremental_update", **found}) + "\n")


def measure(connection: Connection, exchange: Exchange, folder: Path) -> dict[str, float]:
    """One bar close, as a run of Dagster does it: a new client, one update."""
    exchange.now += M5.delta
    exchange.requests = exchange.candles = 0
    began, worked = time.perf_counter(), time.thread_time()
    report = update(connection, exchange, folder)
    return {
        "seconds": time.perf_counter() - began,
        "own_work_s": time.thread_time() - worked,
        "requests": exchange.requests,
        "candles_received": exchange.candles,
        "candles_stored": report.inserted,
    }


def update(connection: Connection, exchange: Exchange, folder: Path) -> IngestReport:
    """Everything that is missing of the last three days."""
    address = f"http://127.0.0.1:{exchange.server.server_port}"
    source = CcxtSource("bybit", address, clock=lambda: exchange.now, limits_folder=folder / "limits")
    report = ingest(connection, source, SYMBOLS, M5, MIDDAY - HISTORY, exchange.now)
    if report.errors:
        raise RuntimeError("; ".join(report.errors))
    return report


if __name__ == "__main__":
    main()
