"""`trading features`: build them, and compute again what was made before its inputs were corrected or arrived."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trading_pipelines.cli.context import (
    Exchange,
    Json,
    Symbols,
    Timeframe,
    check_timeframe,
    moment,
    prepare,
    span,
    split_symbols,
    stored_symbols,
)
from trading_pipelines.cli.output import print_json, print_table
from trading_pipelines.errors import UserError

if TYPE_CHECKING:
    from trading_pipelines.settings import Settings
    from trading_pipelines.store.connection import Connection

REBUILD = "trading features rebuild"
STALE = "trading features stale"
app = typer.Typer(no_args_is_help=True, help="Features of closed bars: build, and rebuild what became stale.")


@app.command("build")
def build(
    exchange: Exchange = None,
    symbols: Symbols = None,
    timeframe: Timeframe = None,
    start: Annotated[str | None, typer.Option("--from", help="First bar, UTC. [default: a day before --to]")] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included. [default: now]")] = None,
    as_json: Json = False,
) -> None:
    """Compute and store the features of closed bars; rows that are there with the same values stay untouched."""
    from trading_pipelines.application.audit.reach import FEATURES
    from trading_pipelines.application.features.building import build_features
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare(exchange=exchange)
    frame = check_timeframe(timeframe or settings.signal_timeframe)
    if f"features_{frame}" not in FEATURES:
        raise UserError(f"--timeframe: features are made of bars of {', '.join(FEATURES.values())}, not of {frame}")
    until = moment(end, "--to") if end else datetime.now(UTC)
    since = moment(start, "--from") if start else until - timedelta(days=1)
    span(since, until)
    with ready_database(settings) as url, connect(url, application_name="features") as connection:
        chosen = stored_symbols(connection, settings.exchange, split_symbols(symbols) or settings.symbols)
        report = build_features(connection, settings.exchange, chosen, frame, since, until)
    if as_json:
        print_json({"exchange": settings.exchange, "timeframe": frame, **vars(report)})
        return
    typer.echo(
        f"features_{frame}: {report.rows:,} rows of {report.symbols} symbols in {report.seconds:.1f} s, "
        f"{report.counts.inserted:,} new, {report.counts.updated:,} different"
    )


@app.command("stale")
def stale(as_json: Json = False) -> None:
    """Name what was computed before its inputs were corrected, or arrived; changes nothing but these names."""
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="features") as connection:
        found = trace_stale(connection, settings)
    if as_json:
        print_json({"stale": found})
    else:
        show_stale(found)


@app.command("rebuild")
def rebuild(as_json: Json = False) -> None:
    """Compute everything again that is stale; predictions, decisions and signals stay as they were said."""
    from trading_pipelines.application.audit.corrections import rebuild_stale
    from trading_pipelines.services.database import ready_database
    from trading_pipelines.store.connection import connect

    settings = prepare()
    with ready_database(settings) as url, connect(url, application_name="features") as connection:
        found = trace_stale(connection, settings)
        changed = {
            exchange: rebuild_stale(connection, exchange, settings)
            for exchange in dict.fromkeys(waiting["exchange"] for waiting in found)
        }
    if as_json:
        print_json({"stale": found, "changed": changed})
        return
    rows = [(exchange, symbol, rows) for exchange, by_symbol in changed.items() for symbol, rows in by_symbol.items()]
    print_table("Rows that came out differently", ("exchange", "symbol", "rows"), rows)


def trace_stale(connection: "Connection", settings: "Settings") -> list[dict[str, Any]]:
    """Follow every input that has changed, on all exchanges, and say what waits for being rebuilt."""
    from trading_pipelines.application.audit.corrections import trace_changes
    from trading_pipelines.domain.market.timeframe import Timeframe as Known
    from trading_pipelines.store.read_models.stale import stale_data

    for (exchange,) in connection.execute("select distinct exchange from instruments order by 1").fetchall():
        trace_changes(connection, exchange, Known(settings.signal_timeframe))
    found = [vars(waiting) for waiting in stale_data(connection)]
    connection.commit()
    return found


def show_stale(found: list[dict[str, Any]]) -> None:
    """Print what is stale, why, and the command that rebuilds it."""
    columns = ("table", "exchange", "symbols", "days", "from", "to", "because of")
    rows = [
        (s["dataset"], s["exchange"], s["symbols"], s["days"], s["first"], s["last"], "; ".join(s["causes"]))
        for s in found
    ]
    print_table("Stale", columns, rows)
    if found:
        typer.echo(f"`{REBUILD}` computes it again; the job `corrections` of a running platform does so by itself")
