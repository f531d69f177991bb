"""Servers on 127.0.0.1 that answer like the public market data of Binance (spot, USD-M) and MEXC (spot, swaps)."""

import json
from datetime import datetime, timedelta
from typing import Any, ClassVar

from fake_bybit import Answer, FakeExchange, Fault, Request, epoch_ms, moment_of

from trading_pipelines.domain.market.timeframe import Timeframe

BINANCE_PAGE = 1000
MEXC_SPOT_PAGE = 500
MEXC_SWAP_PAGE = 2000
MEXC_CONTRACT = 0.0001
"""Base currency in one contract."""
HALTED = "HALTUSDT"
"""Listed, and not traded."""


def refused(code: int, message: str, status: int = 400) -> Fault:
    """A refusal as Binance and MEXC spell it."""

    def fault(answer: Answer) -> None:
        answer.payload = {"code": code, "msg": message}
        answer.send(status)

    return fault


class FakeBinance(FakeExchange):
    """Binance; spot under /api/v3, USD-M under /fapi/v1."""

    system_status = 0
    unusual_funding_hours: ClassVar[dict[str, int]] = {"BTCUSDT": 4}
    """Markets that do not settle every eight hours; Binance names only these."""

    def _payload(self, request: Request) -> Any:
        family, _, what = request.path.removeprefix("/").partition("/v")
        match (family, what.partition("/")[2]):
            case (_, "time"):
                return {"serverTime": epoch_ms(self.now)}
            case ("sapi", _):
                return {"status": self.system_status, "msg": "system_maintenance" if self.system_status else "normal"}
            case (_, "exchangeInfo"):
                return {
                    "timezone": "UTC",
                    "symbols": [self._market(symbol, family) for symbol in (*self.candles, HALTED)],
                }
            case (_, "klines"):
                return self._klines(request.query)
            case ("fapi", "fundingRate"):
                return self._funding(request.query)
            case ("fapi", "fundingInfo"):
                return [_unusual_interval(symbol, hours) for symbol, hours in self.unusual_funding_hours.items()]
            case ("api", "ticker/24hr"):
                return self._tickers(request.query)
            case ("fapi", "ticker/24hr"):
                without = ("bidPrice", "askPrice")
                return [{k: v for k, v in row.items() if k not in without} for row in self._tickers(request.query)]
            case ("fapi", "ticker/bookTicker"):
                return [
                    {"symbol": row["symbol"], "bidPrice": row["bidPrice"], "bidQty": "431.0",
                     "askPrice": row["askPrice"], "askQty": "9.0", "time": epoch_ms(self.now)}
                    for row in self._tickers({})
                ]  # fmt: skip
            case _:
                return {"code": -1121, "msg": "Invalid symbol."}

    def _market(self, symbol: str, family: str) -> dict[str, Any]:
        market: dict[str, Any] = {
            "symbol": symbol, "status": "BREAK" if symbol in {HALTED, *self.halted} else "TRADING",
            "baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT",
            "baseAssetPrecision": 8, "quotePrecision": 8, "orderTypes": ["LIMIT", "MARKET"],
        }  # fmt: skip
        if family == "api":
            filters = [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "0.01000000",
                    "maxPrice": "1000000.00",
                    "tickSize": "0.01000000",
                },
                {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00", "stepSize": "0.00001000"},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
            ]
            return {**market, "isSpotTradingAllowed": True, "permissions": ["SPOT"], "filters": filters}
        filters = [
            {"filterType": "PRICE_FILTER", "maxPrice": "4529764", "minPrice": "556.80", "tickSize": "0.10"},
            {"filterType": "LOT_SIZE", "maxQty": "1000", "minQty": "0.001", "stepSize": "0.001"},
            {"filterType": "MIN_NOTIONAL", "notional": "100"},
        ]
        return {
            **market, "pair": symbol, "contractType": "PERPETUAL", "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000, "marginAsset": "USDT", "pricePrecision": 2, "quantityPrecision": 3,
            "underlyingType": "COIN", "filters": filters,
        }  # fmt: skip

    def _klines(self, query: dict[str, str]) -> Any:
        timeframe = Timeframe(query["interval"])
        rows = self.rows(query["symbol"], timeframe)
        rows = rows[rows["ts"].between(moment_of(query["startTime"]), moment_of(query["endTime"]))]
        limit = min(int(query["limit"]), BINANCE_PAGE)
        return [_kline(row, timeframe) for row in rows.head(limit).itertuples()]

    def _funding(self, query: dict[str, str]) -> Any:
        start, end = moment_of(query["startTime"]), moment_of(query["endTime"])
        due = [moment for moment in self.settlements() if start <= moment <= end][: int(query["limit"])]
        return [
            {
                "symbol": query["symbol"],
                "fundingTime": epoch_ms(moment) + 7,
                "fundingRate": f"{self.rate(query['symbol'], moment):.8f}",
                "markPrice": "",
            }
            for moment in due
        ]

    def _tickers(self, query: dict[str, str]) -> Any:
        wanted = json.loads(query["symbols"]) if "symbols" in query else list(self.candles)
        return [
            {
                "symbol": symbol, "priceChange": "-94.9", "priceChangePercent": "-9.5", "weightedAvgPrice": "0.2",
                "lastPrice": repr(float(self.candles[symbol]["close"].iloc[-1])), "lastQty": "200.0", "bidPrice": "4.0",
                "askPrice": "4.2", "openPrice": "99.0", "highPrice": "100.0", "lowPrice": "0.1", "volume": "8913.3",
                "quoteVolume": "15.3", "openTime": 0, "closeTime": epoch_ms(self.now), "count": 76,
            }
            for symbol in wanted
        ]  # fmt: skip


class FakeMexc(FakeExchange):
    """MEXC; spot under /api/v3, swaps under /api/v1/contract with symbols like BTC_USDT and volumes in contracts."""

    def _payload(self, request: Request) -> Any:
        if request.path.startswith("/api/v3/"):
            return self._spot(request.path.removeprefix("/api/v3/"), request.query)
        data = self._swap(request.path.removeprefix("/api/v1/contract/"), request.query)
        return {"success": True, "code": 0, "data": data}

    def _spot(self, what: str, query: dict[str, str]) -> Any:
        match what:
            case "time":
                return {"serverTime": epoch_ms(self.now)}
            case "exchangeInfo":
                return {"symbols": [self._spot_market(symbol) for symbol in (*self.candles, HALTED)]}
            case "klines":
                timeframe = Timeframe({"60m": "1h"}.get(query["interval"], query["interval"]))
                rows = self.rows(query["symbol"], timeframe)
                within = (rows["ts"] >= moment_of(query["startTime"])) & (rows["ts"] < moment_of(query["endTime"]))
                return [_kline(row, timeframe)[:8] for row in rows[within].head(MEXC_SPOT_PAGE).itertuples()]
            case "ticker/24hr":
                return self._spot_ticker(query["symbol"])
            case _:
                return {"code": -1121, "msg": "invalid symbol"}

    def _spot_market(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": symbol, "status": "1" if symbol != HALTED else "2", "baseAsset": symbol.removesuffix("USDT"),
            "baseAssetPrecision": 6, "quoteAsset": "USDT", "quotePrecision": 2, "quoteAssetPrecision": 2,
            "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "quoteAmountPrecision": "1",
            "baseSizePrecision": "0.000001", "maxQuoteAmount": "2000000",
        }  # fmt: skip

    def _spot_ticker(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": symbol, "priceChange": "184.34", "priceChangePercent": "0.00400048", "prevClosePrice": "46079.37",
            "lastPrice": repr(float(self.candles[symbol]["close"].iloc[-1])), "bidPrice": "46260.38", "bidQty": "",
            "askPrice": "46260.41", "askQty": "", "openPrice": "46079.37", "highPrice": "47550", "lowPrice": "45555",
            "volume": "1732.461487", "quoteVolume": "81000000.5", "openTime": 0, "closeTime": epoch_ms(self.now),
            "count": None,
        }  # fmt: skip

    def _swap(self, what: str, query: dict[str, str]) -> Any:
        kind, _, symbol = what.partition("/")
        match kind:
            case "ping":
                return epoch_ms(self.now)
            case "detail":
                return [self._swap_market(symbol) for symbol in (*self.candles, HALTED)]
            case "kline":
                return self._swap_klines(symbol.replace("_", ""), query)
            case "ticker":
                every = [self._swap_ticker(symbol) for symbol in self.candles]
                return next((t for t in every if t["symbol"] == query["symbol"]), None) if "symbol" in query else every
            case _:
                return self._swap_funding(query)

    def _swap_market(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": _underscored(symbol), "baseCoin": symbol.removesuffix("USDT"), "quoteCoin": "USDT",
            "settleCoin": "USDT", "contractSize": MEXC_CONTRACT, "minLeverage": 1, "maxLeverage": 125, "priceScale": 1,
            "volScale": 0, "priceUnit": 0.5, "volUnit": 1, "minVol": 1, "maxVol": 1000000, "takerFeeRate": 0.0006,
            "makerFeeRate": 0.0002, "state": 0 if symbol != HALTED else 4,
        }  # fmt: skip

    def _swap_klines(self, symbol: str, query: dict[str, str]) -> Any:
        timeframe = Timeframe({"Min5": "5m", "Min15": "15m", "Min60": "1h"}[query["interval"]])
        rows = self.rows(symbol, timeframe)
        start, end = (moment_of(str(int(query[name]) * 1000)) for name in ("start", "end"))
        rows = rows[rows["ts"].between(start, end)].head(MEXC_SWAP_PAGE)
        columns = {name: rows[name].tolist() for name in ("open", "high", "low", "close")}
        contracts = [volume / MEXC_CONTRACT for volume in rows["volume"]]
        return {"time": [epoch_ms(ts) // 1000 for ts in rows["ts"]], **columns, "vol": contracts}

    def _swap_ticker(self, symbol: str) -> dict[str, Any]:
        return {
            "symbol": _underscored(symbol), "lastPrice": float(self.candles[symbol]["close"].iloc[-1]), "bid1": 1.0,
            "ask1": 2.0, "volume24": 100, "amount24": 591752573.9, "holdVol": 95479623, "lower24Price": 1.0,
            "high24Price": 2.0, "riseFallRate": 0.0356, "riseFallValue": 1.0, "timestamp": epoch_ms(self.now),
        }  # fmt: skip

    def _swap_funding(self, query: dict[str, str]) -> Any:
        size, page = int(query.get("page_size", 20)), int(query.get("page_num", 1))
        newest_first = self.settlements()[::-1]
        shown = newest_first[(page - 1) * size : page * size]
        return {
            "pageSize": size, "totalCount": len(newest_first), "currentPage": page,
            "resultList": [
                {
                    "symbol": query["symbol"],
                    "fundingRate": self.rate(query["symbol"].replace("_", ""), moment),
                    "settleTime": epoch_ms(moment),
                }
                for moment in shown
            ],
        }  # fmt: skip


def _unusual_interval(symbol: str, hours: int) -> dict[str, Any]:
    return {
        "symbol": symbol, "adjustedFundingRateCap": "0.02500000", "adjustedFundingRateFloor": "-0.02500000",
        "fundingIntervalHours": hours, "disclaimer": False,
    }  # fmt: skip


def _underscored(symbol: str) -> str:
    return f"{symbol.removesuffix('USDT')}_USDT"


def _kline(row: Any, timeframe: Timeframe) -> list[Any]:
    ts: datetime = row.ts
    values = [repr(value) for value in (row.open, row.high, row.low, row.close, row.volume)]
    last = epoch_ms(ts + timeframe.delta - timedelta(milliseconds=1))
    return [epoch_ms(ts), *values, last, "0", 1, "0", "0", "0"]
