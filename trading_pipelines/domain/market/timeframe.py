"""Candle timeframes and their arithmetic; nothing about any exchange."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Timeframe(StrEnum):
    """A candle length; bars are aligned to 1970-01-01 00:00 UTC."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @property
    def minutes(self) -> int:
        """Length in minutes."""
        return _MINUTES[self.value]

    @property
    def microseconds(self) -> int:
        """Length in microseconds."""
        return self.minutes * 60_000_000

    @property
    def delta(self) -> timedelta:
        """Length as a time difference."""
        return timedelta(minutes=self.minutes)

    def floor(self, moment: datetime) -> datetime:
        """Open time of the bar that contains `moment` (aware, any zone; result in UTC)."""
        return moment.astimezone(UTC) - (moment - EPOCH) % self.delta

    def last_closed(self, moment: datetime) -> datetime:
        """Open time of the newest bar that is closed at `moment`."""
        return self.floor(moment) - self.delta

    def longer(self) -> tuple["Timeframe", ...]:
        """Timeframes that can be derived from this one, ascending."""
        return tuple(t for t in Timeframe if t.minutes > self.minutes)


_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
