"""Trainings as shared work: who does which search or fold, and what is left.

A task is claimed by the lock of its row, held until the transaction that stores its result. A worker that dies gives
the task back at once, whatever machine it ran on, and nothing has to expire.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

SEARCH, FOLD = "search", "fold"
_SELECT = """
select t.training_key, i.exchange, i.symbol, t.instrument_id, t.timeframe, t.as_of, t.spec
from trainings t join instruments i using (instrument_id)
"""


@dataclass(frozen=True)
class Training:
    """What a process needs to take part in a training."""

    training_key: str
    exchange: str
    symbol: str
    instrument_id: int
    timeframe: str
    as_of: datetime
    spec: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A search (its number is that of the first fold it serves) or a fold; `needs` is the search it waits for."""

    kind: str
    number: int
    needs: int | None


@dataclass(frozen=True)
class Share:
    """How far the tasks of one kind have come.

    Attributes
    ----------
    mean_seconds : float or None
        Of those that are done.
    recent_seconds : float
        Work done since the moment that was asked for, all workers together.
    """

    kind: str
    total: int
    done: int
    mean_seconds: float | None
    recent_seconds: float


def begin(connection: psycopg.Connection[Any], training: Training, tasks: Sequence[Task]) -> None:
    """Lay out the tasks of a training; nothing changes when they are there already."""
    inserted = connection.execute(
        """
        insert into trainings (training_key, instrument_id, timeframe, as_of, spec)
        values (%s, %s, %s, %s, %s) on conflict do nothing
        """,
        (training.training_key, training.instrument_id, training.timeframe, training.as_of, Jsonb(training.spec)),
    )
    if inserted.rowcount == 0:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into training_tasks (training_key, kind, number, needs) values (%s, %s, %s, %s)",
            [(training.training_key, task.kind, task.number, task.needs) for task in tasks],
        )


def unfinished(connection: psycopg.Connection[Any], exchange: str, symbols: Sequence[str] = ()) -> list[Training]:
    """Trainings without a version yet, oldest first; of the given symbols or of all."""
    with connection.cursor(row_factory=class_row(Training)) as cursor:
        return cursor.execute(
            f"""
            {_SELECT} where t.finished_at is null and i.exchange = %(exchange)s
              and (%(all)s or i.symbol = any(%(symbols)s))
            order by t.created_at, i.symbol
            """,
            {"exchange": exchange, "all": not symbols, "symbols": list(symbols)},
        ).fetchall()


def find(connection: psycopg.Connection[Any], training_key: str) -> Training | None:
    """The training of that key."""
    with connection.cursor(row_factory=class_row(Training)) as cursor:
        return cursor.execute(f"{_SELECT} where t.training_key = %s", (training_key,)).fetchone()


def claim(connection: psycopg.Connection[Any], training_key: str) -> Task | None:
    """Lock a task that nobody works on, until the transaction ends; None when there is none to take now.

    Searches come first: folds wait for theirs.
    """
    with connection.cursor(row_factory=class_row(Task)) as cursor:
        return cursor.execute(
            """
            select t.kind, t.number, t.needs from training_tasks t
            where t.training_key = %(key)s and t.done_at is null
              and (t.needs is null or exists (
                  select from training_tasks s
                  where s.training_key = t.training_key and s.kind = 'search' and s.number = t.needs
                    and s.done_at is not null))
            order by t.kind desc, t.number
            limit 1
            for update of t skip locked
            """,
            {"key": training_key},
        ).fetchone()


def complete(
    connection: psycopg.Connection[Any],
    training_key: str,
    task: Task,
    worker: str,
    seconds: float,
    parameters: dict[str, Any] | None = None,
) -> None:
    """Mark a claimed task as done; the caller commits it together with its result."""
    connection.execute(
        """
        update training_tasks set worker = %s, seconds = %s, parameters = %s, done_at = clock_timestamp()
        where training_key = %s and kind = %s and number = %s
        """,
        (worker, seconds, None if parameters is None else Jsonb(parameters), training_key, task.kind, task.number),
    )


def parameters(connection: psycopg.Connection[Any], training_key: str, number: int) -> dict[str, Any]:
    """What the search of that number has found; `LookupError` when it is not done."""
    row = connection.execute(
        """
        select parameters from training_tasks
        where training_key = %s and kind = 'search' and number = %s and done_at is not null
        """,
        (training_key, number),
    ).fetchone()
    if row is None:
        raise LookupError(f"search {number} of training {training_key} is not done")
    return row[0]


def shares(connection: psycopg.Connection[Any], training_key: str, since: datetime) -> list[Share]:
    """How far each kind of task has come, and the seconds of work since a moment."""
    with connection.cursor(row_factory=class_row(Share)) as cursor:
        return cursor.execute(
            """
            select kind, count(*)::int as total, count(done_at)::int as done, avg(seconds) as mean_seconds,
                   coalesce(sum(seconds) filter (where done_at >= %s), 0.0) as recent_seconds
            from training_tasks where training_key = %s group by kind
            """,
            (since, training_key),
        ).fetchall()


def lock(connection: psycopg.Connection[Any], training_key: str) -> None:
    """Wait for whoever makes the version of this training, and keep others waiting until the transaction ends."""
    connection.execute("select from trainings where training_key = %s for update", (training_key,))


def finish(connection: psycopg.Connection[Any], training_key: str) -> None:
    """Note that the version is stored."""
    connection.execute(
        "update trainings set finished_at = coalesce(finished_at, clock_timestamp()) where training_key = %s",
        (training_key,),
    )
