"""Dune: a saved query about flows of exchanges (https://docs.dune.com/api-reference).

Belongs here: running the query, waiting for it, reading its rows. Does not belong here: the query, which is the
user's; its columns are hour, coin, inflow_usd and outflow_usd.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError, wall_clock
from trading_pipelines.adapters.alternative.reading import UnfitItemError, field, number, sift
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError, shown
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.domain.alternative.series import MARKET
from trading_pipelines.domain.onchain.transactions import ExchangeFlow

NAME = "dune"
PAGE = 1_000
_MOST_PAGES = 100
_HOUR = timedelta(hours=1)
_PUBLISHED, _HISTORY = timedelta(hours=1), timedelta(days=1)


@dataclass
class Dune:
    """Flows by a saved query; each look runs it anew."""

    client: HttpClient
    api_key: str | None
    query_id: int | None
    coins: tuple[str, ...]
    poll_seconds: float = 3.0
    wait_seconds: float = 180.0
    clock: Callable[[], datetime] = wall_clock
    sleep: Callable[[float], None] = time.sleep
    name: str = NAME

    def fetch(self, since: datetime, until: datetime) -> Delivery[ExchangeFlow]:
        """Hours that ended in (since, until], of the coins of the settings."""
        if self.api_key is None or self.query_id is None:
            raise NotConfiguredError(
                "set TRADING_ALTERNATIVE__DUNE__API_KEY and TRADING_ALTERNATIVE__DUNE__QUERY_ID to a key of dune.com"
                " and a saved query with the columns hour, coin, inflow_usd, outflow_usd"
            )
        started = self.client.post_json(f"query/{self.query_id}/execute", {}, self._key())
        execution = str(_stated(started, "execution_id"))
        self._wait_for(execution)
        now = self.clock()
        delivery = sift(
            self._rows(execution),
            lambda row: self._read(row, since, min(until, now), now),
            lambda row: row["hour"],
        )
        return Delivery(tuple(sorted(delivery.items, key=lambda item: (item.ts, item.coin))), delivery.refused)

    def _key(self) -> dict[str, str]:
        return {"X-Dune-API-Key": self.api_key or ""}

    def _wait_for(self, execution: str) -> None:
        waited = 0.0
        while True:
            answer = self.client.get_json(f"execution/{execution}/status", None, self._key())
            state = str(_stated(answer, "state"))
            if state == "QUERY_STATE_COMPLETED":
                return
            if state not in {"QUERY_STATE_PENDING", "QUERY_STATE_EXECUTING"}:
                reason = answer.get("error") if isinstance(answer, dict) else None
                raise UnusableAnswerError(
                    f"{self.name}: the query ended as {state[:60]}: {shown(reason)[:200]}", answer
                )
            if waited >= self.wait_seconds:
                raise SourceError(f"{self.name}: the query has not ended within {self.wait_seconds:g} s")
            self.sleep(self.poll_seconds)
            waited += self.poll_seconds

    def _rows(self, execution: str) -> Iterator[Any]:
        offset = 0
        for _ in range(_MOST_PAGES):
            asked = {"limit": str(PAGE), "offset": str(offset)}
            answer = self.client.get_json(f"execution/{execution}/results", asked, self._key())
            rows = _stated(answer, "result", "rows")
            if not isinstance(rows, list):
                raise UnusableAnswerError(
                    f"{self.name} answers in another shape than it documents: rows is no list", answer
                )
            yield from rows
            following = answer.get("next_offset")
            if not isinstance(following, int) or following <= offset:
                return
            offset = following

    def _read(self, row: Any, since: datetime, until: datetime, now: datetime) -> ExchangeFlow | None:
        ts, coin = _hour(field(row, "hour")), str(field(row, "coin")).upper()
        inflow, outflow = number(row, "inflow_usd", low=0.0), number(row, "outflow_usd", low=0.0)
        if coin not in {*self.coins, MARKET} or not since < ts + _HOUR <= until:
            return None
        published = ts + _HOUR + _PUBLISHED
        known = published if now - published > _HISTORY else max(now, ts + _HOUR)
        return ExchangeFlow(NAME, coin, ts, known, inflow, outflow, "USD")


def _stated(answer: Any, *path: str) -> Any:
    """What an answer has to say at a path.

    Raises
    ------
    UnusableAnswerError
        It does not; mostly it says what was wrong instead.
    """
    try:
        return field(answer, *path)
    except UnfitItemError as error:
        told = answer.get("error") if isinstance(answer, dict) else None
        raise UnusableAnswerError(f"{NAME} answers with an error: {shown(told or str(error))[:200]}", answer) from error


def _hour(text: Any) -> datetime:
    if not isinstance(text, str):
        raise UnfitItemError("hour is no text")
    ts = datetime.fromisoformat(text.removesuffix(" UTC"))
    ts = ts.replace(tzinfo=UTC) if ts.tzinfo is None else ts.astimezone(UTC)
    if ts != ts.replace(minute=0, second=0, microsecond=0):
        raise UnfitItemError(f"hour {text[:40]} is no full hour")
    return ts
