"""A server on 127.0.0.1 that answers like Bybit's public market API (v5), and fails like it on request.

The shapes of the answers follow recorded ones. Faults are queued per path, one per request; a fault sees
the answer that would have been sent and sends what it likes instead.
"""

import json
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd

from trading_pipelines.domain.market.candles import aggregate
from trading_pipelines.domain.market.timeframe import EPOCH, Timeframe
from trading_pipelines.domain.simulation.market import SimulatedMarket
from trading_pipelines.domain.simulation.spec import SimulatedMarketSpec

KLINE = "/v5/market/kline"
FUNDING = "/v5/market/funding/history"
OPEN_INTEREST = "/v5/market/open-interest"
MARK = "/v5/market/mark-price-kline"
INTERVALS = {"1": "1m", "5": "5m", "15": "15m", "60": "1h", "240": "4h", "D": "1d"}

Fault = Callable[["Answer"], None]


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    path: str
    query: dict[str, str]


class Answer:
    """What a handler is about to send, and the ways to send something else."""

    def __init__(self, handler: BaseHTTPRequestHandler, payload: Any) -> None:
        self.handler = handler
        self.payload = payload

    def send(self, status: int = 200, headers: dict[str, str] | None = None, body: bytes | None = None) -> None:
        content = json.dumps(self.payload).encode() if body is None else body
        self.handler.send_response(status)
        kind = "application/json" if body is None else "text/html"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(content)


def too_many_requests(retry_after: str) -> Fault:
    def fault(answer: Answer) -> None:
        answer.payload = {"retCode": 10006, "retMsg": "Too many visits!", "result": {}, "retExtInfo": {}, "time": 0}
        answer.send(429, {"Retry-After": retry_after})

    return fault


def server_error(status: int) -> Fault:
    return lambda answer: answer.send(status, body=b"<html>Bad gateway</html>")


def maintenance_page(answer: Answer) -> None:
    """A page of HTML with status 200, as a proxy in front of an exchange sends it."""
    answer.send(200, body=b"<html>We will be back soon</html>")


def reset_in_mid_body(answer: Answer) -> None:
    """Announce the whole body, send half of it and reset the connection."""
    content = json.dumps(answer.payload).encode()
    answer.handler.send_response(200)
    answer.handler.send_header("Content-Type", "application/json")
    answer.handler.send_header("Content-Length", str(len(content)))
    answer.handler.end_headers()
    answer.handler.wfile.write(content[: len(content) // 2])
    answer.handler.wfile.flush()
    reset(answer)


def reset(answer: Answer) -> None:
    """Drop the connection with RST instead of an answer."""
    handler = answer.handler
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()  # it holds the socket open
    handler.connection.close()


def shuffled_and_doubled(answer: Answer) -> None:
    rows = answer.payload["result"]["list"]
    answer.payload["result"]["list"] = rows[7:] + rows[:9] + rows[:3]
    answer.send()


def held_until(event: threading.Event) -> Fault:
    """Answer only when something else has happened."""

    def fault(answer: Answer) -> None:
        event.wait(60)
        answer.send()

    return fault


def refusal(code: int, message: str) -> Fault:
    def fault(answer: Answer) -> None:
        answer.payload = {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": 0}
        answer.send()

    return fault


def another_shape(answer: Answer) -> None:
    answer.payload = {"surprise": [1, 2, 3]}
    answer.send()


def hostile_values(answer: Answer) -> None:
    """Two rows that no market has made, among the others."""
    rows = answer.payload["result"]["list"]
    rows[3][2] = "1e999"
    rows[5][4] = "<script>"
    answer.send()


class FakeExchange(ABC):
    """An exchange: its clock, its rows, what it was asked for, and the faults it will show."""

    def __init__(self, now: datetime, history: timedelta, symbols: tuple[str, ...] = ("BTCUSDT", "SOLUSDT")) -> None:
        self.now = now
        self.requests: list[Request] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.outage: Callable[[], Fault | None] = lambda: None
        """What every request meets for which no fault is queued, if anything."""
        self.funding_minutes = 240
        self.publishes_newest_bar = True
        self.halted: set[str] = set()
        """Listed, and not traded for the time being."""
        market = SimulatedMarket(SimulatedMarketSpec(symbols=symbols))
        # The simulated market has the bar in progress too: it stands in for the forming candle.
        self.candles = {s: market.candles(s, now - history, now) for s in symbols}
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                exchange.answer(self, Request(url.path, dict(parse_qsl(url.query))))

            def log_message(self, format: str, *args: object) -> None:
                """Requests are recorded, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path: str) -> list[dict[str, str]]:
        """Queries of all requests to `path`."""
        return [request.query for request in self.requests if request.path == path]

    def answer(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        self.requests.append(request)
        answer = Answer(handler, self._payload(request))
        faults = self.faults[request.path]
        fault = faults.popleft() if faults else self.outage()
        if fault is not None:
            fault(answer)
        else:
            answer.send()

    @abstractmethod
    def _payload(self, request: Request) -> Any:
        """What this exchange answers."""

    def rows(self, symbol: str, timeframe: Timeframe) -> pd.DataFrame:
        """Candles up to and including the one that is still forming."""
        candles = self.candles[symbol]
        return candles if timeframe is Timeframe.M5 else aggregate(candles, timeframe)

    def settlements(self) -> list[datetime]:
        """Times of funding in the history."""
        step = timedelta(minutes=self.funding_minutes)
        first = min(candles["ts"].min().to_pydatetime() for candles in self.candles.values())
        moment = EPOCH + ((first - EPOCH) // step + 1) * step
        return [moment + i * step for i in range((self.now - moment) // step + 1)]

    def rate(self, symbol: str, moment: datetime) -> float:
        """Funding settled at a time, another one for each symbol and settlement."""
        return ((moment - EPOCH) // timedelta(hours=1) % 101 + list(self.candles).index(symbol) - 50) / 1e5

    def funding(self, symbol: str) -> pd.DataFrame:
        """All of it, as it is to be stored."""
        due = self.settlements()
        ts = pd.DatetimeIndex(due, name="ts").as_unit("us")
        return pd.DataFrame({"ts": ts, "rate": [self.rate(symbol, moment) for moment in due]})


class FakeBybit(FakeExchange):
    """Bybit, spot and linear."""

    def _payload(self, request: Request) -> dict[str, Any]:
        results: dict[str, Callable[[dict[str, str]], Any]] = {
            "/v5/market/time": self._time,
            "/v5/market/instruments-info": self._instruments,
            KLINE: self._klines,
            FUNDING: self._funding,
            OPEN_INTEREST: self._open_interest,
            MARK: self._mark_prices,
            "/v5/market/tickers": self._tickers,
        }
        time_ms = epoch_ms(self.now)
        if request.path not in results:
            return {"serverTime": time_ms}  # what Binance and MEXC answer to a question for the time
        result = results[request.path](request.query)
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": time_ms}

    def _time(self, query: dict[str, str]) -> Any:
        return {"timeSecond": str(epoch_ms(self.now) // 1000), "timeNano": str(epoch_ms(self.now) * 1_000_000)}

    def _instruments(self, query: dict[str, str]) -> Any:
        if query.get("status") == "PreLaunch":
            return {"category": query["category"], "nextPageCursor": "", "list": []}
        describe = self._spot_instrument if query["category"] == "spot" else self._linear_instrument
        return {
            "category": query["category"],
            "nextPageCursor": "",
            "list": [describe(symbol) for symbol in self.candles],
        }

    def _linear_instrument(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": symbol,
            "contractType": "LinearPerpetual",
            "status": "Trading",
            "baseCoin": symbol.removesuffix("USDT"),
            "quoteCoin": "USDT",
            "launchTime": "1585526400000",
            "deliveryTime": "0",
            "deliveryFeeRate": "",
            "priceScale": "2",
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
            "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
            "lotSizeFilter": {
                "maxOrderQty": "1190.000",
                "minOrderQty": "0.001",
                "qtyStep": "0.001",
                "postOnlyMaxOrderQty": "1190.000",
                "maxMktOrderQty": "500.000",
                "minNotionalValue": "5",
            },
            "unifiedMarginTrade": True,
            "fundingInterval": self.funding_minutes,
            "settleCoin": "USDT",
        }

    def _spot_instrument(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": symbol,
            "baseCoin": symbol.removesuffix("USDT"),
            "quoteCoin": "USDT",
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "utaOnly",
            "lotSizeFilter": {
                "basePrecision": "0.000001",
                "quotePrecision": "0.00000001",
                "minOrderQty": "0.000048",
                "maxOrderQty": "71.73956243",
                "minOrderAmt": "1",
                "maxOrderAmt": "4000000",
            },
            "priceFilter": {"tickSize": "0.01"},
        }

    def _klines(self, query: dict[str, str]) -> Any:
        timeframe = Timeframe(INTERVALS[query["interval"]])
        rows = self.rows(query["symbol"], timeframe)
        if not self.publishes_newest_bar:
            rows = rows[rows["ts"] < timeframe.last_closed(self.now)]
        rows = rows[rows["ts"].between(moment_of(query["start"]), moment_of(query["end"]))]
        newest_first = rows.iloc[::-1].head(int(query["limit"]))
        return {
            "symbol": query["symbol"],
            "category": query["category"],
            "list": [
                [str(epoch_ms(row.ts)), *map(repr, (row.open, row.high, row.low, row.close, row.volume)), "0"]
                for row in newest_first.itertuples()
            ],
        }

    def _funding(self, query: dict[str, str]) -> Any:
        start, end = moment_of(query["startTime"]), moment_of(query["endTime"])
        due = [moment for moment in self.settlements() if start <= moment <= end]
        return {
            "category": query["category"],
            "list": [
                {
                    "symbol": query["symbol"],
                    "fundingRate": repr(self.rate(query["symbol"], moment)),
                    "fundingRateTimestamp": str(epoch_ms(moment) + 11),
                }
                for moment in due[::-1][: int(query["limit"])]
            ],
        }

    def _open_interest(self, query: dict[str, str]) -> Any:
        rows = self.rows(query["symbol"], Timeframe.H1)
        rows = rows[rows["ts"].between(moment_of(query["startTime"]), moment_of(query["endTime"]))]
        newest_first = rows.iloc[::-1].head(int(query["limit"]))
        return {
            "symbol": query["symbol"],
            "category": query["category"],
            "list": [
                {"openInterest": repr(row.volume), "timestamp": str(epoch_ms(row.ts))}
                for row in newest_first.itertuples()
            ],
            "nextPageCursor": "",
        }

    def _mark_prices(self, query: dict[str, str]) -> Any:
        answer = self._klines(query)
        return {**answer, "list": [row[:5] for row in answer["list"]]}

    def _tickers(self, query: dict[str, str]) -> Any:
        return {
            "category": query["category"],
            "list": [
                {
                    "symbol": symbol,
                    "lastPrice": repr(float(candles["close"].iloc[-1])),
                    "prevPrice24h": "1.0",
                    "price24hPcnt": "0.008047",
                    "highPrice24h": "2.0",
                    "lowPrice24h": "1.0",
                    "turnover24h": "2352.94950046",
                    "volume24h": "49337.318",
                    "bid1Price": "16596.00",
                    "ask1Price": "16597.50",
                    "bid1Size": "1",
                    "ask1Size": "1",
                }
                for symbol, candles in self.candles.items()
            ],
        }


def epoch_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment_of(ms: str) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
