"""How accounts and takers of perpetual contracts are positioned, from public figures of Bybit and Binance.

Belongs here: their answers as observations. Does not belong here: funding, prices and orders (`adapters.sources`,
`adapters.exchanges`). Binance keeps a history of 30 days, Bybit a longer one.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import UnfitItemError, gather, instant, number, observation, sift
from trading_pipelines.adapters.http import HttpAnswer, HttpClient, UnusableAnswerError, as_json
from trading_pipelines.domain.alternative.series import SERIES, Observation

_MILLISECOND = 0.001
_HOUR = timedelta(hours=1)
_PAGE = 500
_HIGHEST_USD = 1e13
_HIGHEST_RATIO = 1e4
_KEPT = timedelta(days=29)
"""Binance refuses questions about more than 30 days ago."""
Value = Callable[[Any], float]


class BybitPositioning:
    """Share of accounts that are long, by hour, and the open interest of now."""

    name = "bybit"

    def __init__(self, client: HttpClient, coins: Sequence[str]) -> None:
        self._client = client
        self._coins = coins

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """Hours in (since, until], up to the 500 newest; open interest as it is now."""
        asked = [(f"{coin} accounts", partial(self._accounts, coin, since, until)) for coin in self._coins]
        asked += [(f"{coin} open interest", partial(self._open_interest, coin)) for coin in self._coins]
        return gather(asked)

    def _accounts(self, coin: str, since: datetime, until: datetime) -> Delivery[Observation]:
        wanted = {"period": "1h", "limit": str(_PAGE), "startTime": _ms(since), "endTime": _ms(until)}
        answer, records, _ = self._ask("/v5/market/account-ratio", coin, wanted)

        def ratio(record: Any) -> float:
            return _over(number(record, "buyRatio", low=0, high=1), number(record, "sellRatio", low=0, high=1))

        return _hours("long_short_ratio", coin, self.name, records, answer, since, until, ratio)

    def _open_interest(self, coin: str) -> Delivery[Observation]:
        answer, records, at = self._ask("/v5/market/tickers", coin, {})

        def read(record: Any) -> Observation:
            ts = min(
                instant({"time": at}, "time", unit_seconds=_MILLISECOND, latest=answer.fetched_at + _HOUR),
                answer.fetched_at,
            )
            value = number(record, "openInterestValue", low=0, high=_HIGHEST_USD)
            return observation(
                "open_interest_usd", coin, self.name, ts.replace(second=0, microsecond=0), value, answer.fetched_at
            )

        return sift(records, read, lambda record: f"{coin} open interest")

    def _ask(self, path: str, coin: str, wanted: Mapping[str, str]) -> tuple[HttpAnswer, list[Any], Any]:
        answer = self._client.get_bytes(path, {"category": "linear", "symbol": f"{coin}USDT", **wanted})
        content = as_json(self.name, answer)
        code = content.get("retCode") if isinstance(content, Mapping) else None
        result = content.get("result") if isinstance(content, Mapping) else None
        records = result.get("list") if isinstance(result, Mapping) else None
        if code != 0 or not isinstance(records, list):
            told = content.get("retMsg") if isinstance(content, Mapping) else None
            raise UnusableAnswerError(
                f"{self.name} answers for {coin} with an error: {str(told or 'another shape')[:200]}", content
            )
        return answer, records, content.get("time")


class BinancePositioning:
    """Open interest, share of accounts that are long, and what takers bought, by hour."""

    name = "binance"

    def __init__(self, client: HttpClient, coins: Sequence[str]) -> None:
        self._client = client
        self._coins = coins

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """Hours in (since, until], as far as the last 29 days, up to the 500 newest."""
        since = max(since, until - _KEPT)
        return gather(
            [
                (f"{coin} {series}", partial(self._series, coin, series, path, value, since, until))
                for coin in self._coins
                for series, path, value in (
                    ("open_interest_usd", "openInterestHist", _amount),
                    ("long_short_ratio", "globalLongShortAccountRatio", _accounts),
                    ("taker_buy_sell_ratio", "takerlongshortRatio", _takers),
                )
            ]
        )

    def _series(
        self, coin: str, series: str, path: str, value: Value, since: datetime, until: datetime
    ) -> Delivery[Observation]:
        wanted = {"period": "1h", "limit": str(_PAGE), "startTime": _ms(since), "endTime": _ms(until)}
        answer = self._client.get_bytes(f"/futures/data/{path}", {"symbol": f"{coin}USDT", **wanted})
        records = as_json(self.name, answer)
        if not isinstance(records, list):
            told = records.get("msg") if isinstance(records, Mapping) else None
            raise UnusableAnswerError(
                f"{self.name} answers for {coin} with an error: {str(told or 'another shape')[:200]}", records
            )
        return _hours(series, coin, self.name, records, answer, since, until, value)


def _hours(
    series: str,
    coin: str,
    source: str,
    records: Sequence[Any],
    answer: HttpAnswer,
    since: datetime,
    until: datetime,
    value: Value,
) -> Delivery[Observation]:
    """One observation per record; an hour that has not ended yet says nothing."""

    def read(record: Any) -> Observation | None:
        ts = instant(record, "timestamp", unit_seconds=_MILLISECOND, latest=answer.fetched_at + _HOUR)
        if not since < ts <= until or ts + SERIES[series].period > answer.fetched_at:
            return None
        return observation(series, coin, source, ts, value(record), answer.fetched_at)

    return sift(records, read, lambda record: f"{coin} {record['timestamp']}", unchanged=answer.unchanged)


def _amount(record: Any) -> float:
    return number(record, "sumOpenInterestValue", low=0, high=_HIGHEST_USD)


def _accounts(record: Any) -> float:
    return _over(number(record, "longAccount", low=0, high=1), number(record, "shortAccount", low=0, high=1))


def _takers(record: Any) -> float:
    return number(record, "buySellRatio", low=0, high=_HIGHEST_RATIO)


def _over(longs: float, shorts: float) -> float:
    if shorts == 0:
        raise UnfitItemError("nobody is short")
    return longs / shorts


def _ms(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))
