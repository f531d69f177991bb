"""Structured logs: one event per line, with the ids of what it is about, for people or as JSON.

Belongs here: where log lines go, what they look like and what never appears in them. Does not belong here: what is
logged; a module asks `structlog.get_logger(__name__)` and says it itself.
"""

import logging
import logging.handlers
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor

MASK = "***"
_SECRET_NAME = re.compile(r"passw|secret|token|api_?key|private_?key|authorization|cookie|credential", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)")
_FILE_BYTES = 10_000_000
_OLD_FILES = 3


def configure_logging(
    level: str = "INFO", *, as_json: bool = False, file: Path | None = None, stderr_level: str | None = None
) -> None:
    """Send log lines to stderr and, where named, to a file that is rotated by size.

    Parameters
    ----------
    level : str
        DEBUG, INFO, WARNING or ERROR.
    stderr_level : str, optional
        Another level for stderr, for commands whose progress would be torn apart by every line.
    """
    handlers: list[logging.Handler] = [_handler(logging.StreamHandler(sys.stderr), stderr_level or level, as_json)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        rotated = logging.handlers.RotatingFileHandler(
            file, maxBytes=_FILE_BYTES, backupCount=_OLD_FILES, encoding="utf-8"
        )
        handlers.append(_handler(rotated, level, as_json))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


@contextmanager
def log_context(
    *,
    run_id: str | None = None,
    session: str | None = None,
    symbol: str | None = None,
    signal_id: UUID | str | None = None,
    order_id: str | None = None,
) -> Iterator[None]:
    """Carry the ids given in every line logged inside the block, in this thread or task."""
    ids = {"run_id": run_id, "session": session, "symbol": symbol, "signal_id": signal_id, "order_id": order_id}
    with structlog.contextvars.bound_contextvars(**{name: str(value) for name, value in ids.items() if value}):
        yield


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace secrets by `***`: values with a telling name, `SecretStr`, and passwords inside of addresses."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr) or (_SECRET_NAME.search(name) and value is not None):
        return MASK
    if isinstance(value, str):
        return _LOGIN_IN_URL.sub(rf"\1:{MASK}", value)
    if isinstance(value, Mapping):
        return {key: _masked(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked("", item) for item in value]
    if isinstance(value, BaseException):
        return _masked("", f"{type(value).__name__}: {value}")
    return value


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _handler(handler: logging.Handler, level: str, as_json: bool) -> logging.Handler:
    on_terminal = isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr and sys.stderr.isatty()
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=on_terminal, pad_event_to=0, pad_level=False)
    )
    handler.setLevel(level)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                mask_secrets,
                renderer,
            ],
        )
    )
    return handler
