"""Reading answers of strangers: fields that must be there, numbers that must be numbers, one bad item at a time.

Belongs here: what all sources share when they check items. Does not belong here: what the items of one source look
like.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog

from trading_pipelines.adapters.alternative.base import Delivery, Refused
from trading_pipelines.adapters.http import NoAnswerError, UnusableAnswerError, shown
from trading_pipelines.adapters.sources.base import SourceError
from trading_pipelines.domain.alternative.series import SERIES, Observation

Item = TypeVar("Item")
Received = TypeVar("Received")
_BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What reading an item raises that is not as documented."""
_PATIENCE = 3
"""Questions in a row without an answer after which a source is taken to be down."""
log = structlog.get_logger(__name__)


class UnfitItemError(ValueError):
    """An item that is not taken; the message is the reason."""


def sift(
    received: Iterable[Received],
    read: Callable[[Received], Item | Iterable[Item] | None],
    name: Callable[[Received], Any],
    *,
    unchanged: bool = False,
) -> Delivery[Any]:
    """Read items one by one and keep the unfit ones apart, each with its reason.

    Parameters
    ----------
    read : callable
        Makes an item, several or none of a received one; what it raises is the reason of a refusal.
    name : callable
        What a received item is called, for people; it may fail.
    """
    taken: list[Any] = []
    refused: list[Refused] = []
    for one in received:
        try:
            made = read(one)
        except _BROKEN as error:
            reason = (
                str(error) if isinstance(error, ValueError) else f"not as documented: {type(error).__name__} {error}"
            )
            refused.append(Refused(_name(one, name), reason[:200], shown(one)))
        else:
            if made is not None:
                taken.extend(made if isinstance(made, Iterable) else [made])
    return Delivery(tuple(taken), tuple(refused), unchanged)


def gather(asked: Sequence[tuple[str, Callable[[], Delivery[Any]]]]) -> Delivery[Any]:
    """Ask several pages of one source; a page that fails is refused, and the others count.

    A service that gives no answer several times in a row is not asked on: every question would be waited out.

    Raises
    ------
    SourceError
        All of them failed.
    """
    deliveries: list[Delivery[Any]] = []
    failures: list[SourceError] = []
    silent = 0
    for number, (label, ask) in enumerate(asked):
        try:
            deliveries.append(ask())
            silent = 0
        except SourceError as error:
            failures.append(error)
            silent = silent + 1 if isinstance(error, NoAnswerError) else 0
            received = error.received if isinstance(error, UnusableAnswerError) else ""
            deliveries.append(Delivery(refused=(Refused(label, str(error), received),)))
        if silent == _PATIENCE:
            left = len(asked) - number - 1
            log.warning("asks no further", after=label, left=left, cause=str(failures[-1]))
            break
    if failures and len(failures) == len(deliveries):
        raise failures[0]
    return Delivery(
        tuple(item for delivery in deliveries for item in delivery.items),
        tuple(refused for delivery in deliveries for refused in delivery.refused),
        bool(deliveries) and all(delivery.unchanged for delivery in deliveries),
    )


def field(record: Any, *path: str | int) -> Any:
    """The value at a path of names and places.

    Raises
    ------
    UnfitItemError
        It is not there, or null.
    """
    value = record
    for step in path:
        value = _step(value, step)
        if value is None:
            raise UnfitItemError(f"lacks {'.'.join(map(str, path))}")
    return value


def number(record: Any, *path: str | int, low: float = -math.inf, high: float = math.inf) -> float:
    """The finite number at a path; exchanges write numbers as text.

    Raises
    ------
    UnfitItemError
        It is not there, no number, or out of bounds.
    """
    value, label = field(record, *path), ".".join(map(str, path))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnfitItemError(f"{label} is no number")
    try:
        found = float(value)
    except (ValueError, OverflowError):
        raise UnfitItemError(f"{label} is no number") from None
    if not math.isfinite(found):
        raise UnfitItemError(f"{label} is {found}")
    if not low <= found <= high:
        raise UnfitItemError(f"{label} is {found:g}, not within {low:g} and {high:g}")
    return found


def text(record: Any, *path: str | int, most: int) -> str:
    """The name at a path: printable text, or a number, of at most so many characters.

    Raises
    ------
    UnfitItemError
        It is not there, empty, too long, or holds what cannot be printed.
    """
    value, label = field(record, *path), ".".join(map(str, path))
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise UnfitItemError(f"{label} is no text")
    found = str(value).strip()
    if len(found) > most or not found.isprintable():
        raise UnfitItemError(f"{label} is no name")
    return found


def instant(record: Any, *path: str | int, unit_seconds: float = 1.0, latest: datetime) -> datetime:
    """The time at a path, counted from 1970 in units; one after `latest` is refused.

    Raises
    ------
    UnfitItemError
        It is not there, no time since 2009, or in the future.
    """
    seconds = number(record, *path) * unit_seconds
    label = ".".join(map(str, path))
    if not 1_230_940_800 <= seconds <= 32_503_680_000:
        raise UnfitItemError(f"{label} is no time since 2009")
    found = datetime.fromtimestamp(seconds, UTC)
    if found > latest:
        raise UnfitItemError(f"{label} is in the future ({found:%Y-%m-%d %H:%M})")
    return found


def observation(series: str, coin: str, source: str, ts: datetime, value: float, fetched_at: datetime) -> Observation:
    """A number of a known series, dated by when it was fetched, or as history where it is out of date already."""
    return Observation(series, coin, source, ts, SERIES[series].dated(ts, fetched_at), value)


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int):
        return value[step] if step < len(value) else None
    return None


def _name(received: Received, name: Callable[[Received], Any]) -> str:
    try:
        return str(name(received))[:200]
    except _BROKEN:
        return "without a name"
