"""The live sessions as Dagster's runs and sensors see them: all of them, each on its own.

Belongs here: doing the same for every session, and naming what waits in any of them. Does not belong here: what is
done (the stage that asks) and which sessions there are (`application.signals.sessions`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import dagster as dg

from trading_pipelines.settings import settings

if TYPE_CHECKING:
    import psycopg

    from trading_pipelines.domain.execution.session import TradingSession

_Result = TypeVar("_Result")


@dataclass
class Outcomes(Generic[_Result]):
    """What came of each session by its name, and which of them failed."""

    done: dict[str, _Result] = field(default_factory=dict[str, _Result])
    failed: dict[str, str] = field(default_factory=dict[str, str])

    def raise_failures(self) -> None:
        """Fail the step when a session has failed; call it after the results of the others are yielded."""
        if self.failed:
            raise dg.Failure("; ".join(f"session {name}: {error}" for name, error in self.failed.items()))


def for_each_session(
    log: dg.DagsterLogManager,
    connection: "psycopg.Connection[Any]",
    work: "Callable[[TradingSession], _Result]",
) -> "Outcomes[_Result]":
    """Do the same for every live session; one that fails does not keep the others from theirs."""
    from trading_pipelines.application.signals.sessions import live_sessions

    outcomes = Outcomes[_Result]()
    for session in live_sessions(connection, settings(), datetime.now(UTC)):
        try:
            outcomes.done[session.name] = work(session)
        except Exception as error:
            connection.rollback()
            log.exception("session %s failed", session.name)
            outcomes.failed[session.name] = str(error)
    return outcomes


def waiting_work(
    connection: "psycopg.Connection[Any]", pending: "Callable[[TradingSession], Iterable[datetime]]"
) -> tuple[str, list[datetime]]:
    """Names of the live sessions in which something waits, joined, and when it came up, ascending."""
    from trading_pipelines.application.signals.sessions import live_sessions

    waiting = {
        session.name: list(pending(session)) for session in live_sessions(connection, settings(), datetime.now(UTC))
    }
    return "+".join(name for name, found in waiting.items() if found), sorted(chain.from_iterable(waiting.values()))
