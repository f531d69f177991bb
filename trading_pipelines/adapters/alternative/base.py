"""What every source of alternative data offers; storing belongs to `application.alternative.alternative_data`.

A source answers with items and with what it refused, each with its reason: one bad item never costs the others.
What comes from outside is data: it is checked, cut to length and kept as plain text.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from trading_pipelines.adapters.sources.base import SourceError

Item = TypeVar("Item")


def wall_clock() -> datetime:
    """The time that it is, UTC; tests give a source another clock."""
    return datetime.now(UTC)


class NotConfiguredError(SourceError):
    """The source needs a key that is not set; the message names the variable."""


@dataclass(frozen=True)
class Refused:
    """An item that was not taken: what it is called, why, and how it was received (cut to a length)."""

    item: str
    reason: str
    payload: str


@dataclass(frozen=True)
class Delivery(Generic[Item]):
    """One answer of a source.

    Attributes
    ----------
    items : tuple
        What is sound, oldest first.
    refused : tuple of Refused
        What is not.
    unchanged : bool
        The source said that nothing is new (HTTP 304); `items` are those of its answer before, in case they were not
        stored then.
    """

    items: tuple[Item, ...] = ()
    refused: tuple[Refused, ...] = field(default=())
    unchanged: bool = False


class AlternativeSource(Protocol[Item]):
    """One source of one kind of item, such as `Observation` or `TextItem`; all times are UTC."""

    @property
    def name(self) -> str:
        """Key of its rows and its state, for example `alternative_me`."""
        ...

    def fetch(self, since: datetime, until: datetime) -> Delivery[Item]:
        """What the source has about (since, until], as far back as it goes.

        Raises
        ------
        NotConfiguredError
            A key is missing.
        SourceError
            The source did not answer, or with something else than it documents.
        """
        ...
