"""LunarCrush: how much and how gladly coins are talked about, by hour.

Belongs here: its answers as observations. Does not belong here: texts themselves. It needs a key.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery, NotConfiguredError
from trading_pipelines.adapters.alternative.reading import gather, instant, number, observation, sift
from trading_pipelines.adapters.http import HttpClient, UnusableAnswerError, as_json
from trading_pipelines.domain.alternative.series import SERIES, Observation

_FIELDS = (
    ("galaxy_score", "galaxy_score", 100.0),
    ("social_volume", "posts_active", 1e12),
    ("social_dominance", "social_dominance", 100.0),
)
"""Our series, its field, and the highest value that can be."""
_HOUR = SERIES["social_volume"].period


class LunarCrushSource:
    """One request per coin; a coin that fails is refused, and the others count."""

    name = "lunarcrush"

    def __init__(self, client: HttpClient, coins: Sequence[str], *, api_key: str | None) -> None:
        self._client = client
        self._coins = coins
        self._api_key = api_key

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """Hours that began in (since, until] and have ended; the one in progress says half of what it will."""
        if not self._api_key:
            raise NotConfiguredError("set TRADING_ALTERNATIVE__LUNARCRUSH__API_KEY to a key of lunarcrush.com")
        return gather([(coin, partial(self._hours, coin, since, until)) for coin in self._coins])

    def _hours(self, coin: str, since: datetime, until: datetime) -> Delivery[Observation]:
        start, end = int(since.timestamp()), int(until.timestamp())
        answer = self._client.get_bytes(
            f"/public/coins/{coin.lower()}/time-series/v2",
            {"bucket": "hour", "start": str(start), "end": str(end)},
            {"Authorization": f"Bearer {self._api_key}"},
        )
        content = as_json(self.name, answer)
        records = content.get("data") if isinstance(content, Mapping) else None
        if not isinstance(records, list):
            told = content.get("error") if isinstance(content, Mapping) else None
            raise UnusableAnswerError(
                f"{self.name} answers for {coin} with an error: {str(told or 'no data')[:200]}", content
            )

        def read(record: Any) -> list[Observation]:
            ts = instant(record, "time", latest=answer.fetched_at)
            if not since < ts <= until or ts + _HOUR > answer.fetched_at:
                return []
            return [
                observation(series, coin, self.name, ts, number(record, name, low=0, high=high), answer.fetched_at)
                for series, name, high in _FIELDS
            ]

        return sift(records, read, lambda record: f"{coin} {record['time']}", unchanged=answer.unchanged)
