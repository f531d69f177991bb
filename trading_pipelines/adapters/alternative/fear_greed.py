"""The Fear & Greed index of alternative.me, back to February 2018.

Belongs here: its answer as observations. Does not belong here: what the index means (`domain.alternative.series`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trading_pipelines.adapters.alternative.base import Delivery
from trading_pipelines.adapters.alternative.reading import UnfitItemError, instant, number, observation, sift
from trading_pipelines.adapters.http import HttpAnswer, HttpClient, UnusableAnswerError, as_json
from trading_pipelines.domain.alternative.series import MARKET, Observation

_RECENT = "60"
_ALL = "0"


class FearGreedSource:
    """One value a day; a day of which the index was not published is missing."""

    name = "alternative_me"

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def fetch(self, since: datetime, until: datetime) -> Delivery[Observation]:
        """Values stamped with a day in (since, until]; the whole history is asked for only when it is needed."""
        answer, records = self._ask(_RECENT)
        if not any(_day(record) <= since for record in records):
            answer, records = self._ask(_ALL)

        def read(record: Any) -> Observation | None:
            ts = instant(record, "timestamp", latest=answer.fetched_at + timedelta(days=1))
            value = number(record, "value", low=0, high=100)
            if not since < ts <= until:
                return None
            return observation("fear_greed", MARKET, self.name, ts, value, answer.fetched_at)

        return sift(records, read, lambda record: record["timestamp"], unchanged=answer.unchanged)

    def _ask(self, limit: str) -> tuple[HttpAnswer, list[Any]]:
        answer = self._client.get_bytes("/fng/", {"limit": limit, "format": "json"})
        content = as_json(self.name, answer)
        error = content.get("metadata", {}).get("error") if isinstance(content, Mapping) else None
        if error or not isinstance(content, Mapping) or not isinstance(content.get("data"), list):
            raise UnusableAnswerError(f"{self.name} answers with an error: {str(error or 'no data')[:200]}", content)
        return answer, content["data"]


def _day(record: Any) -> datetime:
    """Its time; one that cannot be read is of no day that was asked for."""
    far = datetime.max.replace(tzinfo=UTC)
    try:
        return instant(record, "timestamp", latest=far)
    except UnfitItemError:
        return far
