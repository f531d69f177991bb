"""Load recorded history of alternative data, as it was known then.

Belongs here: from files to `observations` and `texts`. Does not belong here: the files
(`adapters.alternative.archive`), what is collected from now on (`application.alternative.alternative_data`), and what
texts say (`application.alternative.sentiment`).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from trading_pipelines.adapters.alternative.archive import read_history
from trading_pipelines.adapters.alternative.archive_texts import RecordedTexts
from trading_pipelines.domain.alternative.series import Observation
from trading_pipelines.domain.alternative.texts import TextItem, TextLimits
from trading_pipelines.store.repositories import observations, source_states, texts

_ROWS_PER_WRITE = 20_000
_LIMITS = TextLimits()


@dataclass(frozen=True)
class LoadedFile:
    """What one file brought: values or texts found, of these new, and refused ones; how many by series or kind."""

    file: str
    source: str
    found: int
    new: int
    refused: int
    series: dict[str, int]
    first: datetime | None
    last: datetime | None


def load_history(
    connection: psycopg.Connection[Any], folder: Path, now: datetime, limits: TextLimits = _LIMITS
) -> list[LoadedFile]:
    """Load every recorded file below a folder, each in a transaction of its own; loading again adds nothing.

    Raises
    ------
    UserError
        Nothing to load, or a file that cannot be read.
    """
    loaded = list[LoadedFile]()
    for file, delivery in read_history(folder, limits):
        items: tuple[Any, ...] = delivery.items
        add: Callable[..., int] = texts.add if isinstance(file, RecordedTexts) else observations.add
        new = sum(add(connection, items[at : at + _ROWS_PER_WRITE]) for at in range(0, len(items), _ROWS_PER_WRITE))
        source_states.quarantine(
            connection, file.source, now, ((item.item, item.reason, item.payload) for item in delivery.refused)
        )
        connection.commit()
        moments: list[datetime] = [_moment(item) for item in items]
        loaded.append(
            LoadedFile(
                file.file,
                file.source,
                len(items),
                new,
                len(delivery.refused),
                dict(Counter(item.kind.lower() if isinstance(item, TextItem) else item.series for item in items)),
                min(moments, default=None),
                max(moments, default=None),
            )
        )
    return loaded


def _moment(item: Observation | TextItem) -> datetime:
    """The time that an item speaks of."""
    return item.published_at if isinstance(item, TextItem) else item.ts
