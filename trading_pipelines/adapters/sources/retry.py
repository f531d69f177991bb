"""When to ask again after a failure that may pass."""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pydantic import BaseModel, Field


class RetryPolicy(BaseModel, frozen=True, extra="forbid"):
    """Exponential backoff with jitter; the defaults ask for about two minutes."""

    attempts: int = Field(default=8, ge=1)
    first_delay_seconds: float = Field(default=1.0, gt=0)
    """Longest pause before the second attempt; it doubles each time."""
    max_delay_seconds: float = Field(default=60.0, gt=0)
    max_retry_after_seconds: float = Field(default=600.0, gt=0)
    """An exchange that asks for a longer pause than this has failed."""

    def delays(self) -> Iterator[float]:
        """Pauses between the attempts, each between half of its limit and the limit itself.

        Jitter keeps clients that failed together from coming back together; half of the limit is certain, so
        that an exchange in trouble gets its rest.
        """
        for attempt in range(self.attempts - 1):
            limit = min(self.max_delay_seconds, self.first_delay_seconds * 2**attempt)
            yield limit * random.uniform(0.5, 1.0)


def retry_after_seconds(headers: Mapping[str, str] | None, now: datetime) -> float | None:
    """Pause that a response asks for: `Retry-After` in seconds or as a date; None if it states none."""
    value = next((v for k, v in (headers or {}).items() if k.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - now).total_seconds())
