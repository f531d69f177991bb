"""Load recorded history of alternative data, as it was known then.

Belongs here: from files to `observations`. Does not belong here: the files (`adapters.alternative.archive`) and what is
collected from now on (`application.collection`).
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from trading_pipelines.adapters.alternative.archive import read_history
from trading_pipelines.store.repositories import observations, source_states

_ROWS_PER_WRITE = 20_000


@dataclass(frozen=True)
class LoadedFile:
    """What one file brought: values found, of these new, and refused ones by series."""

    file: str
    source: str
    found: int
    new: int
    refused: int
    series: dict[str, int]
    first: datetime | None
    last: datetime | None


def load_history(connection: psycopg.Connection[Any], folder: Path, now: datetime) -> list[LoadedFile]:
    """Load every recorded file below a folder, each in a transaction of its own; loading again adds nothing.

    Raises
    ------
    UserError
        Nothing to load, or a file that cannot be read.
    """
    loaded = list[LoadedFile]()
    for file, delivery in read_history(folder):
        items = delivery.items
        new = sum(
            observations.add(connection, items[at : at + _ROWS_PER_WRITE])
            for at in range(0, len(items), _ROWS_PER_WRITE)
        )
        source_states.quarantine(
            connection, file.source, now, ((item.item, item.reason, item.payload) for item in delivery.refused)
        )
        connection.commit()
        moments = [item.ts for item in items]
        loaded.append(
            LoadedFile(
                file.file,
                file.source,
                len(items),
                new,
                len(delivery.refused),
                dict(Counter(item.series for item in items)),
                min(moments, default=None),
                max(moments, default=None),
            )
        )
    return loaded
