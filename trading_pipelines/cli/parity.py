"""`trading parity`: what live sessions decided and filled, against a replay of the same rows."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from trading_pipelines.cli.context import Json, moment, prepare, span
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.domain.execution.session import TradingSession
    from trading_pipelines.store.connection import Connection
    from trading_pipelines.store.repositories.parity import ParityRow

_DAY = timedelta(days=1)


def parity(
    session: Annotated[str | None, typer.Option(help="One session. [default: every paper session]")] = None,
    start: Annotated[str | None, typer.Option("--from", help="First day, UTC. [default: yesterday]")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included. [default: one day]")] = None,
    as_json: Json = False,
) -> None:
    """Decide past days again from the stored rows and compare; exits with 1 where live decided differently."""
    from trading_pipelines.application.research.daily_parity import compare_day
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    now = datetime.now(UTC)
    first = _midnight(moment(start, "--from")) if start else _midnight(now) - _DAY
    first, last = span(first, _midnight(moment(end, "--to")) if end else first + _DAY)
    with ready_database(settings) as url, connect(url, application_name="parity") as connection:
        reports = {
            chosen.name: [
                compare_day(connection, chosen, first + n * _DAY, first + (n + 1) * _DAY, now)
                for n in range((last - first).days)
            ]
            for chosen in _sessions(connection, settings.exchange, session)
        }
    if as_json:
        print_json({"sessions": reports})
    else:
        _show(reports)
    if any(row.diverged for rows in reports.values() for row in rows):
        raise typer.Exit(1)


def _sessions(connection: "Connection", exchange: str, name: str | None) -> "list[TradingSession]":
    from trading_pipelines.domain.execution.session import SessionMode
    from trading_pipelines.store.repositories import sessions

    if name is None:
        return [s for s in sessions.of_mode(connection, SessionMode.PAPER) if s.exchange == exchange]
    found = sessions.find(connection, name)
    if found is None:
        raise UserError(f"there is no session {name!r}: `trading status` names those that there are")
    return [found]


def _show(reports: "dict[str, list[ParityRow]]") -> None:
    columns = ("session", "day", "decisions", "equal", "late", "missed", "diverged", "fills", "as modelled", "bps")
    rows = [
        (
            name,
            f"{row.day}",
            row.decisions,
            row.equal,
            row.late,
            row.missed,
            row.diverged,
            row.fills,
            row.fills_matched,
            row.price_bps_mean,
        )
        for name, found in reports.items()
        for row in found
    ]
    print_table("Parity", columns, rows)
    for name, found in reports.items():
        for row in found:
            if row.first_divergence is not None:
                typer.echo(f"{name} {row.day}: first divergence: {row.first_divergence['says']}")


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
