"""What the stages of the order path share: whose orders, on which exchange, at what time, and how they are answered.

Belongs here: the means of one call and the outcome of one signal. Does not belong here: the stages themselves
(`intents`, `sending`, `bookkeeping`, `protection`).
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

import psycopg

from trading_pipelines.adapters.exchanges.base import ExchangePort
from trading_pipelines.application.trading.kill_switch import KillSwitch
from trading_pipelines.domain.execution.session import TradingSession
from trading_pipelines.store.repositories import events
from trading_pipelines.store.repositories.events import Severity
from trading_pipelines.store.transaction import committed


class Outcome(Enum):
    """What became of a signal that was looked at."""

    EXECUTED = auto()
    REJECTED = auto()
    CANCELLED = auto()
    UNRESOLVED = auto()
    WAITING = auto()


@dataclass(frozen=True)
class OrderContext:
    """What all steps of one call share."""

    connection: psycopg.Connection[Any]
    session: TradingSession
    exchange: ExchangePort
    as_of: datetime
    kill: KillSwitch | None = None
    quotes: Mapping[int, float] = field(default_factory=dict[int, float])
    run_id: str | None = None

    def event(self, kind: str, subject: str, message: str, severity: Severity, **payload: Any) -> None:
        """Append an event of the session to the log."""
        events.append(
            self.connection,
            self.as_of,
            kind,
            subject,
            message,
            session_id=self.session.session_id,
            severity=severity,
            payload=payload,
        )


@contextmanager
def only_worker(connection: psycopg.Connection[Any], session: TradingSession, *, wait: bool = True) -> Generator[bool]:
    """Let one process at a time send the session's orders; the lock dies with the connection.

    Yields whether the lock is ours, which with `wait` it always is.
    """
    key = int.from_bytes(session.session_id.bytes[:8], "big", signed=True)
    with committed(connection):
        if wait:
            connection.execute("select pg_advisory_lock(%s)", (key,))
            alone = True
        else:
            row = connection.execute("select pg_try_advisory_lock(%s)", (key,)).fetchone()
            alone = row is not None and bool(row[0])
    try:
        yield alone
    finally:
        if alone:
            with suppress(psycopg.OperationalError):
                connection.rollback()
                with committed(connection):
                    connection.execute("select pg_advisory_unlock(%s)", (key,))
