"""What every stream of market data offers; when it is started, watched and started again is `services.collector`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from trading_pipelines.adapters.streams.intake import Intake


class StreamDownError(Exception):
    """The stream has ended and delivers nothing more; the message is one line."""


class Channel(StrEnum):
    """Kinds of what streams deliver."""

    TICKERS = "tickers"
    TRADES = "trades"


class MarketStream(Protocol):
    """One venue's quotes and trades as they happen."""

    @property
    def exchange(self) -> str:
        """Exchange key of its instruments."""
        ...

    async def run(self, symbols: Sequence[str], channels: Sequence[Channel], intake: Intake) -> None:
        """Deliver into `intake` until cancelled; nothing of it is left when this ends.

        Raises
        ------
        StreamDownError
            The connection was refused, has ended, or the exchange does not serve what was asked for.
        """
        ...
