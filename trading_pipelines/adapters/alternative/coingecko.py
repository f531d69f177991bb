"""CoinGecko: market values, dominance, what people search for, what they vote.

Belongs here: its answers as observations. Does not belong here: prices, which come from exchanges.

It tells of now only. A name such as BTC may be that of several coins there: the one with the highest market value is
meant.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import (
    UnfitItemError,
    field,
    gather,
    instant,
    number,
    observation,
    sift,
)
from trading_pipelines.adapters.http import HttpAnswer, HttpClient, UnusableAnswerError, as_json
from trading_pipelines.domain.alternative.series import MARKET, Observation

_AHEAD = timedelta(minutes=5)
"""How far its clock may be ahead of ours."""
Found = Iterable[Observation] | None


class CoinGeckoSource:
    """Pages of which one may fail while the others count."""

    name = "coingecko"

    def __init__(self, client: HttpClient, coins: Sequence[str], *, community_coins: int, api_key: str | None) -> None:
        self._client = client
        self._coins = frozenset(coins)
        self._community_coins = community_coins
        self._headers = {"x-cg-demo-api-key": api_key} if api_key else {}

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """What it says now; `since` and `until` do not matter."""
        ids: dict[str, str] = {}

        def markets() -> Delivery[Any]:
            wanted = {"vs_currency": "usd", "order": "market_cap_desc", "per_page": "250", "page": "1"}
            answer, content = self._ask("/coins/markets", wanted)
            delivery = self._markets(answer, content)
            ids.update(_ids(content, self._coins))
            return delivery

        pages = gather(
            [
                ("/global", lambda: self._global(*self._ask("/global"))),
                ("/search/trending", lambda: self._trending(*self._ask("/search/trending"))),
                ("/coins/markets", markets),
            ]
        )
        chosen = sorted(ids)[: self._community_coins]
        votes = [(coin, partial(self._community, coin, ids[coin])) for coin in chosen]
        return gather([("pages", lambda: pages), *votes])

    def _ask(self, path: str, params: Mapping[str, str] | None = None) -> tuple[HttpAnswer, Any]:
        answer = self._client.get_bytes(path, params, self._headers)
        content = as_json(self.name, answer)
        status = content.get("status") if isinstance(content, Mapping) else None
        error = content.get("error") if isinstance(content, Mapping) else None
        if error or (isinstance(status, Mapping) and status.get("error_code")):
            told = error or status.get("error_message")  # type: ignore[union-attr]  # a mapping if there is no error
            raise UnusableAnswerError(f"{self.name} answers {path} with an error: {str(told)[:200]}", content)
        return answer, content

    def _global(self, answer: HttpAnswer, content: Any) -> Delivery[Observation]:
        def read(record: Any) -> Found:
            ts = instant(record, "data", "updated_at", latest=answer.fetched_at + _AHEAD)
            worth = number(record, "data", "total_market_cap", "usd", low=1)
            share = number(record, "data", "market_cap_percentage", "btc", low=0, high=100)
            return [
                self._row("market_cap_usd", MARKET, ts, worth, answer),
                self._row("btc_dominance", MARKET, ts, share, answer),
            ]

        return sift([content], read, lambda record: "/global", unchanged=answer.unchanged)

    def _trending(self, answer: HttpAnswer, content: Any) -> Delivery[Observation]:
        """Places among the searches of all coins, for ours that are among them."""
        ts = answer.fetched_at.replace(second=0, microsecond=0)

        def read(place: tuple[int, Any]) -> Observation | None:
            coin = str(field(place[1], "item", "symbol")).upper()
            return self._row("trending_place", coin, ts, place[0], answer) if coin in self._coins else None

        listed = field(content, "coins") if isinstance(content, Mapping) else None
        if not isinstance(listed, list):
            raise UnusableAnswerError(f"{self.name} answers /search/trending without coins", content)
        return sift(enumerate(listed, start=1), read, lambda place: place[1]["item"]["symbol"])

    def _markets(self, answer: HttpAnswer, content: Any) -> Delivery[Observation]:
        if not isinstance(content, list):
            raise UnusableAnswerError(f"{self.name} answers /coins/markets without a list", content)
        seen: set[str] = set()

        def read(record: Any) -> Observation | None:
            coin = str(field(record, "symbol")).upper()
            if coin not in self._coins or coin in seen:
                return None
            worth = number(record, "market_cap", low=1)
            ts = _stated(field(record, "last_updated"), answer.fetched_at)
            seen.add(coin)
            return self._row("market_cap_usd", coin, ts, worth, answer)

        return sift(content, read, lambda record: record["symbol"])

    def _community(self, coin: str, identifier: str) -> Delivery[Observation]:
        wanted = dict.fromkeys(("localization", "tickers", "market_data", "developer_data"), "false")
        path = f"/coins/{identifier}"
        answer, content = self._ask(path, {**wanted, "community_data": "true"})

        def read(record: Any) -> Observation:
            votes = number(record, "sentiment_votes_up_percentage", low=0, high=100)
            ts = answer.fetched_at.replace(minute=0, second=0, microsecond=0)
            return self._row("community_sentiment", coin, ts, votes, answer)

        return sift([content], read, lambda record: path)

    def _row(self, series: str, coin: str, ts: datetime, value: float, answer: HttpAnswer) -> Observation:
        """A number that is known since it was fetched, also where its source's clock is a little ahead."""
        return observation(series, coin, self.name, min(ts, answer.fetched_at), value, answer.fetched_at)


def _stated(text: Any, fetched_at: datetime) -> datetime:
    """A time as ISO text.

    Raises
    ------
    UnfitItemError
        It is none, has no zone, or lies in the future.
    """
    try:
        stated = datetime.fromisoformat(str(text))
    except ValueError:
        raise UnfitItemError(f"last_updated is no time: {str(text)[:40]}") from None
    if stated.tzinfo is None or stated > fetched_at + _AHEAD:
        raise UnfitItemError(f"last_updated is in the future or without a zone: {stated}")
    return stated


def _ids(markets: Any, coins: frozenset[str]) -> dict[str, str]:
    """Name of a coin's page by its symbol; one that could lead elsewhere is left out."""
    found: dict[str, str] = {}
    for record in markets:
        known = record if isinstance(record, Mapping) else {}
        identifier, coin = str(known.get("id") or ""), str(known.get("symbol") or "").upper()
        if coin in coins and identifier.replace("-", "").replace("_", "").isalnum():
            found.setdefault(coin, identifier)
    return found
