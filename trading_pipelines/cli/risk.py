"""`trading risk`: the locks that keep new entries away, and lifting them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import Json, prepare
from trading_pipelines.cli.output import print_json, print_table

if TYPE_CHECKING:
    from trading_pipelines.domain.execution.session import TradingSession
    from trading_pipelines.store.connection import Connection

app = typer.Typer(no_args_is_help=True, help="What keeps new entries away for a time, and why.")
Session = Annotated[str | None, typer.Option(help="Name of the session; the default paper session without it.")]


@app.command("locks")
def locks(session: Session = None, as_json: Json = False) -> None:
    """Show the locks that hold now."""
    from trading_pipelines.store.repositories import risk_locks

    with _session(session) as (connection, found):
        held = risk_locks.in_force(connection, found.session_id, datetime.now(UTC))
    rows: list[dict[str, Any]] = [
        {
            "lock_id": stored.lock_id,
            "reason": stored.lock.reason,
            "symbol": stored.symbol,
            "side": stored.lock.side,
            "starts_at": stored.lock.starts_at,
            "ends_at": stored.lock.ends_at,
            "numbers": dict(stored.lock.numbers),
        }
        for stored in held
    ]
    if as_json:
        print_json({"session": found.name, "locks": rows})
    else:
        columns = ("lock_id", "reason", "symbol", "side", "starts_at", "ends_at")
        print_table(f"Locks of {found.name}", columns, [[row[c] or "all" for c in columns] for row in rows])


@app.command("lift")
def lift(
    lock_id: Annotated[int | None, typer.Argument(help="One lock; all that hold without it.")] = None,
    session: Session = None,
    as_json: Json = False,
) -> None:
    """Lift locks before their time. Equity below a limit still refuses entries."""
    from trading_pipelines.application.risk.rules import lift_locks

    with _session(session) as (connection, found):
        lifted = lift_locks(connection, found, datetime.now(UTC), lock_id)
    if as_json:
        print_json({"session": found.name, "lifted": lifted})
    else:
        typer.echo(f"{lifted} lifted")


@contextmanager
def _session(name: str | None) -> "Iterator[tuple[Connection, TradingSession]]":
    from trading_pipelines.application.signals.sessions import find_session
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="risk") as connection:
        yield connection, find_session(connection, name or settings.session.name)
