"""The file of the kill switch: it engages by being there, whatever else is down.

Belongs here: the file's place, what is in it and how it is written. Does not belong here: the row in the database and
what follows from either (`application.trading.kill_switch`).
"""

import contextlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "KILL"


@dataclass(frozen=True)
class KillOrder:
    """What the file asks for: `cancel` waiting entries, `flatten` open positions."""

    reason: str
    cancel: bool = True
    flatten: bool = False


def kill_file(data_dir: Path) -> Path:
    """Where the file is."""
    return data_dir / FILE_NAME


def read_kill_file(file: Path) -> KillOrder | None:
    """None when there is no file; an empty, damaged or unreadable one engages as well, the last cancelling nothing."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        return KillOrder(f"{file} cannot be read: {error.strerror}", cancel=False)
    with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
        content = json.loads(text)
        return KillOrder(str(content["reason"]), content["cancel"] is not False, content["flatten"] is True)
    return KillOrder(f"{file} exists")


def write_kill_file(file: Path, order: KillOrder) -> None:
    """Write so that a power cut right after leaves the file."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as stream:
        stream.write(json.dumps({**vars(order), "since": since}) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
